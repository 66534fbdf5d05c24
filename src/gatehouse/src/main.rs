//! The one binary: command line, wiring of roles, signals.

mod certificates;
mod cli;
mod clock;
mod commands;
mod display;
mod files;
mod passwords;
mod random;
mod run;
mod setup;
mod sip;
mod trunk;

use std::process::ExitCode;

use clap::Parser;

/// A wrong configuration or call: service managers need not try again (sysexits, EX_USAGE).
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match commands::execute(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            display::failure(&failure);
            if failure.is_usage() { ExitCode::from(EX_USAGE) } else { ExitCode::FAILURE }
        }
    }
}

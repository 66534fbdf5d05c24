//! The testbed: real peers, a name server of its own, numbered scenarios.
//!
//! Owns: the worlds of the scenarios, their processes and their verdicts. Does not own: XMPP. The
//! clients and hand-made peers are Python (`driver/`), so that a mistake in our own stream code
//! cannot hide in a test that shares it.

mod admin;
mod authority;
mod bench;
mod block;
mod clock;
mod crew;
mod demo;
mod dnssec;
mod driver;
mod ejabberd;
mod failure;
mod gatehouse;
mod kamailio;
mod nodes;
mod place;
mod play;
mod player;
mod port;
mod process;
mod prosody;
mod report;
mod run;
mod scenario;
mod server;
mod shape;
mod sip;
mod sipp;
mod stage;
mod step;
mod verdict;
mod world;
mod zone;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::failure::Failure;
use crate::scenario::Scenario;
use crate::shape::Shape;

/// Plays the interop scenarios against real peers.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play scenarios
    Run(Run),
    /// List the scenarios
    List,
    /// Measure what a message costs, us and the peers side by side
    Bench(bench::Bench),
    /// Start a partner to federate with on this machine, until Ctrl-C
    Demo,
}

#[derive(Args)]
struct Run {
    /// Numbers or names; all if none is given
    scenarios: Vec<String>,
    /// Play in this shape only
    #[arg(long)]
    shape: Option<Shape>,
    /// How many at a time
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Keep the logs of scenarios that passed, too
    #[arg(long)]
    keep: bool,
    /// The program under test
    #[arg(long, value_name = "FILE")]
    gatehouse: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => play(&arguments),
        Command::List => list(),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Demo => demo::run().map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            // Nobody is left to tell if this fails.
            let _unheard = writeln!(io::stderr(), "testbed: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &Run) -> Result<bool, Failure> {
    let paths = place::find(arguments.gatehouse.as_deref())?;
    let scenarios = Scenario::load_all(&paths.testbed.join("scenarios"), &arguments.scenarios)?;
    let asked =
        |scenario: &Scenario| scenario.world.awaits.is_none() || !arguments.scenarios.is_empty();
    let work: Vec<_> = scenarios
        .into_iter()
        .filter(asked)
        .flat_map(|scenario| {
            let shapes = scenario.shapes(arguments.shape);
            shapes.into_iter().map(move |shape| (scenario.clone(), shape))
        })
        .collect();
    let mut out = io::stdout();
    // A closed standard output must not keep the exit code from telling the truth.
    let outcomes = crew::run_all(work, arguments.jobs.max(1), &paths, arguments.keep, |outcome| {
        let _unheard = report::progress(&mut out, outcome);
    });
    let told = report::table(&mut out, &outcomes);
    Ok(told.unwrap_or_else(|_| outcomes.iter().all(|outcome| outcome.failure.is_none())))
}

fn list() -> Result<bool, Failure> {
    let scenarios = Scenario::load_all(&place::testbed().join("scenarios"), &[])?;
    let mut out = io::stdout();
    for scenario in scenarios {
        let (name, purpose) = (&scenario.name, scenario.purpose());
        let awaits = scenario.world.awaits.as_ref();
        let awaits = awaits.map(|what| format!(" (only when asked for: awaits {what})"));
        let awaits = awaits.unwrap_or_default();
        if writeln!(out, "{name}{awaits}\n    {purpose}").is_err() {
            break;
        }
    }
    Ok(true)
}

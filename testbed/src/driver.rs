use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::process::{Account, Process, Program};

/// How much longer than the command itself the answer may take.
const SLACK: Duration = Duration::from_secs(15);

/// The Python process that plays all clients and hand-made peers of one scenario.
pub(crate) struct Driver {
    _process: Process,
    commands: ChildStdin,
    answers: Receiver<String>,
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    why: String,
}

impl Driver {
    /// Starts it; its own log goes to `log`.
    pub(crate) fn start(testbed: &Path, log: PathBuf) -> Result<Self, Failure> {
        let python = testbed.join(".venv/bin/python");
        if !python.exists() {
            let hint = "run testbed/install/python once";
            return Err(Failure::world(format!("{} is missing: {hint}", python.display())));
        }
        let directory = testbed.join("driver").display().to_string();
        let program = Program::new("driver", &python, Account::Own, log);
        // -B: the sources are not ours to write beside.
        let mut process = program.arguments(&["-B", &directory]).start_piped()?;
        let child = process.child();
        let (Some(commands), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::world("the driver has no pipes"));
        };
        let (sender, answers) = sync_channel(1);
        // Ends with the driver, when its output ends.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { _process: process, commands, answers })
    }

    /// Gives one command that may take `within`; the error is what happened instead.
    pub(crate) fn tell(&mut self, mut command: Value, within: Duration) -> Result<(), String> {
        if let Some(command) = command.as_object_mut() {
            command.insert("within".into(), within.as_secs_f64().into());
        }
        writeln!(self.commands, "{command}")
            .map_err(|error| format!("the driver is gone: {error}; see driver.log"))?;
        let line = self
            .answers
            .recv_timeout(within + SLACK)
            .map_err(|_| "the driver does not answer; see driver.log".to_owned())?;
        let answer: Answer =
            serde_json::from_str(&line).map_err(|error| format!("driver: {error}: {line}"))?;
        if answer.ok { Ok(()) } else { Err(answer.why) }
    }
}

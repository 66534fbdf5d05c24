use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::run::Outcome;

const TAIL_LINES: usize = 12;

/// Writes one line as soon as a scenario is over, and why it failed.
pub(crate) fn progress(out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    let seconds = outcome.took.as_secs_f64();
    let result = result(outcome);
    writeln!(out, "  {result:<6}  {}  {}  {seconds:.1} s", outcome.name, outcome.shape)?;
    for line in &outcome.told {
        writeln!(out, "    {line}")?;
    }
    if let Some(failure) = &outcome.failure {
        writeln!(out, "    {}", failure.to_string().replace('\n', "\n    "))?;
    }
    if let Some(directory) = &outcome.kept {
        if outcome.failure.is_some() {
            tails(out, directory)?;
        }
        writeln!(out, "    all logs: {}", directory.display())?;
    }
    Ok(())
}

/// Writes the closing table; returns whether everything passed.
pub(crate) fn table(out: &mut impl Write, outcomes: &[Outcome]) -> io::Result<bool> {
    let width = outcomes.iter().map(|outcome| outcome.name.len()).max().unwrap_or(0).max(8);
    writeln!(out, "\n{:width$}  shape  result    time", "scenario")?;
    for outcome in outcomes {
        let (name, shape, seconds) = (&outcome.name, outcome.shape, outcome.took.as_secs_f64());
        writeln!(out, "{name:width$}  {shape:<5}  {:<6}  {seconds:>4.1} s", result(outcome))?;
    }
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    writeln!(out, "\n{} passed, {failed} failed", outcomes.len() - failed)?;
    Ok(failed == 0 && !outcomes.is_empty())
}

fn result(outcome: &Outcome) -> &'static str {
    if outcome.failure.is_some() { "FAILED" } else { "ok" }
}

fn tails(out: &mut impl Write, directory: &Path) -> io::Result<()> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut logs: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        // The two that are long and rarely the reason.
        .filter(|path| !path.ends_with("unbound.log") && !path.ends_with("driver.log"))
        .collect();
    logs.sort();
    for log in logs {
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let name = log.file_name().unwrap_or_default().to_string_lossy();
        writeln!(out, "    --- the end of {name}")?;
        for line in lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)) {
            writeln!(out, "    {line}")?;
        }
    }
    Ok(())
}

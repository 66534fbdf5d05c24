//! What a message costs: us and the peers in the same run, alternating, over the same paths, with
//! the same driver.
//!
//! The figure is the CPU time of the server's processes for each message, because it hardly
//! depends on what else the machine does. The driver is scripted by hand on purpose: it must cost
//! less than any server, and a mistake in our own stream code must not make our server fast.

mod fanout;
mod flow;
mod partner;
mod path;
mod subject;
mod table;
mod usage;
mod wire;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;
use crate::place;
use crate::stage::Paths;

use self::path::{Load, Path, measure, users};
use self::subject::{Kind, Subject};
use self::table::Row;

/// What to measure, and how long.
#[derive(Args)]
pub(crate) struct Bench {
    /// How often each server is measured on each path; the least CPU time counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Messages (or presence deliveries) in each run
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    messages: u64,
    /// Messages that may be under way
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    window: u64,
    /// Messages in one write of the driver
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1000))]
    batch: u64,
    /// Contacts in `presence`
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=500))]
    contacts: u16,
    /// Idle streams in `streams`, idle sessions in `sessions`
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u16).range(1..=2000))]
    idle: u16,
    /// Servers
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Ours, Kind::OursTwo, Kind::Prosody, Kind::Ejabberd])]
    peers: Vec<Kind>,
    /// Paths
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Path::Streams, Path::Sessions, Path::C2s, Path::S2sIn, Path::S2sOut, Path::Presence])]
    paths: Vec<Path>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// The program under test
    #[arg(long, value_name = "FILE")]
    gatehouse: Option<PathBuf>,
}

/// Measures; true if every run came to its end.
pub(crate) fn run(bench: &Bench) -> Result<bool, Failure> {
    let load = Load {
        messages: bench.messages,
        window: bench.window,
        batch: bench.batch,
        contacts: bench.contacts.into(),
        idle: bench.idle.into(),
    };
    let paths = place::find(bench.gatehouse.as_deref())?;
    let directory = paths.runs.join(format!("bench-{}", std::process::id()));
    let mut subjects = start(bench, &load, &paths, &directory)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::world(format!("cannot make a runtime: {error}")))?;
    let mut rows = Vec::new();
    for path in &bench.paths {
        let row = |subject: &Subject| Row {
            path: *path,
            kind: subject.kind,
            samples: Vec::new(),
            failure: None,
        };
        let mut of_path: Vec<_> = subjects.iter().map(row).collect();
        for number in 1..=bench.runs {
            for (subject, row) in subjects.iter_mut().zip(&mut of_path) {
                if row.failure.is_some() {
                    continue;
                }
                progress(&format!("{path} {number}/{} {}", bench.runs, subject.kind));
                match runtime.block_on(measure(*path, subject, &load)) {
                    Ok(sample) => row.samples.push(sample),
                    Err(failure) => row.failure = Some(failure.to_string()),
                }
            }
        }
        rows.append(&mut of_path);
    }
    let mut out = io::stdout();
    let told = if bench.json { table::json(&mut out, &rows) } else { table::text(&mut out, &rows) };
    // A closed standard output must not keep the exit code from telling the truth.
    let _unheard = told;
    drop(subjects);
    let passed = rows.iter().all(|row| row.failure.is_none());
    if passed {
        fs::remove_dir_all(&directory).map_err(Failure::io("remove", &directory))?;
    } else {
        progress(&format!("the logs are in {}", directory.display()));
    }
    Ok(passed)
}

fn start(
    bench: &Bench,
    load: &Load,
    paths: &Paths,
    root: &std::path::Path,
) -> Result<Vec<Subject>, Failure> {
    let users = users(load);
    let mut kinds = bench.peers.clone();
    kinds.sort_unstable();
    kinds.dedup();
    let mut subjects = Vec::new();
    for kind in kinds {
        progress(&format!("start {kind}"));
        let directory = root.join(kind.to_string());
        fs::create_dir_all(&directory).map_err(Failure::io("make", &directory))?;
        subjects.push(Subject::start(kind, &users, &directory, paths)?);
    }
    Ok(subjects)
}

fn progress(what: &str) {
    // Nobody needs it.
    let _unheard = writeln!(io::stderr(), "  {what}");
}

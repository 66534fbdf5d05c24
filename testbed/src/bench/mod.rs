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
mod sip;
mod spread;
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

use self::path::{Load, Path, Sample, measure, users, within};
use self::sip::SipSubject;
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
    /// Idle streams in `streams`, sessions in `sessions`, connections in `sip-idle`
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u16).range(1..=2000))]
    idle: u16,
    /// Subscriptions in `sip-subscriptions`
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    subscriptions: u16,
    /// Servers
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Ours, Kind::OursTwo, Kind::Prosody, Kind::Ejabberd, Kind::Kamailio])]
    peers: Vec<Kind>,
    /// Paths
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Path::Streams, Path::Sessions, Path::C2s, Path::S2sIn, Path::S2sOut, Path::Presence, Path::SipIn, Path::SipOut, Path::SipIdle])]
    paths: Vec<Path>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Fail if one of our paths passes so many times fewer messages a second than the fastest of them,
    /// or costs so many times more
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u16).range(2..=1000))]
    spread_max: Option<u16>,
    /// The program under test
    #[arg(long, value_name = "FILE")]
    gatehouse: Option<PathBuf>,
}

/// Measures; true if every run came to its end, and no path stands out that must not.
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
    if bench.paths.contains(&Path::SipSubscriptions) {
        rows.push(subscriptions(bench, &paths, &directory, &runtime));
    }
    if bench.paths.contains(&Path::SipMessages) {
        rows.push(sip_messages(bench, &load, &paths, &directory, &runtime));
    }
    for path in bench.paths.iter().filter(|path| !path.has_own_world()) {
        let mut of_path: Vec<_> = subjects
            .iter_mut()
            .filter(|subject| subject.takes(*path))
            .map(|subject| {
                let kind = subject.kind();
                (subject, Row { path: *path, kind, samples: Vec::new(), failure: None })
            })
            .collect();
        for number in 1..=bench.runs {
            for (subject, row) in &mut of_path {
                if row.failure.is_some() {
                    continue;
                }
                progress(&format!("{path} {number}/{} {}", bench.runs, row.kind));
                match runtime.block_on(subject.measure(*path, &load)) {
                    Ok(sample) => row.samples.push(sample),
                    Err(failure) => row.failure = Some(failure.to_string()),
                }
            }
        }
        rows.extend(of_path.into_iter().map(|(_, row)| row));
    }
    let mut out = io::stdout();
    let told = if bench.json { table::json(&mut out, &rows) } else { table::text(&mut out, &rows) };
    // A closed standard output must not keep the exit code from telling the truth.
    let _unheard = told;
    drop(subjects);
    let outliers =
        bench.spread_max.map_or_else(Vec::new, |max| spread::outliers(&rows, max.into()));
    for outlier in &outliers {
        progress(&format!("FAILED: {outlier}; look for what it waits for"));
    }
    let passed = rows.iter().all(|row| row.failure.is_none()) && outliers.is_empty();
    if passed {
        fs::remove_dir_all(&directory).map_err(Failure::io("remove", &directory))?;
    } else {
        progress(&format!("the logs are in {}", directory.display()));
    }
    Ok(passed)
}

/// In a world of its own, which lasts as long as its one measurement.
fn subscriptions(
    bench: &Bench,
    paths: &Paths,
    root: &std::path::Path,
    runtime: &tokio::runtime::Runtime,
) -> Row {
    let (count, directory) = (bench.subscriptions.into(), root.join("subscriptions"));
    let told = |what: &str| progress(what);
    let measured = sip::subscriptions::measure(count, &directory, paths, told);
    let (samples, failure) = match runtime.block_on(Box::pin(measured)) {
        Ok(sample) => (vec![sample], None),
        Err(failure) => (Vec::new(), Some(failure.to_string())),
    };
    Row { path: Path::SipSubscriptions, kind: Kind::OursTwo, samples, failure }
}

/// In a world of its own, which lasts for all its runs.
fn sip_messages(
    bench: &Bench,
    load: &Load,
    paths: &Paths,
    root: &std::path::Path,
    runtime: &tokio::runtime::Runtime,
) -> Row {
    let (path, kind) = (Path::SipMessages, Kind::OursTwo);
    let directory = root.join("messages");
    let told = |run| progress(&format!("{path} {run}/{} {kind}", bench.runs));
    let measured = sip::messages::measure(load, bench.runs, &directory, paths, told);
    let (samples, failure) = match runtime.block_on(Box::pin(measured)) {
        Ok(samples) => (samples, None),
        Err(failure) => (Vec::new(), Some(failure.to_string())),
    };
    Row { path, kind, samples, failure }
}

/// A server under test, by what it speaks.
enum Server {
    Xmpp(Box<Subject>),
    Sip(Box<SipSubject>),
}

impl Server {
    fn kind(&self) -> Kind {
        match self {
            Self::Xmpp(subject) => subject.kind,
            Self::Sip(subject) => subject.kind,
        }
    }

    fn takes(&self, path: Path) -> bool {
        path.is_sip() == matches!(self, Self::Sip(_)) && self.kind().takes(path)
    }

    async fn measure(&mut self, path: Path, load: &Load) -> Result<Sample, Failure> {
        match self {
            Self::Xmpp(subject) => measure(path, subject, load).await,
            Self::Sip(subject) => within(subject.measure(path, load)).await,
        }
    }
}

fn start(
    bench: &Bench,
    load: &Load,
    paths: &Paths,
    root: &std::path::Path,
) -> Result<Vec<Server>, Failure> {
    let users = users(load);
    let mut kinds = bench.peers.clone();
    kinds.sort_unstable();
    kinds.dedup();
    let mut servers = Vec::new();
    for kind in kinds {
        let has = |sip: bool| {
            bench
                .paths
                .iter()
                .any(|path| !path.has_own_world() && kind.takes(*path) && path.is_sip() == sip)
        };
        let (has_sip, has_xmpp) = (has(true), has(false));
        if !has_sip && !has_xmpp {
            continue;
        }
        progress(&format!("start {kind}"));
        let place = |name: &str| -> Result<PathBuf, Failure> {
            let directory = root.join(format!("{kind}{name}"));
            fs::create_dir_all(&directory).map_err(Failure::io("make", &directory))?;
            Ok(directory)
        };
        if has_xmpp {
            let subject = Subject::start(kind, &users, &place("")?, paths)?;
            servers.push(Server::Xmpp(Box::new(subject)));
        }
        if has_sip {
            let subject = SipSubject::start(kind, &place("-sip")?, paths)?;
            servers.push(Server::Sip(Box::new(subject)));
        }
    }
    Ok(servers)
}

fn progress(what: &str) {
    // Nobody needs it.
    let _unheard = writeln!(io::stderr(), "  {what}");
}

//! What each command does.

mod admin;
mod cert;
mod check;
mod init;
mod partner;
mod policy;
mod reach;
mod status;
mod trunk;
mod user;

use std::error::Error;
use std::future::Future;

use gatehouse_config::Problems;
use gatehouse_types::Chain;

use crate::cli::{Arguments, Command};
use crate::run;

/// Why a command failed, in words for the person who gave it.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    kind: FailureKind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FailureKind {
    Usage,
    Other,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: FailureKind::Other }
    }

    /// A mistake in the call or the settings: trying again changes nothing.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: FailureKind::Usage }
    }

    pub(crate) fn is_usage(&self) -> bool {
        self.kind == FailureKind::Usage
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::usage(problems.to_string())
    }
}

/// Every typed error ends its journey here, with its causes.
impl<E: Error> From<&E> for Failure {
    fn from(error: &E) -> Self {
        Self::new(Chain(error).to_string())
    }
}

pub(crate) fn execute(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Run(place) => run::run(place),
        Command::Init { config, force } => init::init(&config, force),
        Command::CheckConfig(place) => check::check_config(&place),
        Command::User(command) => block_on(None, user::user(command)),
        Command::Cert(command) => cert::cert(command),
        Command::Trunk(command) => trunk::trunk(command),
        Command::Partner(command) => block_on(None, partner::partner(command)),
        Command::Policy { partner, place } => policy::policy(&partner, &place),
        Command::Reach(command) => reach::reach(command),
        Command::Status { place, json, watch } => status::status(&place, json, watch),
    }
}

/// Does `task` with so many threads, or as many as there are cores.
pub(crate) fn block_on(
    workers: Option<usize>,
    task: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers {
        runtime.worker_threads(workers);
    }
    runtime
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start the runtime: {error}")))?
        .block_on(task)
}

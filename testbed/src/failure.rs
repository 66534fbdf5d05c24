use std::io;
use std::path::{Path, PathBuf};

/// Why a scenario did not pass, or could not be played.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The machine said no.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// Completes "cannot ...".
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The scenario itself is wrong: its author must mend it.
    #[error("{}: {what}", .file.display())]
    Scenario {
        /// The file to mend.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A line of the play did not come true.
    #[error("play.txt line {line}: {said}\n    {why}")]
    Play {
        /// Counted from one.
        line: usize,
        /// The line.
        said: String,
        /// What happened instead.
        why: String,
    },
    /// The world could not be set up, or broke.
    #[error("{0}")]
    World(String),
}

impl Failure {
    /// For `map_err`: what was being done, to which path.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// A world that broke.
    pub(crate) fn world(what: impl Into<String>) -> Self {
        Self::World(what.into())
    }
}

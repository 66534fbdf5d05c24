use std::fmt;

use serde::Deserialize;

/// How our side is cut into processes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shape {
    /// The scenario has no side of ours.
    #[serde(skip)]
    #[value(skip)]
    None,
    /// Edge and core in one process.
    One,
    /// Edge and core in two processes with the trunk between them.
    Two,
}

impl Shape {
    /// As scripts and tables write it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::One => "one",
            Self::Two => "two",
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

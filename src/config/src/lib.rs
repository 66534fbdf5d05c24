//! `gatehouse.toml` (and the policy file) to typed, checked settings.
//!
//! Owns: the file format, its defaults, and what a person is told about a mistake: every one of
//! them in one run, with file, line and what to write instead.
//! Does not own: what the settings do. Nothing after start-up checks them again.

mod duration;
mod inside;
mod policy_file;
mod problem;
mod read;
mod reader;
mod settings;
mod sip;
mod template;
mod trunk;

pub use self::policy_file::{parse_policy, read_policy};
pub use self::problem::{Problem, Problems};
pub use self::read::{Overrides, load, parse};
pub use self::settings::{
    BusyAs, Certificates, CoreNode, EdgeAddress, Limits, Listen, Log, LogFormat, NodePort, Offline,
    PolicySource, Roles, S2s, Settings, Sip, Tls, Trunk,
};
pub use self::sip::remarks;
pub use self::template::TEMPLATE;

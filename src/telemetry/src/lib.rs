//! Logs, metrics and the live status: every event told once.
//!
//! Owns: the subscriber, the metric names, the registry of live streams, the local admin port
//! (`/metrics` for Prometheus, `/status`, `/reach` and `/pace` as JSON).
//! Does not own: what the events mean.

mod admin;
mod log;
mod reach;
mod streams;

pub use self::admin::{AdminState, Forget, Forgotten, serve_admin};
pub use self::log::{LogFormat, LogSetupError, init_log};
pub use self::reach::{AttemptReport, PaceSource, Paced, Reach, ReachSource, Unreached};
pub use self::streams::{Status, StreamHandle, StreamInfo, StreamKind, StreamState, Streams};

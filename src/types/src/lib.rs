//! Values that cross crate boundaries.
//!
//! Owns: validated names ([`Domain`], [`Jid`]), roles ([`Local`], [`Remote`]), limits, secrets, the
//! [`Machine`] contract, and the way an error is shown with its causes ([`Chain`]).
//! Does not own: message syntax, sockets, clocks, files. Nothing here can block or fail late.

mod chain;
mod domain;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod jid;
mod limits;
mod machine;
mod role;
mod secret;
mod seed;
pub mod spare;
mod stream_id;
mod trace_id;

pub use self::chain::Chain;
pub use self::domain::{Domain, InvalidDomain};
pub use self::jid::{InvalidJid, Jid};
pub use self::limits::StreamLimits;
pub use self::machine::Machine;
pub use self::role::{Local, Remote};
pub use self::secret::Secret;
pub use self::seed::Seed;
pub use self::stream_id::StreamId;
pub use self::trace_id::TraceId;

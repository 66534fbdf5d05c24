//! Streams that we open: one for each pair of domains, dialled when there is something to send.

mod carry;
mod dane;
pub(crate) mod dial;
mod failure;
mod held;
mod link;
mod memory;
mod pool;
mod queue;
mod race;
mod reach;
mod refusal;
mod report;
mod returning;
mod target;

pub(crate) use self::failure::reason_text;
pub(crate) use self::pool::Pool;
pub(crate) use self::queue::Pair;
pub(crate) use self::race::first_connected;
pub use self::reach::PrivateTargets;
pub(crate) use self::returning::{Back, Returns};

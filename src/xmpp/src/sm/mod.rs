//! Stream management (XEP-0198): counters, the queue of what is not acknowledged yet, resume.
//!
//! All counters are kept without wrapping and shown to the peer modulo 2^32 (XEP-0198, section 4).

mod inbound;
mod outbound;
mod session;

pub use self::inbound::{Arrival, InboundCount};
pub use self::outbound::{AckQueue, Resend, Window};
pub use self::session::Session;

/// The peer acknowledged more than it was sent; the stream must end (XEP-0198, section 4).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the peer acknowledged {h}, but only {sent} were sent")]
pub struct HandledCountTooHigh {
    /// What it said.
    pub h: u32,
    /// What was sent, modulo 2^32.
    pub sent: u32,
}

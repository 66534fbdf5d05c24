//! The trunk for SIP: whole messages between core nodes and edges (docs/decisions/0009).
//!
//! In one process ([`in_process`]) values cross; between two, a TLS connection of its own on the
//! trunk's port, told apart by ALPN [`ALPN`], with CRLF keep-alive. Nothing is acknowledged here:
//! SIP requests are answered end to end, and a message that cannot be handed on comes back to its
//! sender as an error.

mod core_end;
mod dial;
mod door;
mod edge_end;
mod in_process;
mod link;
mod queue;

#[cfg(test)]
pub(crate) use self::dial::reach;
pub(crate) use self::door::SipDoor;

pub use self::core_end::{Edge, FromEdge, SipCoreEnd, SipEdges};
pub use self::dial::dial;
pub use self::edge_end::{FromNode, Node, SipEdgeEnd, SipNodes};
pub use self::in_process::{in_process, mesh};

use gatehouse_sip::Message;

use self::queue::FULL;

/// The ALPN protocol name of a SIP stream (IANA registry).
pub const ALPN: &str = "sip/2";

/// Nobody took the message; here it is, so that its sender can answer.
#[derive(Debug, thiserror::Error)]
#[error("{name} cannot be reached: {reason}")]
pub struct NotSent {
    /// The node or edge.
    pub name: String,
    /// Why, for our log only.
    pub reason: &'static str,
    /// What was to be sent.
    pub message: Box<Message>,
}

impl NotSent {
    /// True if the other end is there and has no room at the moment: it takes the message later.
    pub fn is_full(&self) -> bool {
        self.reason == FULL
    }
}

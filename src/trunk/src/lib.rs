//! The link between edge and core, both ends.
//!
//! In one process: values over bounded channels. Between two: the core dials the edge; mutual TLS,
//! an XMPP stream with SASL EXTERNAL and XEP-0198 with resume.
//! Owns: dialling, accepting, acknowledgement, resend, spreading over several edges.
//! Does not own: what a stanza means, policy, users.

use gatehouse_xmpp::Stanza;
use tokio::sync::mpsc;

/// One end of the trunk.
#[derive(Debug)]
pub struct Trunk {
    /// Sends to the other role; can be cloned.
    pub sender: TrunkSender,
    /// What the other role sends, in order.
    pub incoming: mpsc::Receiver<Transfer>,
}

/// A stanza that crossed. Whoever takes it must hand the stanza on, store it or answer it, and
/// only then drop the [`Receipt`]: that is what acknowledges it to the other side.
#[derive(Debug)]
pub struct Transfer {
    /// The stanza.
    pub stanza: Stanza,
    /// Kept until the stanza is safe; dropping it acknowledges.
    pub receipt: Receipt,
}

/// The promise to acknowledge one stanza; dropping it does.
#[derive(Debug, Default)]
pub struct Receipt {}

/// The sending side of one end; cheap to clone.
#[derive(Clone, Debug)]
pub struct TrunkSender {}

/// The other role could not be reached in time; here is the stanza for its author's sake.
#[derive(Debug, thiserror::Error)]
#[error("the {role} cannot be reached: {reason}")]
pub struct Unreachable {
    /// `edge` or `core`.
    pub role: &'static str,
    /// Why, for our log only.
    pub reason: String,
    /// What was to be sent.
    pub stanza: Box<Stanza>,
}

impl TrunkSender {
    /// Hands `stanza` to the other role. Waits while its queue is full; fails once the other role
    /// has been away for longer than the patience of the trunk.
    pub async fn send(&self, stanza: Stanza) -> Result<(), Unreachable> {
        let _ = stanza;
        todo!()
    }
}

/// Both ends, for edge and core in one process: (core's end, edge's end).
pub fn in_process() -> (Trunk, Trunk) {
    todo!()
}

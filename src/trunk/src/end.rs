use std::sync::Arc;
use std::time::Instant;

use gatehouse_xmpp::Stanza;
use tokio::sync::mpsc;

use crate::dispatch::Dispatch;
use crate::in_process::Channel;
use crate::{Node, Receipt};

/// One end of the trunk.
#[derive(Debug)]
pub struct Trunk {
    /// Sends to the other role; can be cloned.
    pub sender: TrunkSender,
    /// What the other role sends, in order per pair of domains. Also the bounces that the trunk
    /// itself writes for stanzas it accepted and could not deliver.
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

/// The sending side of one end; cheap to clone.
#[derive(Clone, Debug)]
pub struct TrunkSender {
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    InProcess(Channel),
    Streams(Arc<Dispatch>),
}

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
    pub(crate) fn in_process(channel: Channel) -> Self {
        Self { way: Way::InProcess(channel) }
    }

    pub(crate) fn over(dispatch: Arc<Dispatch>) -> Self {
        Self { way: Way::Streams(dispatch) }
    }

    /// Hands `stanza` to the other role. Waits while its queue is full or it is away; fails once
    /// that has lasted longer than the patience of the trunk.
    pub async fn send(&self, stanza: Stanza) -> Result<(), Unreachable> {
        self.send_with(stanza, Receipt::default()).await
    }

    /// Like [`send`](Self::send), and drops `receipt` once the other role has acknowledged the
    /// stanza, or its author is told that it was not delivered.
    pub async fn send_with(&self, stanza: Stanza, receipt: Receipt) -> Result<(), Unreachable> {
        match &self.way {
            Way::InProcess(channel) => channel.send(stanza, receipt).await,
            Way::Streams(dispatch) => dispatch.send(stanza, receipt).await,
        }
    }

    /// Hands `stanza` to the other role if that can be done at once: the role is there and there is
    /// room. For what is worth nothing later, such as presence and probes.
    pub fn try_send(&self, stanza: Stanza) -> Result<(), Unreachable> {
        match &self.way {
            Way::InProcess(channel) => channel.try_send(stanza),
            Way::Streams(dispatch) => dispatch.try_send(stanza),
        }
    }

    /// Hands a stanza that came from one core to the core that serves its domain, if that can be done
    /// at once. Of what is not taken the receipt comes back, for whoever tells the author. In one process
    /// there is no other core.
    pub fn pass_on(&self, stanza: Stanza, receipt: Receipt) -> Result<(), (Unreachable, Receipt)> {
        match &self.way {
            Way::InProcess(channel) => Err((channel.no_other(stanza), receipt)),
            Way::Streams(dispatch) => dispatch.pass_on(stanza, receipt),
        }
    }

    /// True if the other role is in processes of its own, which can be lost.
    pub fn is_remote(&self) -> bool {
        matches!(self.way, Way::Streams(_))
    }

    /// When a node of the other role was lost last; `None` if none ever was.
    pub fn lost_at(&self) -> Option<Instant> {
        match &self.way {
            Way::InProcess(_) => None,
            Way::Streams(dispatch) => dispatch.lost_at(),
        }
    }

    /// The nodes of the other role that are there, the preferred one first. None in one process:
    /// there the other role is always there, and serves everything.
    pub fn nodes(&self) -> Vec<Node> {
        match &self.way {
            Way::InProcess(_) => Vec::new(),
            Way::Streams(dispatch) => dispatch.nodes(),
        }
    }

    #[cfg(test)]
    pub(crate) fn dispatch(&self) -> Arc<Dispatch> {
        match &self.way {
            Way::InProcess(_) => panic!("there is none in one process"),
            Way::Streams(dispatch) => Arc::clone(dispatch),
        }
    }
}

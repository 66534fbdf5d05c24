//! What waits to be written to one client, and who answers for it until it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gatehouse_xmpp::{Stanza, StreamError};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;

/// How long a full outbox may slow its senders down before the client is cut off. The client
/// has stopped reading some time before: the socket and the outbox are full by then.
const STALLED: Duration = Duration::from_secs(5);

/// A stanza on its way to one client.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) stanza: Arc<Stanza>,
    /// Shared by all the copies that went to several resources of one user.
    pub(crate) copies: Copies,
    /// The key of the stored message that this is; the store answers for it.
    pub(crate) offline: Option<i64>,
}

impl Outgoing {
    /// A stanza for one client alone.
    pub(crate) fn new(stanza: Stanza) -> Self {
        Self { stanza: Arc::new(stanza), copies: Copies::default(), offline: None }
    }
}

/// The copies of one stanza. If none of them reaches its client, the one that fails last is routed
/// again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copies(Arc<AtomicBool>);

impl Copies {
    /// One copy has left for its client.
    pub(crate) fn written(self) {
        self.0.store(true, Ordering::Release);
    }

    /// This copy will not be written. True if no other copy was or can be.
    pub(crate) fn lost(self) -> bool {
        Arc::into_inner(self.0).is_some_and(|written| !written.into_inner())
    }
}

/// The sending side of a session: its queue, and a way to end it.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    kick: mpsc::Sender<StreamError>,
    gone: AtomicBool,
}

/// The session's own side of its outbox.
#[derive(Debug)]
pub(crate) struct OutboxReceiver {
    pub(crate) queue: mpsc::Receiver<Outgoing>,
    pub(crate) kicked: mpsc::Receiver<StreamError>,
}

/// Both sides of an outbox of `len_max` stanzas.
pub(crate) fn outbox(len_max: usize) -> (Outbox, OutboxReceiver) {
    let (queue, receiver) = mpsc::channel(len_max.max(1));
    let (kick, kicked) = mpsc::channel(1);
    let gone = AtomicBool::new(false);
    (Outbox { queue, kick, gone }, OutboxReceiver { queue: receiver, kicked })
}

impl Outbox {
    /// Queues a stanza; waits a little while the queue is full, then gives up on the client. Gives
    /// the stanza back if the session is over.
    pub(crate) async fn send(&self, item: Outgoing) -> Result<(), Outgoing> {
        if self.is_gone() {
            return Err(item);
        }
        match self.queue.send_timeout(item, STALLED).await {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Closed(item)) => Err(item),
            Err(SendTimeoutError::Timeout(item)) => {
                self.end(StreamError::new(
                    gatehouse_xmpp::StreamCondition::ResourceConstraint,
                    "the client does not read what is sent to it",
                ));
                Err(item)
            }
        }
    }

    /// Ends the session with `error`; from now on it takes nothing more.
    pub(crate) fn end(&self, error: StreamError) {
        self.gone.store(true, Ordering::Release);
        // A full channel means that the session was told before.
        let _ = self.kick.try_send(error);
    }

    /// Takes nothing more; the session ends by itself.
    pub(crate) fn close(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// How many stanzas can be queued without a wait.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.queue.capacity()
    }

    /// True once nobody reads the queue any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// True once nothing more is taken.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire) || self.queue.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lost_copy_is_routed_again() {
        let one = Copies::default();
        let other = one.clone();
        assert!(!one.lost());
        assert!(other.lost());
    }

    #[test]
    fn a_written_copy_answers_for_the_others() {
        let one = Copies::default();
        let other = one.clone();
        one.written();
        assert!(!other.lost());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut_off() {
        let stanza = || {
            let element = "<presence xmlns='jabber:client'/>".parse().unwrap();
            Outgoing::new(Stanza::from_element(element).unwrap())
        };
        let (outbox, mut receiver) = outbox(1);
        assert!(outbox.send(stanza()).await.is_ok());
        assert!(!outbox.is_gone());
        assert!(outbox.send(stanza()).await.is_err());
        assert!(outbox.is_gone());
        assert!(receiver.kicked.recv().await.is_some());
        // What was queued is still there to be routed again; nothing is added.
        assert!(receiver.queue.recv().await.is_some());
        assert!(outbox.send(stanza()).await.is_err());
    }
}

use std::time::Duration;

use gatehouse_trunk::{Receipt, TrunkSender};
use gatehouse_types::Chain;
use gatehouse_xmpp::{ErrorKind, Stanza, StanzaCondition, StanzaKind};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::shared::Edge;

/// Bounces that wait for the core.
const BOUNCES_LEN_MAX: usize = 1024;

/// How long bounces may still go to the core once we are stopping.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a stanza does not go out, in the words that its author reads (RFC 6120, section 8.3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) kind: ErrorKind,
    pub(crate) condition: StanzaCondition,
    /// One sentence that helps a user.
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(kind: ErrorKind, condition: StanzaCondition, text: String) -> Self {
        Self { kind, condition, text }
    }
}

/// An error for an author of ours on its way to the core, with the receipt of what it answers.
#[derive(Debug)]
pub(crate) struct Bounce {
    error: Stanza,
    receipt: Option<Receipt>,
}

/// The queue of [`Bounce`]s: whoever reads what the core sends must never wait for the core, or
/// the two wait for each other.
pub(crate) fn queue() -> (mpsc::Sender<Bounce>, mpsc::Receiver<Bounce>) {
    mpsc::channel(BOUNCES_LEN_MAX)
}

/// Hands bounces to the core, waiting for it, until every stream of the edge has ended.
pub(crate) async fn hand_over(
    mut bounces: mpsc::Receiver<Bounce>,
    core: TrunkSender,
    stop: CancellationToken,
) {
    let hand_over = async {
        while let Some(Bounce { error, receipt }) = bounces.recv().await {
            if let Err(error) = core.send(error).await {
                metrics::counter!("gatehouse_s2s_dropped_total").increment(1);
                warn!(error = %Chain(&error), "an author cannot be told that a stanza was not delivered");
            }
            // Acknowledged only now.
            drop(receipt);
        }
    };
    let too_long = async {
        stop.cancelled().await;
        time::sleep(FAREWELL).await;
    };
    tokio::select! {
        biased;
        () = hand_over => {}
        () = too_long => debug!("stopping: the core does not take the last bounces"),
    }
}

impl Edge {
    /// Tells the author of `stanza`, a user of ours, that it could not be delivered, and only then
    /// acknowledges it. Waits while too many bounces are waiting.
    pub(crate) async fn bounce(&self, stanza: &Stanza, receipt: Option<Receipt>, why: &Refusal) {
        let Some(error) = self.error_for(stanza, why) else { return };
        if let Err(mpsc::error::SendError(_)) = self.bounces.send(Bounce { error, receipt }).await {
            metrics::counter!("gatehouse_s2s_dropped_total").increment(1);
            debug!("a bounce was dropped: we are stopping");
        }
    }

    /// Like [`bounce`](Self::bounce), but waits for nothing. If even the queue of bounces is full
    /// the author is not told: the core has not taken anything for a long time by then.
    pub(crate) fn bounce_now(&self, stanza: &Stanza, receipt: Option<Receipt>, why: &Refusal) {
        let Some(error) = self.error_for(stanza, why) else { return };
        let Err(error) = self.bounces.try_send(Bounce { error, receipt }) else { return };
        metrics::counter!("gatehouse_s2s_dropped_total").increment(1);
        let (TrySendError::Full(Bounce { error, .. }) | TrySendError::Closed(Bounce { error, .. })) =
            error;
        let Some(from) = error.from() else { return };
        if self.domain_warnings.may_warn(from.domain().clone(), gatehouse_net::now()) {
            warn!(
                peer.domain = %from.domain(), direction = "out",
                "an author is not told that a stanza was not delivered: the core takes nothing"
            );
        }
    }

    /// The error to be sent; `None` if it was already done with.
    ///
    /// Errors and results are dropped: answering them is how loops begin (RFC 6120, section 8.3.1).
    /// A presence goes to the core at once or not at all: nobody misses the error.
    fn error_for(&self, stanza: &Stanza, why: &Refusal) -> Option<Stanza> {
        let Some(error) = stanza.bounce(why.kind, why.condition, &why.text) else {
            debug!(
                to = stanza.to().map(tracing::field::display),
                "dropped: it may not be answered"
            );
            metrics::counter!("gatehouse_s2s_dropped_total").increment(1);
            return None;
        };
        metrics::counter!("gatehouse_s2s_bounces_total", "condition" => why.condition.as_str())
            .increment(1);
        debug!(stanza.id = %stanza.trace(), condition = why.condition.as_str(), "bounced");
        if stanza.kind() != StanzaKind::Presence {
            return Some(error);
        }
        if let Err(error) = self.core.try_send(error) {
            metrics::counter!("gatehouse_s2s_dropped_total").increment(1);
            debug!(error = %Chain(&error), "dropped: the error to a presence");
        }
        None
    }
}

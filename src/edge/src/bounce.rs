use gatehouse_trunk::Receipt;
use gatehouse_types::Chain;
use gatehouse_xmpp::{ErrorKind, Stanza, StanzaCondition};
use tracing::{debug, warn};

use crate::shared::Edge;

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

impl Edge {
    /// Tells the author of `stanza`, a user of ours, that it could not be delivered, and only then
    /// acknowledges it.
    ///
    /// Errors and results are dropped: answering them is how loops begin (RFC 6120, section 8.3.1).
    pub(crate) async fn bounce(&self, stanza: &Stanza, receipt: Option<Receipt>, why: &Refusal) {
        // Given back, which acknowledges the stanza, when this function is done.
        let _receipt = receipt;
        let Some(error) = stanza.bounce(why.kind, why.condition, &why.text) else {
            debug!(
                to = stanza.to().map(tracing::field::display),
                "dropped: it may not be answered"
            );
            metrics::counter!("gatehouse_s2s_dropped_total").increment(1);
            return;
        };
        metrics::counter!("gatehouse_s2s_bounces_total", "condition" => why.condition.as_str())
            .increment(1);
        if let Err(error) = self.core.send(error).await {
            warn!(error = %Chain(&error), "an author cannot be told that a stanza was not delivered");
        }
    }
}

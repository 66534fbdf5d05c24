//! A stanza that is refused: the condition, and a sentence for its author.

use std::borrow::Cow;

use gatehouse_store::StoreError;
use gatehouse_types::Chain;
use gatehouse_xmpp::{ErrorKind, Stanza, StanzaCondition};
use tracing::error;

/// Why a stanza is answered with an error.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) kind: ErrorKind,
    pub(crate) condition: StanzaCondition,
    pub(crate) text: Cow<'static, str>,
}

impl Refusal {
    /// The request cannot work as it is; a changed one may.
    pub(crate) fn modify(condition: StanzaCondition, text: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: ErrorKind::Modify, condition, text: text.into() }
    }

    /// The request will not work.
    pub(crate) fn cancel(condition: StanzaCondition, text: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: ErrorKind::Cancel, condition, text: text.into() }
    }

    /// The request may work later.
    pub(crate) fn wait(condition: StanzaCondition, text: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: ErrorKind::Wait, condition, text: text.into() }
    }

    /// The request is malformed.
    pub(crate) fn bad_request(text: impl Into<Cow<'static, str>>) -> Self {
        Self::modify(StanzaCondition::BadRequest, text)
    }

    /// What everybody gets who asks for a user or a service that is not there, or not for them:
    /// the text is the same too, so that nobody learns which.
    pub(crate) fn unavailable() -> Self {
        Self::cancel(
            StanzaCondition::ServiceUnavailable,
            "There is no such user or service here, or it does not answer you.",
        )
    }

    /// A request that the server, or the author's own account, does not know.
    pub(crate) fn unsupported() -> Self {
        Self::cancel(StanzaCondition::ServiceUnavailable, "This request is not supported here.")
    }

    /// The answer to the author of `stanza`, if it may be answered (RFC 6120, section 8.3.1).
    pub(crate) fn answer(&self, stanza: &Stanza) -> Option<Stanza> {
        let answer = stanza.bounce(self.kind, self.condition, &self.text)?;
        metrics::counter!("gatehouse_stanza_errors_total", "condition" => self.condition.as_str())
            .increment(1);
        Some(answer)
    }
}

impl From<StoreError> for Refusal {
    fn from(failure: StoreError) -> Self {
        match failure {
            StoreError::NoAccount(_) => Self::unavailable(),
            StoreError::Full { .. } => Self::wait(
                StanzaCondition::ResourceConstraint,
                "There is no room for this at the moment.",
            ),
            failure => {
                error!(error = %Chain(&failure), "the store failed; the request was refused");
                Self::wait(
                    StanzaCondition::InternalServerError,
                    "The server could not read or write its database. Try again later.",
                )
            }
        }
    }
}

use gatehouse_xmpp::{ErrorKind, Stanza, StanzaCondition};

use crate::{Receipt, Transfer};

/// Why a stanza that was taken is not delivered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reason {
    /// No edge was there for too long.
    NoEdge,
    /// No core that serves the domain was there for too long.
    NoCore,
    /// It is longer than the trunk takes.
    TooLong,
    /// The other side cannot read it.
    Refused,
}

/// What a partner's user is told, who need not know how we are built.
const NO_CORE: &str = "The server of this user is not available at the moment. Try again later.";

/// What the author of a stanza is told for whose domain the core may not speak. It reads the text
/// of a server with the wrong settings, or nothing if that server was broken into: only its
/// administrator can help.
const NOT_YOURS: &str = "Your server may not send for this domain. Tell its administrator.";

/// The error for a stanza of a core that may not speak for the domain it is from; `None` where
/// nothing may be answered.
pub(crate) fn not_yours(stanza: &Stanza) -> Option<Stanza> {
    stanza.bounce(ErrorKind::Cancel, StanzaCondition::NotAllowed, NOT_YOURS)
}

/// What the author is told, as if by the other side. Answers are not answered, only counted.
pub(crate) fn give_back(stanza: &Stanza, reason: Reason) -> Option<Transfer> {
    let (kind, condition, text) = match reason {
        Reason::NoEdge => (
            ErrorKind::Wait,
            StanzaCondition::RemoteServerTimeout,
            "The server could not pass this on in time. Try again later.",
        ),
        Reason::NoCore => (ErrorKind::Wait, StanzaCondition::RecipientUnavailable, NO_CORE),
        Reason::TooLong => (
            ErrorKind::Modify,
            StanzaCondition::PolicyViolation,
            "This is too long to be passed on. Send less at a time.",
        ),
        Reason::Refused => (
            ErrorKind::Modify,
            StanzaCondition::PolicyViolation,
            "The server cannot pass this on: its other half refuses to read it.",
        ),
    };
    let bounce = stanza.bounce(kind, condition, text);
    let outcome = if bounce.is_some() { "bounced" } else { "dropped" };
    metrics::counter!("gatehouse_trunk_undeliverable_total", "outcome" => outcome).increment(1);
    Some(Transfer { stanza: bounce?, receipt: Receipt::default() })
}

//! What the gateway tells its owner to do.

use std::time::Duration;

use gatehouse_sip::Message;
use gatehouse_types::Domain;
use gatehouse_xmpp::Stanza;

use crate::{Record, RecordKey};

/// Names a stanza of the local side until it is released. Chosen by the owner; never looked into.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Receipt(pub u64);

/// Names a SIP request from the partner until it is answered. Chosen by the owner, one per server
/// transaction; never looked into.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RequestKey(pub u64);

/// Names a SIP request of ours. Chosen by the gateway, never used again; the owner keeps it beside
/// the client transaction and gives it back with each answer.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct OutgoingId(pub(crate) u64);

/// Why there is no answer to a request of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// Timer B or F ended (RFC 3261 section 17.1): read as 408.
    TimedOut,
    /// It could not be sent, or the connection broke: read as 503.
    Unreachable,
}

/// Where a contact of ours is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// With a partner, behind an edge.
    Outside,
    /// On a server of the inside.
    Inside,
}

/// What there is only so much of.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Scarce {
    /// Subscriptions to presence, both ways.
    Subscriptions,
    /// IM sessions.
    Sessions,
    /// Messages of partners that the local router has not taken yet.
    Messages,
    /// Single looks at a contact's presence.
    Looks,
    /// Memory for messages of local users that have no answer.
    Bytes,
}

impl Scarce {
    /// In a word, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscriptions => "subscriptions",
            Self::Sessions => "sessions",
            Self::Messages => "messages",
            Self::Looks => "looks",
            Self::Bytes => "bytes",
        }
    }
}

/// Whose part of it is used up.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Whose {
    /// All there is.
    Node,
    /// That of one partner's domain.
    Partner,
    /// That of all domains together that the policy does not name.
    Strangers,
    /// That of one user of a partner.
    Contact,
    /// That of one local user.
    User,
}

impl Whose {
    /// In a word, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Partner => "partner",
            Self::Strangers => "strangers",
            Self::Contact => "contact",
            Self::User => "user",
        }
    }
}

/// One thing for the owner to do. Effects are carried out in the order in which they come.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Start a client transaction. The request has no Via: the owner adds its own. Tell
    /// [`Gateway::handle_response`](crate::Gateway::handle_response) every answer (provisional
    /// ones, and each 2xx of an INVITE), or
    /// [`Gateway::handle_failure`](crate::Gateway::handle_failure) once.
    Request {
        /// Its name from here on.
        id: OutgoingId,
        /// What to send.
        request: Message,
    },
    /// Send this ACK of a 2xx: no transaction, no answer. No Via in it, either.
    Ack {
        /// What to send.
        ack: Message,
    },
    /// Give a request of ours up: an INVITE is cancelled (RFC 3261 section 9.1), and its final answer is
    /// still to be told; anything else is not sent if it still waits for its turn.
    Cancel {
        /// The request.
        id: OutgoingId,
    },
    /// Answer a request of the partner, finally.
    Respond {
        /// The request.
        key: RequestKey,
        /// The answer, Vias copied.
        response: Message,
    },
    /// This request is never answered (BENOTIFY): forget its transaction.
    Ignore {
        /// The request.
        key: RequestKey,
    },
    /// Hand a stanza to the local router. Nobody waits for what becomes of it.
    Stanza(Stanza),
    /// Hand a message to the local router, and then tell
    /// [`Gateway::delivered`](crate::Gateway::delivered): the partner gets its answer only then.
    Deliver {
        /// The request that brought it.
        key: RequestKey,
        /// From the remote user to the local one.
        stanza: Stanza,
    },
    /// The stanza of this receipt is done with, because the partner took it or there was nothing to
    /// send: acknowledge it upstream.
    Release {
        /// Which one.
        receipt: Receipt,
    },
    /// The stanza of this receipt does not reach the partner: tell its author. It is done with only
    /// once the author has the error, or the store does.
    Bounce {
        /// Which one.
        receipt: Receipt,
        /// To its author; `None` if it may not be answered.
        error: Option<Stanza>,
    },
    /// The gateway stops before the partner answered. If the owner has the stanza in its store, it is
    /// for [`Gateway::recover`](crate::Gateway::recover) after the next start; else this is a
    /// [`Bounce`](Self::Bounce).
    Keep {
        /// Which one.
        receipt: Receipt,
        /// To its author, if the stanza is not stored.
        error: Option<Stanza>,
    },
    /// Write a record, replacing the one of the same key. It is worthless after `lasts`.
    Store {
        /// What to write.
        record: Record,
        /// From now on; the owner turns it into a date.
        lasts: Duration,
    },
    /// Take a record away. It may not be there.
    Forget(RecordKey),
    /// Something was refused, because somebody has as much of it as may be: for the operator to know.
    Full {
        /// Of what.
        what: Scarce,
        /// Who.
        whose: Whose,
        /// The partner that it was with.
        domain: Domain,
    },
    /// A partner grants presence subscriptions for so short a time that they are not renewed before
    /// they end: for the operator to know why presence is late.
    ShortLived {
        /// The partner.
        domain: Domain,
        /// What it grants.
        seconds: u32,
    },
}

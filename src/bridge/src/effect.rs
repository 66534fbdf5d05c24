//! What the gateway tells its owner to do.

use std::time::Duration;

use gatehouse_sip::Message;
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

/// How a stanza of the local side ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The partner took it, or there was nothing to send.
    Delivered,
    /// An error stanza went to its author (before this effect).
    Bounced,
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
    /// Give an INVITE of ours up (RFC 3261 section 9.1). Its final answer is still to be told.
    Cancel {
        /// The INVITE.
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
    /// The stanza of this receipt is done with: acknowledge it upstream.
    Release {
        /// Which one.
        receipt: Receipt,
        /// How it ended.
        outcome: Outcome,
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
}

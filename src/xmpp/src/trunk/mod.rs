//! The trunk's stream, both ends: TLS, SASL EXTERNAL, XEP-0198, stanzas of many domains.
//!
//! TLS is there from the first byte, under an authority of the trunk's own, with ALPN
//! `xmpp-server`. Both ends are proven by their certificates before anything else is said. Within,
//! it is an ordinary XMPP server stream, so that the inside can also be somebody else's server; but
//! it carries stanzas of any domain, and nothing without stream management.
//!
//! In a namespace of our own, which the acceptor offers beside XEP-0198, the dialler says which
//! domains it serves, and each end tells what it has handled out of turn: one stanza that takes its
//! time must not fill the window with all that came later. What was told so is skipped after a
//! resume. An end that cannot read a stanza says which, so that it is that one that goes back.
//!
//! A stanza counts as handled when [`TrunkEnd::handled`] is told so, not when it arrives. What was
//! not acknowledged when a connection broke is sent again on the next: at most once in one session,
//! at least once where the peer lost its memory.

mod accepting;
mod dialling;
mod end;
mod flow;
mod wire;

use std::time::Duration;

use gatehouse_identity::AuthenticatedPeer;
use gatehouse_types::{Domain, StreamLimits};

pub use self::end::TrunkEnd;
use crate::Stanza;
use crate::sm::Window;
use crate::stream::CloseReason;

/// The ALPN protocol name of the trunk: it is an XMPP server stream (XEP-0368).
pub const ALPN: &str = "xmpp-server";

/// How many domains one node may announce.
pub const ANNOUNCED_MAX: usize = 1000;

/// What all trunk streams of a node share.
#[derive(Clone, Debug)]
pub struct TrunkConfig {
    /// Our node's name, as in our trunk certificate.
    pub own: Domain,
    /// Acceptors: the nodes that may dial us. Diallers leave it empty.
    pub peers: Vec<Domain>,
    /// Bounds of each stream.
    pub limits: StreamLimits,
    /// How much may be under way without an acknowledgement.
    pub window: Window,
    /// How long a session outlives its connection.
    pub resume_timeout: Duration,
    /// When acknowledgements are sent and asked for.
    pub pace: Pace,
}

/// When acknowledgements are sent and asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// Acknowledge after this many handled stanzas, without being asked.
    pub ack_every: usize,
    /// Acknowledge a handled stanza no later than this.
    pub ack_delay: Duration,
    /// Ask after this many stanzas sent.
    pub request_every: usize,
    /// Ask when the first unacknowledged stanza is this old.
    pub request_delay: Duration,
    /// Silence after which we ask whether the peer is there.
    pub silence_max: Duration,
    /// How long its answer may take.
    pub answer_max: Duration,
    /// How long a farewell may take.
    pub farewell_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            ack_every: 32,
            // As soon as the owner has nothing more to hand in: when an edge dies, what it had
            // passed on and not acknowledged goes to a partner twice.
            ack_delay: Duration::ZERO,
            request_every: 64,
            request_delay: Duration::from_secs(1),
            silence_max: Duration::from_secs(15),
            answer_max: Duration::from_secs(10),
            farewell_max: Duration::from_secs(2),
        }
    }
}

/// What a trunk machine tells its owner. `T` is what the owner sends: a stanza and what it wants
/// to know again once it is acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub enum TrunkEvent<T> {
    /// Acceptor: this node has authenticated and wants a session. Answer with
    /// [`TrunkEnd::admit`].
    Enable(AuthenticatedPeer),
    /// Acceptor: this node has authenticated and wants its session back. Answer with
    /// [`TrunkEnd::resume`] or [`TrunkEnd::refuse_resume`].
    Resume {
        /// Who.
        peer: AuthenticatedPeer,
        /// The session's name.
        id: String,
    },
    /// Stanzas may flow.
    Opened {
        /// Whether the session lives on or is a new one, with numbers from nought.
        session: Continuity,
        /// How many stanzas were sent again.
        resent: usize,
    },
    /// A stanza; tell [`TrunkEnd::handled`] its number when it is safe.
    Stanza {
        /// The stanza.
        stanza: Stanza,
        /// Its number within the session.
        number: u64,
    },
    /// The peer sent something that cannot be delivered to anybody; it was counted and dropped.
    Discarded(String),
    /// The peer has handled these.
    Acknowledged(Vec<T>),
    /// Acceptor: the domains that the peer serves, in the place of those it said before.
    Announced(Vec<Domain>),
    /// The peer cannot read this one and is about to end the stream; it is not sent again.
    Refused(T),
    /// The stream is over. Take [`TrunkEnd::take_session`] for the next one.
    Closed(CloseReason),
}

/// Whether a session lives on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Continuity {
    /// Both counters go on.
    Resumed,
    /// Both start from nought.
    New,
}

#[cfg(test)]
mod tests;

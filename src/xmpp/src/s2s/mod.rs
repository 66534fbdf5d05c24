//! Server-to-server streams: the receiving and the initiating side.

#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod initiator;
mod intake;
mod key;
mod management;
mod pairs;
mod peer_limits;
mod receiver;
mod wire;

#[cfg(test)]
mod tests;

use gatehouse_identity::{AuthenticatedPeer, IdentityError, Presented, prove};
use gatehouse_types::{Domain, Local, Remote};

#[cfg(any(test, feature = "fuzzing"))]
pub use self::fuzzing::check_dialback;
pub use self::initiator::{InitiatorConfig, Purpose, S2sInitiator};
pub use self::receiver::{ReceiverConfig, S2sReceiver};
use crate::stream::CloseReason;
use crate::{Stanza, StreamError};

/// What a pair of domains must do before stanzas flow. Answered by policy before anything is
/// offered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    /// What proves the partner.
    pub authentication: Authentication,
    /// Whether plain TCP may ever carry stanzas.
    pub encryption: Encryption,
}

/// What proves a partner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Authentication {
    /// A verified certificate that names its domain; nothing else.
    Certificate,
    /// The same, or dialback where the certificate proves nothing.
    CertificateOrDialback,
}

/// Whether TLS is needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encryption {
    /// TLS or nothing.
    Required,
    /// TLS where the partner offers it.
    Optional,
}

/// Whether a stream may carry stanzas in both directions (XEP-0288).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Bidi {
    /// Offered by receivers, asked for by initiators. Only within TLS.
    #[default]
    Wanted,
    /// From the initiator to the receiver only.
    Off,
}

/// What became of a stanza that a machine was given to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sent {
    /// The peer will acknowledge it: [`S2sEvent::Acknowledged`].
    Counted,
    /// Nobody will say that it arrived.
    Uncounted,
}

/// Asked by a receiver; answered at once, from configuration and policy.
pub trait Gate: Send + Sync {
    /// True if `domain` is one of ours.
    fn serves(&self, domain: &Domain) -> bool;
    /// What `from` must do to talk to `to`, or why it may not at all.
    fn terms(&self, from: &Remote<Domain>, to: &Local<Domain>) -> Result<Terms, StreamError>;
    /// What the certificate that was shown proves about `from`. By its chain, unless policy knows
    /// better: it may pin keys.
    fn prove(
        &self,
        presented: &Presented,
        from: &Remote<Domain>,
        _to: &Local<Domain>,
    ) -> Result<AuthenticatedPeer, IdentityError> {
        prove(presented, from)
    }
    /// Whether the proven `peer` may send to `to`; the name of the rule that says so, for logs.
    fn admit(&self, peer: &AuthenticatedPeer, to: &Local<Domain>) -> Result<String, StreamError>;
}

/// A stanza is longer than the peer says it takes (XEP-0478); it was not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the peer takes at most {bytes_max} bytes at a time")]
pub struct TooLong {
    /// What it takes.
    pub bytes_max: usize,
}

/// What an S2S machine tells its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum S2sEvent {
    /// The peer's header was read: whom it wants and who it says it is. Told again if the header
    /// after TLS says otherwise, which then holds; what was said before could be anybody's.
    Header {
        /// Who it says it is.
        from: Option<Remote<Domain>>,
        /// Whom it wants.
        to: Option<Local<Domain>>,
    },
    /// A pair of domains is open for stanzas. Receivers may open several on one stream.
    Opened {
        /// Who is there, and how it was proved.
        peer: AuthenticatedPeer,
        /// The domain of ours.
        local: Local<Domain>,
        /// The policy rule that allowed it (initiators: empty).
        rule: String,
    },
    /// Receiver: the peer offers a dialback key; find its authoritative server, ask it, and answer
    /// with [`S2sReceiver::dialback_answer`].
    VerifyKey(DialbackQuestion),
    /// Initiator made to verify: the authoritative server's answer.
    KeyVerdict {
        /// True for `type='valid'`.
        valid: bool,
    },
    /// A stanza between an opened pair; `from` and `to` are there and were checked. The number is
    /// for `handled` of the machine, once the stanza is handed on, stored or answered; without
    /// stream management there is none.
    Stanza(Stanza, Option<u64>),
    /// The peer has acknowledged the oldest so many of the stanzas that it was sent and had not
    /// acknowledged (XEP-0198).
    Acknowledged(usize),
    /// A stanza with a malformed address was not taken; the stream goes on, so that one user of the
    /// partner cannot end it for all others (RFC 6120, section 8.3.3.8).
    Malformed {
        /// What to send to its author, where that is known and may be told.
        answer: Option<Box<Stanza>>,
        /// What is malformed, for the log.
        reason: String,
    },
    /// A way of authentication failed but the stream goes on; for the log.
    AuthenticationFailed {
        /// `EXTERNAL` or `dialback`.
        method: &'static str,
        /// Whose fault, in a sentence.
        reason: String,
    },
    /// The stream is over.
    Closed(CloseReason),
}

/// A dialback key to be verified by the originating domain's authoritative server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DialbackQuestion {
    /// The domain that wants to send (its authoritative server is asked).
    pub originating: Remote<Domain>,
    /// Our domain.
    pub receiving: Local<Domain>,
    /// The id of the stream on which the key came.
    pub stream_id: String,
    /// The key.
    pub key: String,
}

/// How verifying a dialback key ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DialbackAnswer {
    /// The authoritative server confirmed it.
    Valid,
    /// The authoritative server denied it.
    Invalid,
    /// The authoritative server could not be asked; the sentence says why.
    Unreachable(String),
    /// We could not ask for now, and it is not the peer's fault: it may offer the key again.
    Busy,
}

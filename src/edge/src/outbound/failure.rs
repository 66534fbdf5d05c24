use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use gatehouse_identity::IdentityError;
use gatehouse_net::ConnectionError;
use gatehouse_resolve::{Host, ResolveError, Transport};
use gatehouse_types::Chain;
use gatehouse_xmpp::stream::CloseReason;

use super::target::Target;

/// How far an attempt had come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    Connect,
    Tls,
    Stream,
}

/// Why one target did not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    #[error("TCP connection failed")]
    Connect(#[source] io::Error),
    #[error("TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("no answer within {} s ({stage})", .timeout.as_secs_f32())]
    Silent { stage: Stage, timeout: Duration },
    #[error("certificate refused")]
    Certificate(#[source] IdentityError),
    #[error(
        "not used: what DNS says about its certificate cannot be validated ({reason}); either its \
         zone is signed wrongly or the name servers of this machine do not work"
    )]
    Dane { reason: String },
    #[error("stream closed: {}", reason_text(.0))]
    Closed(CloseReason),
    #[error("connection lost while the stream was set up")]
    Broken(#[source] ConnectionError),
}

/// A target, and why it did not do.
#[derive(Debug)]
pub(crate) struct FailedTarget {
    pub(super) target: Target,
    pub(super) error: AttemptError,
}

/// Why a partner cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialFailure {
    #[error("DNS names no target")]
    Resolve(#[source] ResolveError),
    #[error("no target could be used")]
    Targets { failed: Vec<FailedTarget> },
    #[error("out of time after {} s", .timeout.as_secs_f32())]
    OutOfTime { failed: Vec<FailedTarget>, timeout: Duration },
    /// DNS leads only to addresses that we do not dial.
    #[error(
        "DNS names only addresses that are not on the public Internet; if this partner is on a \
         network of ours, set `private-targets = true` in [s2s]"
    )]
    Private { targets: Vec<(Host, SocketAddr)> },
    /// It was reached, more than once, and lost before it took a stanza.
    #[error("the stream opens and closes again without taking a stanza: {reason}")]
    Unsteady { reason: String },
}

impl DialFailure {
    /// Every target that was tried and what came of it, for the log.
    pub(crate) fn targets(&self) -> String {
        match self {
            Self::Resolve(error) => error.to_string(),
            Self::Targets { failed } | Self::OutOfTime { failed, .. } => {
                failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            }
            Self::Private { targets } => targets
                .iter()
                .map(|(host, address)| format!("{host} at {address}"))
                .collect::<Vec<_>>()
                .join("; "),
            Self::Unsteady { .. } => String::new(),
        }
    }

    /// True if an administrator should look; a domain that does not exist is a user's typing error.
    pub(crate) fn is_notable(&self) -> bool {
        !matches!(self, Self::Resolve(ResolveError::NotFound(_) | ResolveError::NoService(_)))
    }
}

/// Why a stream ended, for the log.
pub(crate) fn reason_text(reason: &CloseReason) -> String {
    match reason {
        CloseReason::PeerClosed => "the peer said goodbye".into(),
        CloseReason::Disconnected => "the peer closed the connection without a goodbye".into(),
        CloseReason::Shutdown => "we are stopping".into(),
        CloseReason::Idle => "idle".into(),
        CloseReason::SetupTimeout => "the negotiation took too long".into(),
        CloseReason::WeRefused(error) => format!("we refused: {error}"),
        CloseReason::PeerRefused(error) => format!("the peer refused: {error}"),
        CloseReason::NoAgreement(why) => format!("no agreement: {why}"),
    }
}

impl fmt::Display for FailedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.target.transport {
            Transport::DirectTls => "direct TLS",
            Transport::StartTls => "STARTTLS",
        };
        let Target { host, address, .. } = &self.target;
        write!(f, "{host} at {address} by {transport}: {}", Chain(&self.error))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "TCP connection",
            Self::Tls => "TLS handshake",
            Self::Stream => "stream negotiation",
        })
    }
}

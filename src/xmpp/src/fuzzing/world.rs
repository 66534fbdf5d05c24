//! What all machines of these tests live in.

use std::time::Instant;

use gatehouse_identity::{ChainFault, Presented, TlsFacts, TlsVersion, VerifiedLeaf};
use gatehouse_types::{Domain, StreamLimits};

use crate::Stanza;

/// A certificate for `them.example`; nobody has its key any more.
const THEM: &[u8] = include_bytes!("them.example.der");

/// Keying material of every TLS connection that has any.
pub(super) const EXPORTER: [u8; 32] = [7; 32];

/// What the other side shows in a handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shown {
    /// A certificate for `them.example` whose chain holds.
    Them,
    /// The same, from an authority that nobody trusts.
    Untrusted,
    /// Nothing.
    Nothing,
    /// Bytes that are no certificate.
    Junk,
}

impl Shown {
    pub(super) fn of(number: u8) -> Self {
        match number & 3 {
            0 => Self::Them,
            1 => Self::Untrusted,
            2 => Self::Nothing,
            _ => Self::Junk,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "stands in for the handshake")]
    pub(super) fn facts(self) -> TlsFacts {
        let presented = match self {
            Self::Them => Presented::Verified(VerifiedLeaf::assertion(THEM.to_vec())),
            Self::Untrusted => Presented::Untrusted {
                leaf: THEM.to_vec(),
                issuers: [].into(),
                fault: ChainFault::UnknownIssuer,
            },
            Self::Nothing => Presented::Nothing,
            Self::Junk => Presented::Verified(VerifiedLeaf::assertion(b"junk".to_vec())),
        };
        TlsFacts { presented, exporter: Some(EXPORTER), version: TlsVersion::Tls13 }
    }
}

/// Small ones, so that they are met.
pub(super) fn limits() -> StreamLimits {
    StreamLimits {
        unauthenticated_element_bytes_max: 1500,
        stanza_bytes_max: 2500,
        depth_max: 8,
        attributes_max: 12,
        children_max: 16,
        ..StreamLimits::default()
    }
}

pub(super) fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

pub(super) fn message(from: &str, to: &str, id: usize) -> Stanza {
    let text = format!(
        "<message xmlns='jabber:client' from='{from}' to='{to}' id='{id}'><body>&lt;</body></message>"
    );
    Stanza::from_element(text.parse().unwrap()).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "any moment will do")]
pub(super) fn moment() -> Instant {
    Instant::now()
}

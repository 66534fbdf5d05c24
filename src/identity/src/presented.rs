use std::sync::Arc;

use gatehouse_types::{Domain, Remote};

use crate::KeyPin;

/// What the other side showed during the TLS handshake. Made by gatehouse-tls.
#[derive(Clone, Debug)]
pub enum Presented {
    /// No certificate.
    Nothing,
    /// A certificate whose key it holds, but whose chain does not end in a root that we trust.
    Untrusted {
        /// The end-entity certificate, DER.
        leaf: Vec<u8>,
        /// The other certificates that were shown with it, DER.
        issuers: Arc<[Vec<u8>]>,
        /// Why the chain was refused.
        fault: ChainFault,
    },
    /// A certificate whose chain holds.
    Verified(VerifiedLeaf),
    /// A certificate that was vouched for by other means than its chain.
    Vouched(Vouched),
}

impl Presented {
    /// The end-entity certificate, DER; `None` if nothing was shown.
    pub fn leaf(&self) -> Option<&[u8]> {
        match self {
            Self::Nothing => None,
            Self::Untrusted { leaf, .. } => Some(leaf),
            Self::Verified(leaf) => Some(leaf.der()),
            Self::Vouched(vouched) => Some(&vouched.leaf),
        }
    }

    /// The other certificates that were shown, DER; none once something else vouches for the leaf.
    pub fn issuers(&self) -> &[Vec<u8>] {
        match self {
            Self::Nothing | Self::Vouched(_) => &[],
            Self::Untrusted { issuers, .. } => issuers,
            Self::Verified(leaf) => leaf.issuers(),
        }
    }
}

/// Why a chain was refused, in words that tell whose fault it is.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChainFault {
    /// `notAfter` has passed.
    #[error("the certificate has expired")]
    Expired,
    /// `notBefore` lies ahead.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// Issuer and subject are the same, and it is not one of our roots.
    #[error("the certificate is self-signed")]
    SelfSigned,
    /// No path to a root that we trust.
    #[error("the certificate comes from an authority that is not trusted here")]
    UnknownIssuer,
    /// Neither server nor client authentication is among its purposes.
    #[error("the certificate is not meant for TLS servers")]
    WrongPurpose,
    /// It is a CA certificate.
    #[error("the certificate is an authority's, not a server's")]
    IsAuthority,
    /// It cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Malformed(String),
    /// Policy names the keys of this partner, and this is none of them.
    #[error(
        "its key is {shown}, which is none of those that the policy pins: either the partner has a \
         new key or the pin is wrong; compare it with the partner before you change the pin"
    )]
    NotPinned {
        /// The key that was shown.
        shown: KeyPin,
    },
    /// DNSSEC proves which certificates the target has, and this is none of them.
    #[error(
        "the signed TLSA records of {target} do not speak for it: the partner has changed its \
         certificate and not its DNS, or somebody else answers in its place"
    )]
    NotInTlsa {
        /// The host that showed it.
        target: Domain,
    },
    /// A TLSA record speaks for its authority, but it names others.
    #[error(
        "its authority is the one that the signed TLSA records of {target} name, but it is for \
         `{names}`: neither for the domain nor for that host"
    )]
    TlsaName {
        /// The host that showed it.
        target: Domain,
        /// Whom it names.
        names: String,
    },
    /// Anything else, in the verifier's words.
    #[error("the certificate was refused: {0}")]
    Other(String),
}

/// A leaf certificate whose chain ends in a root we trust.
#[derive(Clone, Debug)]
pub struct VerifiedLeaf {
    /// Shared by all copies: a stream has several, for as long as it lasts.
    der: Arc<[u8]>,
    issuers: Arc<[Vec<u8>]>,
}

impl VerifiedLeaf {
    /// Asserts that the chain of `der` was verified. Only gatehouse-tls may, right after a
    /// handshake; the lint set bans this call everywhere else.
    pub fn assertion(der: Vec<u8>) -> Self {
        Self { der: der.into(), issuers: Arc::default() }
    }

    /// Keeps what was shown beside the leaf, so that the chain can be verified again when trust
    /// has changed.
    #[must_use]
    pub fn with_issuers(self, issuers: Vec<Vec<u8>>) -> Self {
        Self { issuers: issuers.into(), ..self }
    }

    /// The certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The other certificates that were shown with it, DER.
    pub fn issuers(&self) -> &[Vec<u8>] {
        &self.issuers
    }
}

/// A certificate that something other than its chain vouches for, for one domain and no other:
/// a pinned key, or a TLSA record that DNSSEC proves.
#[derive(Clone, Debug)]
pub struct Vouched {
    leaf: Vec<u8>,
    claim: Remote<Domain>,
    how: String,
}

impl Vouched {
    pub(crate) fn new(leaf: Vec<u8>, claim: Remote<Domain>, how: String) -> Self {
        Self { leaf, claim, how }
    }

    /// Whom it speaks for.
    pub(crate) fn claim(&self) -> &Remote<Domain> {
        &self.claim
    }

    /// By what, for logs.
    pub(crate) fn how(&self) -> &str {
        &self.how
    }
}

/// The TLS versions that we speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl TlsVersion {
    /// As logs and the status show it: `TLSv1.3`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

/// What a finished handshake tells the protocol above it.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// The other side's certificate.
    pub presented: Presented,
    /// Keying material for `tls-exporter` channel binding (RFC 9266).
    pub exporter: Option<[u8; 32]>,
    /// The version that was agreed.
    pub version: TlsVersion,
}

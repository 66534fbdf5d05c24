/// What the other side showed during the TLS handshake. Made by gatehouse-tls.
#[derive(Clone, Debug)]
pub enum Presented {
    /// No certificate.
    Nothing,
    /// A certificate whose key it holds, but whose chain does not end in a root that we trust.
    Untrusted {
        /// The end-entity certificate, DER.
        leaf: Vec<u8>,
        /// Why the chain was refused.
        fault: ChainFault,
    },
    /// A certificate whose chain holds.
    Verified(VerifiedLeaf),
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
    /// Anything else, in the verifier's words.
    #[error("the certificate was refused: {0}")]
    Other(String),
}

/// A leaf certificate whose chain ends in a root we trust.
#[derive(Clone, Debug)]
pub struct VerifiedLeaf(Vec<u8>);

impl VerifiedLeaf {
    /// Asserts that the chain of `der` was verified. Only gatehouse-tls may, right after a
    /// handshake; the lint set bans this call everywhere else.
    pub fn assertion(der: Vec<u8>) -> Self {
        Self(der)
    }

    /// The certificate.
    pub fn der(&self) -> &[u8] {
        &self.0
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

//! TLS set up once: provider, versions, verifiers, hot-swapped keys and trust.
//!
//! Certificates of the other side are taken as they come and judged after the handshake
//! (RFC 6120, section 13.7.2): who is there is a question for gatehouse-identity, once the stream
//! header has said who it wants to be. Path validation happens here, with server-authentication
//! purpose, because public authorities no longer issue the client one.

use std::io;
use std::sync::Arc;

use gatehouse_identity::TlsFacts;
use gatehouse_types::Domain;
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream after its handshake.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Our certificates by domain, replaceable while streams run.
#[derive(Clone, Debug)]
pub struct Keys {}

/// The authorities we trust, replaceable while streams run.
#[derive(Clone, Debug)]
pub struct Roots {}

/// Our side when we are dialled.
#[derive(Clone, Debug)]
pub struct Acceptor {}

/// Our side when we dial.
#[derive(Clone, Debug)]
pub struct Connector {}

/// Keys or roots that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A PEM text without a certificate, or without its key.
    #[error("{what} cannot be used: {reason}")]
    Unusable {
        /// What was read.
        what: String,
        /// Why not.
        reason: String,
    },
}

impl Keys {
    /// No certificates yet.
    pub fn empty() -> Self {
        todo!()
    }

    /// Replaces all certificates: for each domain, a PEM chain (leaf first) and its PEM key. The
    /// first one is shown to clients that name no domain of ours.
    pub fn replace(&self, entries: Vec<KeyEntry>) -> Result<(), TlsError> {
        let _ = entries;
        todo!()
    }
}

/// One certificate of ours.
#[derive(Debug)]
pub struct KeyEntry {
    /// The SNI names (and stream domains) it is chosen by.
    pub domains: Vec<Domain>,
    /// PEM, leaf first.
    pub chain_pem: String,
    /// PEM, PKCS#8 or SEC1.
    pub key_pem: String,
}

impl Roots {
    /// Trusts the authorities in these PEM texts, and the system's if asked.
    pub fn new(pem: &[String], system: SystemRoots) -> Result<Self, TlsError> {
        let _ = (pem, system);
        todo!()
    }
}

/// Whether the machine's own trust store counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SystemRoots {
    /// It does.
    Use,
    /// It does not.
    Ignore,
}

impl Acceptor {
    /// Asks every peer for a certificate, requires none. `alpn` is what we answer to, empty for
    /// none.
    pub fn new(keys: &Keys, roots: &Roots, alpn: &[&str]) -> Result<Self, TlsError> {
        let _ = (keys, roots, alpn);
        todo!()
    }

    /// Shakes hands. `fallback` chooses the certificate when the peer sends no SNI or one that is
    /// not ours (the stream's `to`).
    pub async fn accept<S: Io + 'static>(
        &self,
        io: S,
        fallback: Option<&Domain>,
    ) -> io::Result<(Box<dyn Io>, TlsFacts)> {
        let _ = (io, fallback);
        todo!()
    }
}

impl Connector {
    /// Shows the certificate of `keys` for the domain given to `connect`.
    pub fn new(keys: &Keys, roots: &Roots, alpn: &[&str]) -> Result<Self, TlsError> {
        let _ = (keys, roots, alpn, Arc::new(()));
        todo!()
    }

    /// Shakes hands with SNI `server_name`, showing our certificate for `own`. The peer's
    /// certificate is *not* required to match: judge `TlsFacts::presented`.
    pub async fn connect<S: Io + 'static>(
        &self,
        io: S,
        server_name: &Domain,
        own: &Domain,
    ) -> io::Result<(Box<dyn Io>, TlsFacts)> {
        let _ = (io, server_name, own);
        todo!()
    }
}

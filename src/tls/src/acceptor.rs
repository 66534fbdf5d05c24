use std::fmt;
use std::io;
use std::sync::Arc;

use gatehouse_identity::TlsFacts;
use gatehouse_types::Domain;
use rustls::server::{
    NoServerSessionStorage, ServerSessionMemoryCache, UnbufferedServerConnection,
};
use rustls::{ServerConfig, SupportedProtocolVersion};

use crate::exporter::Exporter;
use crate::facts::facts;
use crate::provider::{VERSIONS, provider};
use crate::stream::TlsStream;
use crate::verifier::PossessionOnly;
use crate::{Io, Keys, Roots, TlsError};

/// Tickets after a handshake of TLS 1.3. Each is good for one connection, and a client may be back on a
/// new network before it has noticed that the old one is gone.
const TICKETS: usize = 2;

/// Sessions of TLS 1.2 that are kept for clients that take no tickets.
const SESSIONS_WITHOUT_TICKET: usize = 256;

/// Our side when we are dialled. Clones share keys, trust and, if any, sessions.
#[derive(Clone)]
pub struct Acceptor {
    keys: Keys,
    roots: Roots,
    /// Everything but the choice of our certificate, which is made anew for each handshake.
    config: Arc<ServerConfig>,
}

impl Acceptor {
    /// Asks every peer for a certificate, requires none. `alpn` is what we answer to, empty for
    /// none: a peer that offers only other protocols is refused, one that offers none at all is
    /// not (XEP-0368, section 3). With an empty `alpn` the peer's offer is ignored.
    ///
    /// Each handshake is a full one: servers stay connected for hours, and a ticket, which holds their
    /// certificate, would be made, encrypted and sent for nobody.
    pub fn new(keys: &Keys, roots: &Roots, alpn: &[&str]) -> Result<Self, TlsError> {
        Self::with_versions(keys, roots, alpn, VERSIONS)
    }

    pub(crate) fn with_versions(
        keys: &Keys,
        roots: &Roots,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Self, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(versions)
            .map_err(TlsError::setup)?
            .with_client_cert_verifier(Arc::new(PossessionOnly::new()))
            .with_cert_resolver(keys.for_server(None));
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self { keys: keys.clone(), roots: roots.clone(), config: Arc::new(config) })
    }

    /// Lets peers resume their sessions, as clients do, which come back often. The keys of the
    /// tickets are this acceptor's own. What the peer showed is judged again then, so nothing is
    /// inherited but the keys.
    pub fn with_resumption(mut self) -> Result<Self, TlsError> {
        let mut config = ServerConfig::clone(&self.config);
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(TlsError::setup)?;
        config.send_tls13_tickets = TICKETS;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_WITHOUT_TICKET);
        self.config = Arc::new(config);
        Ok(self)
    }

    /// What all handshakes have in common.
    #[cfg(test)]
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Shakes hands. `fallback` chooses the certificate when the peer sends no SNI or one that is
    /// not ours (the stream's `to`); without either it is the first of our certificates.
    ///
    /// Sets no time limit. Fails if the peer cannot agree with us, does not hold the key of the
    /// certificate it shows, or goes away; a certificate that is merely not trusted is no failure.
    pub async fn accept<S: Io + 'static>(
        &self,
        io: S,
        fallback: Option<&Domain>,
    ) -> io::Result<(Box<dyn Io>, TlsFacts)> {
        let (io, facts, _) = self.accept_protocol(io, fallback).await?;
        Ok((io, facts))
    }

    /// As [`accept`](Self::accept), and also tells which of our ALPN protocols was agreed on.
    pub async fn accept_protocol<S: Io + 'static>(
        &self,
        io: S,
        fallback: Option<&Domain>,
    ) -> io::Result<(Box<dyn Io>, TlsFacts, Option<String>)> {
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = self.keys.for_server(fallback);
        let exporter = Arc::new(Exporter::default());
        config.key_log = exporter.clone();
        let end = UnbufferedServerConnection::new(Arc::new(config)).map_err(io::Error::other)?;
        let stream = TlsStream::shake(io, end).await?;
        let facts = facts(stream.state(), &exporter, &self.roots.current())?;
        // One of ours, which are text.
        let protocol =
            stream.state().alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        Ok((Box::new(stream), facts, protocol))
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("keys", &self.keys)
            .field("roots", &self.roots)
            .finish_non_exhaustive()
    }
}

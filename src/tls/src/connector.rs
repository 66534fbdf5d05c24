use std::fmt;
use std::io;
use std::sync::Arc;

use gatehouse_identity::TlsFacts;
use gatehouse_types::Domain;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::{ClientConfig, SupportedProtocolVersion};
use rustls_pki_types::ServerName;

use crate::exporter::Exporter;
use crate::facts::facts;
use crate::provider::{VERSIONS, provider};
use crate::stream::TlsStream;
use crate::verifier::PossessionOnly;
use crate::{Io, Keys, Roots, TlsError};

/// Our side when we dial. Clones share keys and trust.
#[derive(Clone)]
pub struct Connector {
    keys: Keys,
    roots: Roots,
    config: Arc<ClientConfig>,
}

/// What a handshake settled that no protocol asks about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Inspection {
    /// The name of the cipher suite (IANA), as far as it is known.
    pub cipher_suite: &'static str,
    /// How many certificates the other side showed, its own included.
    pub chain_len: usize,
}

impl Connector {
    /// Shows the certificate of `keys` for the domain given to `connect`. `alpn` is what we offer,
    /// empty for nothing.
    pub fn new(keys: &Keys, roots: &Roots, alpn: &[&str]) -> Result<Self, TlsError> {
        Self::with_versions(keys, roots, alpn, VERSIONS)
    }

    pub(crate) fn with_versions(
        keys: &Keys,
        roots: &Roots,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Self, TlsError> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(versions)
            .map_err(TlsError::setup)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PossessionOnly::new()))
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        // A session belongs to the domain we showed when it began; one that was resumed for
        // another of our domains would speak for the wrong one. Streams live long, so a full
        // handshake each time costs little.
        config.resumption = Resumption::disabled();
        Ok(Self { keys: keys.clone(), roots: roots.clone(), config: Arc::new(config) })
    }

    /// The authorities that this side trusts.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Shakes hands with SNI `server_name`, showing our certificate for `own` if there is one. The
    /// peer's certificate is *not* required to match: judge `TlsFacts::presented`.
    ///
    /// Sets no time limit. Fails if the peer cannot agree with us, does not hold the key of the
    /// certificate it shows, or goes away.
    pub async fn connect<S: Io + 'static>(
        &self,
        io: S,
        server_name: &Domain,
        own: &Domain,
    ) -> io::Result<(Box<dyn Io>, TlsFacts)> {
        let (stream, facts) = self.shake(io, server_name, own).await?;
        Ok((Box::new(stream), facts))
    }

    /// As [`connect`](Self::connect), and also tells what only a person asks about.
    pub async fn inspect<S: Io + 'static>(
        &self,
        io: S,
        server_name: &Domain,
        own: &Domain,
    ) -> io::Result<(Box<dyn Io>, TlsFacts, Inspection)> {
        let (stream, facts) = self.shake(io, server_name, own).await?;
        let session = stream.state();
        let suite = session.negotiated_cipher_suite();
        let inspection = Inspection {
            cipher_suite: suite.and_then(|suite| suite.suite().as_str()).unwrap_or("unknown"),
            chain_len: session.peer_certificates().map_or(0, <[_]>::len),
        };
        Ok((Box::new(stream), facts, inspection))
    }

    async fn shake<S: Io + 'static>(
        &self,
        io: S,
        server_name: &Domain,
        own: &Domain,
    ) -> io::Result<(TlsStream<S, UnbufferedClientConnection>, TlsFacts)> {
        let name = ServerName::try_from(server_name.as_str().to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut config = ClientConfig::clone(&self.config);
        config.client_auth_cert_resolver = self.keys.for_client(own);
        let exporter = Arc::new(Exporter::default());
        config.key_log = exporter.clone();
        let end = UnbufferedClientConnection::new(Arc::new(config), name);
        let stream = TlsStream::shake(io, end.map_err(io::Error::other)?).await?;
        let facts = facts(stream.state(), &exporter, &self.roots.current())?;
        Ok((stream, facts))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("keys", &self.keys)
            .field("roots", &self.roots)
            .finish_non_exhaustive()
    }
}

use std::fmt;
use std::io;
use std::sync::Arc;

use gatehouse_identity::TlsFacts;
use gatehouse_types::Domain;
use rustls::client::Resumption;
use rustls::{ClientConfig, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::facts::facts;
use crate::provider::{VERSIONS, provider};
use crate::verifier::PossessionOnly;
use crate::{Io, Keys, Roots, TlsError};

/// Our side when we dial. Clones share keys and trust.
#[derive(Clone)]
pub struct Connector {
    keys: Keys,
    roots: Roots,
    config: Arc<ClientConfig>,
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
        let name = ServerName::try_from(server_name.as_str().to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut config = ClientConfig::clone(&self.config);
        config.client_auth_cert_resolver = self.keys.for_client(own);
        let stream = Box::pin(TlsConnector::from(Arc::new(config)).connect(name, io)).await?;
        let facts = facts(stream.get_ref().1, &self.roots.current())?;
        Ok((Box::new(stream), facts))
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

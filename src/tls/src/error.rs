use std::error::Error;
use std::io;

use rustls::AlertDescription;

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
    /// The crypto provider cannot do what we need of it. Not a matter of configuration.
    #[error("TLS cannot be set up")]
    Setup(#[source] Box<dyn Error + Send + Sync>),
}

impl TlsError {
    pub(crate) fn unusable(what: &str, reason: impl Into<String>) -> Self {
        Self::Unusable { what: what.to_owned(), reason: reason.into() }
    }

    pub(crate) fn setup(error: rustls::Error) -> Self {
        Self::Setup(Box::new(error))
    }
}

/// True if a handshake of ours failed because the server speaks none of the protocols that we offered
/// (ALPN; RFC 7301, section 3.2): it is there, and it will say so again.
pub fn speaks_none_of_ours(error: &io::Error) -> bool {
    let told = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(told, Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)))
}

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
    Setup(#[source] rustls::Error),
}

impl TlsError {
    pub(crate) fn unusable(what: &str, reason: impl Into<String>) -> Self {
        Self::Unusable { what: what.to_owned(), reason: reason.into() }
    }
}

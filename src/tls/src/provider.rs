use std::sync::{Arc, LazyLock};

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};

/// The versions we speak, best first. Older ones are gone (RFC 8996; RFC 9325, section 3.1.1).
pub(crate) static VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// The one crypto provider, always passed on by hand: there is no process default to depend on.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    &PROVIDER
}

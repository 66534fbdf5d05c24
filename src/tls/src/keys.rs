use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gatehouse_types::Domain;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::TlsError;
use crate::provider::provider;

/// Our certificates by domain, replaceable while streams run. Clones share one set.
#[derive(Clone)]
pub struct Keys {
    ring: Arc<ArcSwap<KeyRing>>,
}

/// One certificate of ours. A domain may have several, each with another kind of key; each
/// handshake gets the first that the other side can check, and RSA only if no other will do.
pub struct KeyEntry {
    /// The SNI names (and stream domains) it is chosen by.
    pub domains: Vec<Domain>,
    /// PEM, leaf first.
    pub chain_pem: String,
    /// PEM, PKCS#8 or SEC1.
    pub key_pem: String,
}

impl Keys {
    /// No certificates yet.
    pub fn empty() -> Self {
        Self { ring: Arc::new(ArcSwap::from_pointee(KeyRing::default())) }
    }

    /// Replaces all certificates: for each domain, a PEM chain (leaf first) and its PEM key. The
    /// first one is shown to clients that name no domain of ours. Handshakes that have begun keep
    /// the old ones.
    ///
    /// Fails without changing anything if one of them cannot be used: no certificate, no key, a
    /// key of another certificate, or two certificates for one domain with the same kind of key.
    pub fn replace(&self, entries: Vec<KeyEntry>) -> Result<(), TlsError> {
        self.ring.store(Arc::new(KeyRing::load(&entries)?));
        Ok(())
    }

    /// The domains that have a certificate, in the order they were given.
    pub fn domains(&self) -> Vec<Domain> {
        self.ring.load().domains.clone()
    }

    /// What a server shows when the client's SNI, or else `fallback`, picks.
    pub(crate) fn for_server(&self, fallback: Option<&Domain>) -> Arc<dyn ResolvesServerCert> {
        Arc::new(ServerChoice { ring: self.ring.load_full(), fallback: fallback.cloned() })
    }

    /// What a client shows as `own`; nothing if there is no certificate for it.
    pub(crate) fn for_client(&self, own: &Domain) -> Arc<dyn ResolvesClientCert> {
        Arc::new(ClientChoice(self.ring.load().of(Some(own)).cloned().unwrap_or_default()))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.ring.load().domains).finish()
    }
}

impl fmt::Debug for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key must not reach a log.
        f.debug_struct("KeyEntry").field("domains", &self.domains).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct KeyRing {
    domains: Vec<Domain>,
    by_domain: HashMap<Domain, KeySet>,
    /// For clients that name no domain of ours.
    first: KeySet,
}

impl KeyRing {
    fn load(entries: &[KeyEntry]) -> Result<Self, TlsError> {
        let mut ring = Self::default();
        for entry in entries {
            let key = Arc::new(certified_key(entry)?);
            for domain in &entry.domains {
                if !ring.by_domain.contains_key(domain) {
                    ring.domains.push(domain.clone());
                }
                if !ring.by_domain.entry(domain.clone()).or_default().add(Arc::clone(&key)) {
                    return Err(TlsError::unusable(
                        &title(entry),
                        format!("{domain} already has another certificate with a key of its kind"),
                    ));
                }
            }
        }
        if let Some(first) = ring.domains.first().and_then(|domain| ring.by_domain.get(domain)) {
            ring.first = first.clone();
        }
        Ok(ring)
    }

    fn of(&self, domain: Option<&Domain>) -> Option<&KeySet> {
        domain.and_then(|domain| self.by_domain.get(domain))
    }
}

/// The certificates of one domain, each with another kind of key: RSA last, since it costs most.
#[derive(Clone, Default)]
struct KeySet(Vec<Arc<CertifiedKey>>);

impl KeySet {
    /// Adds a certificate; false if there is one with a key of that kind.
    fn add(&mut self, key: Arc<CertifiedKey>) -> bool {
        let kind = key.key.algorithm();
        if self.0.iter().any(|other| other.key.algorithm() == kind) {
            return false;
        }
        self.0.push(key);
        self.0.sort_by_key(|key| key.key.algorithm() == SignatureAlgorithm::RSA);
        true
    }

    /// The first whose signature the other side can check, going by `schemes`. If none fits, the
    /// first of all: the handshake then ends with the library's own error, or without a
    /// certificate of ours where none is demanded.
    fn choose(&self, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        self.0.iter().find(fits).or_else(|| self.0.first()).cloned()
    }
}

fn title(entry: &KeyEntry) -> String {
    let domain = entry.domains.first().map_or("no domain", Domain::as_str);
    format!("the certificate for {domain}")
}

fn certified_key(entry: &KeyEntry) -> Result<CertifiedKey, TlsError> {
    let unusable = |reason: String| TlsError::unusable(&title(entry), reason);
    let chain = CertificateDer::pem_slice_iter(entry.chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(format!("its PEM text is damaged ({error})")))?;
    if chain.is_empty() {
        return Err(unusable(
            "there is no certificate in it (a block that begins with \
             `-----BEGIN CERTIFICATE-----`)"
                .to_owned(),
        ));
    }
    // The parser's error could repeat what it read: say only that there is no key.
    let key = PrivateKeyDer::from_pem_slice(entry.key_pem.as_bytes()).map_err(|_| {
        unusable(
            "there is no private key beside it (PEM, PKCS#8 or SEC1, without passphrase)"
                .to_owned(),
        )
    })?;
    CertifiedKey::from_der(chain, key, provider()).map_err(|error| {
        unusable(match error {
            rustls::Error::InconsistentKeys(_) => {
                "the private key beside it belongs to another certificate; the leaf must come \
                 first in the chain"
                    .to_owned()
            }
            other => other.to_string(),
        })
    })
}

/// Chooses for one handshake.
struct ServerChoice {
    ring: Arc<KeyRing>,
    fallback: Option<Domain>,
}

impl fmt::Debug for ServerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerChoice").field("fallback", &self.fallback).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ServerChoice {
    /// The library has already dropped the schemes that fit none of the cipher suites both sides
    /// know, which is what tells RSA from ECDSA in TLS 1.2.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| name.parse::<Domain>().ok());
        self.ring
            .of(named.as_ref())
            .or_else(|| self.ring.of(self.fallback.as_ref()))
            .unwrap_or(&self.ring.first)
            .choose(hello.signature_schemes())
    }
}

/// Shows one certificate or none, whatever authorities the server hints at: RFC 6120 peers judge
/// by their own rules, and a hint list is often incomplete.
struct ClientChoice(KeySet);

impl fmt::Debug for ClientChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientChoice").field(&self.has_certs()).finish()
    }
}

impl ResolvesClientCert for ClientChoice {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.choose(schemes)
    }

    fn has_certs(&self) -> bool {
        !self.0.0.is_empty()
    }
}

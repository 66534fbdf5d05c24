use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gatehouse_identity::Presented;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use tracing::{debug, warn};

use crate::TlsError;
use crate::judgement::{judge, judge_again};
use crate::signatures::Signatures;

/// The authorities we trust, replaceable while streams run. Clones share one set.
///
/// No authorities at all is fine: then every peer is untrusted, and dialback decides.
#[derive(Clone)]
pub struct Roots {
    trust: Arc<ArcSwap<Trust>>,
}

/// Whether the machine's own trust store counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SystemRoots {
    /// It does.
    Use,
    /// It does not.
    Ignore,
}

impl Roots {
    /// Trusts the authorities in these PEM texts, and the system's if asked.
    ///
    /// Fails if one of the texts holds no certificate or a damaged one. What is wrong with the
    /// system's store is only logged.
    pub fn new(pem: &[String], system: SystemRoots) -> Result<Self, TlsError> {
        Ok(Self { trust: Arc::new(ArcSwap::from_pointee(Trust::load(pem, system)?)) })
    }

    /// Trusts these authorities from now on, and no others. Fails without changing anything.
    pub fn replace(&self, pem: &[String], system: SystemRoots) -> Result<(), TlsError> {
        self.trust.store(Arc::new(Trust::load(pem, system)?));
        Ok(())
    }

    /// What a certificate that was shown in some earlier handshake is worth now: its authority may
    /// be trusted no longer, and it may have expired.
    pub fn judge_again(&self, presented: &Presented) -> Presented {
        judge_again(presented, &self.current(), UnixTime::now())
    }

    /// What a chain (DER, the leaf first) that somebody may show is worth now; of ours, for one.
    pub fn judge(&self, chain: &[Vec<u8>]) -> Presented {
        let shown: Vec<CertificateDer<'_>> =
            chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        judge(&shown, &self.current(), UnixTime::now())
    }

    pub(crate) fn current(&self) -> Arc<Trust> {
        self.trust.load_full()
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots").field("count", &self.trust.load().anchors.len()).finish()
    }
}

/// Trust anchors, ready for path building.
#[derive(Default)]
pub(crate) struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    certificates: HashSet<CertificateDer<'static>>,
    /// Found right under these authorities. What was under others is forgotten with them.
    signatures: Signatures,
}

impl Trust {
    fn load(pem: &[String], system: SystemRoots) -> Result<Self, TlsError> {
        let mut trust = Self::default();
        for (text, number) in pem.iter().zip(1..) {
            let what = format!("trusted authority file {number} of {}", pem.len());
            let found = CertificateDer::pem_slice_iter(text.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| {
                    TlsError::unusable(&what, format!("its PEM text is damaged ({error})"))
                })?;
            if found.is_empty() {
                return Err(TlsError::unusable(&what, "there is no certificate in it"));
            }
            for certificate in found {
                trust
                    .add(certificate)
                    .map_err(|error| TlsError::unusable(&what, error.to_string()))?;
            }
        }
        if system == SystemRoots::Use {
            trust.add_system();
        }
        Ok(trust)
    }

    fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), webpki::Error> {
        if !self.certificates.contains(&certificate) {
            self.anchors.push(webpki::anchor_from_trusted_cert(&certificate)?.to_owned());
            self.certificates.insert(certificate);
        }
        Ok(())
    }

    fn add_system(&mut self) {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            warn!(%error, "part of the system's trust store cannot be read");
        }
        let mut count = 0_usize;
        for certificate in found.certs {
            match self.add(certificate) {
                Ok(()) => count += 1,
                Err(error) => debug!(%error, "skipped an authority of the system's trust store"),
            }
        }
        if count == 0 {
            warn!(
                "the system's trust store is empty: no public certificate will be trusted \
                 (install the ca-certificates package, or name authorities in the configuration)"
            );
        }
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    pub(crate) fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    pub(crate) fn contains(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.contains(certificate)
    }
}

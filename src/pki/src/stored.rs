use std::path::PathBuf;

use gatehouse_identity::CertificateSummary;
use gatehouse_types::{Domain, Secret};
use serde::Serialize;

use crate::PkiError;
use crate::chain::Chain;
use crate::private_key::PrivateKey;

/// A certificate with its key, ready for TLS.
#[derive(Clone, Debug)]
pub struct StoredCertificate {
    /// Whose it is.
    pub domain: Domain,
    /// PEM, leaf first.
    pub chain_pem: String,
    /// PEM.
    pub key_pem: Secret<String>,
    /// True if the key is RSA.
    pub rsa: bool,
}

/// What a person wants to know about a certificate of ours.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct CertificateStatus {
    /// Whose it is.
    pub domain: Domain,
    /// True if it is the RSA certificate beside the domain's first one.
    pub beside: bool,
    /// What kind of key it is about, such as `ECDSA` or `RSA`.
    pub key_kind: &'static str,
    /// What the leaf says.
    #[serde(flatten)]
    pub summary: CertificateSummary,
    /// True if the local authority issued it, and so renews it.
    pub issued_here: bool,
    /// Certificates in the file, the leaf included.
    pub chain_len: usize,
    /// True if its key is there and belongs to it.
    pub has_key: bool,
}

/// Where one certificate is kept.
#[derive(Clone, Debug)]
pub(crate) struct CertificateFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl CertificateFiles {
    /// Certificate and key, checked to belong together; `None` without a certificate.
    pub(crate) fn load(&self, domain: &Domain) -> Result<Option<StoredCertificate>, PkiError> {
        let Some(chain) = Chain::load(&self.certificate)? else { return Ok(None) };
        let key = PrivateKey::load(&self.key)?
            .ok_or_else(|| PkiError::NoKey { path: self.key.clone() })?;
        if !key.is_of(chain.leaf_der()) {
            return Err(self.mismatch());
        }
        Ok(Some(StoredCertificate {
            domain: domain.clone(),
            chain_pem: chain.pem().to_owned(),
            key_pem: key.pem().clone(),
            rsa: key.is_rsa(),
        }))
    }

    pub(crate) fn mismatch(&self) -> PkiError {
        PkiError::KeyMismatch { certificate: self.certificate.clone(), key: self.key.clone() }
    }
}

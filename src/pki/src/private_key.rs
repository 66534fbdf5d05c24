use std::fmt;
use std::path::Path;

use gatehouse_types::Secret;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::PkiError;
use crate::disk::{self, Readers};

/// The kind of a new key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KeyKind {
    /// ECDSA P-256.
    Ecdsa,
    /// RSA, 2048 bits: what every peer that needs RSA at all can check.
    Rsa,
}

/// A private key, as PEM and ready to sign.
pub(crate) struct PrivateKey {
    pem: Secret<String>,
    pair: KeyPair,
}

impl PrivateKey {
    /// A new key.
    pub(crate) fn generate(kind: KeyKind) -> Result<Self, PkiError> {
        let pair = match kind {
            KeyKind::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            KeyKind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        };
        let pair = pair.map_err(PkiError::crypto("make a private key"))?;
        Ok(Self { pem: Secret::new(pair.serialize_pem()), pair })
    }

    /// Reads PKCS#8, SEC1 or PKCS#1 in PEM; the text is kept as it is.
    pub(crate) fn parse(pem: String) -> Option<Self> {
        let pem = Secret::new(pem);
        let der = PrivateKeyDer::from_pem_slice(pem.reveal().as_bytes()).ok()?;
        let pair = KeyPair::try_from(&der).ok()?;
        Some(Self { pem, pair })
    }

    /// The key in `path`; `None` if there is no such file.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, PkiError> {
        match disk::read_secret(path)? {
            None => Ok(None),
            Some(text) => {
                Self::parse(text).map(Some).ok_or_else(|| PkiError::NoKey { path: path.to_owned() })
            }
        }
    }

    /// Writes the key with mode 0600.
    pub(crate) fn save(&self, path: &Path) -> Result<(), PkiError> {
        disk::write(path, self.pem.reveal(), Readers::Owner)
    }

    pub(crate) fn pem(&self) -> &Secret<String> {
        &self.pem
    }

    pub(crate) fn is_rsa(&self) -> bool {
        self.pair.algorithm() == &PKCS_RSA_SHA256
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    pub(crate) fn into_pair(self) -> KeyPair {
        self.pair
    }

    /// True if `certificate` (DER) is about this key.
    pub(crate) fn is_of(&self, certificate: &[u8]) -> bool {
        X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| {
            certificate.public_key().raw == self.pair.subject_public_key_info()
        })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

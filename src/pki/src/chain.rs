use std::path::Path;

use gatehouse_identity::CertificateSummary;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer as _;

use crate::disk::{self, Readers};
use crate::{ImportFault, PkiError};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Certificates, the leaf first, each of them readable.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pem: String,
    ders: Vec<CertificateDer<'static>>,
    leaf: CertificateSummary,
}

/// What the first certificate in a PEM text says; it may be anybody's.
pub fn summary_of(pem: &str) -> Result<CertificateSummary, ImportFault> {
    Chain::parse(pem).map(|chain| chain.leaf)
}

/// The certificates in a PEM text, DER, the leaf first.
pub fn ders_of(pem: &str) -> Result<Vec<Vec<u8>>, ImportFault> {
    Chain::parse(pem).map(|chain| chain.ders.iter().map(|der| der.to_vec()).collect())
}

impl Chain {
    /// Reads the certificates in `text`. Whatever else stands there, perhaps a key, is dropped.
    pub(crate) fn parse(text: &str) -> Result<Self, ImportFault> {
        let pem = certificate_blocks(text);
        let mut ders = Vec::new();
        for (found, number) in CertificateDer::pem_slice_iter(pem.as_bytes()).zip(1..) {
            let unreadable = ImportFault::Unreadable { number };
            let der = found.map_err(|_| unreadable.clone())?;
            CertificateSummary::from_der(&der).map_err(|_| unreadable)?;
            ders.push(der);
        }
        let leaf = ders
            .first()
            .and_then(|der| CertificateSummary::from_der(der).ok())
            .ok_or(ImportFault::NoCertificate)?;
        Ok(Self { pem, ders, leaf })
    }

    /// The chain in `path`; `None` if there is no such file.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, PkiError> {
        match disk::read(path)? {
            None => Ok(None),
            Some(text) => Self::parse(&text)
                .map(Some)
                .map_err(|_| PkiError::NoCertificate { path: path.to_owned() }),
        }
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), PkiError> {
        disk::write(path, &self.pem, Readers::Everyone)
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn ders(&self) -> &[CertificateDer<'static>] {
        &self.ders
    }

    /// What the leaf says.
    pub(crate) fn leaf(&self) -> &CertificateSummary {
        &self.leaf
    }

    /// The leaf, DER.
    pub(crate) fn leaf_der(&self) -> &[u8] {
        self.ders.first().map_or(&[], |der| der.as_ref())
    }

    /// What kind of key the leaf is about, for a person.
    pub(crate) fn key_kind(&self) -> &'static str {
        let Ok((_, leaf)) = X509Certificate::from_der(self.leaf_der()) else { return "unknown" };
        let algorithm = &leaf.public_key().algorithm.algorithm;
        if *algorithm == OID_PKCS1_RSAENCRYPTION {
            "RSA"
        } else if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
            "ECDSA"
        } else if *algorithm == OID_SIG_ED25519 {
            "Ed25519"
        } else {
            "other"
        }
    }

    /// True if the leaf was signed by the first certificate of `authority`.
    pub(crate) fn is_signed_by(&self, authority: &Self) -> bool {
        let Ok((_, leaf)) = X509Certificate::from_der(self.leaf_der()) else { return false };
        let Ok((_, issuer)) = X509Certificate::from_der(authority.leaf_der()) else { return false };
        leaf.issuer().as_raw() == issuer.subject().as_raw()
            && leaf.verify_signature(Some(issuer.public_key())).is_ok()
    }
}

fn certificate_blocks(text: &str) -> String {
    let mut blocks = String::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        inside |= line == BEGIN;
        if inside {
            blocks.push_str(line);
            blocks.push('\n');
        }
        inside &= line != END;
    }
    blocks
}

use std::path::PathBuf;

use rcgen::Issuer;

use crate::chain::Chain;
use crate::params::{self, Lifetime};
use crate::private_key::{KeyKind, PrivateKey};
use crate::{NamePlan, PkiError};

const AUTHORITY_DAYS: i64 = 3652;

/// Where an authority is kept, and what a new one is called.
#[derive(Clone, Debug)]
pub(crate) struct AuthorityFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) title: &'static str,
}

/// An authority that can sign.
pub(crate) struct Authority {
    chain: Chain,
    issuer: Issuer<'static, rcgen::KeyPair>,
}

impl AuthorityFiles {
    /// The authority's certificate; `None` if there is none.
    pub(crate) fn certificate(&self) -> Result<Option<Chain>, PkiError> {
        Chain::load(&self.certificate)
    }

    /// True if both halves are there.
    pub(crate) fn can_sign(&self) -> bool {
        self.certificate.exists() && self.key.exists()
    }

    /// The authority that is kept here, or a new one if there is nothing yet.
    pub(crate) fn ensure(&self, now: i64) -> Result<Authority, PkiError> {
        let half = |present: &PathBuf, missing: &PathBuf| PkiError::HalfAuthority {
            present: present.clone(),
            missing: missing.clone(),
        };
        let (chain, key) = match (self.certificate()?, PrivateKey::load(&self.key)?) {
            (Some(chain), Some(key)) => (chain, key),
            (None, None) => return self.create(now),
            (Some(_), None) => return Err(half(&self.certificate, &self.key)),
            (None, Some(_)) => return Err(half(&self.key, &self.certificate)),
        };
        if !key.is_of(chain.leaf_der()) {
            return Err(PkiError::KeyMismatch {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
            });
        }
        if chain.leaf().not_after <= now {
            return Err(PkiError::AuthorityExpired { path: self.certificate.clone() });
        }
        Authority::new(chain, key)
    }

    fn create(&self, now: i64) -> Result<Authority, PkiError> {
        let key = PrivateKey::generate(KeyKind::Ecdsa)?;
        let lifetime = Lifetime::of_days(now, AUTHORITY_DAYS);
        let certificate = params::authority(self.title, lifetime)?
            .self_signed(key.pair())
            .map_err(PkiError::crypto("make an authority"))?;
        let chain = readable(&certificate.pem())?;
        key.save(&self.key)?;
        chain.save(&self.certificate)?;
        Authority::new(chain, key)
    }
}

impl Authority {
    fn new(chain: Chain, key: PrivateKey) -> Result<Self, PkiError> {
        let failed = "read the authority's certificate";
        let der = chain.ders().first().ok_or_else(|| unreadable(failed))?;
        let issuer =
            Issuer::from_ca_cert_der(der, key.into_pair()).map_err(PkiError::crypto(failed))?;
        Ok(Self { chain, issuer })
    }

    /// The authority's own certificate.
    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// A certificate for `key` with the planned names. It never outlives the authority.
    pub(crate) fn issue(
        &self,
        plan: &NamePlan,
        key: &PrivateKey,
        now: i64,
        days: i64,
    ) -> Result<Chain, PkiError> {
        let mut lifetime = Lifetime::of_days(now, days);
        lifetime.until = lifetime.until.min(self.chain.leaf().not_after);
        let certificate = params::leaf(plan, lifetime)?
            .signed_by(key.pair(), &self.issuer)
            .map_err(PkiError::crypto("issue a certificate"))?;
        readable(&certificate.pem())
    }
}

/// What we have just made, read back.
fn readable(pem: &str) -> Result<Chain, PkiError> {
    Chain::parse(pem).map_err(|fault| PkiError::Crypto {
        action: "read back a new certificate",
        source: Box::new(fault),
    })
}

fn unreadable(action: &'static str) -> PkiError {
    PkiError::Crypto { action, source: Box::new(crate::ImportFault::NoCertificate) }
}

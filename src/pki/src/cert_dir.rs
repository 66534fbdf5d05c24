use std::fs;
use std::path::{Path, PathBuf};

use gatehouse_types::Domain;
use tracing::{info, warn};

use crate::authority::{Authority, AuthorityFiles};
use crate::chain::Chain;
use crate::disk::{self, Readers, failed};
use crate::import::{Imported, Offer};
use crate::params;
use crate::private_key::{KeyKind, PrivateKey};
use crate::renewal::{Ensured, IssueReason, RENEW_BEFORE_END, due};
use crate::stored::{CertificateFiles, CertificateStatus, StoredCertificate};
use crate::{NamePlan, PkiError};

/// How long a certificate of the local authority lasts.
const LEAF_DAYS: i64 = 397;
/// The authority's files have this name; so no domain's may.
const AUTHORITY_STEM: &str = "local-ca";
/// What the files of a second certificate are called by. No domain has a `+` in it.
const BESIDE: &str = "+rsa";

/// Whether a certificate gets a new key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NewKey {
    /// It keeps the one it has.
    No,
    /// It does; the old one is gone.
    Yes,
}

/// The directory with the certificates of our IM domains: `local-ca.crt`, `local-ca.key`, and per
/// domain `DOMAIN.crt` (leaf first), `DOMAIN.key`, `DOMAIN.csr`.
///
/// A domain may have a second certificate, with an RSA key, for peers that can check no other:
/// `DOMAIN+rsa.crt` and so on, which no domain's first certificate can be called. See
/// [`CertDir::beside`].
///
/// Keys have mode 0600. A file is replaced in one step or not at all. Every `now` is in Unix
/// seconds.
#[derive(Clone, Debug)]
pub struct CertDir {
    directory: PathBuf,
    /// [`KeyKind::Rsa`] where this is about the second certificates.
    kind: KeyKind,
}

impl CertDir {
    /// Opens `directory`; makes it, with mode 0700, if it is not there.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, PkiError> {
        let directory = directory.into();
        disk::make_directory(&directory)?;
        Ok(Self { directory, kind: KeyKind::Ecdsa })
    }

    /// The same directory, but every method is about the domains' second certificates, whose keys
    /// are RSA. Authority and rules are those of the first ones.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { directory: self.directory.clone(), kind: KeyKind::Rsa }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Makes the local authority unless there is one (ECDSA P-256, ten years).
    ///
    /// Fails if only half of it is there, if the halves do not belong together, or if it has
    /// expired: a new authority is never made in place of another.
    pub fn ensure_ca(&self, now: i64) -> Result<(), PkiError> {
        self.signing_authority(now).map(|_| ())
    }

    /// The local authority's certificate, PEM; `None` if there is none.
    pub fn ca_pem(&self) -> Result<Option<String>, PkiError> {
        Ok(self.authority().certificate()?.map(|chain| chain.pem().to_owned()))
    }

    /// True if the local authority can sign here. An edge that was set up by export has at most
    /// its certificate.
    pub fn can_issue(&self) -> bool {
        self.authority().can_sign()
    }

    /// Sees to it that the plan's domain has a certificate. Issues one (and first the authority)
    /// if there is none; issues it anew if ours ends within 30 days, has other names than planned,
    /// or has lost its key. A certificate from elsewhere is never touched.
    pub fn ensure(&self, plan: &NamePlan, now: i64) -> Result<Ensured, PkiError> {
        let files = self.files(plan.domain())?;
        let Some(chain) = Chain::load(&files.certificate)? else {
            self.issue_for(IssueReason::Missing, plan, now, NewKey::No)?;
            return Ok(Ensured::Issued(IssueReason::Missing));
        };
        if !self.is_ours(&chain)? {
            // Both fail here rather than in the first handshake.
            files.load(plan.domain())?;
            self.warn_about(plan, &chain, now);
            return Ok(Ensured::Imported);
        }
        let key = PrivateKey::load(&files.key)?;
        match due(&chain, key.as_ref(), plan, now) {
            None => Ok(Ensured::Kept),
            Some(IssueReason::Expiring) if !self.can_issue() && chain.leaf().not_after > now => {
                self.warn_about(plan, &chain, now);
                Ok(Ensured::Kept)
            }
            Some(reason) => {
                self.issue_for(reason, plan, now, NewKey::No)?;
                Ok(Ensured::Issued(reason))
            }
        }
    }

    /// Issues a certificate now, whatever there is from our own authority; the key stays unless a
    /// new one is asked for. Fails with [`PkiError::NotOurs`] if there is one from elsewhere.
    pub fn issue(&self, plan: &NamePlan, now: i64, new_key: NewKey) -> Result<(), PkiError> {
        let files = self.files(plan.domain())?;
        if let Some(chain) = Chain::load(&files.certificate)?
            && !self.is_ours(&chain)?
        {
            return Err(PkiError::NotOurs {
                domain: plan.domain().clone(),
                path: files.certificate,
            });
        }
        self.issue_for(IssueReason::Asked, plan, now, new_key)
    }

    /// A signing request (PKCS#10, PEM) with the planned names, for the domain's key, which is
    /// made if there is none. It is also kept as `DOMAIN.csr`. The certificate in use stays.
    pub fn csr(&self, plan: &NamePlan) -> Result<String, PkiError> {
        let files = self.files(plan.domain())?;
        let key = match PrivateKey::load(&files.key)? {
            Some(key) => key,
            None => {
                let key = PrivateKey::generate(self.kind)?;
                key.save(&files.key)?;
                key
            }
        };
        let request = params::request(plan)
            .serialize_request(key.pair())
            .and_then(|request| request.pem())
            .map_err(PkiError::crypto("make a signing request"))?;
        disk::write(&self.csr_path(plan.domain()), &request, Readers::Everyone)?;
        Ok(request)
    }

    /// Where [`CertDir::csr`] keeps a domain's request.
    pub fn csr_path(&self, domain: &Domain) -> PathBuf {
        self.directory.join(self.file_name(domain, "csr"))
    }

    /// Takes a certificate from elsewhere into use: a PEM chain, and its PEM key unless that is
    /// the one we have (as after [`CertDir::csr`]). Replaces what there was.
    ///
    /// Fails with [`PkiError::Import`], changing nothing, if it cannot be used.
    pub fn import(
        &self,
        domain: &Domain,
        chain_pem: &str,
        key_pem: Option<&str>,
        now: i64,
    ) -> Result<Imported, PkiError> {
        let files = self.files(domain)?;
        let kept_key = match key_pem {
            Some(_) => None,
            None => PrivateKey::load(&files.key)?,
        };
        let offer = Offer::check(domain, chain_pem, key_pem, kept_key, self.kind, now)
            .map_err(|fault| PkiError::Import { domain: domain.clone(), fault })?;
        if key_pem.is_some() {
            offer.key.save(&files.key)?;
        }
        offer.chain.save(&files.certificate)?;
        Ok(offer.outcome())
    }

    /// The domain's certificate and key; `None` if there is no certificate. Fails if the key is not
    /// there or belongs to another one.
    pub fn load(&self, domain: &Domain) -> Result<Option<StoredCertificate>, PkiError> {
        self.files(domain)?.load(domain)
    }

    /// Every domain's certificate and key, by domain. Fails if any of them is not whole.
    pub fn load_all(&self) -> Result<Vec<StoredCertificate>, PkiError> {
        let mut all = Vec::new();
        for domain in self.domains()? {
            all.extend(self.load(&domain)?);
        }
        Ok(all)
    }

    /// The domains that have a certificate here, in order.
    pub fn domains(&self) -> Result<Vec<Domain>, PkiError> {
        let mut domains = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed("list", &self.directory))? {
            let path = entry.map_err(failed("list", &self.directory))?.path();
            if path.extension().is_none_or(|extension| extension != "crt") {
                continue;
            }
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let stem = match self.kind {
                KeyKind::Ecdsa => stem,
                KeyKind::Rsa => stem.strip_suffix(BESIDE).unwrap_or_default(),
            };
            // Whatever is not named as we name files is somebody else's.
            if let Ok(domain) = stem.parse::<Domain>()
                && domain.as_str() == stem
                && stem != AUTHORITY_STEM
            {
                domains.push(domain);
            }
        }
        domains.sort();
        Ok(domains)
    }

    /// What there is to know about the domain's certificate; `None` if there is none.
    pub fn summary(&self, domain: &Domain) -> Result<Option<CertificateStatus>, PkiError> {
        let files = self.files(domain)?;
        let Some(chain) = Chain::load(&files.certificate)? else { return Ok(None) };
        let key = PrivateKey::load(&files.key)?;
        Ok(Some(CertificateStatus {
            domain: domain.clone(),
            beside: self.kind == KeyKind::Rsa,
            key_kind: chain.key_kind(),
            summary: chain.leaf().clone(),
            issued_here: self.is_ours(&chain)?,
            chain_len: chain.ders().len(),
            has_key: key.is_some_and(|key| key.is_of(chain.leaf_der())),
        }))
    }

    fn authority(&self) -> AuthorityFiles {
        AuthorityFiles {
            certificate: self.directory.join(format!("{AUTHORITY_STEM}.crt")),
            key: self.directory.join(format!("{AUTHORITY_STEM}.key")),
            title: "Gatehouse local authority",
        }
    }

    fn signing_authority(&self, now: i64) -> Result<Authority, PkiError> {
        let files = self.authority();
        let is_new = files.certificate()?.is_none();
        let authority = files.ensure(now)?;
        if is_new {
            let subject = &authority.chain().leaf().subject;
            info!(subject, path = %files.certificate.display(), "made the local authority");
        }
        Ok(authority)
    }

    /// What a file of the domain's certificate is called.
    pub fn file_name(&self, domain: &Domain, extension: &str) -> String {
        let beside = match self.kind {
            KeyKind::Ecdsa => "",
            KeyKind::Rsa => BESIDE,
        };
        format!("{domain}{beside}.{extension}")
    }

    /// A domain's name is safe in a path: it has no separator and does not begin with a dot.
    fn files(&self, domain: &Domain) -> Result<CertificateFiles, PkiError> {
        if domain.as_str() == AUTHORITY_STEM {
            return Err(PkiError::Reserved { domain: domain.clone() });
        }
        Ok(CertificateFiles {
            certificate: self.directory.join(self.file_name(domain, "crt")),
            key: self.directory.join(self.file_name(domain, "key")),
        })
    }

    fn is_ours(&self, chain: &Chain) -> Result<bool, PkiError> {
        let authority = self.authority().certificate()?;
        Ok(authority.is_some_and(|authority| chain.is_signed_by(&authority)))
    }

    fn issue_for(
        &self,
        reason: IssueReason,
        plan: &NamePlan,
        now: i64,
        new_key: NewKey,
    ) -> Result<(), PkiError> {
        let authority = self.signing_authority(now)?;
        let files = self.files(plan.domain())?;
        let kept = match new_key {
            NewKey::No => PrivateKey::load(&files.key)?,
            NewKey::Yes => None,
        };
        let (key, is_new) = match kept {
            Some(key) => (key, false),
            None => (PrivateKey::generate(self.kind)?, true),
        };
        let chain = authority.issue(plan, &key, now, LEAF_DAYS)?;
        // The key first: should we stop in between, `ensure` finds the old certificate without
        // its key and issues again.
        if is_new {
            key.save(&files.key)?;
        }
        chain.save(&files.certificate)?;
        info!(domain = %plan.domain(), kind = ?self.kind, %reason, new_key = is_new, "issued a certificate");
        Ok(())
    }

    fn warn_about(&self, plan: &NamePlan, chain: &Chain, now: i64) {
        let domain = plan.domain();
        let leaf = chain.leaf();
        let seconds_left = leaf.not_after.saturating_sub(now);
        if seconds_left < RENEW_BEFORE_END {
            warn!(%domain, kind = ?self.kind, days_left = seconds_left.div_euclid(86_400),
                "this certificate ends soon and is not renewed here: import a new one");
        }
        if leaf.names.xmpp_server_match(domain).is_none() {
            warn!(%domain, kind = ?self.kind, issuer = leaf.issuer,
                "this certificate does not name its domain: partners will not accept it");
        }
    }
}

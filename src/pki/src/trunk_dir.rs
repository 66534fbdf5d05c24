use std::path::{Path, PathBuf};

use gatehouse_types::Domain;
use tracing::{info, warn};

use crate::authority::AuthorityFiles;
use crate::chain::Chain;
use crate::disk::{self, Readers};
use crate::private_key::{KeyKind, PrivateKey};
use crate::renewal::{Ensured, IssueReason, due};
use crate::stored::{CertificateFiles, StoredCertificate};
use crate::{NamePlan, PkiError};

/// How long a node's certificate lasts. Longer than a domain's: only our own nodes look at it, and
/// an edge's copy is carried by hand.
const NODE_DAYS: i64 = 5 * 365;
const AUTHORITY_STEM: &str = "trunk-ca";

/// The directory with the certificates of the trunk between edge and core: `trunk-ca.crt`,
/// `trunk-ca.key`, and per node `NAME.crt`, `NAME.key`.
///
/// Its authority issues nothing else, so that no certificate of an IM domain opens the trunk. On an
/// edge the authority's key is not there. Every `now` is in Unix seconds.
#[derive(Clone, Debug)]
pub struct TrunkDir {
    directory: PathBuf,
}

impl TrunkDir {
    /// Opens `directory`; makes it, with mode 0700, if it is not there.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, PkiError> {
        let directory = directory.into();
        disk::make_directory(&directory)?;
        Ok(Self { directory })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Makes the trunk's authority unless there is one. Fails as [`crate::CertDir::ensure_ca`]
    /// does.
    pub fn ensure_ca(&self, now: i64) -> Result<(), PkiError> {
        self.authority().ensure(now).map(|_| ())
    }

    /// The authority's certificate, PEM: the only one that either end of the trunk trusts. `None`
    /// if there is none.
    pub fn ca_pem(&self) -> Result<Option<String>, PkiError> {
        Ok(self.authority().certificate()?.map(|chain| chain.pem().to_owned()))
    }

    /// Sees to it that the node `name` has a certificate, by the rules of
    /// [`crate::CertDir::ensure`]. Where the authority's key is missing (on an edge), what there is
    /// is kept as long as it can be used.
    pub fn ensure_node(&self, name: &Domain, now: i64) -> Result<Ensured, PkiError> {
        let files = self.files(name)?;
        let plan = NamePlan::for_node(name);
        let chain = Chain::load(&files.certificate)?;
        let key = PrivateKey::load(&files.key)?;
        let reason = match &chain {
            None => Some(IssueReason::Missing),
            Some(chain) => self.is_foreign(chain)?.or_else(|| due(chain, key.as_ref(), &plan, now)),
        };
        let Some(reason) = reason else { return Ok(Ensured::Kept) };
        if !self.authority().can_sign()
            && let Some(chain) = chain
            && reason == IssueReason::Expiring
            && chain.leaf().not_after > now
        {
            let days_left = chain.leaf().not_after.saturating_sub(now).div_euclid(86_400);
            warn!(node = %name, days_left,
                "this trunk certificate ends soon: export a new one where the core runs");
            return Ok(Ensured::Kept);
        }
        let authority = self.authority().ensure(now)?;
        let key = match key {
            Some(key) => key,
            None => {
                let key = PrivateKey::generate(KeyKind::Ecdsa)?;
                key.save(&files.key)?;
                key
            }
        };
        authority.issue(&plan, &key, now, NODE_DAYS)?.save(&files.certificate)?;
        info!(node = %name, %reason, "issued a trunk certificate");
        Ok(Ensured::Issued(reason))
    }

    /// The node's certificate and key. Fails with [`PkiError::NoNode`] if there is none.
    pub fn node(&self, name: &Domain) -> Result<StoredCertificate, PkiError> {
        let files = self.files(name)?;
        files
            .load(name)?
            .ok_or_else(|| PkiError::NoNode { name: name.clone(), path: files.certificate })
    }

    /// Writes into `out` what the edge `name` in the DMZ needs: `trunk-ca.crt`, `NAME.crt` and
    /// `NAME.key` (issued first if need be), and never the authority's key. Replaces no file.
    pub fn export_edge(&self, out: &Path, name: &Domain, now: i64) -> Result<(), PkiError> {
        self.ensure_node(name, now)?;
        let node = self.node(name)?;
        let authority = self.authority();
        let ca = authority
            .certificate()?
            .ok_or_else(|| PkiError::NoCertificate { path: authority.certificate.clone() })?;

        let target = Self::open(out)?;
        let files = target.files(name)?;
        let target_authority = target.authority().certificate;
        for path in [&files.certificate, &files.key, &target_authority] {
            if path.exists() {
                return Err(PkiError::Exists { path: path.clone() });
            }
        }
        disk::write(&files.key, node.key_pem.reveal(), Readers::Owner)?;
        disk::write(&files.certificate, &node.chain_pem, Readers::Everyone)?;
        ca.save(&target_authority)
    }

    fn authority(&self) -> AuthorityFiles {
        AuthorityFiles {
            certificate: self.directory.join(format!("{AUTHORITY_STEM}.crt")),
            key: self.directory.join(format!("{AUTHORITY_STEM}.key")),
            title: "Gatehouse trunk authority",
        }
    }

    fn files(&self, name: &Domain) -> Result<CertificateFiles, PkiError> {
        if name.as_str() == AUTHORITY_STEM {
            return Err(PkiError::Reserved { domain: name.clone() });
        }
        Ok(CertificateFiles {
            certificate: self.directory.join(format!("{name}.crt")),
            key: self.directory.join(format!("{name}.key")),
        })
    }

    /// A certificate that our authority did not sign is of no use on the trunk.
    fn is_foreign(&self, chain: &Chain) -> Result<Option<IssueReason>, PkiError> {
        let signed =
            self.authority().certificate()?.is_some_and(|authority| chain.is_signed_by(&authority));
        Ok((!signed).then_some(IssueReason::NewAuthority))
    }
}

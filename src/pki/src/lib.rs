//! Certificate files and the names in them.
//!
//! Owns: the names that the certificate of an IM domain holds ([`NamePlan`]), the local authority,
//! signing requests, import, the trunk's authority, and the files of all these ([`CertDir`],
//! [`TrunkDir`]; the layout is in `certs/README.md`).
//! Does not own: handshakes and trust (gatehouse-tls), what a peer's certificate proves
//! (gatehouse-identity), the clock: times are Unix seconds and passed in.

mod authority;
mod cert_dir;
mod chain;
mod disk;
mod error;
mod import;
mod name_plan;
mod params;
mod private_key;
mod renewal;
mod stored;
mod subject_alt_name;
mod trunk_dir;

#[cfg(test)]
mod tests;

pub use self::cert_dir::{CertDir, NewKey};
pub use self::chain::{ders_of, summary_of};
pub use self::error::{ImportFault, PkiError};
pub use self::import::Imported;
pub use self::name_plan::{NameKind, NamePlan, PlanOptions, PlannedName};
pub use self::renewal::{Ensured, IssueReason};
pub use self::stored::{CertificateStatus, StoredCertificate};
pub use self::trunk_dir::TrunkDir;

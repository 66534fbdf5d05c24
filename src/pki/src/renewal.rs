use std::fmt;

use crate::NamePlan;
use crate::chain::Chain;
use crate::private_key::PrivateKey;

/// Certificates are renewed when less is left, in seconds.
pub(crate) const RENEW_BEFORE_END: i64 = 30 * 86_400;

/// What `ensure` found or did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ensured {
    /// The certificate of our own authority is still good.
    Kept,
    /// There is a certificate from elsewhere, which is never touched.
    Imported,
    /// A new one was issued.
    Issued(IssueReason),
}

/// Why a certificate was issued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IssueReason {
    /// There was none.
    Missing,
    /// The planned names are not those of the old one.
    NamesChanged,
    /// Less than 30 days were left.
    Expiring,
    /// The key was not there, or belonged to another certificate.
    KeyLost,
    /// The old one came from an authority that is no longer ours (on the trunk only).
    NewAuthority,
    /// Somebody asked for it.
    Asked,
}

impl fmt::Display for IssueReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there was none",
            Self::NamesChanged => "its names have changed",
            Self::Expiring => "the old one ends soon",
            Self::KeyLost => "the old one had lost its key",
            Self::NewAuthority => "the old one came from another authority",
            Self::Asked => "it was asked for",
        })
    }
}

/// Why a certificate of our own authority has to be issued anew, if it has to.
pub(crate) fn due(
    chain: &Chain,
    key: Option<&PrivateKey>,
    plan: &NamePlan,
    now: i64,
) -> Option<IssueReason> {
    if key.is_none_or(|key| !key.is_of(chain.leaf_der())) {
        Some(IssueReason::KeyLost)
    } else if !plan.is_met_by(&chain.leaf().names) {
        Some(IssueReason::NamesChanged)
    } else if chain.leaf().not_after.saturating_sub(now) < RENEW_BEFORE_END {
        Some(IssueReason::Expiring)
    } else {
        None
    }
}

use std::collections::{HashMap, HashSet};

use gatehouse_types::Domain;

use super::TransactionLimits;

/// Whose part of the transactions is used up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UsedUp {
    /// All there is.
    All,
    /// That of one domain.
    Domain,
    /// That of all domains together that nobody named.
    Strangers,
}

/// How many transactions there are with each domain. Those with hosts that are no domain count as
/// those of one.
#[derive(Debug, Default)]
pub(super) struct Shares {
    counts: HashMap<Option<Domain>, usize>,
    named: HashSet<Domain>,
}

impl Shares {
    /// For these domains the last part of the transactions is kept.
    pub(super) fn set_named(&mut self, named: HashSet<Domain>) {
        self.named = named;
    }

    /// Whether there may be another one with this domain, where there are `total` now.
    pub(super) fn check(
        &self,
        domain: Option<&Domain>,
        total: usize,
        limits: &TransactionLimits,
    ) -> Result<(), UsedUp> {
        if total >= limits.transactions_max {
            return Err(UsedUp::All);
        }
        let own = self.counts.get(&domain.cloned()).copied().unwrap_or_default();
        if own >= limits.per_domain_max {
            return Err(UsedUp::Domain);
        }
        let is_named = domain.is_some_and(|domain| self.named.contains(domain));
        if !is_named && total >= limits.strangers_max {
            return Err(UsedUp::Strangers);
        }
        Ok(())
    }

    pub(super) fn add(&mut self, domain: Option<&Domain>) {
        *self.counts.entry(domain.cloned()).or_default() += 1;
    }

    pub(super) fn remove(&mut self, domain: Option<&Domain>) {
        let domain = domain.cloned();
        if let Some(count) = self.counts.get_mut(&domain) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&domain);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

//! Who has how many of something.

use std::collections::HashMap;

use gatehouse_types::{Domain, Jid};

use crate::local::Pair;

/// How many there are, in total, of each local user and with each remote domain.
#[derive(Debug, Default)]
pub(crate) struct Count {
    total: usize,
    users: HashMap<Jid, usize>,
    domains: HashMap<Domain, usize>,
}

/// The bounds of a [`Count`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountLimits {
    pub(crate) total: usize,
    pub(crate) per_user: usize,
    pub(crate) per_domain: usize,
}

impl Count {
    /// Counts one more, if all three bounds allow it.
    pub(crate) fn try_add(&mut self, pair: &Pair, limits: CountLimits) -> bool {
        let of_user = self.users.get(&pair.local).copied().unwrap_or_default();
        let of_domain = self.domains.get(pair.remote.domain()).copied().unwrap_or_default();
        let fits =
            self.total < limits.total && of_user < limits.per_user && of_domain < limits.per_domain;
        if fits {
            self.total += 1;
            self.users.insert(pair.local.clone(), of_user + 1);
            self.domains.insert(pair.remote.domain().clone(), of_domain + 1);
        }
        fits
    }

    /// Counts one less.
    pub(crate) fn remove(&mut self, pair: &Pair) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.users.get_mut(&pair.local) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(&pair.local);
            }
        }
        if let Some(count) = self.domains.get_mut(pair.remote.domain()) {
            *count -= 1;
            if *count == 0 {
                self.domains.remove(pair.remote.domain());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_holds_and_what_ends_makes_room() {
        let pair = |local: &str, remote: &str| Pair {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        };
        let limits = CountLimits { total: 4, per_user: 2, per_domain: 3 };
        let mut count = Count::default();
        let (a, b, c) = (
            pair("a@x.example", "z@y.example"),
            pair("b@x.example", "z@y.example"),
            pair("c@x.example", "z@w.example"),
        );
        assert!(count.try_add(&a, limits) && count.try_add(&a, limits));
        assert!(!count.try_add(&a, limits), "the user's bound");
        assert!(count.try_add(&b, limits));
        assert!(!count.try_add(&b, limits), "the domain's bound");
        assert!(count.try_add(&c, limits));
        assert!(!count.try_add(&c, limits), "the total");
        count.remove(&a);
        assert!(count.try_add(&b, limits));
        for pair in [a, b.clone(), b, c] {
            count.remove(&pair);
        }
        assert!(count.users.is_empty() && count.domains.is_empty() && count.total == 0);
    }
}

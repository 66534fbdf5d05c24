//! Who has how many of something.

use std::collections::HashMap;
use std::hash::Hash;

use gatehouse_types::{Domain, Jid};

use crate::effect::Whose;
use crate::local::Pair;

/// How many there are, in total, of each local user, of each contact and with each remote domain.
#[derive(Debug, Default)]
pub(crate) struct Count {
    total: usize,
    users: HashMap<Jid, usize>,
    contacts: HashMap<Jid, usize>,
    domains: HashMap<Domain, usize>,
}

/// The bounds of a [`Count`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountLimits {
    pub(crate) total: usize,
    /// Of the total, what domains may use that the policy does not name: strangers can be many.
    pub(crate) strangers: usize,
    pub(crate) per_user: usize,
    pub(crate) per_contact: usize,
    pub(crate) per_domain: usize,
}

impl CountLimits {
    /// Of `total`, `share_percent` for one partner, and three quarters for all strangers.
    pub(crate) fn shared(total: usize, share_percent: usize) -> Self {
        Self {
            total,
            strangers: total - total / 4,
            per_user: usize::MAX,
            per_contact: usize::MAX,
            per_domain: (total.saturating_mul(share_percent) / 100).max(1),
        }
    }
}

impl Count {
    /// Counts one more, if all bounds allow it; else says whose is reached. `named`: the policy names
    /// the domain.
    pub(crate) fn try_add(
        &mut self,
        pair: &Pair,
        named: bool,
        limits: CountLimits,
    ) -> Result<(), Whose> {
        let domain = pair.remote.domain();
        if of(&self.domains, domain) >= limits.per_domain {
            return Err(Whose::Partner);
        }
        if self.total >= limits.total {
            return Err(Whose::Node);
        }
        if of(&self.contacts, &pair.remote) >= limits.per_contact {
            return Err(Whose::Contact);
        }
        if of(&self.users, &pair.local) >= limits.per_user {
            return Err(Whose::User);
        }
        if !named && self.total >= limits.strangers {
            return Err(Whose::Strangers);
        }
        self.total += 1;
        *self.users.entry(pair.local.clone()).or_default() += 1;
        *self.contacts.entry(pair.remote.clone()).or_default() += 1;
        *self.domains.entry(domain.clone()).or_default() += 1;
        Ok(())
    }

    /// Counts one less.
    pub(crate) fn remove(&mut self, pair: &Pair) {
        self.total = self.total.saturating_sub(1);
        one_less(&mut self.users, &pair.local);
        one_less(&mut self.contacts, &pair.remote);
        one_less(&mut self.domains, pair.remote.domain());
    }
}

fn of<K: Eq + Hash>(counts: &HashMap<K, usize>, key: &K) -> usize {
    counts.get(key).copied().unwrap_or_default()
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(local: &str, remote: &str) -> Pair {
        Pair { local: local.parse().unwrap(), remote: remote.parse().unwrap() }
    }

    #[test]
    fn each_bound_holds_and_what_ends_makes_room() {
        let limits =
            CountLimits { total: 6, strangers: 5, per_user: 2, per_contact: 3, per_domain: 4 };
        let mut count = Count::default();
        let (a, b, c, d) = (
            pair("a@x.example", "z@y.example"),
            pair("b@x.example", "z@y.example"),
            pair("b@x.example", "q@y.example"),
            pair("d@x.example", "z@w.example"),
        );
        for (pair, expected) in [
            (&a, Ok(())),
            (&a, Ok(())),
            (&a, Err(Whose::User)),
            (&b, Ok(())),
            (&b, Err(Whose::Contact)),
            (&c, Ok(())),
            (&c, Err(Whose::Partner)),
            (&d, Ok(())),
            (&d, Err(Whose::Strangers)),
        ] {
            assert_eq!(count.try_add(pair, false, limits), expected, "{pair:?}");
        }
        assert_eq!(count.try_add(&d, true, limits), Ok(()), "it is named");
        assert_eq!(count.try_add(&d, true, limits), Err(Whose::Node));
        count.remove(&a);
        assert_eq!(count.try_add(&pair("e@x.example", "z@y.example"), true, limits), Ok(()));
        for pair in [a, b, c, d.clone(), d, pair("e@x.example", "z@y.example")] {
            count.remove(&pair);
        }
        let empty = count.users.is_empty() && count.contacts.is_empty() && count.domains.is_empty();
        assert!(empty && count.total == 0);
    }

    #[test]
    fn shares_are_parts_of_the_whole_and_never_nothing() {
        let limits = CountLimits::shared(20_000, 25);
        assert_eq!((limits.per_domain, limits.strangers), (5_000, 15_000));
        assert_eq!(CountLimits::shared(3, 25).per_domain, 1);
        assert_eq!(CountLimits::shared(3, 100).per_domain, 3);
    }
}

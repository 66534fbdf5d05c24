//! When what is due next.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// At most one moment for each key.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    in_order: BTreeSet<(Instant, K)>,
    by_key: HashMap<K, Instant>,
}

impl<K: Clone + Eq + Hash + Ord> Timers<K> {
    pub(crate) fn new() -> Self {
        Self { in_order: BTreeSet::new(), by_key: HashMap::new() }
    }

    /// Sets the moment of a key, in place of what it had; `None` takes it away.
    pub(crate) fn set(&mut self, key: &K, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.by_key.insert(key.clone(), at),
            None => self.by_key.remove(key),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.in_order.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.in_order.insert((at, key.clone()));
        }
    }

    /// The earliest moment.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// Takes out a key whose moment has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.in_order.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn the_last_moment_set_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::new();
        timers.set(&"a", Some(at(5)));
        timers.set(&"b", Some(at(3)));
        timers.set(&"a", Some(at(1)));
        timers.set(&"c", Some(at(2)));
        timers.set(&"c", None);
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop_due(at(0)), None);
        assert_eq!(timers.pop_due(at(4)), Some("a"));
        assert_eq!(timers.pop_due(at(4)), Some("b"));
        assert_eq!((timers.pop_due(at(9)), timers.next()), (None, None));
    }
}

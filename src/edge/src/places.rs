use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// So many of something at a time for each key. As large as what is taken: a key that holds
/// nothing is not remembered.
#[derive(Debug)]
pub(crate) struct Places<K> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
    per_key_max: usize,
}

/// One of [`Places`]; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place<K: Eq + Hash> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
    key: K,
}

impl<K: Clone + Eq + Hash> Places<K> {
    pub(crate) fn new(per_key_max: usize) -> Self {
        Self { taken: Arc::default(), per_key_max }
    }

    /// One more for `key`; `None` if it has all that it may.
    pub(crate) fn take(&self, key: &K) -> Option<Place<K>> {
        let mut taken = self.taken.lock();
        let count = taken.get(key).copied().unwrap_or(0);
        if count >= self.per_key_max {
            return None;
        }
        taken.insert(key.clone(), count + 1);
        Some(Place { taken: Arc::clone(&self.taken), key: key.clone() })
    }
}

impl<K: Eq + Hash> Place<K> {
    pub(crate) fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        match taken.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_places_and_is_forgotten_with_the_last() {
        let places = Places::new(2);
        let (one, two) = (places.take(&1).unwrap(), places.take(&1).unwrap());
        assert!(places.take(&1).is_none());
        assert!(places.take(&2).is_some(), "another key has its own");
        drop(one);
        let again = places.take(&1).unwrap();
        assert!(places.take(&1).is_none());
        drop((two, again));
        assert!(places.taken.lock().is_empty());
    }
}

//! How many sessions may wait for their clients at a time, and with how much, on the whole node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Each may hold some megabytes; see [`AWAY_BYTES_MAX`].
pub(crate) const AWAY_SESSIONS_MAX: usize = 10_000;
/// All of them together.
pub(crate) const AWAY_BYTES_MAX: usize = 512 << 20;

/// The places for sessions whose clients are away.
#[derive(Clone, Debug, Default)]
pub(crate) struct AwayPlaces(Arc<Taken>);

#[derive(Debug, Default)]
struct Taken {
    places: AtomicUsize,
    bytes: AtomicUsize,
}

/// One of them; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct AwayPlace {
    taken: Arc<Taken>,
    bytes: usize,
}

impl AwayPlaces {
    /// Takes a place, unless `places_max` are taken.
    pub(crate) fn take(&self, places_max: usize) -> Option<AwayPlace> {
        let one_more = |taken: usize| (taken < places_max).then_some(taken + 1);
        self.0.places.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(AwayPlace { taken: Arc::clone(&self.0), bytes: 0 })
    }
}

impl AwayPlace {
    /// The session keeps so many bytes now. False if all together keep more than `bytes_max`.
    pub(crate) fn weigh(&mut self, bytes: usize, bytes_max: usize) -> bool {
        let total = &self.taken.bytes;
        total.fetch_add(bytes, Ordering::AcqRel);
        total.fetch_sub(std::mem::replace(&mut self.bytes, bytes), Ordering::AcqRel);
        total.load(Ordering::Acquire) <= bytes_max
    }
}

impl Drop for AwayPlace {
    fn drop(&mut self) {
        self.taken.places.fetch_sub(1, Ordering::AcqRel);
        self.taken.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_left() {
        let places = AwayPlaces::default();
        let mut taken = vec![places.take(2).unwrap(), places.take(2).unwrap()];
        assert!(places.take(2).is_none() && places.take(0).is_none());
        taken.pop();
        assert!(places.take(2).is_some());
        drop(taken);
        assert_eq!(places.0.places.load(Ordering::Acquire), 0);
    }

    #[test]
    fn all_together_keep_only_so_much() {
        let places = AwayPlaces::default();
        let [mut one, mut other] = [(); 2].map(|()| places.take(2).unwrap());
        assert!(one.weigh(60, 100) && other.weigh(40, 100));
        assert!(!other.weigh(41, 100));
        // What is taken away or goes with its session makes room.
        assert!(one.weigh(10, 100) && other.weigh(90, 100) && !one.weigh(11, 100));
        drop(other);
        assert!(one.weigh(100, 100));
        drop(one);
        assert_eq!(places.0.bytes.load(Ordering::Acquire), 0);
    }
}

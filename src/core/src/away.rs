//! How many sessions may wait for their clients at a time, on the whole node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Each may hold some megabytes.
pub(crate) const AWAY_SESSIONS_MAX: usize = 10_000;

/// The places for sessions whose clients are away.
#[derive(Clone, Debug, Default)]
pub(crate) struct AwayPlaces(Arc<AtomicUsize>);

/// One of them; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct AwayPlace(Arc<AtomicUsize>);

impl AwayPlaces {
    /// Takes a place, unless `places_max` are taken.
    pub(crate) fn take(&self, places_max: usize) -> Option<AwayPlace> {
        let one_more = |taken: usize| (taken < places_max).then_some(taken + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(AwayPlace(Arc::clone(&self.0)))
    }
}

impl Drop for AwayPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
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
        assert_eq!(places.0.load(Ordering::Acquire), 0);
    }
}

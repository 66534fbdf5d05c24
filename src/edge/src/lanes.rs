use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lanes that are remembered although nobody is on them.
const QUIET_LANES_MAX: usize = 4096;

/// So many at a time for each key; whoever comes when a lane is full waits for its turn.
#[derive(Debug)]
pub(crate) struct Lanes<K> {
    known: Mutex<Known<K>>,
    per_key_max: usize,
}

#[derive(Debug)]
struct Known<K> {
    lanes: HashMap<K, Arc<Semaphore>>,
    /// How many there are when the quiet ones are forgotten.
    sweep_at: usize,
}

impl<K: Eq + Hash> Lanes<K> {
    pub(crate) fn new(per_key_max: usize) -> Self {
        let known = Known { lanes: HashMap::new(), sweep_at: QUIET_LANES_MAX };
        Self { known: Mutex::new(known), per_key_max }
    }

    /// Waits for a place on the lane of `key`.
    pub(crate) async fn enter(&self, key: K) -> Option<OwnedSemaphorePermit> {
        let lane = self.lane(key);
        lane.acquire_owned().await.ok()
    }

    fn lane(&self, key: K) -> Arc<Semaphore> {
        let mut known = self.known.lock();
        if known.lanes.len() >= known.sweep_at {
            // A permit, and whoever waits for one, holds its lane.
            known.lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
            known.sweep_at = QUIET_LANES_MAX.max(2 * known.lanes.len());
        }
        let lane = known.lanes.entry(key);
        Arc::clone(lane.or_insert_with(|| Arc::new(Semaphore::new(self.per_key_max))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_lane_is_waited_for_and_no_other() {
        let (lanes, soon) = (Lanes::new(2), Duration::from_secs(1));
        let first = lanes.enter("a").await.unwrap();
        let _second = lanes.enter("a").await.unwrap();
        assert!(timeout(soon, lanes.enter("a")).await.is_err(), "a third came through");
        assert!(timeout(soon, lanes.enter("b")).await.is_ok(), "another lane is not full");
        let (entered, ()) = tokio::join!(timeout(soon, lanes.enter("a")), async { drop(first) });
        assert!(entered.is_ok());
    }

    #[tokio::test]
    async fn quiet_lanes_are_forgotten_and_busy_ones_are_not() {
        let lanes = Lanes::new(1);
        let _busy = lanes.enter(u32::MAX).await.unwrap();
        for key in 0..20_000 {
            drop(lanes.enter(key).await.unwrap());
            assert!(lanes.known.lock().lanes.len() <= QUIET_LANES_MAX);
        }
        assert!(lanes.known.lock().lanes.contains_key(&u32::MAX));
    }
}

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::queue::Pair;
use crate::bounce::Refusal;

/// How long a pair is not dialled again after its first failure; doubled by each further one.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// After so long without another failure the pause starts small again.
const FORGET_AFTER: Duration = Duration::from_secs(10 * 60);
/// How many pairs are remembered; beyond that a failure is simply not remembered.
const PAIRS_MAX: usize = 4096;

/// Which pairs could not be connected just now, so that not every stanza dials again.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<Pair, Failed>>);

#[derive(Debug)]
struct Failed {
    at: Instant,
    pause: Duration,
    refusal: Refusal,
}

impl Memory {
    /// What to answer without dialling, and for how much longer; `None` if the pair may be dialled.
    pub(super) fn refusal(&self, pair: &Pair, now: Instant) -> Option<(Refusal, Duration)> {
        let memory = self.0.lock();
        let failed = memory.get(pair)?;
        let rest = (failed.at + failed.pause).checked_duration_since(now)?;
        (!rest.is_zero()).then(|| (failed.refusal.clone(), rest))
    }

    /// Remembers a failure and says how long it will be remembered.
    pub(super) fn failed(&self, pair: &Pair, refusal: Refusal, now: Instant) -> Duration {
        let mut memory = self.0.lock();
        if memory.len() >= PAIRS_MAX {
            memory.retain(|_, failed| now.duration_since(failed.at) < FORGET_AFTER);
        }
        let before = memory.get(pair).filter(|one| now.duration_since(one.at) < FORGET_AFTER);
        let pause = before.map_or(PAUSE_MIN, |failed| (failed.pause * 2).min(PAUSE_MAX));
        if before.is_some() || memory.len() < PAIRS_MAX {
            memory.insert(pair.clone(), Failed { at: now, pause, refusal });
        }
        pause
    }

    /// The pair is connected: forget its failures.
    pub(super) fn succeeded(&self, pair: &Pair) {
        self.0.lock().remove(pair);
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_types::{Local, Remote};
    use gatehouse_xmpp::{ErrorKind, StanzaCondition};

    use super::*;

    fn pair(remote: &str) -> Pair {
        Pair {
            local: Local("ours.example".parse().unwrap()),
            remote: Remote(remote.parse().unwrap()),
        }
    }

    fn refusal() -> Refusal {
        Refusal::new(ErrorKind::Wait, StanzaCondition::RemoteServerTimeout, "later".into())
    }

    #[test]
    fn a_failure_is_remembered_for_a_while_only() {
        let (memory, start) = (Memory::default(), gatehouse_net::now());
        let them = pair("them.example");
        assert_eq!(memory.refusal(&them, start), None);
        assert_eq!(memory.failed(&them, refusal(), start), PAUSE_MIN);
        let soon = start + Duration::from_secs(1);
        assert_eq!(memory.refusal(&them, soon), Some((refusal(), Duration::from_secs(4))));
        assert_eq!(memory.refusal(&pair("other.example"), soon), None);
        assert_eq!(memory.refusal(&them, start + PAUSE_MIN), None);
    }

    #[test]
    fn the_pause_grows_to_a_minute_and_a_success_ends_it() {
        let (memory, start) = (Memory::default(), gatehouse_net::now());
        let them = pair("them.example");
        let pauses: Vec<u64> =
            (0..6).map(|_| memory.failed(&them, refusal(), start).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        memory.succeeded(&them);
        assert_eq!(memory.refusal(&them, start), None);
        assert_eq!(memory.failed(&them, refusal(), start), PAUSE_MIN);
        let later = start + FORGET_AFTER;
        assert_eq!(memory.failed(&them, refusal(), later), PAUSE_MIN);
    }
}

use std::collections::HashMap;
use std::time::{Duration, Instant};

use gatehouse_telemetry::{AttemptReport, Unreached};
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
    /// What the next pause is reckoned from.
    step: Duration,
    /// For how long the pair is not dialled again.
    pause: Duration,
    failures: u32,
    refusal: Refusal,
    report: AttemptReport,
}

impl Memory {
    /// What to answer without dialling, and for how much longer; `None` if the pair may be dialled.
    pub(super) fn refusal(&self, pair: &Pair, now: Instant) -> Option<(Refusal, Duration)> {
        let memory = self.0.lock();
        let failed = memory.get(pair)?;
        let rest = (failed.at + failed.pause).checked_duration_since(now)?;
        (!rest.is_zero()).then(|| (failed.refusal.clone(), rest))
    }

    /// Remembers a failure and says for how long the pair will not be dialled. `pick(max)` draws
    /// from `0..=max`: a pause is up to a quarter shorter than its step, so that partners which
    /// died together are not dialled together.
    pub(super) fn failed(
        &self,
        pair: &Pair,
        refusal: Refusal,
        report: AttemptReport,
        pick: impl FnOnce(u32) -> u32,
        now: Instant,
    ) -> Duration {
        let mut memory = self.0.lock();
        if memory.len() >= PAIRS_MAX {
            memory.retain(|_, failed| now.duration_since(failed.at) < FORGET_AFTER);
        }
        let before = memory.get(pair).filter(|one| now.duration_since(one.at) < FORGET_AFTER);
        let step = before.map_or(PAUSE_MIN, |failed| (failed.step * 2).min(PAUSE_MAX));
        let failures = before.map_or(1, |failed| failed.failures.saturating_add(1));
        let jitter_max = u32::try_from((step / 4).as_millis()).unwrap_or(u32::MAX);
        let jitter = Duration::from_millis(pick(jitter_max).into());
        let pause = step.saturating_sub(jitter);
        // A pair that was forgotten by time still has its place.
        if memory.contains_key(pair) || memory.len() < PAIRS_MAX {
            let failed = Failed { at: now, step, pause, failures, refusal, report };
            memory.insert(pair.clone(), failed);
        }
        pause
    }

    /// Forgets what is known of a partner; how many pairs that were.
    pub(super) fn forget(&self, peer: &str) -> usize {
        let mut memory = self.0.lock();
        let before = memory.len();
        memory.retain(|pair, _| pair.remote.0.as_str() != peer);
        before - memory.len()
    }

    /// What could not be reached lately.
    pub(super) fn list(&self, now: Instant) -> Vec<Unreached> {
        let memory = self.0.lock();
        let lately = memory.iter().filter(|(_, one)| now.duration_since(one.at) < FORGET_AFTER);
        lately.map(|(pair, failed)| unreached(pair, failed, now)).collect()
    }

    /// The pair is connected: forget its failures.
    pub(super) fn succeeded(&self, pair: &Pair) {
        self.0.lock().remove(pair);
    }
}

fn unreached(pair: &Pair, failed: &Failed, now: Instant) -> Unreached {
    let rest = (failed.at + failed.pause).saturating_duration_since(now);
    Unreached {
        local: pair.local.to_string(),
        peer: pair.remote.to_string(),
        failed_secs_ago: now.duration_since(failed.at).as_secs(),
        failures: failed.failures,
        // Not "now" before it is.
        next_try_secs: rest.as_secs() + u64::from(rest.subsec_nanos() > 0),
        attempt: failed.report.clone(),
        told: failed.refusal.text.clone(),
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

    fn fail(memory: &Memory, pair: &Pair, now: Instant) -> Duration {
        memory.failed(pair, refusal(), AttemptReport::default(), |_| 0, now)
    }

    #[test]
    fn a_failure_is_remembered_for_a_while_only() {
        let (memory, start) = (Memory::default(), gatehouse_net::now());
        let them = pair("them.example");
        assert_eq!(memory.refusal(&them, start), None);
        assert_eq!(fail(&memory, &them, start), PAUSE_MIN);
        let soon = start + Duration::from_secs(1);
        assert_eq!(memory.refusal(&them, soon), Some((refusal(), Duration::from_secs(4))));
        assert_eq!(memory.refusal(&pair("other.example"), soon), None);
        assert_eq!(memory.refusal(&them, start + PAUSE_MIN), None);
    }

    #[test]
    fn the_pause_grows_to_a_minute_and_a_success_ends_it() {
        let (memory, start) = (Memory::default(), gatehouse_net::now());
        let them = pair("them.example");
        let pauses: Vec<u64> = (0..6).map(|_| fail(&memory, &them, start).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        memory.succeeded(&them);
        assert_eq!(memory.refusal(&them, start), None);
        assert_eq!(fail(&memory, &them, start), PAUSE_MIN);
        let later = start + FORGET_AFTER;
        assert_eq!(fail(&memory, &them, later), PAUSE_MIN);
    }

    #[test]
    fn partners_that_died_together_are_not_dialled_together() {
        let (memory, start) = (Memory::default(), gatehouse_net::now());
        let pause = |name: &str, draw: u32| {
            let pick = |max: u32| {
                assert_eq!(max, 1250);
                draw
            };
            memory.failed(&pair(name), refusal(), AttemptReport::default(), pick, start)
        };
        assert_eq!(pause("a.example", 0), PAUSE_MIN);
        assert_eq!(pause("b.example", 1250), Duration::from_millis(3750));
        // Jitter does not slow the growth.
        assert_eq!(fail(&memory, &pair("b.example"), start), PAUSE_MIN * 2);
    }

    #[test]
    fn what_is_remembered_is_shown_and_can_be_forgotten() {
        let (memory, start) = (Memory::default(), gatehouse_net::now());
        for name in ["them.example", "them.example", "a.example"] {
            fail(&memory, &pair(name), start);
        }
        let mut shown = memory.list(start + Duration::from_millis(1500));
        shown.sort_by(|a, b| a.peer.cmp(&b.peer));
        let [a, them] = shown.try_into().unwrap();
        assert_eq!((a.peer.as_str(), a.failures, a.next_try_secs), ("a.example", 1, 4));
        assert_eq!((them.failures, them.next_try_secs, them.failed_secs_ago), (2, 9, 1));
        assert_eq!((them.local.as_str(), them.told.as_str()), ("ours.example", "later"));
        let later = memory.list(start + PAUSE_MAX);
        assert!(later.len() == 2 && later.iter().all(|one| one.next_try_secs == 0));
        assert!(memory.list(start + FORGET_AFTER).is_empty());

        assert_eq!(memory.forget("nobody.example"), 0);
        assert_eq!(memory.forget("them.example"), 1);
        assert_eq!(memory.refusal(&pair("them.example"), start), None);
        assert!(memory.refusal(&pair("a.example"), start).is_some());
    }

    #[test]
    fn the_memory_is_bounded() {
        let (memory, start) = (Memory::default(), gatehouse_net::now());
        for number in 0..PAIRS_MAX + 10 {
            fail(&memory, &pair(&format!("d{number}.example")), start);
        }
        assert_eq!(memory.list(start).len(), PAIRS_MAX);
        fail(&memory, &pair("late.example"), start + FORGET_AFTER);
        assert_eq!(memory.0.lock().len(), 1);
    }
}

use std::collections::HashMap;
use std::time::{Duration, Instant};

use gatehouse_policy::Hop;

/// How often a next hop that works is asked whether it lives.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// How long one that failed is left alone, at first and at most.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// How the next hops are. One that failed gets nothing until it has answered an OPTIONS.
#[derive(Debug, Default)]
pub(super) struct Hops(HashMap<Hop, Health>);

#[derive(Debug)]
struct Health {
    is_up: bool,
    backoff: Duration,
    /// Nothing while an answer is awaited.
    probe_at: Option<Instant>,
}

impl Hops {
    /// The next hops of the routes: new ones are taken for well and asked at once, others are
    /// forgotten.
    pub(super) fn replace<'a>(&mut self, hops: impl Iterator<Item = &'a Hop>, now: Instant) {
        let mut old = std::mem::take(&mut self.0);
        for hop in hops {
            let fresh = || Health { is_up: true, backoff: BACKOFF_MIN, probe_at: Some(now) };
            self.0.entry(hop.clone()).or_insert_with(|| old.remove(hop).unwrap_or_else(fresh));
        }
    }

    /// True unless it failed and has not answered since.
    pub(super) fn is_up(&self, hop: &Hop) -> bool {
        self.0.get(hop).is_none_or(|health| health.is_up)
    }

    pub(super) fn has(&self, hop: &Hop) -> bool {
        self.0.contains_key(hop)
    }

    /// It answered. True if that is news.
    pub(super) fn works(&mut self, hop: &Hop, now: Instant) -> bool {
        let Some(health) = self.0.get_mut(hop) else { return false };
        let news = !health.is_up;
        *health = Health { is_up: true, backoff: BACKOFF_MIN, probe_at: Some(now + PROBE_EVERY) };
        news
    }

    /// It did not. True if that is news.
    pub(super) fn failed(&mut self, hop: &Hop, now: Instant) -> bool {
        let Some(health) = self.0.get_mut(hop) else { return false };
        if !health.is_up && health.probe_at.is_some() {
            // Several requests that fail together are one failure.
            return false;
        }
        let news = health.is_up;
        health.probe_at = Some(now + health.backoff);
        health.backoff = (health.backoff * 2).min(BACKOFF_MAX);
        health.is_up = false;
        news
    }

    /// A next hop that is to be asked now, if there is one.
    pub(super) fn due(&mut self, now: Instant) -> Option<Hop> {
        let is_due = |health: &Health| health.probe_at.is_some_and(|at| at <= now);
        let (hop, health) = self.0.iter_mut().find(|(_, health)| is_due(health))?;
        health.probe_at = None;
        Some(hop.clone())
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.0.values().filter_map(|health| health.probe_at).min()
    }

    /// Those that are down, for the metrics.
    pub(super) fn down(&self) -> usize {
        self.0.values().filter(|health| !health.is_up).count()
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_policy::HopProtocol;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_that_failed_rests_longer_and_longer_until_it_answers() {
        let start = gatehouse_net::now();
        let hop = Hop::new("pbx.example", None, HopProtocol::Tcp).unwrap();
        let mut hops = Hops::default();
        hops.replace([&hop].into_iter(), start);
        assert!(hops.is_up(&hop) && hops.due(start).is_some() && hops.due(start).is_none());
        assert!(hops.failed(&hop, start), "news");
        assert!(!hops.is_up(&hop) && !hops.failed(&hop, start), "no news");
        let mut now = start;
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(hops.poll_timeout(), Some(now + wait * SECOND));
            assert!(hops.due(now).is_none());
            now += wait * SECOND;
            assert!(hops.due(now).is_some() && !hops.is_up(&hop), "asked, not yet trusted");
            assert!(!hops.failed(&hop, now));
        }
        assert!(hops.works(&hop, now) && hops.is_up(&hop));
        assert_eq!(hops.poll_timeout(), Some(now + 30 * SECOND));
        assert!(!hops.works(&hop, now), "no news");
    }

    #[test]
    fn a_reload_keeps_what_is_known() {
        let now = gatehouse_net::now();
        let [one, two] = ["one.example", "two.example"]
            .map(|host| Hop::new(host, None, HopProtocol::Tcp).unwrap());
        let mut hops = Hops::default();
        hops.replace([&one].into_iter(), now);
        hops.failed(&one, now);
        hops.replace([&two, &one, &one].into_iter(), now);
        assert!(!hops.is_up(&one) && hops.is_up(&two) && hops.down() == 1);
        hops.replace([&two].into_iter(), now);
        assert!(!hops.has(&one) && hops.has(&two) && hops.down() == 0);
    }
}

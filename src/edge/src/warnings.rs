use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_net::Source;
use gatehouse_types::Domain;
use parking_lot::Mutex;
use tracing::warn;

/// How many warnings one source may cause in one window.
const PER_WINDOW: u32 = 5;
/// How many all sources together may cause.
const IN_ALL_PER_WINDOW: u32 = 100;
const WINDOW: Duration = Duration::from_secs(60);
/// How many sources are remembered; beyond that, all new ones share what is left to nobody.
const SOURCES_MAX: usize = 4096;

/// Decides whether a line that a peer can cause is a warning or, when it came too often from the
/// same source or from all together, a debug line. So a flood of bad connections does not become a
/// flood of warnings. What was held back is told once a window, as a number.
#[derive(Debug)]
pub(crate) struct Warnings<K>(Mutex<Heard<K>>);

#[derive(Debug)]
struct Heard<K> {
    sources: HashMap<K, Window>,
    all: Option<Window>,
    suppressed: u64,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    count: u32,
}

/// Whether a line may be a warning, and how many others were not since that was last told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Verdict {
    may_warn: bool,
    suppressed: u64,
}

impl<K> Default for Warnings<K> {
    fn default() -> Self {
        Self(Mutex::new(Heard { sources: HashMap::new(), all: None, suppressed: 0 }))
    }
}

impl Warnings<Source> {
    /// True if a peer at `address` may cause a warning now.
    pub(crate) fn may_warn(&self, address: IpAddr, now: Instant) -> bool {
        self.decide(Source::of(address), now)
    }
}

impl Warnings<Domain> {
    /// True if `domain` may cause a warning now.
    pub(crate) fn may_warn(&self, domain: Domain, now: Instant) -> bool {
        self.decide(domain, now)
    }
}

impl Warnings<Arc<str>> {
    /// True if a node of ours may cause a warning now.
    pub(crate) fn may_warn(&self, node: Arc<str>, now: Instant) -> bool {
        self.decide(node, now)
    }
}

impl<K: Eq + Hash> Warnings<K> {
    fn decide(&self, source: K, now: Instant) -> bool {
        let Verdict { may_warn, suppressed } = self.0.lock().judge(source, now);
        if suppressed > 0 {
            warn!(suppressed, "warnings that peers caused were held back; level debug shows them");
        }
        may_warn
    }
}

impl<K: Eq + Hash> Heard<K> {
    fn judge(&mut self, source: K, now: Instant) -> Verdict {
        let all = self.all.get_or_insert(Window { start: now, count: 0 });
        let mut suppressed = 0;
        if all.is_over(now) {
            *all = Window { start: now, count: 0 };
            suppressed = std::mem::take(&mut self.suppressed);
        }
        let may_warn = self.has_budget(source, now) && self.all_have_budget();
        if !may_warn {
            self.suppressed = self.suppressed.saturating_add(1);
        }
        Verdict { may_warn, suppressed }
    }

    fn has_budget(&mut self, source: K, now: Instant) -> bool {
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&source) {
            self.sources.retain(|_, window| !window.is_over(now));
            if self.sources.len() >= SOURCES_MAX {
                return false;
            }
        }
        let window = self.sources.entry(source).or_insert(Window { start: now, count: 0 });
        if window.is_over(now) {
            *window = Window { start: now, count: 0 };
        }
        window.count = window.count.saturating_add(1);
        window.count <= PER_WINDOW
    }

    /// Counts one more for all.
    fn all_have_budget(&mut self) -> bool {
        let Some(all) = &mut self.all else { return false };
        all.count = all.count.saturating_add(1);
        all.count <= IN_ALL_PER_WINDOW
    }
}

impl Window {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.start) >= WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard() -> Heard<u32> {
        Heard { sources: HashMap::new(), all: None, suppressed: 0 }
    }

    #[test]
    fn a_source_is_heard_a_few_times_a_minute() {
        let (start, mut heard) = (gatehouse_net::now(), heard());
        let mut may_warn = |source: u32, now| heard.judge(source, now).may_warn;
        assert!((0..PER_WINDOW).all(|_| may_warn(1, start)));
        assert!(!may_warn(1, start + WINDOW / 2));
        assert!(may_warn(2, start), "another source has its own budget");
        assert!(may_warn(1, start + WINDOW));
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let (start, warnings) = (gatehouse_net::now(), Warnings::<Source>::default());
        let may_warn = |text: String| warnings.may_warn(text.parse().unwrap(), start);
        assert!((0..PER_WINDOW).all(|host| may_warn(format!("2001:db8::{host}"))));
        assert!(!may_warn("2001:db8::ffff:1".into()));
        assert!(may_warn("2001:db8:0:1::1".into()));
    }

    #[test]
    fn many_sources_together_are_held_back_and_counted() {
        let (start, mut heard) = (gatehouse_net::now(), heard());
        for source in 0..IN_ALL_PER_WINDOW {
            assert!(heard.judge(source, start).may_warn);
        }
        for source in 1000..1007 {
            assert!(!heard.judge(source, start).may_warn);
        }
        let next = heard.judge(1, start + WINDOW);
        assert_eq!(next, Verdict { may_warn: true, suppressed: 7 });
        assert_eq!(heard.judge(2, start + WINDOW).suppressed, 0, "told once");
    }

    #[test]
    fn the_memory_is_bounded() {
        let (start, mut heard) = (gatehouse_net::now(), heard());
        for source in 0..2 * u32::try_from(SOURCES_MAX).unwrap() {
            heard.judge(source, start);
        }
        assert_eq!(heard.sources.len(), SOURCES_MAX);
        assert!(heard.judge(u32::MAX, start + WINDOW).may_warn, "old sources make room");
        assert_eq!(heard.sources.len(), 1);
    }
}

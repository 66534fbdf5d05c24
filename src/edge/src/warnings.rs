use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How many warnings one source may cause in one window.
const PER_WINDOW: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// How many sources are remembered; beyond that, all new ones share what is left to nobody.
const SOURCES_MAX: usize = 4096;

/// Decides whether a line that a peer can cause is a warning or, when it came too often from the
/// same source, a debug line. So a flood of bad connections does not become a flood of warnings.
#[derive(Debug)]
pub(crate) struct Warnings<K>(Mutex<HashMap<K, Window>>);

#[derive(Debug)]
struct Window {
    start: Instant,
    count: u32,
}

impl<K: Eq + Hash> Default for Warnings<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Warnings<K> {
    /// True if `source` may cause a warning now.
    pub(crate) fn may_warn(&self, source: K, now: Instant) -> bool {
        let mut windows = self.0.lock();
        if windows.len() >= SOURCES_MAX && !windows.contains_key(&source) {
            windows.retain(|_, window| now.duration_since(window.start) < WINDOW);
            if windows.len() >= SOURCES_MAX {
                return false;
            }
        }
        let window = windows.entry(source).or_insert(Window { start: now, count: 0 });
        if now.duration_since(window.start) >= WINDOW {
            *window = Window { start: now, count: 0 };
        }
        window.count = window.count.saturating_add(1);
        window.count <= PER_WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_heard_a_few_times_a_minute() {
        let start = gatehouse_net::now();
        let warnings = Warnings::default();
        let heard = |source: u32, now| warnings.may_warn(source, now);
        assert!((0..PER_WINDOW).all(|_| heard(1, start)));
        assert!(!heard(1, start + WINDOW / 2));
        assert!(heard(2, start), "another source has its own budget");
        assert!(heard(1, start + WINDOW));
    }

    #[test]
    fn the_memory_is_bounded() {
        let start = gatehouse_net::now();
        let warnings = Warnings::default();
        for source in 0..SOURCES_MAX {
            assert!(warnings.may_warn(source, start));
        }
        assert!(!warnings.may_warn(SOURCES_MAX, start));
        assert!(warnings.may_warn(SOURCES_MAX, start + WINDOW), "old sources make room");
        assert_eq!(warnings.0.lock().len(), 1);
    }
}

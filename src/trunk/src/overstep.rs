use std::time::{Duration, Instant};

use gatehouse_types::Domain;

/// The log hears no more often than this of one kind of overstep of one node; what was left out is
/// counted in the next line.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How soon the log hears of other domains that a node announces without leave: somebody may be
/// mending the settings.
const TELL_OTHERS_AFTER: Duration = Duration::from_secs(10);

/// What a node did that it may not, and what of that the log was told.
#[derive(Debug, Default)]
pub(crate) struct Oversteps {
    stanzas: Told,
    announced_at: Option<Instant>,
    announced: Vec<Domain>,
}

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    untold: u64,
}

impl Oversteps {
    /// It sent a stanza for a domain that is not its own. Gives how many were not told before this
    /// one, if this one is to be told.
    pub(crate) fn stanza(&mut self, now: Instant) -> Option<u64> {
        let told = &mut self.stanzas;
        if told.at.is_some_and(|at| now.saturating_duration_since(at) < TELL_EVERY) {
            told.untold += 1;
            return None;
        }
        told.at = Some(now);
        Some(std::mem::take(&mut told.untold))
    }

    /// It announced these domains, which it may not serve. True if the log has not heard of them:
    /// a node that reconnects says the same again.
    pub(crate) fn announced(&mut self, foreign: &[Domain], now: Instant) -> bool {
        let recently = |at: Instant| now.saturating_duration_since(at) < TELL_OTHERS_AFTER;
        if foreign.is_empty()
            || foreign == self.announced
            || self.announced_at.is_some_and(recently)
        {
            return false;
        }
        self.announced_at = Some(now);
        self.announced = foreign.to_vec();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "some instant to start from")]
    fn start() -> (Oversteps, Instant) {
        (Oversteps::default(), Instant::now())
    }

    #[test]
    fn stanzas_are_told_once_a_minute_and_the_rest_counted() {
        let (mut oversteps, mut now) = start();
        assert_eq!(oversteps.stanza(now), Some(0));
        for _ in 0..59 {
            now += Duration::from_secs(1);
            assert_eq!(oversteps.stanza(now), None);
        }
        now += Duration::from_secs(1);
        assert_eq!(oversteps.stanza(now), Some(59));
        assert_eq!(oversteps.stanza(now), None);
    }

    #[test]
    fn an_announcement_is_told_once_and_another_one_again() {
        let (mut oversteps, mut now) = start();
        let domains = |names: &[&str]| -> Vec<Domain> {
            names.iter().map(|name| name.parse().unwrap()).collect()
        };
        assert!(!oversteps.announced(&[], now));
        assert!(oversteps.announced(&domains(&["a.example"]), now));
        now += Duration::from_secs(3600);
        assert!(!oversteps.announced(&domains(&["a.example"]), now));
        assert!(oversteps.announced(&domains(&["b.example"]), now));
        assert!(!oversteps.announced(&domains(&["c.example"]), now), "a flood of them is one line");
    }
}

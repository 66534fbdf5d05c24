use std::collections::HashMap;
use std::time::{Duration, Instant};

use gatehouse_types::Domain;
use tracing::info;

/// How long nothing more is said of the same.
const QUIET: Duration = Duration::from_secs(3600);
/// How many are remembered; while there are more, nothing is said.
const KNOWN_MAX: usize = 256;

/// What was used up by whom, in a word each, and with which partner.
type Case = (&'static str, &'static str, Domain);

/// Tells the operator that somebody uses up all that it may have: each of it once in an hour.
#[derive(Debug, Default)]
pub(super) struct Full(HashMap<Case, Instant>);

impl Full {
    pub(super) fn note(&mut self, case: Case, now: Instant) {
        let (what, whose) = (case.0, case.1);
        metrics::counter!("gatehouse_sip_full_total", "what" => what, "whose" => whose)
            .increment(1);
        if let Some(domain) = self.first(case, now) {
            info!(
                peer.domain = %domain, what, whose,
                "refused, because as many are there as may be; nothing more is said of it for an hour"
            );
        }
    }

    /// The domain, if this was not said lately.
    pub(super) fn first(&mut self, case: Case, now: Instant) -> Option<Domain> {
        if self.0.contains_key(&case) || self.0.len() >= KNOWN_MAX {
            self.0.retain(|_, at| now.saturating_duration_since(*at) < QUIET);
        }
        if self.0.contains_key(&case) || self.0.len() >= KNOWN_MAX {
            return None;
        }
        let domain = case.2.clone();
        self.0.insert(case, now);
        Some(domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_in_an_hour_and_never_too_much() {
        let (mut full, now) = (Full::default(), gatehouse_net::now());
        let case = |domain: &str| ("looks", "partner", domain.parse().unwrap());
        let mut said = |domain: &str, seconds: u64| {
            full.first(case(domain), now + Duration::from_secs(seconds)).is_some()
        };
        assert!(said("a.example", 0) && !said("a.example", 3599) && said("a.example", 3600));
        assert!(said("b.example", 3600));
        let others = (0..1000).filter(|number| said(&format!("c{number}.example"), 3601)).count();
        assert_eq!(others, KNOWN_MAX - 2);
        assert!(said("d.example", 7300), "there is room again");
    }
}

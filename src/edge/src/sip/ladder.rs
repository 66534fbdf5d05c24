use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use gatehouse_types::{Domain, Remote};

/// What a stranger may send (Microsoft's Access Edge: discovered partners).
const PER_SECOND: f64 = 20.0;
/// What it may send once most of what it sends fails.
const SUSPICIOUS_PER_SECOND: f64 = 1.0;
/// How many different addresses of ours it may write to in one day.
const ADDRESSES_MAX: usize = 1000;
const ADDRESSES_FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// From so many answers on, a ratio means something.
const JUDGED_FROM: f64 = 20.0;
/// Strangers that are remembered; the one that was quiet longest is forgotten first.
const STRANGERS_MAX: usize = 4096;

/// Slows strangers down: partners that DNS named and nobody has allowed by name. Never keyed by
/// address.
#[derive(Debug, Default)]
pub(crate) struct Ladder {
    strangers: HashMap<Who, Stranger>,
}

/// What a stranger is known by. A request counts for its domain and for its certificate: one
/// certificate may prove a hundred domains, and one domain may have many certificates.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Who {
    /// The domain that was proved.
    Domain(Domain),
    /// SHA-256 of the certificate that proved it.
    Certificate([u8; 32]),
}

#[derive(Debug)]
struct Stranger {
    tokens: f64,
    filled_at: Instant,
    addresses: HashSet<u64>,
    counted_since: Instant,
    good: f64,
    failed: f64,
}

/// Why a stranger must wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Over {
    /// Too many requests a second; the next one fits then.
    Rate { wait: Duration, suspicious: bool },
    /// Too many different addresses of ours.
    Addresses,
}

/// All that a partner is known by.
pub(crate) fn who(domain: &Remote<Domain>, certificate: Option<[u8; 32]>) -> Vec<Who> {
    let certificate = certificate.map(Who::Certificate);
    std::iter::once(Who::Domain(domain.0.clone())).chain(certificate).collect()
}

impl Ladder {
    /// One request of a partner, by all it is known by, for an address of ours.
    pub(crate) fn admit(
        &mut self,
        partner: &[Who],
        address: &str,
        now: Instant,
    ) -> Result<(), Over> {
        let mut hasher = DefaultHasher::new();
        address.hash(&mut hasher);
        let address = hasher.finish();
        for who in partner {
            self.stranger(who, now).check(address, now)?;
        }
        for who in partner {
            self.stranger(who, now).spend(address);
        }
        Ok(())
    }

    /// How a request of a partner was answered.
    pub(crate) fn answered(&mut self, partner: &[Who], good: bool) {
        for who in partner {
            if let Some(stranger) = self.strangers.get_mut(who) {
                stranger.answered(good);
            }
        }
    }

    fn stranger(&mut self, who: &Who, now: Instant) -> &mut Stranger {
        if !self.strangers.contains_key(who) && self.strangers.len() >= STRANGERS_MAX {
            let quiet = self.strangers.iter().min_by_key(|(_, stranger)| stranger.filled_at);
            if let Some(quiet) = quiet.map(|(who, _)| who.clone()) {
                self.strangers.remove(&quiet);
            }
        }
        self.strangers.entry(who.clone()).or_insert_with(|| Stranger::new(now))
    }
}

impl Stranger {
    fn new(now: Instant) -> Self {
        Self {
            tokens: PER_SECOND,
            filled_at: now,
            addresses: HashSet::new(),
            counted_since: now,
            good: 0.0,
            failed: 0.0,
        }
    }

    fn is_suspicious(&self) -> bool {
        self.good + self.failed >= JUDGED_FROM && self.failed > self.good
    }

    fn check(&mut self, address: u64, now: Instant) -> Result<(), Over> {
        let suspicious = self.is_suspicious();
        let per_second = if suspicious { SUSPICIOUS_PER_SECOND } else { PER_SECOND };
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + passed * per_second).min(per_second);
        self.filled_at = now;
        if self.tokens < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - self.tokens) / per_second);
            return Err(Over::Rate { wait, suspicious });
        }
        if now.saturating_duration_since(self.counted_since) >= ADDRESSES_FORGOTTEN_AFTER {
            self.addresses.clear();
            self.counted_since = now;
        }
        let is_known = self.addresses.contains(&address);
        if is_known || self.addresses.len() < ADDRESSES_MAX { Ok(()) } else { Err(Over::Addresses) }
    }

    fn spend(&mut self, address: u64) {
        self.addresses.insert(address);
        self.tokens -= 1.0;
    }

    fn answered(&mut self, good: bool) {
        // Old answers count less and less: a partner that mends its ways is no longer suspicious.
        if self.good + self.failed >= 10.0 * JUDGED_FROM {
            self.good /= 2.0;
            self.failed /= 2.0;
        }
        if good {
            self.good += 1.0;
        } else {
            self.failed += 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "some instant to start from")]
    fn ladder() -> (Ladder, Instant, [Who; 1]) {
        (Ladder::default(), Instant::now(), [domain("stranger.example")])
    }

    fn domain(name: &str) -> Who {
        Who::Domain(name.parse().unwrap())
    }

    #[test]
    fn a_certificate_of_many_domains_is_one_stranger() {
        let (mut ladder, now, _) = ladder();
        let certificate = Who::Certificate([7; 32]);
        let mut taken = 0;
        for number in 0..100 {
            let partner = [domain(&format!("s{number}.example")), certificate.clone()];
            taken += usize::from(ladder.admit(&partner, "a", now).is_ok());
        }
        assert_eq!(taken, 20);
        let other = [domain("s99.example"), Who::Certificate([8; 32])];
        assert!(ladder.admit(&other, "a", now).is_ok(), "what was refused was not counted");
    }

    #[test]
    fn a_stranger_may_send_twenty_a_second() {
        let (mut ladder, mut now, stranger) = ladder();
        let mut taken = 0;
        for _ in 0..10 {
            taken += (0..100).filter(|_| ladder.admit(&stranger, "a", now).is_ok()).count();
            now += Duration::from_secs(1);
        }
        assert_eq!(taken, 200);
        let other = [domain("other.example")];
        assert!(ladder.admit(&other, "a", now).is_ok(), "one stranger's flood is not another's");
    }

    #[test]
    fn one_whose_requests_fail_may_send_one_a_second_until_it_mends() {
        let (mut ladder, mut now, stranger) = ladder();
        assert!(ladder.admit(&stranger, "a", now).is_ok());
        for _ in 0..20 {
            ladder.answered(&stranger, false);
        }
        now += Duration::from_secs(10);
        let taken = (0..100).filter(|_| ladder.admit(&stranger, "a", now).is_ok()).count();
        assert_eq!(taken, 1);
        for _ in 0..21 {
            ladder.answered(&stranger, true);
        }
        now += Duration::from_secs(10);
        let taken = (0..100).filter(|_| ladder.admit(&stranger, "a", now).is_ok()).count();
        assert_eq!(taken, 20);
    }

    #[test]
    fn a_stranger_that_tries_all_addresses_is_stopped() {
        let (mut ladder, mut now, stranger) = ladder();
        for number in 0..ADDRESSES_MAX {
            assert!(ladder.admit(&stranger, &number.to_string(), now).is_ok());
            now += Duration::from_millis(50);
        }
        assert_eq!(ladder.admit(&stranger, "one more", now), Err(Over::Addresses));
        assert!(ladder.admit(&stranger, "7", now).is_ok(), "those it knows it may still write to");
        now += ADDRESSES_FORGOTTEN_AFTER;
        assert!(ladder.admit(&stranger, "one more", now).is_ok());
    }

    #[test]
    fn no_more_strangers_than_fit_are_remembered() {
        let (mut ladder, mut now, _) = ladder();
        for number in 0..=STRANGERS_MAX {
            let stranger = [domain(&format!("s{number}.example"))];
            ladder.admit(&stranger, "a", now).unwrap();
            now += Duration::from_millis(1);
        }
        assert_eq!(ladder.strangers.len(), STRANGERS_MAX);
    }
}

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gatehouse_types::{Domain, Remote};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

type Limiter = RateLimiter<Domain, DashMapStateStore<Domain>, GivenClock, NoOpMiddleware<Instant>>;

/// How many spendings lie between two clean-ups of domains that have been quiet.
const CLEAN_UP_EVERY: u32 = 4096;

/// A stanza budget per partner domain, shared by all its streams. One partner's flood is not
/// another's problem.
///
/// A second's worth of stanzas may come at once; after that they are taken evenly.
pub struct PeerRate {
    clock: GivenClock,
    /// By rate: each rule has its own. As many entries as the policies in force had rates.
    limiters: Mutex<BTreeMap<NonZeroU32, Arc<Limiter>>>,
    spent: AtomicU32,
}

/// The budget is used up: wait, reading nothing more from this partner, then ask again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("over the rate of {per_second} stanzas a second")]
pub struct OverRate {
    /// The rate.
    pub per_second: NonZeroU32,
    /// How long until the next stanza fits.
    pub wait: Duration,
}

impl PeerRate {
    /// Budgets that are all full, on a clock that is given.
    pub fn new(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self {
            clock: GivenClock(Arc::new(now)),
            limiters: Mutex::default(),
            spent: AtomicU32::new(0),
        }
    }

    /// Spends one stanza of what `peer` may send at `per_second`.
    pub fn spend(&self, peer: &Remote<Domain>, per_second: NonZeroU32) -> Result<(), OverRate> {
        let limiter = self.limiter(per_second);
        // A domain whose budget is full again is as good as unknown: forget it.
        if self.spent.fetch_add(1, Ordering::Relaxed) % CLEAN_UP_EVERY == CLEAN_UP_EVERY - 1 {
            limiter.retain_recent();
        }
        limiter.check_key(&peer.0).map_err(|not_until| OverRate {
            per_second,
            wait: not_until.wait_time_from(self.clock.now()),
        })
    }

    fn limiter(&self, per_second: NonZeroU32) -> Arc<Limiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(limiters.entry(per_second).or_insert_with(|| {
            let quota = Quota::per_second(per_second);
            Arc::new(RateLimiter::dashmap_with_clock(quota, self.clock.clone()))
        }))
    }
}

impl fmt::Debug for PeerRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerRate")
    }
}

/// Governor's view of the clock we were given.
#[derive(Clone)]
struct GivenClock(Arc<dyn Fn() -> Instant + Send + Sync>);

impl Clock for GivenClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        (self.0)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> Remote<Domain> {
        Remote(name.parse().unwrap())
    }

    /// A clock that the test turns, and budgets on it.
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn world() -> (PeerRate, impl Fn(Duration)) {
        let time = Arc::new(Mutex::new(Instant::now()));
        let turned = Arc::clone(&time);
        let rate = PeerRate::new(move || *time.lock().unwrap());
        (rate, move |by| *turned.lock().unwrap() += by)
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_then_evenly() {
        let (rate, turn) = world();
        let ten = NonZeroU32::new(10).unwrap();
        for _ in 0..10 {
            assert_eq!(rate.spend(&peer("them.example"), ten), Ok(()));
        }
        let over = rate.spend(&peer("them.example"), ten).unwrap_err();
        assert_eq!((over.per_second, over.wait), (ten, Duration::from_millis(100)));
        // Asking again costs nothing.
        turn(Duration::from_millis(99));
        assert!(rate.spend(&peer("them.example"), ten).is_err());
        turn(Duration::from_millis(1));
        assert_eq!(rate.spend(&peer("them.example"), ten), Ok(()));
        assert!(rate.spend(&peer("them.example"), ten).is_err());
    }

    #[test]
    fn one_flood_is_not_another_s_problem() {
        let (rate, _turn) = world();
        let one = NonZeroU32::MIN;
        assert!(rate.spend(&peer("flood.example"), one).is_ok());
        assert!(rate.spend(&peer("flood.example"), one).is_err());
        assert!(rate.spend(&peer("them.example"), one).is_ok());
    }

    #[test]
    fn quiet_domains_are_forgotten() {
        let (rate, turn) = world();
        let one = NonZeroU32::MIN;
        for number in 0..CLEAN_UP_EVERY - 1 {
            rate.spend(&peer(&format!("d{number}.example")), one).unwrap();
        }
        turn(Duration::from_secs(60));
        rate.spend(&peer("last.example"), one).unwrap();
        assert_eq!(rate.limiter(one).len(), 1);
    }
}

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Sources that are remembered beside those that are connected.
const QUIET_SOURCES_MAX: usize = 16_384;

/// What one [`serve`](crate::serve) takes, from all and from one source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServeLimits {
    /// Connections at a time.
    pub connections_max: usize,
    /// Connections at a time from one source.
    pub per_source_max: usize,
    /// New connections from one source that may come at once.
    pub burst_per_source: u32,
    /// How long until one source may come once more, when it has used up its burst.
    pub refill_per_source: Duration,
}

impl ServeLimits {
    /// What one address is given: enough for a hosting company's server or an office behind one
    /// address, and a tenth of the house by default.
    const PER_SOURCE_MAX: usize = 1000;

    /// `connections_max` at a time, of which no source can have more than half.
    pub fn new(connections_max: usize) -> Self {
        Self {
            connections_max,
            per_source_max: Self::PER_SOURCE_MAX.min(connections_max.div_ceil(2)),
            burst_per_source: 1000,
            refill_per_source: Duration::from_millis(10),
        }
    }
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self::new(10_000)
    }
}

/// Who counts as one: an IPv4 address, or the IPv6 network that one customer is given.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Source(IpAddr);

impl Source {
    /// The source of a connection from `address`.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(network.into())
            }
        })
    }
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Crowded {
    /// The source has as many connections as it may.
    Full,
    /// The source comes too often.
    TooFast,
}

impl Crowded {
    /// A label for metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "source-full",
            Self::TooFast => "source-too-fast",
        }
    }
}

/// The connections of every source, and how often each came of late.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    known: Arc<Mutex<HashMap<Source, Known>>>,
    limits: ServeLimits,
}

#[derive(Debug)]
struct Known {
    open: usize,
    /// How many may come at once, as of `counted`.
    tokens: u32,
    counted: Instant,
}

/// The place of one connection; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    sources: Sources,
    source: Source,
}

impl Sources {
    pub(crate) fn new(limits: ServeLimits) -> Self {
        Self { known: Arc::default(), limits }
    }

    /// A place for one more connection from `address`.
    pub(crate) fn admit(&self, address: IpAddr, now: Instant) -> Result<Place, Crowded> {
        let source = Source::of(address);
        let mut sources = self.known.lock();
        if sources.len() >= self.limits.connections_max.saturating_add(QUIET_SOURCES_MAX) {
            // What is open is bounded by the slots, so this makes room for many.
            sources.retain(|_, known| known.open > 0);
        }
        let burst = self.limits.burst_per_source.max(1);
        let known = sources.entry(source).or_insert(Known { open: 0, tokens: burst, counted: now });
        known.refill(&self.limits, now);
        if known.open >= self.limits.per_source_max {
            return Err(Crowded::Full);
        }
        known.tokens = known.tokens.checked_sub(1).ok_or(Crowded::TooFast)?;
        known.open += 1;
        Ok(Place { sources: self.clone(), source })
    }
}

impl Known {
    fn refill(&mut self, limits: &ServeLimits, now: Instant) {
        let (burst, every) = (limits.burst_per_source.max(1), limits.refill_per_source);
        let gone = now.saturating_duration_since(self.counted).as_nanos();
        let came = gone.checked_div(every.as_nanos());
        let came = came.and_then(|came| u32::try_from(came).ok()).unwrap_or(u32::MAX);
        if came >= burst - self.tokens.min(burst) {
            (self.tokens, self.counted) = (burst, now);
        } else {
            self.tokens += came;
            self.counted += every * came;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sources = self.sources.known.lock();
        if let Some(known) = sources.get_mut(&self.source) {
            known.open = known.open.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn sources(per_source_max: usize, burst_per_source: u32) -> Sources {
        Sources::new(ServeLimits {
            connections_max: 4,
            per_source_max,
            burst_per_source,
            refill_per_source: Duration::from_millis(20),
        })
    }

    #[test]
    fn one_source_has_its_places_and_no_more() {
        let (sources, now) = (sources(2, 100), crate::now());
        let first = sources.admit(ip("192.0.2.1"), now).unwrap();
        let _second = sources.admit(ip("192.0.2.1"), now).unwrap();
        assert_eq!(sources.admit(ip("192.0.2.1"), now).unwrap_err(), Crowded::Full);
        assert!(sources.admit(ip("192.0.2.2"), now).is_ok(), "another source has its own");
        drop(first);
        assert!(sources.admit(ip("192.0.2.1"), now).is_ok(), "its place was given back");
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_a_mapped_address_is_its_ipv4() {
        for (one, other, same) in [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
        ] {
            assert_eq!(Source::of(ip(one)) == Source::of(ip(other)), same, "{one} {other}");
        }
    }

    #[test]
    fn who_comes_too_often_must_wait() {
        let (sources, now) = (sources(100, 3), crate::now());
        for _ in 0..3 {
            drop(sources.admit(ip("192.0.2.1"), now).unwrap());
        }
        assert_eq!(sources.admit(ip("192.0.2.1"), now).unwrap_err(), Crowded::TooFast);
        assert!(sources.admit(ip("192.0.2.2"), now).is_ok(), "another source has its own");
        let soon = now + Duration::from_millis(30);
        drop(sources.admit(ip("192.0.2.1"), soon).unwrap());
        assert_eq!(sources.admit(ip("192.0.2.1"), soon).unwrap_err(), Crowded::TooFast);
        // Nothing of the 30 ms is lost.
        drop(sources.admit(ip("192.0.2.1"), now + Duration::from_millis(40)).unwrap());
        let later = now + Duration::from_secs(3600);
        for _ in 0..3 {
            drop(sources.admit(ip("192.0.2.1"), later).unwrap());
        }
        assert!(sources.admit(ip("192.0.2.1"), later).is_err(), "never more than a burst");
    }

    #[test]
    fn the_memory_is_bounded() {
        let (sources, now) = (sources(2, 1), crate::now());
        let _open = sources.admit(ip("192.0.2.1"), now).unwrap();
        for number in 0..40_000_u32 {
            let address = IpAddr::V4((0x0a00_0000 + number).into());
            drop(sources.admit(address, now).unwrap());
        }
        let known = sources.known.lock();
        assert!(known.len() <= 4 + QUIET_SOURCES_MAX);
        assert!(known.contains_key(&Source::of(ip("192.0.2.1"))), "an open one is never forgotten");
    }
}

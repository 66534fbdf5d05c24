//! Failed log-ins: whoever fails often waits longer and longer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Addresses remembered at a time; the one that failed longest ago makes room.
const ADDRESSES_MAX: usize = 4096;
/// After this long without a failure all is forgotten.
const MEMORY: Duration = Duration::from_secs(10 * 60);
/// The wait after the second failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait, well below the time that a client has to log in.
const WAIT_MAX: Duration = Duration::from_secs(8);

/// Failed log-ins by source. A success does not clear them: an attacker may own an account.
#[derive(Debug, Default)]
pub(crate) struct FailedLogins(Mutex<HashMap<IpAddr, Failures>>);

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl FailedLogins {
    /// Remembers a failure of `source`.
    pub(crate) fn note(&self, source: IpAddr, now: Instant) {
        let source = network(source);
        let mut table = self.0.lock();
        if table.len() >= ADDRESSES_MAX && !table.contains_key(&source) {
            let oldest = table.iter().min_by_key(|(_, failures)| failures.last);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                table.remove(&oldest);
            }
        }
        let failures = table.entry(source).or_insert(Failures { count: 0, last: now });
        if now.saturating_duration_since(failures.last) > MEMORY {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }

    /// How long the next try of `source` has to wait.
    pub(crate) fn wait(&self, source: IpAddr, now: Instant) -> Duration {
        let table = self.0.lock();
        let Some(failures) = table.get(&network(source)) else { return Duration::ZERO };
        if failures.count < 2 || now.saturating_duration_since(failures.last) > MEMORY {
            return Duration::ZERO;
        }
        let doublings = (failures.count - 2).min(16);
        FIRST_WAIT.saturating_mul(1 << doublings).min(WAIT_MAX)
    }
}

/// One customer has a whole /64 of IPv6.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_slow_down_their_source_only() {
        let (table, now) = (FailedLogins::default(), gatehouse_net::now());
        let [them, neighbour, other]: [IpAddr; 3] =
            ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        let waits: Vec<u128> = (0..9)
            .map(|_| {
                table.note(them, now);
                table.wait(them, now).as_millis()
            })
            .collect();
        assert_eq!(waits, [0, 250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(table.wait(neighbour, now), WAIT_MAX);
        assert_eq!(table.wait(other, now), Duration::ZERO);
        assert_eq!(table.wait(them, now + MEMORY * 2), Duration::ZERO);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let (table, start) = (FailedLogins::default(), gatehouse_net::now());
        for index in 0..=u32::try_from(ADDRESSES_MAX).unwrap() {
            table.note(
                std::net::Ipv4Addr::from(index).into(),
                start + Duration::from_millis(index.into()),
            );
        }
        let table = table.0.lock();
        assert_eq!(table.len(), ADDRESSES_MAX);
        assert!(!table.contains_key(&IpAddr::from([0, 0, 0, 0])));
    }
}

//! Who has not logged in yet: so many connections of one source at a time, and whoever fails often
//! waits longer and longer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
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

/// The longest wait in the queue of one source, below the time that a client has to log in.
const QUEUE_MAX: Duration = Duration::from_secs(20);
/// Connections of one source that have not logged in, at a time. An office behind one address
/// reconnects at once.
const STRANGERS_MAX: usize = 32;

/// Failed log-ins by source. A success does not clear them: an attacker may own an account.
#[derive(Debug, Default)]
pub(crate) struct FailedLogins(Mutex<HashMap<IpAddr, Failures>>);

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
    /// The turn of the last try that waits.
    busy_until: Instant,
}

/// Connections of one source that have not logged in, for all sources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strangers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them; it is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Stranger {
    all: Strangers,
    source: IpAddr,
}

impl Strangers {
    /// Counts a connection, unless there are too many. The table is as long as there are
    /// connections at most.
    pub(crate) fn enter(&self, source: IpAddr) -> Option<Stranger> {
        let source = network(source);
        let mut table = self.0.lock();
        let count = table.entry(source).or_default();
        if *count >= STRANGERS_MAX {
            return None;
        }
        *count += 1;
        Some(Stranger { all: self.clone(), source })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut table = self.all.0.lock();
        let left = table.get_mut(&self.source).map(|count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == Some(0) {
            table.remove(&self.source);
        }
    }
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
        let failures =
            table.entry(source).or_insert(Failures { count: 0, last: now, busy_until: now });
        if now.saturating_duration_since(failures.last) > MEMORY {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }

    /// How long the next try of `source` has to wait: its tries wait one after another, on however
    /// many connections. `None` if too many wait already.
    pub(crate) fn wait(&self, source: IpAddr, now: Instant) -> Option<Duration> {
        let mut table = self.0.lock();
        let Some(failures) = table.get_mut(&network(source)) else { return Some(Duration::ZERO) };
        if failures.count < 2 || now.saturating_duration_since(failures.last) > MEMORY {
            return Some(Duration::ZERO);
        }
        let doublings = (failures.count - 2).min(16);
        let own = FIRST_WAIT.saturating_mul(1 << doublings).min(WAIT_MAX);
        let turn = failures.busy_until.max(now) + own;
        let wait = turn.saturating_duration_since(now);
        if wait > QUEUE_MAX {
            return None;
        }
        failures.busy_until = turn;
        Some(wait)
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
        let mut now = now;
        let waits: Vec<u128> = (0..9)
            .map(|_| {
                table.note(them, now);
                let wait = table.wait(them, now).unwrap();
                now += wait;
                wait.as_millis()
            })
            .collect();
        assert_eq!(waits, [0, 250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(table.wait(neighbour, now), Some(WAIT_MAX));
        // They wait one after another, and not for ever.
        assert_eq!(table.wait(them, now), Some(WAIT_MAX * 2));
        assert_eq!(table.wait(neighbour, now), None);
        assert_eq!(table.wait(them, now + WAIT_MAX), Some(WAIT_MAX * 2));
        assert_eq!(table.wait(other, now), Some(Duration::ZERO));
        assert_eq!(table.wait(them, now + MEMORY * 2), Some(Duration::ZERO));
    }

    #[test]
    fn strangers_of_one_source_are_few() {
        let strangers = Strangers::default();
        let [them, neighbour, other]: [IpAddr; 3] =
            ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(|text| text.parse().unwrap());
        let mut inside: Vec<Stranger> =
            (0..STRANGERS_MAX).map(|_| strangers.enter(them).unwrap()).collect();
        assert!(strangers.enter(neighbour).is_none());
        assert!(strangers.enter(other).is_some());
        inside.pop();
        assert!(strangers.enter(neighbour).is_some());
        inside.clear();
        assert!(strangers.0.lock().is_empty());
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

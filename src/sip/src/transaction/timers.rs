//! The times of RFC 3261, table 4, and the deadlines of all transactions in one order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{ClientKey, ServerKey};

/// Round trip estimate.
pub(crate) const T1: Duration = Duration::from_millis(500);
/// The longest time between two transmissions of a request that is no INVITE, and of an answer.
pub(super) const T2: Duration = Duration::from_secs(4);
/// How long a message stays in the network.
pub(super) const T4: Duration = Duration::from_secs(5);
/// Timers B, F, H, J, L, M and N: 64*T1.
pub(crate) const PATIENCE: Duration = Duration::from_secs(32);
/// Timer D: at least 32 s.
pub(super) const TIMER_D: Duration = Duration::from_secs(32);
/// Timer C (RFC 3261 section 16.6, step 11): more than three minutes.
pub(super) const TIMER_C: Duration = Duration::from_secs(181);
/// An INVITE that came in is answered 100 after this (section 17.2.1).
pub(super) const TRYING: Duration = Duration::from_millis(200);
/// An INVITE that its owner never answers is forgotten after this.
pub(super) const ABANDONED: Duration = Duration::from_secs(600);

/// Whose deadline it is.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    Client(ClientKey),
    Server(ServerKey),
}

/// Where an entry stands in the queue.
pub(super) type Slot = (Instant, u64);

/// One deadline for each transaction, soonest first; what is over leaves at once.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    queue: BTreeMap<Slot, Owner>,
    counter: u64,
}

impl Deadlines {
    pub(super) fn add(&mut self, at: Instant, owner: Owner) -> Slot {
        self.counter += 1;
        let slot = (at, self.counter);
        self.queue.insert(slot, owner);
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.queue.remove(&slot);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the soonest out, if its moment has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<Owner> {
        let entry = self.queue.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

use std::collections::VecDeque;

use super::HandledCountTooHigh;

/// How much may be under way without an acknowledgement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    /// Stanzas.
    pub len_max: usize,
    /// Their bytes together; one stanza always fits.
    pub bytes_max: usize,
}

impl Default for Window {
    /// Wide, because one stanza that takes its time holds back the acknowledgement of all that
    /// came after it.
    fn default() -> Self {
        Self { len_max: 16 * 1024, bytes_max: 32 * 1024 * 1024 }
    }
}

/// What was sent on a session and is not acknowledged yet, oldest first.
#[derive(Clone, Debug)]
pub struct AckQueue<T> {
    /// The last `h` of the peer.
    acked: u32,
    items: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> Default for AckQueue<T> {
    fn default() -> Self {
        Self { acked: 0, items: VecDeque::new(), bytes: 0 }
    }
}

impl<T> AckQueue<T> {
    /// True if `window` has room for another one.
    pub fn has_room(&self, window: Window) -> bool {
        self.items.is_empty()
            || (self.items.len() < window.len_max && self.bytes < window.bytes_max)
    }

    /// Keeps `item`, which is `bytes` long and is being sent.
    pub fn push(&mut self, item: T, bytes: usize) {
        self.bytes += bytes;
        self.items.push_back((item, bytes));
    }

    /// Lets go of what the peer has handled. A number that goes back is too high as well: they
    /// count around the clock (XEP-0198, section 4).
    pub fn acknowledge(&mut self, h: u32) -> Result<Vec<T>, HandledCountTooHigh> {
        let newly = h.wrapping_sub(self.acked);
        match usize::try_from(newly) {
            Ok(len) if len <= self.items.len() => {
                self.acked = h;
                let done: Vec<_> = self.items.drain(..len).collect();
                self.bytes -= done.iter().map(|(_, bytes)| bytes).sum::<usize>();
                Ok(done.into_iter().map(|(item, _)| item).collect())
            }
            _ => Err(HandledCountTooHigh { h, sent: self.sent() }),
        }
    }

    /// Takes out the oldest that is not acknowledged. Only between sessions: the peer counts it.
    pub fn pop_oldest(&mut self) -> Option<T> {
        let (item, bytes) = self.items.pop_front()?;
        self.bytes -= bytes;
        Some(item)
    }

    /// What is not acknowledged, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|(item, _)| item)
    }

    /// How many are not acknowledged.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True if all is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// All that is not acknowledged, for another session; the counter starts anew.
    pub fn renew(self) -> Self {
        Self { acked: 0, ..self }
    }

    /// All that is not acknowledged, oldest first, given back.
    pub fn into_items(self) -> Vec<T> {
        self.items.into_iter().map(|(item, _)| item).collect()
    }

    /// How many were ever sent, modulo 2^32.
    pub fn sent(&self) -> u32 {
        // The window keeps the length far below 2^32.
        self.acked.wrapping_add(u32::try_from(self.items.len()).unwrap_or(u32::MAX))
    }

    #[cfg(test)]
    pub(crate) fn starting_at(acked: u32) -> Self {
        Self { acked, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(start: u32, items: &[&'static str]) -> AckQueue<&'static str> {
        let mut queue = AckQueue::starting_at(start);
        for item in items {
            queue.push(*item, 10);
        }
        queue
    }

    #[test]
    fn acknowledges_from_the_front() {
        let mut queue = queue(0, &["a", "b", "c"]);
        assert_eq!(queue.acknowledge(0), Ok(vec![]));
        assert_eq!(queue.acknowledge(2), Ok(vec!["a", "b"]));
        assert_eq!((queue.len(), queue.sent()), (1, 3));
        assert_eq!(queue.into_items(), ["c"]);
    }

    #[test]
    fn more_than_was_sent_is_refused_and_less_than_before_too() {
        let mut queue = queue(0, &["a", "b"]);
        assert_eq!(queue.acknowledge(3), Err(HandledCountTooHigh { h: 3, sent: 2 }));
        queue.acknowledge(2).unwrap();
        assert_eq!(queue.acknowledge(1), Err(HandledCountTooHigh { h: 1, sent: 2 }));
    }

    #[test]
    fn counts_around_the_clock() {
        let mut queue = queue(u32::MAX - 1, &["a", "b", "c"]);
        assert_eq!(queue.sent(), 1);
        assert_eq!(queue.acknowledge(0), Ok(vec!["a", "b"]));
        assert_eq!(queue.acknowledge(1), Ok(vec!["c"]));
        assert!(queue.is_empty());
    }

    #[test]
    fn the_window_bounds_number_and_bytes_but_one_always_fits() {
        let narrow = Window { len_max: 2, bytes_max: 1000 };
        let light = Window { len_max: 10, bytes_max: 5 };
        assert!(queue(0, &[]).has_room(narrow) && queue(0, &[]).has_room(light));
        assert!(queue(0, &["a"]).has_room(narrow) && !queue(0, &["a"]).has_room(light));
        assert!(!queue(0, &["a", "b"]).has_room(narrow));
        let mut full = queue(0, &["a", "b"]);
        full.acknowledge(1).unwrap();
        assert!(full.has_room(narrow));
    }

    #[test]
    fn the_oldest_can_be_taken_out_between_sessions() {
        let mut queue = queue(0, &["a", "b", "c"]).renew();
        assert_eq!((queue.pop_oldest(), queue.len()), (Some("a"), 2));
        assert_eq!(queue.acknowledge(2), Ok(vec!["b", "c"]));
        assert_eq!((queue.bytes, queue.pop_oldest()), (0, None));
    }

    #[test]
    fn a_renewed_queue_counts_from_nought() {
        let mut old = queue(0, &["a", "b", "c"]);
        old.acknowledge(1).unwrap();
        let mut new = old.renew();
        assert_eq!(new.sent(), 2);
        assert_eq!(new.acknowledge(1), Ok(vec!["b"]));
    }
}

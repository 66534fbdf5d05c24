use std::collections::VecDeque;
use std::ops::Range;

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

/// How many times [`Window::len_max`] may lie between the oldest that is not acknowledged and the
/// next to be sent, where what lies between them was acknowledged out of turn.
const SPAN_FACTOR: u64 = 64;

/// What was sent on a session and is not acknowledged yet, oldest first.
#[derive(Clone, Debug)]
pub struct AckQueue<T> {
    /// The last `h` of the peer, without wrapping.
    acked: u64,
    /// How many were ever sent, without wrapping.
    sent: u64,
    items: VecDeque<Item<T>>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Item<T> {
    /// Counted from nought in its session.
    number: u64,
    value: T,
    bytes: usize,
}

/// A step of what is sent again after a resume.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resend<'a, T> {
    /// So many are not sent again: they were acknowledged out of turn, and still count.
    Skip(u32),
    /// This one is.
    Item(&'a T),
}

impl<T> Default for AckQueue<T> {
    fn default() -> Self {
        Self { acked: 0, sent: 0, items: VecDeque::new(), bytes: 0 }
    }
}

impl<T> AckQueue<T> {
    /// True if `window` has room for another one.
    pub fn has_room(&self, window: Window) -> bool {
        let span = (window.len_max as u64).saturating_mul(SPAN_FACTOR);
        self.items.is_empty()
            || (self.items.len() < window.len_max
                && self.bytes < window.bytes_max
                && self.sent - self.acked < span)
    }

    /// Keeps `item`, which is `bytes` long and is being sent.
    pub fn push(&mut self, item: T, bytes: usize) {
        self.bytes += bytes;
        self.items.push_back(Item { number: self.sent, value: item, bytes });
        self.sent += 1;
    }

    /// Lets go of what the peer has handled. A number that goes back is too high as well: they
    /// count around the clock (XEP-0198, section 4).
    pub fn acknowledge(&mut self, h: u32) -> Result<Vec<T>, HandledCountTooHigh> {
        let acked = self.unwrap(h);
        if acked > self.sent {
            return Err(HandledCountTooHigh { h, sent: self.sent() });
        }
        self.acked = acked;
        let len = self.items.partition_point(|item| item.number < acked);
        Ok(self.take(0..len))
    }

    /// Lets go of `len` stanzas from the one with this number (modulo 2^32) on, which the peer has
    /// handled out of turn. `h` still counts them.
    pub fn acknowledge_some(
        &mut self,
        number: u32,
        len: u32,
    ) -> Result<Vec<T>, HandledCountTooHigh> {
        let first = self.unwrap(number);
        let end = first + u64::from(len);
        if end > self.sent {
            let h = number.wrapping_add(len);
            return Err(HandledCountTooHigh { h, sent: self.sent() });
        }
        let place = |number: u64| self.items.partition_point(|item| item.number < number);
        Ok(self.take(place(first)..place(end)))
    }

    /// The number without wrapping; the peer speaks of none before the last `h`.
    #[expect(clippy::cast_possible_truncation, reason = "truncation is the modulo")]
    fn unwrap(&self, number: u32) -> u64 {
        self.acked + u64::from(number.wrapping_sub(self.acked as u32))
    }

    fn take(&mut self, places: Range<usize>) -> Vec<T> {
        let done: Vec<_> = self.items.drain(places).collect();
        self.bytes -= done.iter().map(|item| item.bytes).sum::<usize>();
        done.into_iter().map(|item| item.value).collect()
    }

    /// Takes out the oldest that is not acknowledged. Only between sessions: the peer counts it.
    pub fn pop_oldest(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.bytes -= item.bytes;
        self.renumber();
        Some(item.value)
    }

    /// What must be sent again when the session is resumed, after [`acknowledge`](Self::acknowledge).
    pub fn resend(&self) -> impl Iterator<Item = Resend<'_, T>> {
        let mut next = self.acked;
        let mut items = self.items.iter();
        let mut held = None;
        std::iter::from_fn(move || {
            if let Some(value) = held.take() {
                return Some(Resend::Item(value));
            }
            let item = items.next();
            let number = item.map_or(self.sent, |item| item.number);
            let gap = number - next;
            next = number + 1;
            match (gap, item) {
                (0, item) => item.map(|item| Resend::Item(&item.value)),
                (gap, item) => {
                    held = item.map(|item| &item.value);
                    next = next.min(self.sent);
                    Some(Resend::Skip(u32::try_from(gap).unwrap_or(u32::MAX)))
                }
            }
        })
        .fuse()
    }

    /// What is not acknowledged, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|item| &item.value)
    }

    /// How long what is not acknowledged is, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
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
    pub fn renew(mut self) -> Self {
        self.renumber();
        self
    }

    fn renumber(&mut self) {
        self.acked = 0;
        for (number, item) in (0..).zip(&mut self.items) {
            item.number = number;
        }
        self.sent = self.items.len() as u64;
    }

    /// All that is not acknowledged, oldest first, given back.
    pub fn into_items(self) -> Vec<T> {
        self.items.into_iter().map(|item| item.value).collect()
    }

    /// How many were ever sent, modulo 2^32.
    #[expect(clippy::cast_possible_truncation, reason = "truncation is the modulo")]
    pub fn sent(&self) -> u32 {
        self.sent as u32
    }

    #[cfg(test)]
    pub(crate) fn starting_at(acked: u32) -> Self {
        Self { acked: acked.into(), sent: acked.into(), ..Self::default() }
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

    #[test]
    fn what_is_acknowledged_out_of_turn_makes_room_and_still_counts() {
        let mut queue = queue(u32::MAX - 1, &["a", "b", "c", "d"]);
        assert_eq!(queue.acknowledge_some(u32::MAX, 2), Ok(vec!["b", "c"]));
        assert_eq!(queue.acknowledge_some(u32::MAX, 2), Ok(vec![]));
        assert_eq!((queue.len(), queue.bytes, queue.sent()), (2, 20, 2));
        let resent: Vec<_> = queue.resend().collect();
        assert_eq!(resent, [Resend::Item(&"a"), Resend::Skip(2), Resend::Item(&"d")]);
        assert!(queue.acknowledge_some(1, 2).is_err(), "more than was sent");
        assert_eq!(queue.acknowledge_some(1, 1), Ok(vec!["d"]));
        let resent: Vec<_> = queue.resend().collect();
        assert_eq!(resent, [Resend::Item(&"a"), Resend::Skip(3)]);
        assert_eq!(queue.acknowledge(2), Ok(vec!["a"]));
        assert_eq!(queue.resend().count(), 0);
    }

    #[test]
    fn a_gap_has_a_bound() {
        let window = Window { len_max: 2, bytes_max: 1000 };
        let mut queue = AckQueue::default();
        queue.push("oldest", 1);
        for number in 1.. {
            if !queue.has_room(window) {
                assert_eq!(number, 128);
                break;
            }
            queue.push("other", 1);
            queue.acknowledge_some(number, 1).unwrap();
        }
        assert_eq!(queue.renew().resend().collect::<Vec<_>>(), [Resend::Item(&"oldest")]);
    }
}

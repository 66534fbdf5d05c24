use std::collections::VecDeque;

use gatehouse_xmpp::s2s::Sent;

/// What was given to a stream, oldest first, and is not yet known to be safe: acknowledged by a
/// partner that does so, or else handed to the operating system. Receipts are kept with it.
#[derive(Debug)]
pub(super) struct Held<T> {
    items: VecDeque<T>,
    /// How many of the oldest nobody will acknowledge.
    uncounted: usize,
    /// How many may not have left yet.
    unflushed: usize,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), uncounted: 0, unflushed: 0 }
    }
}

impl<T> Held<T> {
    pub(super) fn push(&mut self, item: T, sent: Sent) {
        self.items.push_back(item);
        self.unflushed += 1;
        if sent == Sent::Uncounted {
            self.nobody_counts();
        }
    }

    /// The partner does not acknowledge after all: having left has to do.
    pub(super) fn nobody_counts(&mut self) {
        self.uncounted = self.items.len();
    }

    /// Everything has been handed to the operating system. What is safe now, oldest first.
    pub(super) fn flushed(&mut self) -> Vec<T> {
        self.unflushed = 0;
        self.take(0)
    }

    /// The partner has acknowledged the oldest so many that it counts; all before them have arrived,
    /// too.
    pub(super) fn acknowledged(&mut self, len: usize) -> Vec<T> {
        self.take(len)
    }

    fn take(&mut self, counted: usize) -> Vec<T> {
        let len = (self.uncounted + counted).min(self.items.len());
        self.uncounted = 0;
        let safe = self.items.drain(..len).collect();
        self.unflushed = self.unflushed.min(self.items.len());
        safe
    }

    pub(super) fn unflushed(&self) -> usize {
        self.unflushed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// All that is not known to be safe, oldest first.
    pub(super) fn into_items(self) -> VecDeque<T> {
        self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(items: &[(u8, Sent)]) -> Held<u8> {
        let mut held = Held::default();
        for (item, sent) in items {
            held.push(*item, *sent);
        }
        held
    }

    #[test]
    fn what_nobody_counts_is_safe_once_it_has_left() {
        let mut held = held(&[(1, Sent::Uncounted), (2, Sent::Uncounted)]);
        assert_eq!((held.unflushed(), held.flushed()), (2, vec![1, 2]));
        assert!(held.is_empty());
    }

    #[test]
    fn what_is_counted_waits_for_its_acknowledgement() {
        let mut held = held(&[(1, Sent::Counted), (2, Sent::Counted)]);
        assert!(held.flushed().is_empty());
        assert_eq!((held.unflushed(), held.acknowledged(1)), (0, vec![1]));
        assert_eq!(held.acknowledged(5), [2]);
    }

    #[test]
    fn counting_may_begin_in_the_middle() {
        let stream = [(1, Sent::Uncounted), (2, Sent::Uncounted), (3, Sent::Counted)];
        assert_eq!(held(&stream).flushed(), [1, 2]);
        assert_eq!(held(&stream).acknowledged(0), [1, 2]);
        assert_eq!(held(&stream).acknowledged(1), [1, 2, 3]);
        assert_eq!(held(&stream).into_items(), [1, 2, 3]);
    }

    #[test]
    fn counting_may_end_before_it_began() {
        let mut held = held(&[(1, Sent::Counted), (2, Sent::Counted)]);
        held.nobody_counts();
        assert_eq!(held.flushed(), [1, 2]);
    }
}

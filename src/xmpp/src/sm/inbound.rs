use std::collections::VecDeque;

/// What arrived on a session and how much of it is done with.
///
/// Stanzas may be finished in any order; what the peer is told grows only over those before which
/// nothing is open, because `h` is one number.
#[derive(Clone, Debug, Default)]
pub struct InboundCount {
    /// All before this one are done with.
    handled: u64,
    /// One flag for each stanza from `handled` on: done with, or not yet.
    open: VecDeque<bool>,
    /// How many of the next arrivals the peer only repeats after a resume.
    repeated: u64,
    /// Done with while one before it is open, and not told yet.
    untold: Vec<u64>,
}

/// What to do with a stanza that arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// Take it; this is its number, to be given to [`InboundCount::handled`].
    New(u64),
    /// It was taken before the session was resumed and is still being worked on.
    Repeated,
}

impl InboundCount {
    /// Counts a stanza that arrived.
    pub fn arrived(&mut self) -> Arrival {
        if self.repeated > 0 {
            self.repeated -= 1;
            return Arrival::Repeated;
        }
        let number = self.received();
        self.open.push_back(false);
        Arrival::New(number)
    }

    /// Notes that the stanza with this number was handed on, stored or answered. True if
    /// [`h`](Self::h) grew. Unknown and repeated numbers change nothing.
    pub fn handled(&mut self, number: u64) -> bool {
        let index = number.checked_sub(self.handled).and_then(|index| usize::try_from(index).ok());
        let Some(flag) = index.and_then(|index| self.open.get_mut(index)) else { return false };
        if !std::mem::replace(flag, true) && index != Some(0) {
            self.untold.push(number);
        }
        let before = self.handled;
        while self.open.front() == Some(&true) {
            self.open.pop_front();
            self.handled += 1;
        }
        if self.untold.len() > self.open.len() {
            self.untold.retain(|number| *number >= self.handled);
        }
        self.handled != before
    }

    /// The peer does not send these again after a resume: it was told that they are done with, or
    /// it knows that we refuse them. What had not arrived counts as done with.
    pub fn skipped(&mut self, len: u32) {
        for _ in 0..len {
            if let Arrival::New(number) = self.arrived() {
                self.handled(number);
            }
        }
    }

    /// What is done with beyond [`h`](Self::h) since this was last asked: number (modulo 2^32) and
    /// length of each run.
    pub fn take_beyond(&mut self) -> Vec<(u32, u32)> {
        let mut numbers = std::mem::take(&mut self.untold);
        numbers.retain(|number| *number >= self.handled);
        numbers.sort_unstable();
        let mut runs: Vec<(u64, u32)> = Vec::new();
        for number in numbers {
            match runs.last_mut() {
                Some((first, len)) if *first + u64::from(*len) == number => *len += 1,
                _ => runs.push((number, 1)),
            }
        }
        runs.into_iter().map(|(first, len)| (wrapped(first), len)).collect()
    }

    /// How many are done with beyond [`h`](Self::h) and not told.
    pub fn beyond_len(&self) -> usize {
        self.untold.len()
    }

    /// How many ever arrived, modulo 2^32: the number of the next one.
    pub fn next(&self) -> u32 {
        wrapped(self.received() - self.repeated)
    }

    /// The number to tell the peer.
    pub fn h(&self) -> u32 {
        wrapped(self.handled)
    }

    /// Tells the peer where to go on after the connection was lost. What it sends again from there
    /// on and had arrived already will be [`Arrival::Repeated`].
    pub fn resume(&mut self) -> u32 {
        self.repeated = self.received() - self.handled;
        // What was told may not have arrived.
        let beyond = (self.handled..).zip(&self.open).filter(|(_, done)| **done);
        self.untold = beyond.map(|(number, _)| number).collect();
        self.h()
    }

    /// Arrived and not done with, those behind a gap included.
    pub fn open_len(&self) -> usize {
        self.open.len()
    }

    fn received(&self) -> u64 {
        self.handled + self.open.len() as u64
    }

    /// Of a session of which so many arrived before and are done with.
    pub fn starting_at(handled: u64) -> Self {
        Self { handled, ..Self::default() }
    }
}

/// A counter as the peer sees it: modulo 2^32.
#[expect(clippy::cast_possible_truncation, reason = "truncation is the modulo")]
fn wrapped(count: u64) -> u32 {
    count as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(count: &mut InboundCount, len: u64) {
        for _ in 0..len {
            assert!(matches!(count.arrived(), Arrival::New(_)));
        }
    }

    #[test]
    fn h_waits_for_the_first_that_is_open() {
        let mut count = InboundCount::default();
        arrive(&mut count, 4);
        assert!(!count.handled(2) && !count.handled(1));
        assert_eq!(count.h(), 0);
        assert!(count.handled(0));
        assert_eq!((count.h(), count.open_len()), (3, 1));
    }

    #[test]
    fn unknown_and_repeated_numbers_change_nothing() {
        let mut count = InboundCount::default();
        arrive(&mut count, 2);
        assert!(count.handled(0));
        for number in [0, 2, u64::MAX] {
            assert!(!count.handled(number), "{number}");
        }
        assert_eq!((count.h(), count.open_len()), (1, 1));
    }

    #[test]
    fn after_a_resume_what_is_open_is_not_taken_twice() {
        let mut count = InboundCount::default();
        arrive(&mut count, 3);
        count.handled(0);
        assert_eq!(count.resume(), 1);
        // Finished after the peer was told: it sends both again all the same.
        count.handled(1);
        assert_eq!([count.arrived(), count.arrived()], [Arrival::Repeated; 2]);
        assert_eq!(count.arrived(), Arrival::New(3));
    }

    #[test]
    fn a_second_loss_starts_the_repetition_anew() {
        let mut count = InboundCount::default();
        arrive(&mut count, 2);
        count.resume();
        assert_eq!(count.arrived(), Arrival::Repeated);
        assert_eq!(count.resume(), 0);
        assert_eq!([count.arrived(), count.arrived()], [Arrival::Repeated; 2]);
        assert_eq!(count.arrived(), Arrival::New(2));
    }

    #[test]
    fn h_wraps() {
        let mut count = InboundCount::starting_at(u64::from(u32::MAX));
        arrive(&mut count, 2);
        count.handled(u64::from(u32::MAX));
        assert_eq!(count.h(), 0);
        count.handled(u64::from(u32::MAX) + 1);
        assert_eq!(count.h(), 1);
    }

    #[test]
    fn what_is_done_with_beyond_a_gap_is_told_in_runs_and_again_after_a_resume() {
        let mut count = InboundCount::starting_at(u64::from(u32::MAX));
        arrive(&mut count, 7);
        for number in [3, 1, 2, 5] {
            assert!(!count.handled(u64::from(u32::MAX) + number));
        }
        assert_eq!(count.take_beyond(), [(0, 3), (4, 1)]);
        assert_eq!((count.take_beyond(), count.beyond_len()), (vec![], 0));
        count.resume();
        assert_eq!(count.take_beyond(), [(0, 3), (4, 1)]);
        count.handled(u64::from(u32::MAX) + 6);
        assert!(count.handled(u64::from(u32::MAX)));
        assert_eq!(count.take_beyond(), [(5, 1)], "what `h` covers needs no more words");
    }

    #[test]
    fn what_is_skipped_counts_whether_it_had_arrived_or_not() {
        let mut count = InboundCount::default();
        arrive(&mut count, 2);
        count.handled(1);
        count.resume();
        assert_eq!((count.arrived(), count.next()), (Arrival::Repeated, 1));
        count.skipped(2);
        assert_eq!(count.next(), 3);
        assert_eq!(count.arrived(), Arrival::New(3));
        assert!(count.handled(0));
        assert_eq!(count.h(), 3);
    }
}

use std::time::Instant;

use bytes::BytesMut;

use super::{Pace, wire};
use crate::Stanza;
use crate::sm::{Arrival, HandledCountTooHigh, Resend, Session};

/// An open stream: who acknowledges what and when, and whether the peer is there.
#[derive(Debug)]
pub(in crate::trunk) struct Flow<T> {
    pub(in crate::trunk) session: Session<T>,
    pace: Pace,
    heard_at: Instant,
    /// The peer was asked whether it is there, and must answer before this.
    answer_by: Option<Instant>,
    /// Stanzas sent since we last asked for an acknowledgement.
    unasked: usize,
    request_at: Option<Instant>,
    /// The last `h` that we told.
    told: u32,
    ack_at: Option<Instant>,
    /// The peer understands what is ours ([`crate::ns::TRUNK`]).
    extended: bool,
}

/// The peer did not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::trunk) struct Gone;

impl<T: AsRef<Stanza>> Flow<T> {
    pub(in crate::trunk) fn new(session: Session<T>, pace: Pace, now: Instant) -> Self {
        let told = session.inbound.h();
        Self {
            session,
            pace,
            heard_at: now,
            answer_by: None,
            unasked: 0,
            request_at: None,
            told,
            ack_at: None,
            extended: false,
        }
    }

    /// The peer understands what is ours.
    pub(in crate::trunk) fn extend(&mut self, now: Instant) {
        self.extended = true;
        if self.session.inbound.beyond_len() > 0 {
            self.ack_at = Some(now);
        }
    }

    pub(in crate::trunk) fn is_extended(&self) -> bool {
        self.extended
    }

    /// Goes on with the session. Returns the `h` to tell the peer.
    pub(in crate::trunk) fn resume(&mut self) -> u32 {
        self.told = self.session.inbound.resume();
        self.told
    }

    /// Gives the session up; what it did not deliver is the first to go out on the next.
    pub(in crate::trunk) fn renew(&mut self) {
        self.session = std::mem::take(&mut self.session).renew();
        self.told = 0;
    }

    /// Stanzas may flow from now on.
    pub(in crate::trunk) fn open(&mut self, now: Instant) {
        self.heard(now);
        // Stanzas may have been finished since the peer was told.
        self.ack_at = (self.session.inbound.h() != self.told).then_some(now);
    }

    /// Writes everything again that is not acknowledged. Returns how many.
    pub(in crate::trunk) fn resend(&mut self, out: &mut BytesMut) -> usize {
        for step in self.session.outbound.resend() {
            match step {
                Resend::Item(item) => wire::write_stanza(out, item.as_ref()),
                // Only a peer that understands it can have left a gap.
                Resend::Skip(len) => wire::write(out, &wire::skip(len)),
            }
        }
        let resent = self.session.outbound.len();
        if resent > 0 {
            self.ask(out);
        }
        resent
    }

    /// Hands `item` back if it is longer than `bytes_max` once written.
    pub(in crate::trunk) fn send(
        &mut self,
        item: T,
        bytes_max: usize,
        out: &mut BytesMut,
        now: Instant,
    ) -> Result<(), T> {
        let before = out.len();
        wire::write_stanza(out, item.as_ref());
        let bytes = out.len() - before;
        if bytes > bytes_max {
            out.truncate(before);
            return Err(item);
        }
        self.session.outbound.push(item, bytes);
        self.unasked += 1;
        if self.unasked >= self.pace.request_every {
            self.ask(out);
        } else {
            self.request_at.get_or_insert_with(|| now + self.pace.request_delay);
        }
        Ok(())
    }

    /// The peer said something.
    pub(in crate::trunk) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.answer_by = None;
    }

    pub(in crate::trunk) fn arrived(&mut self) -> Arrival {
        self.session.inbound.arrived()
    }

    pub(in crate::trunk) fn handled(&mut self, number: u64, out: &mut BytesMut, now: Instant) {
        let grew = self.session.inbound.handled(number);
        let beyond = if self.extended { self.session.inbound.beyond_len() } else { 0 };
        if !grew && beyond == 0 {
            return;
        }
        let untold = self.session.inbound.h().wrapping_sub(self.told) as usize + beyond;
        if untold >= self.pace.ack_every {
            self.acknowledge(out);
        } else {
            self.ack_at.get_or_insert_with(|| now + self.pace.ack_delay);
        }
    }

    /// Tells the peer how much is handled.
    pub(in crate::trunk) fn acknowledge(&mut self, out: &mut BytesMut) {
        self.told = self.session.inbound.h();
        self.ack_at = None;
        wire::write_ack(out, self.told);
        if self.extended {
            for (number, len) in self.session.inbound.take_beyond() {
                wire::write(out, &wire::beyond(number, len));
            }
        }
    }

    /// The peer told us how much it has handled.
    pub(in crate::trunk) fn acknowledged(
        &mut self,
        h: u32,
        now: Instant,
    ) -> Result<Vec<T>, HandledCountTooHigh> {
        let done = self.session.outbound.acknowledge(h)?;
        self.was_told(now);
        Ok(done)
    }

    /// The peer told us what it has handled out of turn.
    pub(in crate::trunk) fn acknowledged_beyond(
        &mut self,
        number: u32,
        len: u32,
        now: Instant,
    ) -> Result<Vec<T>, HandledCountTooHigh> {
        let done = self.session.outbound.acknowledge_some(number, len)?;
        self.was_told(now);
        Ok(done)
    }

    /// A peer that only answers must be asked again; ours tells unasked, so this is seldom due.
    fn was_told(&mut self, now: Instant) {
        self.request_at = (!self.session.outbound.is_empty())
            .then(|| self.request_at.unwrap_or(now + 5 * self.pace.request_delay));
    }

    pub(in crate::trunk) fn deadline(&self) -> Instant {
        let alive = self.answer_by.unwrap_or(self.heard_at + self.pace.silence_max);
        [self.request_at, self.ack_at].into_iter().flatten().fold(alive, Instant::min)
    }

    pub(in crate::trunk) fn tick(&mut self, out: &mut BytesMut, now: Instant) -> Result<(), Gone> {
        if self.answer_by.is_some_and(|answer_by| answer_by <= now) {
            return Err(Gone);
        }
        if self.ack_at.is_some_and(|ack_at| ack_at <= now) {
            self.acknowledge(out);
        }
        let silent = self.answer_by.is_none() && self.heard_at + self.pace.silence_max <= now;
        if silent {
            self.answer_by = Some(now + self.pace.answer_max);
        }
        if silent || self.request_at.is_some_and(|request_at| request_at <= now) {
            self.ask(out);
        }
        Ok(())
    }

    fn ask(&mut self, out: &mut BytesMut) {
        self.unasked = 0;
        self.request_at = None;
        wire::write_request(out);
    }
}

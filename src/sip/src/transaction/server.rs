//! Server transactions: RFC 3261 section 17.2, RFC 6026 section 7.1.

use std::time::{Duration, Instant};

use gatehouse_types::Domain;

use super::Flow;
use super::timers::{ABANDONED, PATIENCE, Slot, T1, T2, T4, TRYING};
use crate::{Message, Status};

/// How far a server transaction has come. Others than INVITE know no Accepted and no Confirmed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Nothing answered yet (for INVITE: Proceeding, with 100 not sent).
    Trying,
    Proceeding,
    Accepted,
    Completed,
    Confirmed,
}

/// What follows from an input.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Steps {
    /// The last answer is to be written again.
    pub(super) resend: bool,
    /// The new answer is to be written.
    pub(super) send: bool,
    /// The input is for the owner.
    pub(super) tell: bool,
    /// The transaction is over.
    pub(super) over: bool,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) flow: Flow,
    /// Whose share it takes.
    pub(super) domain: Option<Domain>,
    pub(super) state: State,
    pub(super) invite: bool,
    /// The last answer; before that, an INVITE's 100. Nothing is kept of other answers on reliable
    /// flows.
    pub(super) last: Option<Box<Message>>,
    pub(super) cancelled: bool,
    /// What it is found by when it comes a second time on another way.
    pub(super) merge: Option<String>,
    interval: Duration,
    resend_at: Option<Instant>,
    end_at: Instant,
    pub(super) slot: Option<Slot>,
}

impl Server {
    pub(super) fn new(
        flow: Flow,
        domain: Option<Domain>,
        trying: Option<Message>,
        now: Instant,
    ) -> Self {
        let invite = trying.is_some();
        Self {
            flow,
            domain,
            state: State::Trying,
            invite,
            last: trying.map(Box::new),
            cancelled: false,
            merge: None,
            interval: T1,
            resend_at: invite.then(|| now + TRYING),
            // An owner that never answers must not hold it for ever; the peer gave up by then.
            end_at: now + if invite { ABANDONED } else { PATIENCE },
            slot: None,
        }
    }

    /// When to call [`timeout`](Self::timeout).
    pub(super) fn deadline(&self) -> Instant {
        self.resend_at.map_or(self.end_at, |at| at.min(self.end_at))
    }

    /// The request came again.
    pub(super) fn again(&self) -> Steps {
        let resend = matches!(self.state, State::Proceeding | State::Completed);
        Steps { resend, ..Steps::default() }
    }

    pub(super) fn ack(&mut self, now: Instant) -> Steps {
        let mut steps = Steps::default();
        match self.state {
            State::Completed => {
                // Timer I: zero on reliable flows.
                steps.over = self.flow.reliable;
                self.state = State::Confirmed;
                self.resend_at = None;
                self.end_at = now + T4;
            }
            // RFC 6026 section 7.1: the owner's.
            State::Accepted => steps.tell = true,
            State::Trying | State::Proceeding | State::Confirmed => {}
        }
        steps
    }

    /// The owner answers.
    pub(super) fn respond(&mut self, status: Status, now: Instant) -> Steps {
        let mut steps = Steps::default();
        match self.state {
            State::Trying | State::Proceeding => steps.send = true,
            // A 2xx is repeated by the owner until its ACK comes (section 13.3.1.4).
            State::Accepted => {
                steps.send = status.is_success();
                return steps;
            }
            State::Completed | State::Confirmed => return steps,
        }
        self.resend_at = None;
        if status.is_provisional() {
            self.state = State::Proceeding;
        } else if self.invite && status.is_success() {
            self.state = State::Accepted;
            // Timer L.
            self.end_at = now + PATIENCE;
        } else {
            self.state = State::Completed;
            // Timer H waits for the ACK on every flow; J is zero on reliable ones.
            self.end_at = now + PATIENCE;
            steps.over = !self.invite && self.flow.reliable;
            if self.invite && !self.flow.reliable {
                // Timer G.
                self.resend_at = Some(now + T1);
            }
        }
        steps
    }

    pub(super) fn timeout(&mut self, now: Instant) -> Steps {
        let mut steps = Steps::default();
        if self.end_at <= now {
            steps.over = true;
        } else if self.resend_at.is_some_and(|at| at <= now) {
            steps.resend = true;
            if self.state == State::Trying {
                self.state = State::Proceeding;
                self.resend_at = None;
            } else {
                self.interval = (self.interval * 2).min(T2);
                self.resend_at = Some(now + self.interval);
            }
        }
        steps
    }
}

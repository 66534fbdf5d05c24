//! Client transactions: RFC 3261 section 17.1, RFC 6026 section 7.2.

use std::time::{Duration, Instant};

use gatehouse_types::Domain;

use super::Flow;
use super::timers::{PATIENCE, Slot, T1, T2, T4, TIMER_C, TIMER_D};
use crate::{HeaderName, Message, Method, Start, Status};

/// How far a client transaction has come. INVITE: Calling, Proceeding, Accepted, Completed; others:
/// Trying (here `Calling`), Proceeding, Completed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Calling,
    Proceeding,
    Accepted,
    Completed,
}

/// What follows from an input.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Steps {
    /// The answer is for the owner.
    pub(super) tell: bool,
    /// Nothing came in time.
    pub(super) failed: bool,
    /// To be written again.
    pub(super) resend: bool,
    /// An ACK is to be made and written.
    pub(super) ack: bool,
    /// A CANCEL is to be made and written.
    pub(super) cancel: bool,
    /// The transaction is over.
    pub(super) over: bool,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) flow: Flow,
    /// Whose share it takes.
    pub(super) domain: Option<Domain>,
    pub(super) state: State,
    pub(super) invite: bool,
    /// What is written again, and what ACK and CANCEL are made of; nothing is kept of other
    /// requests on reliable flows.
    pub(super) request: Option<Box<Message>>,
    /// A CANCEL of our own: its owner hears nothing of it.
    pub(super) silent: bool,
    cancel: Cancel,
    interval: Duration,
    resend_at: Option<Instant>,
    end_at: Instant,
    pub(super) slot: Option<Slot>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cancel {
    No,
    /// Once a provisional answer came (section 9.1).
    Wanted,
    Sent,
}

impl Client {
    pub(super) fn new(flow: Flow, domain: Option<Domain>, request: &Message, now: Instant) -> Self {
        let invite = request.method() == Some(Method::Invite);
        Self {
            flow,
            domain,
            state: State::Calling,
            invite,
            request: (invite || !flow.reliable).then(|| Box::new(request.clone())),
            silent: false,
            cancel: Cancel::No,
            interval: T1,
            // Timer A or E.
            resend_at: (!flow.reliable).then(|| now + T1),
            // Timer B or F.
            end_at: now + PATIENCE,
            slot: None,
        }
    }

    /// When to call [`timeout`](Self::timeout).
    pub(super) fn deadline(&self) -> Instant {
        self.resend_at.map_or(self.end_at, |at| at.min(self.end_at))
    }

    pub(super) fn response(&mut self, status: Status, now: Instant) -> Steps {
        let mut steps = Steps::default();
        match (self.state, self.invite) {
            (State::Calling | State::Proceeding, _) if status.is_provisional() => {
                steps.tell = true;
                self.proceed(status, now, &mut steps);
            }
            (State::Calling | State::Proceeding, true) if status.is_success() => {
                steps.tell = true;
                // Timer M: answers of other branches come on the same transaction.
                self.linger(State::Accepted, PATIENCE, now);
            }
            (State::Calling | State::Proceeding, invite) => {
                steps.tell = true;
                steps.ack = invite;
                // Timers D and K: zero on reliable flows.
                steps.over = self.flow.reliable;
                self.linger(State::Completed, if invite { TIMER_D } else { T4 }, now);
            }
            // RFC 6026 section 7.2: every 2xx is passed on, anything else is not.
            (State::Accepted, _) => steps.tell = status.is_success(),
            (State::Completed, true) => steps.ack = status.is_final() && !status.is_success(),
            (State::Completed, false) => {}
        }
        steps
    }

    fn proceed(&mut self, status: Status, now: Instant, steps: &mut Steps) {
        let first = self.state == State::Calling;
        self.state = State::Proceeding;
        if !self.invite {
            // Section 17.1.2.2: timer E goes on, at T2.
            self.interval = T2;
            return;
        }
        self.resend_at = None;
        match self.cancel {
            Cancel::Wanted => self.send_cancel(now, steps),
            // Timer C starts, and starts anew with each answer but 100 (section 16.7, step 2).
            Cancel::No if first || status.code() > 100 => self.end_at = now + TIMER_C,
            Cancel::No | Cancel::Sent => {}
        }
    }

    fn send_cancel(&mut self, now: Instant, steps: &mut Steps) {
        self.cancel = Cancel::Sent;
        steps.cancel = true;
        // Section 9.1: no final answer 64*T1 after the CANCEL: it is over.
        self.end_at = now + PATIENCE;
    }

    fn linger(&mut self, state: State, time: Duration, now: Instant) {
        self.state = state;
        self.resend_at = None;
        self.end_at = now + time;
    }

    pub(super) fn cancel(&mut self, now: Instant) -> Steps {
        let mut steps = Steps::default();
        match (self.state, self.cancel) {
            (State::Calling, Cancel::No) => self.cancel = Cancel::Wanted,
            (State::Proceeding, Cancel::No) => self.send_cancel(now, &mut steps),
            _ => {}
        }
        steps
    }

    pub(super) fn timeout(&mut self, now: Instant) -> Steps {
        let mut steps = Steps::default();
        if self.end_at <= now {
            match (self.state, self.invite, self.cancel) {
                // Timer C: the INVITE is given up, and the owner hears of it when that is done.
                (State::Proceeding, true, Cancel::No) => self.send_cancel(now, &mut steps),
                (State::Calling | State::Proceeding, ..) => {
                    steps.failed = true;
                    steps.over = true;
                }
                (State::Accepted | State::Completed, ..) => steps.over = true,
            }
            return steps;
        }
        if self.resend_at.is_some_and(|at| at <= now) {
            steps.resend = true;
            // A doubles without end until B; E doubles up to T2 (sections 17.1.1.2 and 17.1.2.2).
            let doubled = self.interval * 2;
            self.interval = if self.invite { doubled } else { doubled.min(T2) };
            self.resend_at = Some(now + self.interval);
        }
        steps
    }
}

/// The ACK of an answer that is no 2xx (section 17.1.1.3): the request's own top Via, the answer's
/// To.
pub(super) fn ack(invite: &Message, response: &Message) -> Option<Message> {
    let mut ack = follow_up(invite, Method::Ack)?;
    let to = response.headers.get(&HeaderName::To)?.into_owned();
    ack.headers.set(HeaderName::To, to).ok()?;
    Some(ack)
}

/// The CANCEL of an INVITE (section 9.1).
pub(super) fn cancel(invite: &Message) -> Option<Message> {
    follow_up(invite, Method::Cancel)
}

fn follow_up(invite: &Message, method: Method) -> Option<Message> {
    let Start::Request { uri, .. } = &invite.start else { return None };
    let cseq = invite.cseq().ok()?;
    let mut message = Message::request(method.clone(), uri.clone());
    let headers = &mut message.headers;
    let via = invite.headers.list(&HeaderName::Via).into_iter().next()?;
    headers.push(HeaderName::Via, via).ok()?;
    for route in invite.headers.get_all(&HeaderName::Route) {
        headers.push(HeaderName::Route, route.into_owned()).ok()?;
    }
    headers.push(HeaderName::MaxForwards, "70").ok()?;
    for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
        let value = invite.headers.get(&name)?.into_owned();
        headers.push(name, value).ok()?;
    }
    headers.push(HeaderName::CSeq, format!("{} {method}", cseq.number)).ok()?;
    Some(message)
}

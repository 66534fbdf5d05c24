use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gatehouse_identity::{AuthenticatedPeer, TlsFacts};
use gatehouse_types::{Domain, Local, Machine, Remote, StreamId, StreamLimits};
use minidom::Element;

use super::intake::Intake;
use super::key::KeyElement;
use super::management::Management;
use super::pairs::Pairs;
use super::wire::{Channel, Wire};
use super::{Bidi, DialbackAnswer, DialbackQuestion, Gate, S2sEvent, Sent, Terms};
use crate::dialback::DialbackSecret;
use crate::framing::{Frame, Leftover, RawStanza};
use crate::stream::CloseReason;
use crate::{Entry, Seed, Stanza, StreamCondition, StreamError, ns};

mod dialback;
mod management;
mod negotiation;

pub(super) use self::negotiation::is_old;

/// What all receivers share.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// Bounds.
    pub limits: StreamLimits,
    /// For answering `db:verify`.
    pub dialback_secret: DialbackSecret,
    /// Whether the initiator may ask for stanzas to come back on its stream.
    pub bidi: Bidi,
}

/// The receiving side of an S2S stream: the partner dialled us.
pub struct S2sReceiver {
    config: Arc<ReceiverConfig>,
    gate: Arc<dyn Gate>,
    wire: Wire,
    seed: Seed,
    stream_id: StreamId,
    /// Stanzas of the current stream, for their ids.
    stanzas: u64,
    state: State,
    /// Keys that somebody is asked about. They belong to the current stream id.
    questions: Vec<DialbackQuestion>,
    /// Failed tries to authenticate.
    failures: usize,
    /// What the owner knows of the peer's header.
    told: Option<Addresses>,
    setup_deadline: Instant,
    last_heard: Instant,
    /// When the stream last carried a stanza to the peer.
    last_sent: Option<Instant>,
    direction: Direction,
    /// Once the peer has asked for it.
    management: Option<Management>,
}

/// How far the stream has come. Each state holds what is true in it; what a state does not know
/// how to take ends the stream.
enum State {
    /// A stream header must come.
    AwaitHeader { channel: Channel },
    /// Headers and features are exchanged; nobody is proved.
    Negotiating { channel: Channel, to: Local<Domain>, claim: Option<Claim> },
    /// `<proceed/>` was said.
    Upgrading,
    /// `<success/>` was said: a new header must come.
    AwaitRestart { channel: Channel, peer: AuthenticatedPeer },
    /// Stanzas may flow between the pairs; there is at least one.
    Open { channel: Channel, pairs: Pairs },
    /// The stream ends, and nothing more is taken; the farewell waits until all that was taken is
    /// done with, so that the peer learns what it need not send again.
    Settling { reason: CloseReason, until: Instant },
    /// We said our farewell after a silence; the peer may still have something on the way. With
    /// stream management it is not taken any more, for it could not be acknowledged.
    Closing { pairs: Option<Pairs>, until: Instant },
    /// Over.
    Closed,
}

/// Whom the initiator claims to be, and what that takes.
struct Claim {
    domain: Remote<Domain>,
    terms: Terms,
    /// Its proof, or why its certificate is none. Nothing without TLS.
    judgement: Option<Result<AuthenticatedPeer, String>>,
}

/// Who the peer says it is and whom it wants.
type Addresses = (Option<Remote<Domain>>, Option<Local<Domain>>);

/// How a step ends a stream.
enum Over {
    /// With an error of ours.
    Refuse(StreamError),
    /// Because the peer said so.
    Peer(CloseReason),
}

impl From<StreamCondition> for Over {
    fn from(condition: StreamCondition) -> Self {
        Self::Refuse(condition.into())
    }
}

impl From<StreamError> for Over {
    fn from(error: StreamError) -> Self {
        Self::Refuse(error)
    }
}

/// Where stanzas may go on the stream (XEP-0288).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Direction {
    /// To us.
    In,
    /// To us; the peer may ask for more.
    Offered,
    /// Both ways: the peer has asked, before it proved itself.
    Both,
}

/// Failed tries to authenticate on one stream.
const FAILURES_MAX: usize = 3;

impl S2sReceiver {
    /// A stream that has just been accepted. `seed` makes the stream ids.
    pub fn new(
        config: Arc<ReceiverConfig>,
        gate: Arc<dyn Gate>,
        entry: Entry,
        mut seed: Seed,
        now: Instant,
    ) -> Self {
        let channel = match entry {
            Entry::StartTls => Channel::Plain,
            Entry::Direct(facts) => Channel::Tls(facts),
        };
        Self {
            wire: Wire::new(&config.limits),
            stream_id: next_id(&mut seed),
            stanzas: 0,
            state: State::AwaitHeader { channel },
            questions: Vec::new(),
            failures: 0,
            told: None,
            setup_deadline: now + config.limits.setup_timeout,
            last_heard: now,
            last_sent: None,
            direction: Direction::In,
            management: None,
            config,
            gate,
            seed,
        }
    }

    /// The upgrade that [`Machine::wants_upgrade`] asked for is done.
    pub fn handle_tls(&mut self, facts: TlsFacts, now: Instant) {
        if matches!(self.state, State::Upgrading) {
            self.last_heard = now;
            self.restart(Leftover::Drop);
            self.state = State::AwaitHeader { channel: Channel::Tls(facts) };
        }
    }

    /// Answers [`S2sEvent::VerifyKey`].
    pub fn dialback_answer(
        &mut self,
        question: &DialbackQuestion,
        answer: DialbackAnswer,
        _now: Instant,
    ) {
        // The stream may have been restarted since: then the key belongs to no stream any more.
        let Some(at) = self.questions.iter().position(|pending| pending == question) else {
            return;
        };
        let question = self.questions.swap_remove(at);
        self.take_step(|machine, state| machine.settle(state, &question, answer));
    }

    /// Ends the stream with `error` (policy was reloaded, the partner is too fast, ...).
    pub fn close_with(&mut self, error: StreamError, _now: Instant) {
        self.close(CloseReason::WeRefused(error));
    }

    /// Writes a stanza to the peer; only between a pair that is open here, and only while
    /// [`takes_stanzas`](Self::takes_stanzas). The bytes are in the next `poll_transmit`.
    pub fn send(&mut self, stanza: &Stanza, now: Instant) -> Sent {
        // An initiator has no way to say how much it takes.
        let bytes = self.wire.write_stanza(stanza, usize::MAX).unwrap_or_default();
        self.last_sent = Some(now);
        let Some(management) = &mut self.management else { return Sent::Uncounted };
        management.sent(bytes, now);
        Sent::Counted
    }

    /// True while the peer takes stanzas on this stream (XEP-0288), between the pairs that are open
    /// on it.
    pub fn takes_stanzas(&self) -> bool {
        self.direction == Direction::Both && matches!(self.state, State::Open { .. })
    }

    /// True if another stanza may be sent before the next acknowledgement.
    pub fn has_room(&self) -> bool {
        self.management.as_ref().is_none_or(Management::has_room)
    }

    /// The peer was not read from until now, so its acknowledgements could not be heard earlier.
    pub fn excuse_silence(&mut self, now: Instant) {
        if let Some(management) = &mut self.management {
            management.excuse(now);
        }
    }

    /// The id of the current stream.
    pub fn stream_id(&self) -> &StreamId {
        &self.stream_id
    }

    /// Takes the state, and puts the next one in its place.
    fn take_step(&mut self, step: impl FnOnce(&mut Self, State) -> Result<State, Over>) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        let after_silence = matches!(state, State::Closing { .. });
        match step(self, state) {
            Ok(next) => self.state = next,
            Err(_) if after_silence => self.finish(CloseReason::Idle),
            Err(Over::Refuse(error)) => self.finish(CloseReason::WeRefused(error)),
            Err(Over::Peer(reason)) => self.finish(reason),
        }
    }

    fn close(&mut self, reason: CloseReason) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => {}
            State::Closing { .. } => self.finish(CloseReason::Idle),
            _ => self.finish(reason),
        }
    }

    fn finish(&mut self, reason: CloseReason) {
        self.say_farewell(&reason);
        self.questions.clear();
        self.wire.tell(S2sEvent::Closed(reason));
    }

    /// A new stream on the same connection: a new id, and the old keys mean nothing.
    fn restart(&mut self, leftover: Leftover) {
        self.wire.restart(leftover);
        self.stream_id = next_id(&mut self.seed);
        self.questions.clear();
    }

    fn step(&mut self, state: State, frame: Frame) -> Result<State, Over> {
        match (state, frame) {
            (State::AwaitHeader { channel }, Frame::Header(header)) => {
                self.on_header(channel, header).map_err(Over::Refuse)
            }
            (State::AwaitRestart { channel, peer }, Frame::Header(header)) => {
                self.on_restart(channel, peer, header).map_err(Over::Refuse)
            }
            // What we sent may be acknowledged still.
            (state @ State::Settling { .. }, Frame::Element(element))
                if element.is("a", ns::SM) && self.direction == Direction::Both =>
            {
                self.on_management(&element)?;
                Ok(state)
            }
            (state @ State::Settling { .. }, _) => Ok(state),
            (State::Open { channel, pairs }, Frame::Stanza(stanza)) => {
                self.on_stanza(&pairs, stanza)?;
                Ok(State::Open { channel, pairs })
            }
            (State::Closing { pairs, until }, Frame::Stanza(stanza)) => {
                if let Some(pairs) = &pairs {
                    self.on_stanza(pairs, stanza)?;
                }
                Ok(State::Closing { pairs, until })
            }
            (state, Frame::Stanza(stanza)) => self.on_element(state, &stanza.into_element()),
            (state, Frame::Element(element)) => self.on_element(state, &element),
            (State::Open { .. }, Frame::Footer)
                if self.management.as_ref().is_some_and(|it| it.open_len() > 0) =>
            {
                let until = self.last_heard + self.settle_timeout();
                Ok(State::Settling { reason: CloseReason::PeerClosed, until })
            }
            (_, Frame::Footer) => Err(Over::Peer(CloseReason::PeerClosed)),
            // The framer gives one header per stream.
            (_, Frame::Header(_)) => Err(StreamCondition::BadFormat.into()),
        }
    }

    fn on_element(&mut self, state: State, element: &Element) -> Result<State, Over> {
        if let Some(error) = StreamError::from_element(element) {
            return Err(Over::Peer(CloseReason::PeerRefused(error)));
        }
        if element.has_ns(ns::BIDI) {
            // COMPAT(ejabberd, 24.12): offered or not, some ask; both sides work without.
            let asked = element.is("bidi", ns::BIDI) && self.direction == Direction::Offered;
            if asked && matches!(state, State::Negotiating { .. }) {
                self.direction = Direction::Both;
            }
            return Ok(state);
        }
        let key = KeyElement::read(element).transpose()?;
        match (state, key) {
            (state @ State::Closing { .. }, _) => Ok(state),
            (state @ State::Open { .. }, None) if element.has_ns(ns::SM) => {
                self.on_management(element)?;
                Ok(state)
            }
            (state, Some(key)) => self.on_key_element(state, key),
            (State::Open { .. }, None) => Err(StreamCondition::UnsupportedStanzaType.into()),
            (State::Negotiating { channel, to, claim }, None) => {
                self.negotiate(channel, to, claim, element).map_err(Over::Refuse)
            }
            // The framer gives no element before a header.
            (_, None) => Err(StreamCondition::BadFormat.into()),
        }
    }
}

impl S2sReceiver {
    /// When the stream is left for a silence; not while the peer owes an acknowledgement.
    fn idle_at(&self) -> Option<Instant> {
        let last = self.last_sent.map_or(self.last_heard, |sent| sent.max(self.last_heard));
        let settled = self.management.as_ref().is_none_or(Management::is_settled);
        settled.then(|| last + self.config.limits.idle_timeout)
    }

    fn on_stanza(&mut self, pairs: &Pairs, stanza: RawStanza) -> Result<(), StreamError> {
        let gate = Arc::clone(&self.gate);
        let intake = Intake {
            wire: &mut self.wire,
            management: self.management.as_mut(),
            pairs,
            stream_id: &self.stream_id,
            stanzas: &mut self.stanzas,
            now: self.last_heard,
        };
        intake.take(stanza, |domain| gate.serves(domain))
    }
}

impl Machine for S2sReceiver {
    type Event = S2sEvent;

    fn handle_data(&mut self, data: &[u8], now: Instant) {
        if matches!(self.state, State::Upgrading) {
            let text = "nothing may follow in the clear once TLS is agreed";
            let error = StreamError::new(StreamCondition::PolicyViolation, text);
            return self.close(CloseReason::WeRefused(error));
        }
        self.last_heard = now;
        self.wire.push(data);
        while !matches!(self.state, State::Closed | State::Upgrading) {
            match self.wire.next_frame() {
                Ok(Some(frame)) => self.take_step(|machine, state| machine.step(state, frame)),
                Ok(None) => break,
                Err(error) => self.close(CloseReason::WeRefused(error)),
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return;
        }
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => {}
            State::Open { channel, pairs }
                if self.idle_at().is_none_or(|idle_at| now < idle_at) =>
            {
                self.state = State::Open { channel, pairs };
                self.tick(now);
            }
            State::Settling { reason, until } if now < until => {
                self.state = State::Settling { reason, until };
                self.tick(now);
            }
            State::Settling { reason, .. } => self.finish(reason),
            State::Open { pairs, .. } => {
                // What the peer has on the way must not be lost: the farewell is said, and the
                // connection stays until the peer's own (XEP-0190).
                let pairs = self.management.is_none().then_some(pairs);
                self.say_farewell(&CloseReason::Idle);
                self.questions.clear();
                self.state =
                    State::Closing { pairs, until: now + self.config.limits.write_timeout };
            }
            State::Closing { .. } => self.finish(CloseReason::Idle),
            State::AwaitHeader { .. }
            | State::Negotiating { .. }
            | State::Upgrading
            | State::AwaitRestart { .. } => self.finish(CloseReason::SetupTimeout),
        }
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.close(CloseReason::Disconnected);
    }

    fn handle_shutdown(&mut self, now: Instant) {
        self.settle_or_close(CloseReason::Shutdown, now);
    }

    fn poll_event(&mut self) -> Option<S2sEvent> {
        self.wire.next_event()
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        if let (State::Open { .. }, Some(management)) = (&self.state, &mut self.management) {
            management.ask(&mut self.wire);
        }
        self.wire.next_bytes()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Closed => None,
            State::Open { .. } => {
                let deadline = self.management.as_ref().and_then(Management::deadline);
                deadline.into_iter().chain(self.idle_at()).min()
            }
            State::Settling { until, .. } => {
                let deadline = self.management.as_ref().and_then(Management::deadline);
                Some(deadline.into_iter().fold(*until, Instant::min))
            }
            State::Closing { until, .. } => Some(*until),
            State::AwaitHeader { .. }
            | State::Negotiating { .. }
            | State::Upgrading
            | State::AwaitRestart { .. } => Some(self.setup_deadline),
        }
    }

    fn wants_upgrade(&self) -> bool {
        matches!(self.state, State::Upgrading)
    }

    fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }
}

pub(super) fn next_id(seed: &mut Seed) -> StreamId {
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(seed.next_bytes()) {
        *to = from;
    }
    StreamId::from_random(id)
}

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gatehouse_identity::{AuthenticatedPeer, TlsFacts};
use gatehouse_types::{Domain, Local, Machine, Remote, StreamId, StreamLimits};
use minidom::Element;

use super::intake::Intake;
use super::key::{KeyContent, KeyElement, KeyKind};
use super::management::{Heard, Management};
use super::pairs::Pairs;
use super::peer_limits::PeerLimits;
use super::receiver::next_id;
use super::wire::{Channel, Wire};
use super::{Authentication, Bidi, DialbackQuestion, S2sEvent, Sent, Terms, TooLong};
use crate::dialback::DialbackSecret;
use crate::framing::{Frame, Leftover, RawStanza, StreamHeader};
use crate::stream::CloseReason;
use crate::{Entry, Seed, Stanza, StanzaCondition, StreamCondition, StreamError, ns};

mod negotiation;

/// What all initiators share.
#[derive(Clone, Debug)]
pub struct InitiatorConfig {
    /// Bounds.
    pub limits: StreamLimits,
    /// For making dialback keys.
    pub dialback_secret: DialbackSecret,
    /// Whether to ask for stanzas to come back on our streams.
    pub bidi: Bidi,
}

/// Why we dial.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// To send stanzas.
    Stanzas,
    /// To ask an authoritative server about a key (XEP-0220, section 2.3); no authentication.
    VerifyKey(DialbackQuestion),
}

/// The initiating side of an S2S stream: we dialled the partner.
///
/// The responder is always verified: with [`Terms`] that ask for a certificate the stream opens
/// only if the responder's certificate proves its domain.
pub struct S2sInitiator {
    config: Arc<InitiatorConfig>,
    from: Local<Domain>,
    to: Remote<Domain>,
    purpose: Purpose,
    terms: Terms,
    wire: Wire,
    state: State,
    setup_deadline: Instant,
    /// When the stream opened or last carried a stanza.
    last_sent: Instant,
    heard_at: Instant,
    /// What the responder's features said last.
    limits: PeerLimits,
    /// Once we have asked for it, and until the responder cannot do it.
    management: Option<Management>,
    /// True once we have asked that stanzas come back on this stream (XEP-0288).
    bidi: bool,
    /// For whom they may: the domain that was proved to be there. Nobody before the stream is open.
    pairs: Pairs,
    /// Of our own, for the ids of stanzas.
    stream_id: StreamId,
    stanzas: u64,
}

/// How far the stream has come. Each state holds what is true in it.
enum State {
    /// Our header is out; the responder's must come.
    AwaitHeader { session: Session },
    /// The headers are exchanged; features must come.
    AwaitFeatures { session: Session, stream: ResponderStream },
    /// `<starttls/>` is out.
    AwaitProceed,
    /// The responder said `<proceed/>`.
    Upgrading,
    /// `<auth mechanism='EXTERNAL'/>` is out.
    AwaitSasl { session: Session, stream: ResponderStream },
    /// `<success/>` came and our new header is out; the responder's and its features must come.
    AwaitRestart { peer: AuthenticatedPeer, heard: Restarted },
    /// Our dialback key is out.
    AwaitResult { session: Session },
    /// The question is out.
    AwaitVerdict,
    /// Stanzas may go.
    Open,
    /// The responder said its farewell; ours waits until all that came is done with, so that the
    /// responder learns what it need not send again.
    Settling { until: Instant },
    /// We said our farewell; the responder may still have one.
    Closing { until: Instant },
    /// Over.
    Closed,
}

/// What carries the stream, and what it proved about the responder.
struct Session {
    channel: Channel,
    /// By certificate; nothing without one that proves its domain.
    responder: Option<AuthenticatedPeer>,
}

/// What the responder's header said.
struct ResponderStream {
    id: Option<String>,
    dialback: DialbackOffer,
}

/// Whether the responder takes dialback keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum DialbackOffer {
    Offered,
    Absent,
}

/// How far the stream after SASL has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Restarted {
    /// No header yet.
    Nothing,
    /// A header, no features.
    Header,
}

impl S2sInitiator {
    /// A connection from `from` to `to` that has just been made.
    #[expect(clippy::too_many_arguments, reason = "each is a fact of its own")]
    pub fn new(
        config: Arc<InitiatorConfig>,
        from: Local<Domain>,
        to: Remote<Domain>,
        purpose: Purpose,
        terms: Terms,
        entry: Entry,
        mut seed: Seed,
        now: Instant,
    ) -> Self {
        let mut machine = Self {
            wire: Wire::new(&config.limits),
            state: State::Closed,
            setup_deadline: now + config.limits.setup_timeout,
            last_sent: now,
            heard_at: now,
            limits: PeerLimits::default(),
            management: None,
            bidi: false,
            pairs: Pairs::default(),
            stream_id: next_id(&mut seed),
            stanzas: 0,
            config,
            from,
            to,
            purpose,
            terms,
        };
        match entry {
            Entry::StartTls => {
                let session = Session { channel: Channel::Plain, responder: None };
                machine.send_header();
                machine.state = State::AwaitHeader { session };
            }
            Entry::Direct(facts) => machine.begin_tls(facts),
        }
        machine
    }

    /// The upgrade that [`Machine::wants_upgrade`] asked for is done.
    pub fn handle_tls(&mut self, facts: TlsFacts, _now: Instant) {
        if matches!(self.state, State::Upgrading) {
            self.wire.restart(Leftover::Drop);
            self.begin_tls(facts);
        }
    }

    /// Writes a stanza; only once opened. The bytes are in the next `poll_transmit`.
    pub fn send(&mut self, stanza: &Stanza, now: Instant) -> Result<Sent, TooLong> {
        if !matches!(self.state, State::Open) {
            return Ok(Sent::Uncounted);
        }
        let bytes_max = self.limits.bytes_max.unwrap_or(usize::MAX);
        let bytes = self.wire.write_stanza(stanza, bytes_max).ok_or(TooLong { bytes_max })?;
        self.last_sent = now;
        let Some(management) = &mut self.management else { return Ok(Sent::Uncounted) };
        management.sent(bytes, now);
        Ok(Sent::Counted)
    }

    /// True while the responder takes stanzas.
    pub fn takes_stanzas(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// True if stanzas may come back on this stream (XEP-0288), or could until it ended.
    pub fn is_bidirectional(&self) -> bool {
        self.bidi && !self.pairs.is_empty()
    }

    /// The stanza with this number, from [`S2sEvent::Stanza`], is handed on, stored or answered.
    pub fn handled(&mut self, number: u64, now: Instant) {
        let Some(management) = &mut self.management else { return };
        if matches!(self.state, State::Closed | State::Closing { .. }) {
            return;
        }
        management.handled(number, &mut self.wire, now);
        if matches!(self.state, State::Settling { .. }) && !self.owes() {
            self.finish(CloseReason::PeerClosed);
        }
    }

    /// True while stanzas that came are not [`handled`](Self::handled).
    pub fn owes(&self) -> bool {
        self.management.as_ref().is_some_and(|management| management.open_len() > 0)
    }

    /// The responder was not read from until now, so its acknowledgements could not be heard
    /// earlier.
    pub fn excuse_silence(&mut self, now: Instant) {
        if let Some(management) = &mut self.management {
            management.excuse(now);
        }
    }

    /// True if the responder acknowledges stanzas ([`S2sEvent::Acknowledged`]): until it has, it is
    /// not known whether it took one. It may turn out later that it does not.
    pub fn is_managed(&self) -> bool {
        self.management.is_some()
    }

    /// True if another stanza may be sent before the next acknowledgement.
    pub fn has_room(&self) -> bool {
        self.management.as_ref().is_none_or(Management::has_room)
    }

    /// Judges the responder before a word is said to it.
    fn begin_tls(&mut self, facts: TlsFacts) {
        let channel = Channel::Tls(facts);
        let responder = match (channel.judge(&self.to), self.terms.authentication) {
            (Some(Ok(peer)), _) => Some(peer),
            (Some(Err(error)), Authentication::Certificate) => {
                let to = &self.to.0;
                return self.finish(CloseReason::NoAgreement(format!(
                    "whoever answers for {to} did not prove to be it: {error}"
                )));
            }
            (_, Authentication::Certificate | Authentication::CertificateOrDialback) => None,
        };
        self.send_header();
        self.state = State::AwaitHeader { session: Session { channel, responder } };
    }

    /// When the stream is left for a silence; with a stanza on its way there is none.
    fn idle_at(&self) -> Option<Instant> {
        let settled = self.management.as_ref().is_none_or(Management::is_settled);
        let idle = self.limits.idle(self.config.limits.idle_timeout);
        settled.then(|| self.last_sent + idle)
    }

    fn send_header(&mut self) {
        self.wire.write_header(&StreamHeader {
            from: Some(self.from.0.to_unicode().into_owned()),
            to: Some(self.to.0.to_unicode().into_owned()),
            id: None,
            version: None,
            lang: Some("en".to_owned()),
        });
    }

    /// Takes the state, and puts the next one in its place.
    fn take_step(&mut self, frame: Frame) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        let closing = matches!(state, State::Closing { .. });
        match self.step(state, frame) {
            Ok(next) => self.state = next,
            // The owner knows already.
            Err(_) if closing => {}
            Err(reason) => self.finish(reason),
        }
    }

    fn close(&mut self, reason: CloseReason) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed | State::Closing { .. } => {}
            _ => self.finish(reason),
        }
    }

    fn finish(&mut self, reason: CloseReason) {
        // The last word is how far we have come.
        if let (true, Some(management)) = (self.bidi, &mut self.management)
            && management.counts()
        {
            management.acknowledge(&mut self.wire);
        }
        self.wire.say_farewell(&reason);
        self.wire.tell(S2sEvent::Closed(reason));
        self.state = State::Closed;
    }

    fn open(&mut self, peer: AuthenticatedPeer) -> State {
        let (local, rule) = (self.from.clone(), String::new());
        if self.bidi {
            self.wire.allow_bytes(self.config.limits.stanza_bytes_max);
            self.pairs.insert(peer.clone(), local.clone());
        }
        self.wire.tell(S2sEvent::Opened { peer, local, rule });
        State::Open
    }

    fn step(&mut self, state: State, frame: Frame) -> Result<State, CloseReason> {
        match (state, frame) {
            (State::Open, Frame::Footer) if self.owes() => {
                let until = self.heard_at + self.config.limits.write_timeout / 3;
                Ok(State::Settling { until })
            }
            (state @ State::Settling { .. }, _) => Ok(state),
            (_, Frame::Footer) => Err(CloseReason::PeerClosed),
            (state, Frame::Header(header)) => self.on_header(state, header),
            (state @ (State::Open | State::Closing { .. }), Frame::Element(element))
                if self.bidi && !element.has_ns(ns::SM) && !element.has_ns(ns::STREAM) =>
            {
                self.on_return(&element).map_err(CloseReason::WeRefused)?;
                Ok(state)
            }
            (state @ (State::Open | State::Closing { .. }), Frame::Stanza(stanza)) if self.bidi => {
                self.on_stanza(&state, stanza).map_err(CloseReason::WeRefused)?;
                Ok(state)
            }
            (state, Frame::Stanza(stanza)) => self.on_element(state, &stanza.into_element()),
            (state, Frame::Element(element)) => self.on_element(state, &element),
        }
    }

    fn on_element(&mut self, state: State, element: &Element) -> Result<State, CloseReason> {
        if let Some(error) = StreamError::from_element(element) {
            return Err(CloseReason::PeerRefused(error));
        }
        if element.has_ns(ns::SM) && matches!(state, State::Open | State::Closing { .. }) {
            self.on_management(&state, element).map_err(CloseReason::WeRefused)?;
            return Ok(state);
        }
        match state {
            State::AwaitFeatures { session, stream } => self.on_features(session, stream, element),
            State::AwaitProceed => self.on_starttls_answer(element),
            State::AwaitSasl { session, stream } => self.on_sasl_answer(session, stream, element),
            State::AwaitRestart { peer, heard: Restarted::Header } if is_features(element) => {
                self.limits = PeerLimits::of(element);
                if element.has_child("sm", ns::SM) {
                    let patience = self.config.limits.write_timeout;
                    self.management = Some(Management::request(&mut self.wire, patience));
                }
                Ok(self.open(peer))
            }
            State::AwaitResult { session } => self.on_result(session, element),
            State::AwaitVerdict => self.on_verdict(element),
            // Without bidi, stanzas flow from the initiator only: what comes here is nobody's.
            state => Ok(state),
        }
    }

    /// What comes back on a stream that carries stanzas in both directions, and is no stanza.
    fn on_return(&mut self, element: &Element) -> Result<(), StreamError> {
        let Some(key) = KeyElement::read(element).transpose()? else {
            return Err(StreamCondition::UnsupportedStanzaType.into());
        };
        self.on_key(&key);
        Ok(())
    }

    /// A stanza that comes back.
    fn on_stanza(&mut self, state: &State, stanza: RawStanza) -> Result<(), StreamError> {
        // With stream management, what crosses our farewell is left to the responder: it could not
        // be acknowledged any more.
        let taken = matches!(state, State::Open) || self.management.is_none();
        if !taken {
            return Ok(());
        }
        self.last_sent = self.heard_at;
        let from = &self.from.0;
        let intake = Intake {
            wire: &mut self.wire,
            management: self.management.as_mut(),
            pairs: &self.pairs,
            stream_id: &self.stream_id,
            stanzas: &mut self.stanzas,
            now: self.heard_at,
        };
        intake.take(stanza, |domain| domain == from)
    }

    /// The responder asks over our stream whether a key of ours is ours, as it may; what would open
    /// another pair is refused.
    fn on_key(&mut self, key: &KeyElement) {
        let answer = match (key.kind, &key.content) {
            (KeyKind::Verify, KeyContent::Key(_)) if key.to != self.from.0 => KeyContent::Error(
                StanzaCondition::ItemNotFound,
                format!("this stream is for {}", self.from.0),
            ),
            (KeyKind::Verify, KeyContent::Key(text)) => {
                let id = key.id.as_deref().unwrap_or_default();
                if self.config.dialback_secret.is_valid(text, &key.from, &key.to, id) {
                    KeyContent::Valid
                } else {
                    KeyContent::Invalid
                }
            }
            (KeyKind::Result, KeyContent::Key(_)) => KeyContent::Error(
                StanzaCondition::NotAcceptable,
                "this stream is for one pair of domains; open another".to_owned(),
            ),
            (_, KeyContent::Valid | KeyContent::Invalid | KeyContent::Error(..)) => return,
        };
        self.wire.write(&key.answer(answer).to_element());
    }

    fn on_management(&mut self, state: &State, element: &Element) -> Result<(), StreamError> {
        // Nobody asked for it; the stream does without.
        let Some(management) = &mut self.management else { return Ok(()) };
        // After our farewell we only listen.
        if !matches!(state, State::Open) && element.name() != "a" {
            return Ok(());
        }
        match management.heard(element, &mut self.wire, self.heard_at)? {
            Heard::Nothing | Heard::Acknowledged(0) => {}
            Heard::Acknowledged(len) => self.wire.tell(S2sEvent::Acknowledged(len)),
            Heard::Failed => self.management = None,
        }
        Ok(())
    }
}

impl Machine for S2sInitiator {
    type Event = S2sEvent;

    fn handle_data(&mut self, data: &[u8], now: Instant) {
        if matches!(self.state, State::Upgrading) {
            return self.close(CloseReason::WeRefused(clear_after_proceed()));
        }
        if !matches!(self.state, State::Open) {
            self.last_sent = now;
        }
        self.heard_at = now;
        self.wire.push(data);
        while !matches!(self.state, State::Closed | State::Upgrading) {
            match self.wire.next_frame() {
                Ok(Some(frame)) => self.take_step(frame),
                Ok(None) => break,
                Err(error) => self.close(CloseReason::WeRefused(error)),
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Closed => {}
            State::Open => {
                let tick = self.management.as_mut().map(|it| it.tick(&mut self.wire, now));
                if let Some(Err(gone)) = tick {
                    return self.close(CloseReason::WeRefused(gone.into()));
                }
                if self.idle_at().is_none_or(|idle_at| now < idle_at) {
                    return;
                }
                // The owner sends nothing more; the connection stays for what is on its way, until
                // the responder says its farewell too (XEP-0190).
                self.finish(CloseReason::Idle);
                self.state = State::Closing { until: now + self.config.limits.write_timeout };
            }
            State::Settling { .. } => self.finish(CloseReason::PeerClosed),
            State::Closing { .. } => self.state = State::Closed,
            _ => self.close(CloseReason::SetupTimeout),
        }
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.close(CloseReason::Disconnected);
    }

    fn handle_shutdown(&mut self, _now: Instant) {
        self.close(CloseReason::Shutdown);
    }

    fn poll_event(&mut self) -> Option<S2sEvent> {
        self.wire.next_event()
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        if let (State::Open, Some(management)) = (&self.state, &mut self.management) {
            management.ask(&mut self.wire);
        }
        self.wire.next_bytes()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Closed => None,
            State::Open => {
                let deadline = self.management.as_ref().and_then(Management::deadline);
                deadline.into_iter().chain(self.idle_at()).min()
            }
            State::Closing { until } | State::Settling { until } => Some(until),
            _ => Some(self.setup_deadline),
        }
    }

    fn wants_upgrade(&self) -> bool {
        matches!(self.state, State::Upgrading)
    }

    fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }
}

fn clear_after_proceed() -> StreamError {
    let text = "nothing may follow in the clear once TLS is agreed";
    StreamError::new(StreamCondition::PolicyViolation, text)
}

fn is_features(element: &Element) -> bool {
    element.is("features", ns::STREAM)
}

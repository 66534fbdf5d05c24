use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use gatehouse_identity::TlsFacts;
use gatehouse_types::{Domain, Jid, Local, Machine, StreamId};
use minidom::Element;

use super::liveness::{Overdue, ping};
use super::session::unknown_element;
use super::state::{Reading, Stage, State};
use super::{C2sConfig, C2sEvent};
use crate::framing::{ContentNamespace, Frame, Framer, Leftover, StreamHeader};
use crate::framing::{write_element, write_error, write_footer, write_header};
use crate::sasl::ScramKeys;
use crate::stream::CloseReason;
use crate::{Entry, Seed, Stanza, StanzaCondition, StreamCondition, StreamError, ns};

/// One client's stream.
///
/// The machine does TLS, SASL and binding, stamps `from` on every stanza and refuses stanzas
/// before binding. It answers nothing else: routing is the owner's.
///
/// While it waits for [`credentials`](Self::credentials) or [`bind`](Self::bind) it keeps what the
/// client sends, within the limits, and reads it afterwards.
pub struct C2sServer {
    pub(super) config: Arc<C2sConfig>,
    pub(super) seed: Seed,
    pub(super) framer: Framer,
    pub(super) state: State,
    stream_id: StreamId,
    /// Stanzas of the current stream, for their ids.
    pub(super) stanzas: u64,
    header: HeaderSent,
    /// Who the client says it is in its header; a claim, only ever said back to it.
    greeted: Option<Jid>,
    pub(super) out: BytesMut,
    /// Each with how many stanzas of a managed stream had come by then, that one included.
    pub(super) events: VecDeque<(C2sEvent, u32)>,
    /// Stanzas of a managed stream that came, modulo 2^32.
    pub(super) received: u32,
    /// And the number of the last event that was taken.
    pub(super) taken: u32,
    setup_deadline: Instant,
    /// Bytes that came while the owner was asked something.
    held_bytes: usize,
}

/// Whether our header of the current stream went out: an error before it needs one first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum HeaderSent {
    No,
    Yes,
}

impl C2sServer {
    /// A connection that has just been accepted.
    pub fn new(config: Arc<C2sConfig>, entry: Entry, mut seed: Seed, now: Instant) -> Self {
        let stage = match entry {
            Entry::StartTls => Stage::Clear,
            Entry::Direct(facts) => Stage::Encrypted { domain: None, exporter: facts.exporter },
        };
        Self {
            framer: Framer::new(&config.limits, ContentNamespace::Client),
            state: State::AwaitHeader(stage),
            stream_id: next_stream_id(&mut seed),
            stanzas: 0,
            header: HeaderSent::No,
            greeted: None,
            out: BytesMut::new(),
            events: VecDeque::new(),
            received: 0,
            taken: 0,
            setup_deadline: now + config.limits.setup_timeout,
            held_bytes: 0,
            config,
            seed,
        }
    }

    /// The upgrade that [`Machine::wants_upgrade`] asked for is done.
    pub fn handle_tls(&mut self, facts: TlsFacts, _now: Instant) {
        if let State::Upgrading { domain } = &self.state {
            let domain = Some(domain.clone());
            self.restart(Leftover::Drop);
            self.state = State::AwaitHeader(Stage::Encrypted { domain, exporter: facts.exporter });
        }
    }

    /// The stored keys of the account, or an empty list if there is no such account (the client
    /// cannot tell the difference).
    pub fn credentials(&mut self, keys: Vec<ScramKeys>, _now: Instant) {
        self.go_on(|server, state| server.check(state, Some(keys)));
    }

    /// The tokens of the installation that was named; an empty list if there are none, or there is no
    /// such account. Answers [`C2sEvent::Token`].
    pub fn tokens(&mut self, tokens: &[String], _now: Instant) {
        self.go_on(|server, state| server.check_token(state, Some(tokens)));
    }

    /// The stored keys or tokens cannot be looked up at the moment: the client is told to try again later.
    pub fn credentials_unavailable(&mut self, _now: Instant) {
        self.go_on(|server, state| match state {
            State::AwaitTokens { .. } => server.check_token(state, None),
            state => server.check(state, None),
        });
    }

    /// Binds the session to this full address.
    pub fn bind(&mut self, full: Jid, now: Instant) {
        self.go_on(|server, state| server.bound(state, full, now));
    }

    /// Refuses the resource that was asked for; the client may try again.
    pub fn refuse_bind(&mut self, condition: StanzaCondition, text: &str, _now: Instant) {
        self.go_on(|server, state| Ok(server.bind_refused(state, condition, text)));
    }

    /// Writes a stanza to the bound client; gives its length in bytes. Before binding and after the
    /// end there is nobody to write to, and nothing happens.
    pub fn send(&mut self, stanza: &Stanza, _now: Instant) -> usize {
        let before = self.out.len();
        if matches!(self.state, State::Bound(_)) {
            self.write_stanza(stanza);
        }
        self.out.len() - before
    }

    /// Ends the stream with `error` (`conflict`, `system-shutdown`, ...).
    pub fn close_with(&mut self, error: StreamError, _now: Instant) {
        self.refuse(error);
    }

    /// The domain of the client's header, once it came: which certificate to show.
    pub fn requested_domain(&self) -> Option<&Local<Domain>> {
        self.state.domain()
    }

    /// The id of the current stream. There is a new one after TLS and after authentication.
    pub fn stream_id(&self) -> &StreamId {
        &self.stream_id
    }

    /// Reads frames as long as there are whole ones and nothing has to be asked.
    fn pump(&mut self) {
        while self.state.reading() == Reading::Frames {
            match self.framer.next_frame() {
                Ok(Some(frame)) => self.step(|server, state| server.take(state, frame)),
                Ok(None) => {
                    // Nothing is kept now but the beginning of a frame, and the framer bounds that.
                    self.held_bytes = 0;
                    return;
                }
                Err(error) => return self.refuse(error),
            }
        }
    }

    /// The owner answered; what came meanwhile is read now.
    pub(super) fn go_on(
        &mut self,
        take: impl FnOnce(&mut Self, State) -> Result<State, StreamError>,
    ) {
        self.step(take);
        self.pump();
    }

    /// Takes one step out of the current state; an error ends the stream.
    fn step(&mut self, take: impl FnOnce(&mut Self, State) -> Result<State, StreamError>) {
        let state = mem::replace(&mut self.state, State::Closed);
        match take(self, state) {
            Ok(next) => self.state = next,
            Err(error) => self.finish(Some(&error), CloseReason::WeRefused(error.clone())),
        }
    }

    fn take(&mut self, state: State, frame: Frame) -> Result<State, StreamError> {
        match (state, frame) {
            (State::AwaitHeader(stage), Frame::Header(header)) => {
                let from = header.from.as_deref().and_then(|from| from.parse::<Jid>().ok());
                self.greeted = from;
                self.open(stage, &header)
            }
            (_, Frame::Footer) => {
                self.finish(None, CloseReason::PeerClosed);
                Ok(State::Closed)
            }
            (State::Bound(bound), Frame::Stanza(stanza)) => self.stanza(bound, stanza),
            (state, Frame::Stanza(stanza)) => self.take_element(state, &stanza.into_element()),
            (state, Frame::Element(element)) => {
                if let Some(error) = StreamError::from_element(&element) {
                    self.finish(None, CloseReason::PeerRefused(error));
                    return Ok(State::Closed);
                }
                self.take_element(state, &element)
            }
            (_, Frame::Header(_)) => {
                Err(StreamError::new(StreamCondition::BadFormat, "this stream is open already"))
            }
        }
    }

    fn take_element(&mut self, state: State, element: &Element) -> Result<State, StreamError> {
        match state {
            State::AwaitStartTls { domain, failures } => self.start_tls(domain, failures, element),
            State::AwaitAuth(login) => self.authenticate(login, element),
            State::AwaitInitial { login, mechanism } => self.initial(login, mechanism, element),
            State::AwaitProof { login, account, mechanism, proof } => {
                self.prove(login, account, mechanism, proof, element)
            }
            State::AwaitBind(session) if element.has_ns(ns::SM) => {
                self.before_bind(session, element)
            }
            State::AwaitBind(session) => self.request_bind(session, element),
            State::Bound(bound) if !element.has_ns(ns::CLIENT) => self.nonza(bound, element),
            State::Bound(_) => Err(unknown_element()),
            State::AwaitHeader(_)
            | State::Upgrading { .. }
            | State::AwaitKeys { .. }
            | State::AwaitTokens { .. }
            | State::AwaitGrant { .. }
            | State::AwaitResource { .. }
            | State::AwaitResume(_)
            | State::Closed => Err(unexpected(element)),
        }
    }

    /// A new stream begins on the same connection.
    pub(super) fn restart(&mut self, leftover: Leftover) {
        self.framer.restart(leftover);
        self.stream_id = next_stream_id(&mut self.seed);
        self.header = HeaderSent::No;
        self.greeted = None;
    }

    pub(super) fn write(&mut self, element: &Element) {
        write_element(&mut self.out, ContentNamespace::Client, element);
    }

    pub(super) fn write_stanza(&mut self, stanza: &Stanza) {
        stanza.write(&mut self.out, None);
    }

    /// Our header, from `domain`.
    pub(super) fn write_header(&mut self, domain: Option<&Local<Domain>>) {
        self.header = HeaderSent::Yes;
        let header = StreamHeader {
            from: domain.map(|domain| domain.0.to_unicode().into_owned()),
            // RFC 6120, section 4.7.2: whoever says `from` is answered with `to`.
            to: self.greeted.as_ref().map(ToString::to_string),
            id: Some(self.stream_id.to_string()),
            lang: Some("en".to_owned()),
            ..StreamHeader::default()
        };
        write_header(&mut self.out, ContentNamespace::Client, &header);
    }

    pub(super) fn report(&mut self, event: C2sEvent) {
        self.events.push_back((event, self.received));
    }

    fn refuse(&mut self, error: StreamError) {
        let reason = CloseReason::WeRefused(error.clone());
        self.close(Some(&error), reason);
    }

    /// Ends the stream for a reason outside it, in any state.
    fn close(&mut self, error: Option<&StreamError>, reason: CloseReason) {
        match mem::replace(&mut self.state, State::Closed) {
            State::Closed => {}
            // A client in its handshake would take clear text for a broken TLS record.
            State::Upgrading { .. } => self.report(C2sEvent::Closed(reason)),
            _ => self.finish(error, reason),
        }
    }

    /// Says farewell. The state is closed already.
    fn finish(&mut self, error: Option<&StreamError>, reason: CloseReason) {
        if let Some(error) = error {
            if self.header == HeaderSent::No {
                // RFC 6120, section 4.9.1.2: an error, too, stands inside a stream.
                let config = Arc::clone(&self.config);
                self.write_header(config.domains.first());
            }
            write_error(&mut self.out, error);
        }
        write_footer(&mut self.out);
        self.report(C2sEvent::Closed(reason));
    }

    /// How much a client may send while the owner is asked something.
    fn held_bytes_max(&self) -> usize {
        match self.state {
            State::AwaitResource { .. } | State::AwaitResume(_) | State::AwaitGrant { .. } => {
                self.config.limits.stanza_bytes_max
            }
            _ => self.config.limits.unauthenticated_element_bytes_max,
        }
    }

    fn handle_overdue(&mut self, now: Instant) {
        let State::Bound(bound) = &mut self.state else {
            return;
        };
        match bound.liveness.overdue(now) {
            Overdue::NotYet => {}
            Overdue::Ping(_) if bound.managed => self.request_ack(now),
            Overdue::Ping(id) => {
                let from = bound.domain.0.to_unicode();
                let ping = ping(&id, &from, &bound.full.to_string());
                self.write(&ping);
            }
            Overdue::GiveUp => {
                let text = "nothing was heard from this client, not even an answer to a ping";
                let error = StreamError::new(StreamCondition::ConnectionTimeout, text);
                self.close(Some(&error), CloseReason::Idle);
            }
        }
    }
}

impl Machine for C2sServer {
    type Event = C2sEvent;

    fn handle_data(&mut self, data: &[u8], now: Instant) {
        if let State::Bound(bound) = &mut self.state {
            bound.liveness.hear(now);
        }
        match self.state.reading() {
            Reading::Frames => {
                self.framer.push(data);
                self.pump();
            }
            Reading::Held => {
                self.held_bytes = self.held_bytes.saturating_add(data.len());
                if self.held_bytes > self.held_bytes_max() {
                    let text = "too much was sent before the last request was answered";
                    return self.refuse(StreamError::new(StreamCondition::PolicyViolation, text));
                }
                self.framer.push(data);
            }
            Reading::Forbidden => {
                let text = "data came in clear after <starttls/>";
                self.refuse(StreamError::new(StreamCondition::PolicyViolation, text));
            }
            Reading::Ignored => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Closed => {}
            State::Bound(_) => self.handle_overdue(now),
            _ if now >= self.setup_deadline => {
                let text = "no session was established in time";
                let error = StreamError::new(StreamCondition::ConnectionTimeout, text);
                self.close(Some(&error), CloseReason::SetupTimeout);
            }
            _ => {}
        }
    }

    fn handle_eof(&mut self, _now: Instant) {
        if !self.is_closed() {
            self.state = State::Closed;
            self.report(C2sEvent::Closed(CloseReason::Disconnected));
        }
    }

    fn handle_shutdown(&mut self, _now: Instant) {
        let error = StreamError::from(StreamCondition::SystemShutdown);
        self.close(Some(&error), CloseReason::Shutdown);
    }

    fn poll_event(&mut self) -> Option<C2sEvent> {
        let Some((event, received)) = self.events.pop_front() else {
            // An idle stream keeps no room.
            self.events = VecDeque::new();
            return None;
        };
        self.taken = received;
        Some(event)
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        // All of it, so that an idle stream keeps no room.
        (!self.out.is_empty()).then(|| mem::take(&mut self.out).freeze())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Closed => None,
            State::Bound(bound) => Some(bound.liveness.deadline()),
            _ => Some(self.setup_deadline),
        }
    }

    fn wants_upgrade(&self) -> bool {
        matches!(self.state, State::Upgrading { .. })
    }

    fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }
}

/// What a first-level element gets that does not belong where it stands.
pub(super) fn unexpected(element: &Element) -> StreamError {
    let is_stanza = matches!(element.name(), "message" | "presence" | "iq");
    if is_stanza && element.has_ns(ns::CLIENT) {
        let text = "stanzas may be sent once a resource is bound, not before";
        return StreamError::new(StreamCondition::NotAuthorized, text);
    }
    let text = "this element is unknown, or has no place at this point of the stream";
    StreamError::new(StreamCondition::UnsupportedStanzaType, text)
}

fn next_stream_id(seed: &mut Seed) -> StreamId {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(seed.next_bytes()) {
        *to = from;
    }
    StreamId::from_random(bytes)
}

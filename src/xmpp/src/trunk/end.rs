use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use gatehouse_identity::{AuthenticatedPeer, Presented, TlsFacts, prove};
use gatehouse_types::{Domain, Machine, Remote};
use minidom::Element;

use super::accepting::{self, Accepting, Wish};
use super::dialling::{self, Dialling, Memory};
use super::flow::{Flow, Gone};
use super::wire::{self, Signal};
use super::{Continuity, TrunkConfig, TrunkEvent};
use crate::framing::{
    ContentNamespace, Frame, Framer, Leftover, StreamHeader, write_error, write_footer,
    write_header,
};
use crate::sm::{Arrival, HandledCountTooHigh, Session};
use crate::stream::CloseReason;
use crate::{Seed, Stanza, StreamCondition, StreamError};

/// One end of a trunk stream. `T` is what its owner sends.
pub struct TrunkEnd<T> {
    config: Arc<TrunkConfig>,
    state: State,
    flow: Flow<T>,
    framer: Framer,
    out: BytesMut,
    events: VecDeque<TrunkEvent<T>>,
    presented: Presented,
    seed: Seed,
    peer: Option<Domain>,
    header_sent: HeaderSent,
    deadline: Instant,
    /// Bytes that came while the owner was deciding.
    unread: usize,
}

enum State {
    Dialling(Dialling),
    Accepting(Accepting),
    Open,
    /// Our farewell is out; the peer's is awaited.
    Closing,
    Closed,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum HeaderSent {
    Yes,
    No,
}

/// Why a stream cannot go on.
enum Fault {
    /// The peer is told.
    Stream(StreamError),
    /// The peer is told in the words of XEP-0198.
    Count(HandledCountTooHigh),
    /// The peer is only left.
    Leave(CloseReason),
}

impl<T: AsRef<Stanza>> TrunkEnd<T> {
    /// The end that dialled `peer`; TLS is up. `session` is what the last connection left, or a
    /// fresh one; if it has a name it is resumed, else what it holds is sent on a new one.
    ///
    /// Closes without a word if the peer's certificate does not prove `peer`.
    pub fn dialler(
        config: Arc<TrunkConfig>,
        peer: Domain,
        session: Session<T>,
        facts: TlsFacts,
        seed: Seed,
        now: Instant,
    ) -> Self {
        let state = State::Dialling(Dialling::AwaitHeader);
        let mut end = Self::new(config, state, session, facts, seed, now);
        match prove(&end.presented, &Remote(peer.clone())) {
            Ok(_) => end.write_header(Some(&peer)),
            Err(error) => end.close(CloseReason::NoAgreement(format!("it is not {peer}: {error}"))),
        }
        end.peer = Some(peer);
        end
    }

    /// The end that was dialled; TLS is up. Only [`TrunkConfig::peers`] get in.
    pub fn acceptor(config: Arc<TrunkConfig>, facts: TlsFacts, seed: Seed, now: Instant) -> Self {
        let state = State::Accepting(Accepting::AwaitHeader);
        Self::new(config, state, Session::default(), facts, seed, now)
    }

    fn new(
        config: Arc<TrunkConfig>,
        state: State,
        session: Session<T>,
        facts: TlsFacts,
        seed: Seed,
        now: Instant,
    ) -> Self {
        Self {
            flow: Flow::new(session, config.pace, now),
            framer: Framer::new(&config.limits, ContentNamespace::Server),
            out: BytesMut::new(),
            events: VecDeque::new(),
            presented: facts.presented,
            seed,
            peer: None,
            header_sent: HeaderSent::No,
            deadline: now + config.limits.setup_timeout,
            unread: 0,
            state,
            config,
        }
    }

    /// True if another stanza may be sent: the stream is open and the window has room.
    pub fn has_room(&self) -> bool {
        matches!(self.state, State::Open) && self.flow.session.outbound.has_room(self.config.window)
    }

    /// True if stanzas wait for the peer's acknowledgement.
    pub fn is_owed(&self) -> bool {
        !self.flow.session.outbound.is_empty()
    }

    /// How many stanzas of the peer are not handled yet, those behind a gap included.
    pub fn open_len(&self) -> usize {
        self.flow.session.inbound.open_len()
    }

    /// Sends `item`; only where [`has_room`](Self::has_room). It is kept until acknowledged; on a
    /// stream that is over, for the next session.
    ///
    /// Fails with the item if it is longer than a stanza may be on this stream: the peer, with the
    /// same limits, would close it, and again whenever the item is sent again.
    pub fn send(&mut self, item: T, now: Instant) -> Result<(), T> {
        if matches!(self.state, State::Open) {
            let bytes_max = self.config.limits.stanza_bytes_max;
            return self.flow.send(item, bytes_max, &mut self.out, now);
        }
        self.flow.session.outbound.push(item, 0);
        Ok(())
    }

    /// The stanza with this number was handed on, stored or answered.
    pub fn handled(&mut self, number: u64, now: Instant) {
        if matches!(self.state, State::Open | State::Closing) {
            self.flow.handled(number, &mut self.out, now);
        } else {
            self.flow.session.inbound.handled(number);
        }
    }

    /// The owner could not listen for a while; the peer is not to blame for its silence.
    pub fn forgive_silence(&mut self, now: Instant) {
        self.flow.heard(now);
    }

    /// Answers [`TrunkEvent::Enable`]. What `session` holds is sent first.
    pub fn admit(&mut self, session: Session<T>, now: Instant) {
        if !matches!(self.state, State::Accepting(Accepting::Deciding(_, Wish::New))) {
            return;
        }
        let id = self.seed.next_hex();
        wire::write(&mut self.out, &wire::enabled(&id, self.config.resume_timeout.as_secs()));
        self.flow = Flow::new(session.renew(), self.config.pace, now);
        self.flow.session.id = Some(id);
        self.open(Continuity::New, now);
        self.pump(now);
    }

    /// Answers [`TrunkEvent::Resume`] with the session of that name.
    pub fn resume(&mut self, session: Session<T>, now: Instant) {
        let State::Accepting(Accepting::Deciding(_, Wish::Old { id, h })) = &self.state else {
            return;
        };
        let (id, h) = (id.clone(), *h);
        self.flow = Flow::new(session, self.config.pace, now);
        match self.flow.acknowledged(h, now) {
            Ok(done) => {
                self.events.push_back(TrunkEvent::Acknowledged(done));
                let ours = self.flow.resume();
                wire::write(&mut self.out, &wire::resume("resumed", &id, ours));
                self.open(Continuity::Resumed, now);
                self.pump(now);
            }
            Err(error) => self.fail(Fault::Count(error)),
        }
    }

    /// Answers [`TrunkEvent::Resume`] where there is no such session; the peer may enable a new one.
    pub fn refuse_resume(&mut self, now: Instant) {
        let State::Accepting(Accepting::Deciding(peer, Wish::Old { .. })) = &self.state else {
            return;
        };
        self.state = State::Accepting(Accepting::AwaitSession(peer.clone()));
        wire::write(&mut self.out, &wire::failed());
        self.pump(now);
    }

    /// What the next connection needs. Call it once this one is over.
    pub fn take_session(&mut self) -> Session<T> {
        std::mem::take(&mut self.flow.session)
    }

    fn pump(&mut self, now: Instant) {
        loop {
            if matches!(self.state, State::Closed | State::Accepting(Accepting::Deciding(..))) {
                return;
            }
            let outcome = match self.framer.next_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => self.take(frame, now),
                Err(error) => Err(Fault::Stream(error)),
            };
            if let Err(fault) = outcome {
                self.fail(fault);
            }
        }
    }

    fn take(&mut self, frame: Frame, now: Instant) -> Result<(), Fault> {
        match frame {
            Frame::Footer => {
                self.take_footer();
                Ok(())
            }
            Frame::Element(element) => {
                if let Some(error) = wire::stream_error(&element) {
                    self.close(CloseReason::PeerRefused(error));
                    return Ok(());
                }
                match self.state {
                    State::Open | State::Closing => self.take_on_open(element, now),
                    State::Dialling(state) => {
                        self.dial(state, wire::heard_by_dialler(&element), now)
                    }
                    State::Accepting(_) => self.accept(wire::heard_by_acceptor(&element)),
                    State::Closed => Ok(()),
                }
            }
            Frame::Header(header) => match self.state {
                State::Dialling(state) => {
                    self.check_acceptor(&header)?;
                    self.dial(state, dialling::Heard::Header, now)
                }
                State::Accepting(_) => {
                    let peer = self.judge_dialler(&header)?;
                    self.accept(accepting::Heard::Header(peer))
                }
                State::Open | State::Closing | State::Closed => {
                    Err(StreamError::from(StreamCondition::PolicyViolation).into())
                }
            },
        }
    }

    fn take_footer(&mut self) {
        match self.state {
            State::Closing => self.close(CloseReason::Shutdown),
            State::Open => {
                self.flow.acknowledge(&mut self.out);
                write_footer(&mut self.out);
                self.close(CloseReason::PeerClosed);
            }
            _ => {
                if self.header_sent == HeaderSent::Yes {
                    write_footer(&mut self.out);
                }
                self.close(CloseReason::PeerClosed);
            }
        }
    }

    fn take_on_open(&mut self, element: Element, now: Instant) -> Result<(), Fault> {
        match wire::signal(&element) {
            Signal::Request => self.flow.acknowledge(&mut self.out),
            Signal::Ack { h } => {
                let done = self.flow.acknowledged(h, now).map_err(Fault::Count)?;
                if !done.is_empty() {
                    self.events.push_back(TrunkEvent::Acknowledged(done));
                }
            }
            Signal::Malformed => {
                return Err(StreamError::from(StreamCondition::BadFormat).into());
            }
            // After our farewell nothing is taken any more: what is not counted comes again.
            Signal::None if matches!(self.state, State::Closing) => {}
            Signal::None => self.take_stanza(element, now)?,
        }
        Ok(())
    }

    fn take_stanza(&mut self, element: Element, now: Instant) -> Result<(), Fault> {
        use crate::stanza::InvalidStanza;
        let stanza = match Stanza::from_element(element) {
            Err(InvalidStanza::NotAStanza(name)) => {
                let error = StreamError::new(StreamCondition::UnsupportedStanzaType, name);
                return Err(error.into());
            }
            other => other,
        };
        let Arrival::New(number) = self.flow.arrived() else { return Ok(()) };
        match stanza {
            Ok(mut stanza) => {
                stanza.adopt_trace();
                self.events.push_back(TrunkEvent::Stanza { stanza, number });
            }
            Err(error) => {
                self.flow.handled(number, &mut self.out, now);
                self.events.push_back(TrunkEvent::Discarded(error.to_string()));
            }
        }
        Ok(())
    }

    // --- dialling ---

    /// The acceptor must call itself what its certificate says.
    fn check_acceptor(&self, header: &StreamHeader) -> Result<(), Fault> {
        check_version(header)?;
        let name = header.from.as_deref().and_then(|from| from.parse::<Domain>().ok());
        if name.is_some() && name == self.peer {
            return Ok(());
        }
        Err(StreamError::from(StreamCondition::InvalidFrom).into())
    }

    fn dial(&mut self, state: Dialling, heard: dialling::Heard, now: Instant) -> Result<(), Fault> {
        use dialling::{Deed, Next};
        let seconds = self.config.resume_timeout.as_secs();
        let memory = if self.flow.session.id.is_some() { Memory::Session } else { Memory::None };
        let (next, deed) = state.step(heard, memory).map_err(Fault::Leave)?;
        if let Next::Dialling(next) = next {
            self.state = State::Dialling(next);
        }
        match deed {
            Deed::Nothing => {}
            Deed::Authenticate => wire::write(&mut self.out, &wire::auth()),
            Deed::Restart => {
                self.restart();
                let peer = self.peer.clone();
                self.write_header(peer.as_ref());
            }
            Deed::Resume => {
                let h = self.flow.resume();
                let id = self.flow.session.id.as_deref().unwrap_or_default();
                wire::write(&mut self.out, &wire::resume("resume", id, h));
            }
            Deed::Enable => {
                self.flow.renew();
                wire::write(&mut self.out, &wire::enable(seconds));
            }
            Deed::EnableInstead { h } => {
                // XEP-0198, section 5: a peer that remembers the number but not the rest says so.
                if let Some(h) = h {
                    let done = self.flow.acknowledged(h, now).map_err(Fault::Count)?;
                    self.events.push_back(TrunkEvent::Acknowledged(done));
                }
                self.flow.renew();
                wire::write(&mut self.out, &wire::enable(seconds));
            }
            Deed::GoOn { h } => {
                let done = self.flow.acknowledged(h, now).map_err(Fault::Count)?;
                self.events.push_back(TrunkEvent::Acknowledged(done));
                self.open(Continuity::Resumed, now);
            }
            Deed::Begin { id } => {
                self.flow.session.id = id;
                self.open(Continuity::New, now);
            }
        }
        Ok(())
    }

    // --- accepting ---

    /// Who dials: it must be called by our name, say a name that we know, and prove it.
    fn judge_dialler(&self, header: &StreamHeader) -> Result<AuthenticatedPeer, Fault> {
        check_version(header)?;
        let to = header.to.as_deref().and_then(|to| to.parse::<Domain>().ok());
        if to.as_ref() != Some(&self.config.own) {
            return Err(StreamError::from(StreamCondition::HostUnknown).into());
        }
        let refuse = |why: String| Fault::Leave(CloseReason::NoAgreement(why));
        let from = header.from.as_deref().unwrap_or_default();
        let shown: String = from.chars().take(80).collect();
        let name = from
            .parse::<Domain>()
            .map_err(|_| refuse(format!("`{shown}` is not the name of a node")))?;
        if !self.config.peers.contains(&name) {
            return Err(refuse(format!("{name} is not one of the cores that this edge lets in")));
        }
        prove(&self.presented, &Remote(name.clone()))
            .map_err(|error| refuse(format!("it does not prove to be {name}: {error}")))
    }

    fn accept(&mut self, heard: accepting::Heard) -> Result<(), Fault> {
        use accepting::Deed;
        let State::Accepting(state) = &self.state else { return Ok(()) };
        let (next, deed) = state.clone().step(heard)?;
        match (&deed, &next) {
            (Deed::OfferExternal, Accepting::AwaitAuth(peer)) => {
                let peer = peer.domain().0.clone();
                self.write_header(Some(&peer));
                wire::write(&mut self.out, &wire::mechanisms());
            }
            (Deed::Accept, _) => {
                wire::write(&mut self.out, &wire::success());
                self.restart();
            }
            (Deed::OfferManagement, Accepting::AwaitSession(peer)) => {
                let peer = peer.domain().0.clone();
                self.write_header(Some(&peer));
                wire::write(&mut self.out, &wire::management());
            }
            (Deed::Ask, Accepting::Deciding(peer, Wish::New)) => {
                self.events.push_back(TrunkEvent::Enable(peer.clone()));
            }
            (Deed::Ask, Accepting::Deciding(peer, Wish::Old { id, .. })) => {
                let (peer, id) = (peer.clone(), id.clone());
                self.events.push_back(TrunkEvent::Resume { peer, id });
            }
            (Deed::RefuseMechanism, _) => {
                wire::write(&mut self.out, &wire::auth_failure("invalid-mechanism"));
            }
            (Deed::OfferExternal | Deed::OfferManagement | Deed::Ask, _) => {}
        }
        self.state = State::Accepting(next);
        Ok(())
    }

    // --- both ---

    fn restart(&mut self) {
        self.framer.restart(Leftover::Keep);
        self.framer.set_element_bytes_max(self.config.limits.stanza_bytes_max);
    }

    fn write_header(&mut self, to: Option<&Domain>) {
        let acceptor = matches!(self.state, State::Accepting(_));
        let header = StreamHeader {
            from: Some(self.config.own.as_str().to_owned()),
            to: to.map(|to| to.as_str().to_owned()),
            id: acceptor.then(|| self.seed.next_hex()),
            ..StreamHeader::default()
        };
        write_header(&mut self.out, ContentNamespace::Server, &header);
        self.header_sent = HeaderSent::Yes;
    }

    fn open(&mut self, session: Continuity, now: Instant) {
        self.state = State::Open;
        self.unread = 0;
        self.flow.open(now);
        let resent = self.flow.resend(&mut self.out);
        self.events.push_back(TrunkEvent::Opened { session, resent });
    }

    fn fail(&mut self, fault: Fault) {
        let error = match &fault {
            Fault::Stream(error) => error.clone(),
            Fault::Count(error) => {
                StreamError::new(StreamCondition::UndefinedCondition, error.to_string())
            }
            Fault::Leave(_) => StreamCondition::NotAuthorized.into(),
        };
        // A dialler that leaves says no more than it must.
        let says = !matches!((&fault, &self.state), (Fault::Leave(_), State::Dialling(_)));
        if says && self.header_sent == HeaderSent::No {
            // RFC 6120, section 4.9.1.2: an error comes within a stream.
            self.write_header(None);
        }
        match fault {
            Fault::Count(error) => {
                wire::write(&mut self.out, &wire::handled_count_too_high(error));
            }
            _ if says => write_error(&mut self.out, &error),
            _ => {}
        }
        if self.header_sent == HeaderSent::Yes {
            write_footer(&mut self.out);
        }
        self.close(match fault {
            Fault::Leave(reason) => reason,
            Fault::Stream(_) | Fault::Count(_) => CloseReason::WeRefused(error),
        });
    }

    fn close(&mut self, reason: CloseReason) {
        let open = matches!(self.state, State::Open | State::Closing);
        // Only a connection that broke leaves a session that can be resumed: who says farewell
        // ends it, and who breaks the rules may have counted wrongly.
        if open && !matches!(reason, CloseReason::Disconnected | CloseReason::Idle) {
            self.flow.renew();
        }
        self.state = State::Closed;
        self.events.push_back(TrunkEvent::Closed(reason));
    }
}

impl<T: AsRef<Stanza>> Machine for TrunkEnd<T> {
    type Event = TrunkEvent<T>;

    fn handle_data(&mut self, data: &[u8], now: Instant) {
        match self.state {
            State::Closed => return,
            State::Open => self.flow.heard(now),
            State::Accepting(Accepting::Deciding(..)) => {
                self.unread += data.len();
                if self.unread > self.config.limits.stanza_bytes_max {
                    self.fail(StreamError::from(StreamCondition::ResourceConstraint).into());
                    return;
                }
            }
            _ => {}
        }
        self.framer.push(data);
        self.pump(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Open => {
                if self.flow.tick(&mut self.out, now) == Err(Gone) {
                    self.close(CloseReason::Idle);
                }
            }
            State::Closed => {}
            _ if now < self.deadline => {}
            State::Closing => self.close(CloseReason::Shutdown),
            State::Dialling(_) | State::Accepting(_) => self.close(CloseReason::SetupTimeout),
        }
    }

    fn handle_eof(&mut self, _now: Instant) {
        match self.state {
            State::Closed => {}
            State::Closing => self.close(CloseReason::Shutdown),
            _ => self.close(CloseReason::Disconnected),
        }
    }

    fn handle_shutdown(&mut self, now: Instant) {
        match self.state {
            State::Open => {
                self.flow.acknowledge(&mut self.out);
                write_footer(&mut self.out);
                self.deadline = now + self.config.pace.farewell_max;
                self.state = State::Closing;
            }
            State::Closing | State::Closed => {}
            State::Dialling(_) | State::Accepting(_) => {
                if self.header_sent == HeaderSent::Yes {
                    write_footer(&mut self.out);
                }
                self.close(CloseReason::Shutdown);
            }
        }
    }

    fn poll_event(&mut self) -> Option<TrunkEvent<T>> {
        self.events.pop_front()
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| self.out.split().freeze())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Open => Some(self.flow.deadline()),
            State::Closed => None,
            State::Dialling(_) | State::Accepting(_) | State::Closing => Some(self.deadline),
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }
}

impl<T> std::fmt::Debug for TrunkEnd<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrunkEnd").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl From<StreamError> for Fault {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

fn check_version(header: &StreamHeader) -> Result<(), Fault> {
    match header.version.as_deref() {
        Some(version) if version.starts_with("1.") => Ok(()),
        _ => Err(StreamError::from(StreamCondition::UnsupportedVersion).into()),
    }
}

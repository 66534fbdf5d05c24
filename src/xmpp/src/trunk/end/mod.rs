mod accept;
mod dial;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use gatehouse_identity::{Presented, TlsFacts};
use gatehouse_types::{Domain, Machine};
use minidom::Element;

use super::accepting::{self, Accepting};
use super::dialling::{self, Dialling};
use super::flow::{Flow, Gone};
use super::wire::{self, Signal};
use super::{Continuity, TrunkConfig, TrunkEvent};
use crate::framing::{
    ContentNamespace, Frame, Framer, Leftover, RawStanza, StreamHeader, write_error, write_footer,
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
    /// It is known which stanza ended the stream, so that the session can be resumed without it.
    culprit: Culprit,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Culprit {
    Known,
    Unknown,
}

/// How many times the window's stanzas may have arrived behind one that is open. The sender keeps
/// far below it.
const OPEN_FACTOR: usize = 256;

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
    /// A stanza cannot be read; the peer is told which one it was.
    Stanza(StreamError),
    /// The peer is told in the words of XEP-0198.
    Count(HandledCountTooHigh),
    /// The peer is only left.
    Leave(CloseReason),
}

impl<T: AsRef<Stanza>> TrunkEnd<T> {
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
            culprit: Culprit::Unknown,
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
        // After our farewell not a word more may be written.
        if matches!(self.state, State::Open) {
            self.flow.handled(number, &mut self.out, now);
        } else {
            self.flow.session.inbound.handled(number);
        }
    }

    /// Dialler: tells the peer which domains we serve, in the place of what it was told before. For
    /// a stream that is open; a peer that does not understand it is told nothing. At most
    /// [`ANNOUNCED_MAX`](super::ANNOUNCED_MAX) are told.
    pub fn announce(&mut self, domains: &[Domain]) {
        if matches!(self.state, State::Open) && self.flow.is_extended() {
            let domains = domains.get(..super::ANNOUNCED_MAX).unwrap_or(domains);
            wire::write(&mut self.out, &wire::announcement(domains));
        }
    }

    /// The owner could not listen for a while; the peer is not to blame for its silence.
    pub fn forgive_silence(&mut self, now: Instant) {
        self.flow.heard(now);
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
                Err(error) if matches!(self.state, State::Open) => Err(Fault::Stanza(error)),
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
            Frame::Stanza(stanza) => match self.state {
                State::Open => self.take_stanza(stanza, now),
                // After our farewell nothing is taken any more: what is not counted comes again.
                State::Closing => Ok(()),
                _ => self.take(Frame::Element(stanza.into_element()), now),
            },
            Frame::Element(element) => {
                if let Some(error) = wire::stream_error(&element) {
                    self.close(CloseReason::PeerRefused(error));
                    return Ok(());
                }
                match self.state {
                    State::Open | State::Closing => self.take_on_open(&element, now),
                    State::Dialling(state) => {
                        if wire::offers_ours(&element) {
                            self.flow.extend(now);
                        }
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

    fn take_on_open(&mut self, element: &Element, now: Instant) -> Result<(), Fault> {
        let closing = matches!(self.state, State::Closing);
        match wire::signal(element) {
            Signal::Request if closing => {}
            Signal::Request => self.flow.acknowledge(&mut self.out),
            Signal::Ack { h } => {
                let done = self.flow.acknowledged(h, now).map_err(Fault::Count)?;
                self.tell_acknowledged(done);
            }
            Signal::Beyond { number, len } => {
                let done = self.flow.acknowledged_beyond(number, len, now);
                self.tell_acknowledged(done.map_err(Fault::Count)?);
            }
            Signal::Refused { number } => {
                let refused = self.flow.acknowledged_beyond(number, 1, now).unwrap_or_default();
                for item in refused {
                    self.culprit = Culprit::Known;
                    self.events.push_back(TrunkEvent::Refused(item));
                }
            }
            Signal::Announcement(domains) if !self.config.peers.is_empty() => {
                self.flow.extend(now);
                self.events.push_back(TrunkEvent::Announced(domains));
            }
            Signal::Malformed | Signal::Announcement(_) => {
                return Err(StreamError::from(StreamCondition::BadFormat).into());
            }
            Signal::None | Signal::Skip { .. } if closing => {}
            Signal::Skip { len } => {
                self.check_open_len(len as usize)?;
                self.flow.session.inbound.skipped(len);
            }
            Signal::None => {
                let name = element.name().chars().take(80).collect::<String>();
                let error = StreamError::new(StreamCondition::UnsupportedStanzaType, name);
                return Err(Fault::Stanza(error));
            }
        }
        Ok(())
    }

    fn tell_acknowledged(&mut self, done: Vec<T>) {
        if !done.is_empty() {
            self.events.push_back(TrunkEvent::Acknowledged(done));
        }
    }

    fn check_open_len(&self, more: usize) -> Result<(), Fault> {
        let most = self.config.window.len_max.saturating_mul(OPEN_FACTOR);
        if self.open_len().saturating_add(more) > most {
            return Err(StreamError::from(StreamCondition::ResourceConstraint).into());
        }
        Ok(())
    }

    fn take_stanza(&mut self, stanza: RawStanza, now: Instant) -> Result<(), Fault> {
        self.check_open_len(1)?;
        let Arrival::New(number) = self.flow.arrived() else { return Ok(()) };
        match Stanza::from_raw(stanza) {
            Ok(mut stanza) => {
                stanza.adopt_trace();
                self.events.push_back(TrunkEvent::Stanza { stanza, number });
            }
            Err(refused) => {
                self.flow.handled(number, &mut self.out, now);
                self.events.push_back(TrunkEvent::Discarded(refused.0.to_string()));
            }
        }
        Ok(())
    }

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
            Fault::Stream(error) | Fault::Stanza(error) => error.clone(),
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
                wire::write(&mut self.out, &error.to_element());
            }
            Fault::Stanza(_) if self.flow.is_extended() => {
                let number = self.flow.session.inbound.next();
                self.flow.acknowledge(&mut self.out);
                wire::write(&mut self.out, &wire::refused(number));
                write_error(&mut self.out, &error);
                self.culprit = Culprit::Known;
            }
            _ if says => write_error(&mut self.out, &error),
            _ => {}
        }
        if self.header_sent == HeaderSent::Yes {
            write_footer(&mut self.out);
        }
        self.close(match fault {
            Fault::Leave(reason) => reason,
            Fault::Stream(_) | Fault::Stanza(_) | Fault::Count(_) => CloseReason::WeRefused(error),
        });
    }

    fn close(&mut self, reason: CloseReason) {
        let open = matches!(self.state, State::Open | State::Closing);
        // Only a connection that broke leaves a session that can be resumed, or a stanza that both
        // ends know not to be read: who says farewell ends it, and who breaks the rules may have
        // counted wrongly.
        let goes_on = match reason {
            CloseReason::Disconnected | CloseReason::Idle => true,
            CloseReason::WeRefused(_) | CloseReason::PeerRefused(_) => {
                self.culprit == Culprit::Known
            }
            _ => false,
        };
        if open && !goes_on {
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
        (!self.out.is_empty()).then(|| std::mem::take(&mut self.out).freeze())
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

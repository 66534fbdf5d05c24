use std::time::{Duration, Instant};

use minidom::Element;
use rxml::{Namespace, xml_ncname};

use super::wire::Wire;
use crate::sm::{AckQueue, Arrival, InboundCount, Window};
use crate::{StreamCondition, StreamError, ns};

/// What may be under way on one stream without an acknowledgement. Every stanza of it is kept.
const WINDOW: Window = Window { len_max: 512, bytes_max: 1024 * 1024 };

/// How long an answer to `<r/>` waits for stanzas that are still being handed on, and how often the
/// peer is told about those that are finished later.
const ACK_DELAY: Duration = Duration::from_millis(200);

/// How soon a peer is asked again whose answer brought nothing new.
const ASK_PAUSE: Duration = Duration::from_secs(1);

/// Stream management on one S2S stream (XEP-0198), both directions, without resumption: what is
/// not acknowledged when the stream is lost goes over another one.
///
/// One `<r/>` is under way at a time. It goes out with the stanzas, behind the last of one write,
/// and the next when it was answered; so a burst costs one for each round trip, and a single
/// stanza is not held back.
#[derive(Debug)]
pub(super) struct Management {
    sent: AckQueue<()>,
    received: InboundCount,
    /// The peer counts what it sends from here on.
    counting: bool,
    /// Something was sent since we last asked.
    unasked: bool,
    /// We asked and have no answer yet.
    asked: bool,
    /// How long the peer may leave what it was sent without an acknowledgement.
    patience: Duration,
    answer_by: Option<Instant>,
    /// When to ask again, because an answer brought nothing new.
    ask_at: Option<Instant>,
    /// The peer asked, and not everything was done with when it was told.
    owed: bool,
    ack_at: Option<Instant>,
}

/// What an element of stream management came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// Nothing for the owner.
    Nothing,
    /// The oldest so many stanzas are acknowledged.
    Acknowledged(usize),
    /// The peer cannot do it after all.
    Failed,
}

/// The peer has acknowledged nothing for too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Gone;

impl From<Gone> for StreamError {
    fn from(Gone: Gone) -> Self {
        let text = "what was sent here is not acknowledged";
        Self::new(StreamCondition::ConnectionTimeout, text)
    }
}

impl Management {
    /// The initiator's: asks for stream management. What is sent from here on counts.
    pub(super) fn request(wire: &mut Wire, patience: Duration) -> Self {
        wire.write(&Element::bare("enable", ns::SM));
        Self::new(patience, false)
    }

    /// The receiver's: grants it. Both directions count from here on.
    pub(super) fn grant(wire: &mut Wire, patience: Duration) -> Self {
        wire.write(&Element::bare("enabled", ns::SM));
        Self::new(patience, true)
    }

    fn new(patience: Duration, counting: bool) -> Self {
        Self {
            sent: AckQueue::default(),
            received: InboundCount::default(),
            counting,
            unasked: false,
            asked: false,
            patience,
            answer_by: None,
            ask_at: None,
            owed: false,
            ack_at: None,
        }
    }

    /// True if another stanza may be sent before the next acknowledgement.
    pub(super) fn has_room(&self) -> bool {
        self.sent.has_room(WINDOW)
    }

    /// A stanza of so many bytes was written.
    pub(super) fn sent(&mut self, bytes: usize, now: Instant) {
        self.sent.push((), bytes);
        self.unasked = true;
        self.answer_by.get_or_insert(now + self.patience);
    }

    /// Asks how far the peer is, if there is something new to ask about and no question under way.
    pub(super) fn ask(&mut self, wire: &mut Wire) {
        if self.unasked && !self.asked {
            self.unasked = false;
            self.asked = true;
            wire.write(&Element::bare("r", ns::SM));
        }
    }

    /// A stanza came. Its number, if the peer counts it.
    pub(super) fn arrived(&mut self) -> Option<u64> {
        match self.counting.then(|| self.received.arrived())? {
            Arrival::New(number) => Some(number),
            // There is no resumption.
            Arrival::Repeated => None,
        }
    }

    /// The stanza with this number was handed on, stored or answered.
    pub(super) fn handled(&mut self, number: u64, wire: &mut Wire, now: Instant) {
        if !self.received.handled(number) || !self.owed {
            return;
        }
        if self.received.open_len() == 0 {
            self.acknowledge(wire);
        } else {
            self.ack_at.get_or_insert(now + ACK_DELAY);
        }
    }

    /// Arrived, and not done with.
    pub(super) fn open_len(&self) -> usize {
        self.received.open_len()
    }

    /// Tells the peer how much is done with.
    pub(super) fn acknowledge(&mut self, wire: &mut Wire) {
        self.ack_at = None;
        self.owed = self.received.open_len() > 0;
        let mut ack = Element::bare("a", ns::SM);
        ack.set_attr(Namespace::NONE, xml_ncname!("h").to_owned(), self.received.h().to_string());
        wire.write(&ack);
    }

    /// Takes an element in the namespace of stream management.
    pub(super) fn heard(
        &mut self,
        element: &Element,
        wire: &mut Wire,
        now: Instant,
    ) -> Result<Heard, StreamError> {
        match element.name() {
            "r" if self.received.open_len() == 0 => self.acknowledge(wire),
            "r" => {
                self.owed = true;
                self.ack_at.get_or_insert(now + ACK_DELAY);
            }
            "a" => {
                let h = element.attr("h").and_then(|h| h.parse().ok()).ok_or_else(|| {
                    let text = "an acknowledgement needs a number in `h`";
                    StreamError::new(StreamCondition::BadFormat, text)
                })?;
                return self.acknowledged(h, wire, now);
            }
            "enabled" => self.counting = true,
            "failed" if !self.counting => return Ok(Heard::Failed),
            "enable" => wire.write(&refusal("unexpected-request")),
            "resume" => wire.write(&refusal("item-not-found")),
            _ => return Err(StreamCondition::UnsupportedStanzaType.into()),
        }
        Ok(Heard::Nothing)
    }

    fn acknowledged(
        &mut self,
        h: u32,
        wire: &mut Wire,
        now: Instant,
    ) -> Result<Heard, StreamError> {
        let done = self.sent.acknowledge(h).map_err(|error| {
            wire.note_too_high(error);
            StreamError::new(StreamCondition::UndefinedCondition, error.to_string())
        })?;
        self.asked = false;
        self.ask_at = None;
        if self.sent.is_empty() {
            self.unasked = false;
            self.answer_by = None;
        } else if !done.is_empty() {
            self.unasked = true;
            self.answer_by = Some(now + self.patience);
        } else {
            self.ask_at = Some(now + ASK_PAUSE);
        }
        Ok(Heard::Acknowledged(done.len()))
    }

    /// True once the peer counts what it sends.
    pub(super) fn counts(&self) -> bool {
        self.counting
    }

    /// True if nothing that was sent waits for an acknowledgement.
    pub(super) fn is_settled(&self) -> bool {
        self.sent.is_empty()
    }

    /// We have not read until now: the peer could not have been heard earlier.
    pub(super) fn excuse(&mut self, now: Instant) {
        if self.answer_by.is_some() {
            self.answer_by = Some(now + self.patience);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.answer_by, self.ask_at, self.ack_at].into_iter().flatten().min()
    }

    pub(super) fn tick(&mut self, wire: &mut Wire, now: Instant) -> Result<(), Gone> {
        if self.answer_by.is_some_and(|answer_by| answer_by <= now) {
            return Err(Gone);
        }
        if self.ask_at.is_some_and(|ask_at| ask_at <= now) {
            self.ask_at = None;
            self.unasked = true;
        }
        if self.ack_at.is_some_and(|ack_at| ack_at <= now) {
            self.acknowledge(wire);
        }
        Ok(())
    }
}

/// `<failed/>`: what was asked for is not to be had, and the stream goes on.
pub(super) fn refusal(condition: &str) -> Element {
    let condition = Element::bare(condition, ns::STANZA_ERRORS);
    Element::builder("failed", ns::SM).append(condition).build()
}

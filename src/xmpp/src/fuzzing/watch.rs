//! What every machine owes its owner, whatever it is told.

use std::time::{Duration, Instant};

use gatehouse_types::{Machine, StreamLimits};

use crate::framing::{ContentNamespace, Frame, Framer, Leftover};

/// No deadline lies further ahead than this.
const DEADLINE_MAX: Duration = Duration::from_secs(3600);
/// How often one moment may be a deadline.
const TIMEOUTS_MAX: usize = 4;

/// A machine under watch.
pub(super) struct Watch<M: Machine> {
    pub(super) machine: M,
    pub(super) now: Instant,
    /// What the machine wrote in the last call.
    pub(super) frames: Vec<Frame>,
    is_end: fn(&M::Event) -> bool,
    reader: Reader,
    ended: bool,
    /// How many bytes arrive at once.
    chunk: usize,
    heard: usize,
    said: usize,
    calls: usize,
}

impl<M: Machine> Watch<M> {
    pub(super) fn new(
        machine: M,
        now: Instant,
        (content, manners): (ContentNamespace, Manners),
        is_end: fn(&M::Event) -> bool,
    ) -> Self {
        Self {
            machine,
            now,
            frames: Vec::new(),
            is_end,
            reader: Reader::new(content, manners),
            ended: false,
            chunk: usize::MAX,
            heard: 0,
            said: 0,
            calls: 0,
        }
    }

    /// Lets `act` do something to the machine, and looks at what comes of it.
    pub(super) fn call(&mut self, act: impl FnOnce(&mut M, Instant)) -> Vec<M::Event> {
        self.frames.clear();
        self.calls += 1;
        act(&mut self.machine, self.now);
        let mut events = Vec::new();
        self.drain(&mut events);
        events
    }

    /// The peer says `phrase` and `rest`.
    pub(super) fn hear(&mut self, phrase: &str, rest: &[u8]) -> Vec<M::Event> {
        self.frames.clear();
        let mut events = Vec::new();
        let data = [phrase.as_bytes(), rest].concat();
        for part in data.chunks(self.chunk) {
            self.heard += part.len();
            self.machine.handle_data(part, self.now);
            self.drain(&mut events);
        }
        events
    }

    /// What all owners do; `None` if `act` is none of it.
    pub(super) fn act(&mut self, act: u8, argument: u8) -> Option<Vec<M::Event>> {
        match act {
            b'/' => {
                self.chunk = usize::from(argument).max(1);
                Some(Vec::new())
            }
            b' ' => Some(self.call(|_, _| {})),
            b'w' => Some(self.wait(Duration::from_secs(u64::from(argument).pow(3)))),
            // Too early, or not at all what was asked for.
            b'y' => Some(self.call(M::handle_timeout)),
            b'e' => Some(self.call(M::handle_eof)),
            b's' => Some(self.call(M::handle_shutdown)),
            _ => None,
        }
    }

    /// Time passes; every deadline on the way is kept.
    fn wait(&mut self, time: Duration) -> Vec<M::Event> {
        self.frames.clear();
        let mut events = Vec::new();
        let until = self.now + time;
        for _ in 0..1000 {
            let Some(deadline) = self.machine.poll_timeout().filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(deadline);
            for _ in 0..TIMEOUTS_MAX {
                if self.machine.poll_timeout().is_some_and(|at| at <= self.now) {
                    self.calls += 1;
                    self.machine.handle_timeout(self.now);
                    self.drain(&mut events);
                }
            }
            let next = self.machine.poll_timeout();
            assert!(next.is_none_or(|at| at > self.now), "a deadline that does not pass");
        }
        self.now = until;
        events
    }

    fn drain(&mut self, events: &mut Vec<M::Event>) {
        while let Some(bytes) = self.machine.poll_transmit() {
            assert!(!bytes.is_empty());
            self.said += bytes.len();
            self.reader.read(&bytes, &mut self.frames);
        }
        while let Some(event) = self.machine.poll_event() {
            assert!(!self.ended, "something happened after the end");
            self.ended = (self.is_end)(&event);
            events.push(event);
        }
        let deadline = self.machine.poll_timeout();
        if self.machine.is_closed() {
            assert!(self.ended, "closed without a word to the owner");
            assert!(deadline.is_none() && !self.machine.wants_upgrade(), "restless when closed");
        } else {
            let deadline = deadline.expect("a stream that nothing ends");
            assert!(deadline <= self.now + DEADLINE_MAX, "a stream that nothing ends soon");
        }
        assert!(
            self.said <= 8192 * (self.calls + 1) + 64 * self.heard,
            "{} bytes said for {} heard",
            self.said,
            self.heard
        );
    }
}

/// The peer's ear: what a machine writes must be a stream.
struct Reader {
    framer: Framer,
    over: bool,
    manners: Manners,
}

/// Whether a machine may go on after its farewell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Manners {
    /// Not a word (RFC 6120, section 4.4).
    Strict,
    /// The trunk still acknowledges what it is done with, for whoever listens.
    Acknowledging,
}

/// What each of our headers begins with.
const DECLARATION: &[u8] = b"<?xml";

impl Reader {
    fn new(content: ContentNamespace, manners: Manners) -> Self {
        let limits = StreamLimits {
            unauthenticated_element_bytes_max: 1 << 24,
            depth_max: 1 << 10,
            attributes_max: 1 << 12,
            children_max: 1 << 14,
            ..StreamLimits::default()
        };
        Self { framer: Framer::new(&limits, content), over: false, manners }
    }

    fn read(&mut self, mut data: &[u8], frames: &mut Vec<Frame>) {
        while !data.is_empty() {
            if data.starts_with(DECLARATION) {
                assert!(!self.framer.has_leftover(), "a new stream in the middle of something");
                self.framer.restart(Leftover::Keep);
                self.over = false;
            }
            let end = data
                .windows(DECLARATION.len())
                .skip(1)
                .position(|window| window == DECLARATION)
                .map_or(data.len(), |at| at + 1);
            let (stream, rest) = data.split_at(end);
            self.read_stream(stream, frames);
            data = rest;
        }
    }

    fn read_stream(&mut self, data: &[u8], frames: &mut Vec<Frame>) {
        let text = String::from_utf8_lossy(data);
        if self.over && self.manners == Manners::Acknowledging {
            return;
        }
        assert!(!self.over, "said after the farewell: {text}");
        self.framer.push(data);
        loop {
            match self.framer.next_frame() {
                Ok(Some(frame)) => {
                    assert!(!self.over, "said after the farewell: {text}");
                    self.over = frame == Frame::Footer;
                    frames.push(frame.built());
                }
                Ok(None) => break,
                Err(error) => panic!("nobody can read this ({error}): {text}"),
            }
        }
        assert!(!self.framer.has_leftover(), "half said: {text}");
    }
}

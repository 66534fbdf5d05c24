use bytes::{Buf as _, Bytes, BytesMut};

use super::head::{self, Fault, Head};
use super::{FramingError, Limits, Received};
use crate::{Message, Status};

/// Cuts a stream of bytes (TCP, TLS) into messages; strict, because a framing error is a way to
/// smuggle one request inside another (spec: RFC 3261 section 18.3, RFC 4475).
///
/// Refused, and nothing after it is read: no Content-Length, two different ones (the same twice is
/// refused as well), a signed, negative or overflowing one, a bare LF or CR, a NUL, a line without
/// colon, an empty name, more header lines, longer lines or a longer message than [`Limits`] say.
/// Folded lines are joined by one space; space before the colon is taken. A NUL behind a backslash
/// is legal (RFC 3261 section 25.1) and becomes U+FFFD, so that no value ever holds one.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    buffer: BytesMut,
    /// No head ends before this place of the buffer.
    scanned: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Between messages. After a CRLF another one makes it a ping.
    Between { after_crlf: bool },
    /// The head is read; the body of this length is not there yet.
    Body { head: Box<Result<Head, Fault>>, length: usize },
    /// For ever.
    Dead(FramingError),
}

impl Framer {
    /// A stream's start.
    pub fn new(limits: Limits) -> Self {
        let state = State::Between { after_crlf: false };
        Self { limits, buffer: BytesMut::new(), scanned: 0, state }
    }

    /// Takes bytes in; holds at most one message and what came with it.
    pub fn push(&mut self, data: &[u8]) {
        if !matches!(self.state, State::Dead(_)) {
            self.buffer.extend_from_slice(data);
        }
    }

    /// True if nothing of a next message has come.
    pub fn is_between_messages(&self) -> bool {
        self.buffer.is_empty() && matches!(self.state, State::Between { .. })
    }

    /// The next thing that is there whole.
    ///
    /// # Errors
    /// A framing error, for ever after. Only the first has an answer.
    #[allow(clippy::should_implement_trait, reason = "it can fail and wait")]
    pub fn next(&mut self) -> Result<Option<Received>, FramingError> {
        loop {
            match &self.state {
                State::Dead(error) => return Err(error.clone()),
                State::Body { length, .. } if self.buffer.len() < *length => return Ok(None),
                State::Body { .. } => return Ok(self.finish()),
                State::Between { after_crlf } => {
                    let after_crlf = *after_crlf;
                    if let Some(keepalive) = self.keepalive(after_crlf) {
                        return Ok(Some(keepalive));
                    }
                    if !self.begin()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Takes CRLF between messages.
    fn keepalive(&mut self, after_crlf: bool) -> Option<Received> {
        let (length, received) = match (self.buffer.as_ref(), after_crlf) {
            ([b'\r', b'\n', b'\r', b'\n', ..], false) => (4, Received::Ping),
            ([b'\r', b'\n', ..], true) => (2, Received::Ping),
            ([b'\r', b'\n', ..], false) => (2, Received::Pong),
            _ => return None,
        };
        self.buffer.advance(length);
        self.state = State::Between { after_crlf: matches!(received, Received::Pong) };
        self.release();
        Some(received)
    }

    /// Reads a head, if it is there whole. A lone CR at the start may be half a keep-alive.
    fn begin(&mut self) -> Result<bool, FramingError> {
        if self.buffer.as_ref() == b"\r" {
            return Ok(false);
        }
        let Some(end) = head::end(&self.buffer, self.scanned) else {
            if self.buffer.len() > self.limits.head_max {
                let fault = Fault::new("the head is too long", Status::of(513));
                return Err(self.die(fault, self.limits.head_max));
            }
            self.scanned = self.buffer.len().saturating_sub(3);
            return Ok(false);
        };
        self.scanned = 0;
        if end > self.limits.head_max {
            let fault = Fault::new("the head is too long", Status::of(513));
            return Err(self.die(fault, self.limits.head_max));
        }
        let bytes = self.buffer.split_to(end).freeze();
        let headers = match Head::headers(&bytes, &self.limits) {
            Ok(headers) => headers,
            Err(fault) => return Err(self.die_at(fault, &bytes)),
        };
        let length = match head::content_length(&headers) {
            Ok(Some(length)) if length <= self.limits.body_max => length,
            Ok(Some(_)) => {
                return Err(
                    self.die_at(Fault::new("the body is too long", Status::of(513)), &bytes)
                );
            }
            Ok(None) => return Err(self.die_at(Fault::bad("no Content-Length"), &bytes)),
            Err(fault) => return Err(self.die_at(fault, &bytes)),
        };
        let head = match Head::new(&bytes, headers) {
            Err(fault) if fault.breaks => return Err(self.die_at(fault, &bytes)),
            Err(fault) => Err(fault.answered(&bytes)),
            Ok(head) => Ok(head),
        };
        self.state = State::Body { head: Box::new(head), length };
        Ok(true)
    }

    fn finish(&mut self) -> Option<Received> {
        let between = State::Between { after_crlf: false };
        let State::Body { head, length } = std::mem::replace(&mut self.state, between) else {
            return None;
        };
        let body = self.buffer.split_to(length).freeze();
        self.release();
        Some(match *head {
            Ok(head) => Received::Message(head.with_body(body)),
            Err(fault) => Received::Unusable(fault.into_error()),
        })
    }

    /// A stream that says nothing holds nothing.
    fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    fn die(&mut self, fault: Fault, head: usize) -> FramingError {
        let bytes = self.buffer.split_to(head.min(self.buffer.len())).freeze();
        self.die_at(fault, &bytes)
    }

    fn die_at(&mut self, fault: Fault, head: &Bytes) -> FramingError {
        let error = fault.answered(head).into_error();
        self.buffer = BytesMut::new();
        self.state = State::Dead(FramingError { answer: None, ..error.clone() });
        error
    }

    /// Parses one datagram (UDP, tests): the body ends with the datagram, or where Content-Length
    /// says (a Content-Length beyond the end is refused).
    ///
    /// # Errors
    /// As on a stream; also for what would be [`Received::Unusable`] there.
    pub fn datagram(limits: Limits, data: &[u8]) -> Result<Message, FramingError> {
        let start = data.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        let data = Bytes::copy_from_slice(data.get(start.unwrap_or(data.len())..).unwrap_or(&[]));
        let Some(end) = head::end(&data, 0).filter(|end| *end <= limits.head_max) else {
            return Err(Fault::bad("the head has no end, or is too long")
                .answered(&data)
                .into_error());
        };
        let (bytes, rest) = (data.slice(..end), data.slice(end..));
        let fail = |fault: Fault| fault.answered(&bytes).into_error();
        let headers = Head::headers(&bytes, &limits).map_err(fail)?;
        let length = head::content_length(&headers).map_err(fail)?.unwrap_or(rest.len());
        if length > limits.body_max {
            return Err(fail(Fault::new("the body is too long", Status::of(513))));
        }
        if length > rest.len() {
            return Err(fail(Fault::bad("Content-Length is more than there is")));
        }
        let head = Head::new(&bytes, headers).map_err(fail)?;
        Ok(head.with_body(rest.slice(..length)))
    }
}

impl Fault {
    pub(super) fn into_error(self) -> FramingError {
        FramingError { why: self.why, status: self.status, answer: self.answer }
    }
}

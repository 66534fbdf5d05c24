use crate::{Message, Status};

/// Cuts a stream of bytes (TCP, TLS) into messages; strict, because a framing error is a way to
/// smuggle one request inside another (spec: RFC 3261 section 18.3, RFC 4475).
///
/// Refused, and nothing after it is read: no Content-Length, two different ones (the same twice is
/// refused as well), a signed, negative or overflowing one, a bare LF or CR, a NUL, a line without
/// colon, an empty name, more header lines, longer lines or a longer message than [`Limits`] say.
/// Folded lines are joined by one space; space before the colon is taken.
#[derive(Debug)]
pub struct Framer {
    _limits: Limits,
}

/// Bounds of one message on a stream.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Start line and headers together, in bytes.
    pub head_max: usize,
    /// The body, in bytes.
    pub body_max: usize,
    /// Header lines.
    pub headers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_max: 16 * 1024, body_max: 64 * 1024, headers_max: 128 }
    }
}

/// What a stream said.
#[derive(Debug)]
pub enum Received {
    /// A whole message; its typed headers are not checked yet.
    Message(Message),
    /// CRLF CRLF (RFC 5626 section 3.5.1): answer with CRLF.
    Ping,
    /// CRLF.
    Pong,
}

/// Why the stream cannot be read on: answer where there is an answer, then close.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct FramingError {
    /// What is wrong, without the bytes of the peer.
    pub why: &'static str,
    /// What to answer, for the log; `answer` holds it if the head of a request with a Via, From,
    /// To, Call-ID and CSeq could be read.
    pub status: Status,
    /// The answer, ready to be sent.
    pub answer: Option<Box<Message>>,
}

impl Framer {
    /// A stream's start.
    pub fn new(limits: Limits) -> Self {
        Self { _limits: limits }
    }

    /// Takes bytes in; holds at most one message and what came with it.
    pub fn push(&mut self, data: &[u8]) {
        let _ = data;
        todo!()
    }

    /// True if nothing of a next message has come.
    pub fn is_between_messages(&self) -> bool {
        todo!()
    }

    /// The next thing that is there whole.
    ///
    /// # Errors
    /// A framing error, for ever after.
    #[allow(clippy::should_implement_trait, reason = "it can fail and wait")]
    pub fn next(&mut self) -> Result<Option<Received>, FramingError> {
        todo!()
    }

    /// Parses one datagram (UDP, tests): the body ends with the datagram, or where Content-Length
    /// says (a Content-Length beyond the end is refused).
    pub fn datagram(limits: Limits, data: &[u8]) -> Result<Message, FramingError> {
        let _ = (limits, data);
        todo!()
    }
}

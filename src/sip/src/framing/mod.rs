//! From bytes to messages: where one ends and the next begins.

mod framer;
mod head;

pub use self::framer::Framer;
use crate::{Message, Status};

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
    /// A message whose end is certain and whose start line is not to be used (another version, no
    /// Request-URI). Send its `answer` if it has one, and read on: one user's typing error must
    /// not cut a partner's connection.
    Unusable(FramingError),
    /// CRLF CRLF (RFC 5626 section 3.5.1): answer with CRLF. A peer whose two CRLF come apart is
    /// first told as a [`Pong`](Self::Pong): then both are signs of life.
    Ping,
    /// CRLF.
    Pong,
}

/// Why the stream cannot be read on: answer where there is an answer, then close.
#[derive(Clone, Debug, thiserror::Error)]
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

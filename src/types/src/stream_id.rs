use std::fmt;
use std::sync::Arc;

/// The unguessable id of one stream (RFC 6120, section 4.7.3); also the id under which everything
/// about that stream is logged.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// Makes an id of random bytes drawn by the caller.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            let digits = [byte >> 4, byte & 0x0f].map(|digit| char::from_digit(digit.into(), 16));
            text.extend(digits.into_iter().flatten());
        }
        Self(text.into())
    }

    /// The text form, as it stands in the stream header and in the log.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

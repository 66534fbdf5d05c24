use std::fmt;

use crate::StreamId;

/// The id under which one stanza is logged, from the first byte read to the last byte written, in
/// both roles. Answers that we make carry the id of what they answer.
///
/// It is for logs only: never a secret, never a proof, and nobody outside sees it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct TraceId(u64);

impl TraceId {
    /// No id: the stanza began with ourselves.
    pub const NONE: Self = Self(0);

    /// The id of the `count`th stanza of a stream, from 1.
    pub fn of(stream: &StreamId, count: u64) -> Self {
        /// Odd, so that all counts give different ids (Knuth's multiplicative hashing).
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let seed = stream.as_str().get(..16).and_then(|head| u64::from_str_radix(head, 16).ok());
        Self(seed.unwrap_or_default() ^ count.wrapping_mul(SPREAD))
    }

    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Self)
    }

    /// True for [`NONE`](Self::NONE).
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() { f.write_str("-") } else { write!(f, "{:016x}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_stream_differ_and_can_be_read_again() {
        let stream = StreamId::from_random([7; 16]);
        let ids: Vec<TraceId> = (1..=1000).map(|count| TraceId::of(&stream, count)).collect();
        let unique: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len());
        assert_eq!(TraceId::parse(&ids[0].to_string()), Some(ids[0]));
        for text in ["", "-", "123", "xxxxxxxxxxxxxxxx", "00000000000000001"] {
            assert_eq!(TraceId::parse(text), None, "{text}");
        }
    }
}

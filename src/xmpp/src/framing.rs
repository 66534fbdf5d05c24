//! From bytes to stream headers and first-level elements, and back (RFC 6120, section 4).
//!
//! `rxml` refuses DTDs, processing instructions, comments, entities and other encodings; the
//! limits on bytes, depth, attributes and children are ours. `jabber:server` is mapped to
//! `jabber:client` on the way in and back on the way out, for content that inherits the stream's
//! namespace, so that the rest of the program knows one kind of stanza.

use bytes::BytesMut;
use gatehouse_types::StreamLimits;
use minidom::Element;

use crate::StreamError;

/// The content namespace of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ContentNamespace {
    /// `jabber:client`
    Client,
    /// `jabber:server`
    Server,
}

/// What a stream header says. Addresses are as written: each role judges them by its own rules.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StreamHeader {
    /// `from`
    pub from: Option<String>,
    /// `to`
    pub to: Option<String>,
    /// `id`
    pub id: Option<String>,
    /// `version`; absent means before RFC 6120.
    pub version: Option<String>,
    /// `xml:lang`
    pub lang: Option<String>,
}

/// One step of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// `<stream:stream ...>`
    Header(StreamHeader),
    /// A whole first-level element; content in the stream's namespace is in `jabber:client` now.
    Element(Element),
    /// `</stream:stream>`
    Footer,
}

/// Cuts a stream into frames, however the bytes are cut.
#[derive(Debug)]
pub struct Framer {}

impl Framer {
    /// Starts before the stream header. Elements may have
    /// [`unauthenticated_element_bytes_max`](StreamLimits) bytes until
    /// [`set_element_bytes_max`](Self::set_element_bytes_max) says otherwise.
    pub fn new(limits: &StreamLimits, content: ContentNamespace) -> Self {
        let _ = (limits, content);
        todo!()
    }

    /// Takes bytes from the peer. They are kept until `next_frame` has used them.
    pub fn push(&mut self, data: &[u8]) {
        let _ = data;
        todo!()
    }

    /// The next whole frame, or `None` if more bytes are needed. After an error the stream is dead.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, StreamError> {
        todo!()
    }

    /// True if bytes wait that belong to no finished frame: a STARTTLS or SASL step refuses them.
    pub fn has_leftover(&self) -> bool {
        todo!()
    }

    /// Expects a new stream header next (after TLS, after SASL). Leftover bytes are dropped after
    /// TLS and kept after SASL.
    pub fn restart(&mut self, leftover: Leftover) {
        let _ = leftover;
        todo!()
    }

    /// Changes the byte limit of one element.
    pub fn set_element_bytes_max(&mut self, bytes: usize) {
        let _ = bytes;
        todo!()
    }
}

/// What a restart does with bytes that already came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Leftover {
    /// They came before TLS and must not be believed.
    Drop,
    /// They are the new stream's.
    Keep,
}

/// Writes `<?xml?><stream:stream ...>` with `version='1.0'`, escaped.
pub fn write_header(out: &mut BytesMut, content: ContentNamespace, header: &StreamHeader) {
    let _ = (out, content, header);
    todo!()
}

/// Writes a first-level element; what is in `jabber:client` goes out in the stream's namespace
/// without being declared again, prefixes are declared where they are used.
pub fn write_element(out: &mut BytesMut, content: ContentNamespace, element: &Element) {
    let _ = (out, content, element);
    todo!()
}

/// Writes `</stream:stream>`.
pub fn write_footer(out: &mut BytesMut) {
    out.extend_from_slice(b"</stream:stream>");
}

/// Writes `<stream:error>`.
pub fn write_error(out: &mut BytesMut, error: &StreamError) {
    let _ = (out, error);
    todo!()
}

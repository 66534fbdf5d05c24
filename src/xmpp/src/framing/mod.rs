//! From bytes to stream headers and first-level elements, and back (RFC 6120, section 4).
//!
//! `rxml` refuses DTDs, processing instructions, comments, entities and other encodings; the
//! limits on bytes, depth, attributes and children are ours.
//!
//! # One content namespace inside
//!
//! `jabber:server` and `jabber:client` mean the same inside this program: whatever comes in either
//! of them, declared or inherited, is in `jabber:client` once read, so that no payload can look
//! foreign here and be content for the next hop. On the way out, a stanza and its own children
//! (`body`, `error`, ...) go in the namespace of the stream. A stanza *inside a foreign payload*,
//! such as a forwarded message (XEP-0297), goes out with `xmlns='jabber:client'` written down, as
//! the extensions that carry stanzas ask for, on every kind of stream.

mod attributes;
mod fault;
mod framer;
mod scope;
mod writer;

pub(crate) use self::attributes::{NO_NAMESPACE, plain};
pub use self::framer::Framer;
pub(crate) use self::writer::{Written, write_stanza};
pub use self::writer::{write_element, write_error, write_footer, write_header};
use crate::ns;
use minidom::Element;

/// The content namespace of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ContentNamespace {
    /// `jabber:client`
    Client,
    /// `jabber:server`
    Server,
}

impl ContentNamespace {
    /// The namespace name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => ns::CLIENT,
            Self::Server => ns::SERVER,
        }
    }
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

/// What a restart does with bytes that already came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Leftover {
    /// They came before TLS and must not be believed.
    Drop,
    /// They are the new stream's.
    Keep,
}

#[cfg(test)]
mod passing_on;
#[cfg(test)]
mod tests;

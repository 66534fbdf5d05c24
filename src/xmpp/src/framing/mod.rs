//! From bytes to stream headers and first-level elements, and back (RFC 6120, section 4).
//!
//! One pass over the bytes judges them: UTF-8, XML 1.0 and its namespaces, what XMPP leaves out of
//! them (DTDs, processing instructions, comments, entities), and our limits on bytes, depth,
//! attributes and children. A stanza keeps the bytes that were judged; whoever asks for more than
//! its start tag and the names of its children makes it build a tree of elements. `rxml` reads the
//! same in tests, and must see the same.
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
mod bounds;
mod fault;
mod framer;
mod name;
mod notes;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod oracle;
mod raw;
mod scan;
mod scope;
mod token;
mod tree;
mod writer;

pub(crate) use self::attributes::{NO_NAMESPACE, plain};
pub use self::framer::Framer;
pub(crate) use self::raw::Checked;
pub use self::raw::RawStanza;
pub(crate) use self::writer::{Written, write_checked, write_stanza};
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
    /// A message, presence or IQ; in `jabber:client` now, whatever the stream's namespace is.
    Stanza(RawStanza),
    /// Any other first-level element; content in the stream's namespace is in `jabber:client` now.
    Element(Element),
    /// `</stream:stream>`
    Footer,
}

impl Frame {
    /// The element, its tree built; `None` for the ends of a stream.
    pub fn into_element(self) -> Option<Element> {
        match self {
            Self::Stanza(raw) => Some(raw.into_element()),
            Self::Element(element) => Some(element),
            Self::Header(_) | Self::Footer => None,
        }
    }

    /// The same, with every tree built.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn built(self) -> Self {
        match self {
            Self::Stanza(raw) => Self::Element(raw.into_element()),
            other => other,
        }
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

#[cfg(test)]
mod passing_on;
#[cfg(test)]
mod tests;

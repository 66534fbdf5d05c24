use std::fmt::{self, Write as _};

use bytes::{BufMut as _, BytesMut};
use minidom::{Element, NSChoice, Node};
use rxml::Namespace;

use super::{ContentNamespace, StreamHeader};
use crate::{StreamError, ns};

/// Writes `<?xml?><stream:stream ...>` with `version='1.0'`, escaped.
pub fn write_header(out: &mut BytesMut, content: ContentNamespace, header: &StreamHeader) {
    out.put_slice(b"<?xml version='1.0'?><stream:stream");
    attribute(out, "xmlns", content.as_str());
    attribute(out, "xmlns:stream", ns::STREAM);
    if content == ContentNamespace::Server {
        attribute(out, "xmlns:db", ns::DIALBACK);
    }
    let attributes = [
        ("from", &header.from),
        ("to", &header.to),
        ("id", &header.id),
        ("xml:lang", &header.lang),
    ];
    for (name, value) in attributes {
        if let Some(value) = value {
            attribute(out, name, value);
        }
    }
    attribute(out, "version", "1.0");
    out.put_u8(b'>');
}

/// Writes a first-level element; what is in `jabber:client` goes out in the stream's namespace
/// without being declared again, prefixes are declared where they are used.
///
/// `stream:` and `db:` elements carry the prefixes that the header declares: some peers look at
/// the prefix.
pub fn write_element(out: &mut BytesMut, content: ContentNamespace, element: &Element) {
    if element.has_ns(ns::STREAM) {
        tree(out, "stream:", None, element, DefaultNamespace::Stream);
    } else if content == ContentNamespace::Server && element.has_ns(ns::DIALBACK) {
        tree(out, "db:", None, element, DefaultNamespace::Stream);
    } else {
        nested(out, element, DefaultNamespace::Stream);
    }
}

/// Writes `</stream:stream>`.
pub fn write_footer(out: &mut BytesMut) {
    out.put_slice(b"</stream:stream>");
}

/// Writes `<stream:error>`.
pub fn write_error(out: &mut BytesMut, error: &StreamError) {
    out.put_slice(b"<stream:error><");
    out.put_slice(error.condition.as_str().as_bytes());
    attribute(out, "xmlns", ns::STREAM_ERRORS);
    out.put_slice(b"/>");
    if let Some(sentence) = &error.text {
        out.put_slice(b"<text");
        attribute(out, "xmlns", ns::STREAM_ERRORS);
        attribute(out, "xml:lang", "en");
        out.put_u8(b'>');
        text(out, sentence);
        out.put_slice(b"</text>");
    }
    out.put_slice(b"</stream:error>");
}

/// What an element without a prefix and without `xmlns` would be in.
#[derive(Clone, Copy)]
enum DefaultNamespace<'a> {
    /// The content namespace of the stream, whichever it is.
    Stream,
    /// What an element further out declared.
    Declared(&'a str),
}

/// Writes `element`, declaring its namespace if it is not the `default`.
fn nested(out: &mut BytesMut, element: &Element, default: DefaultNamespace<'_>) {
    if element.has_ns(CONTENT) {
        match default {
            DefaultNamespace::Stream | DefaultNamespace::Declared(ns::CLIENT) => {
                tree(out, "", None, element, default);
            }
            // A stanza that some extension carries.
            DefaultNamespace::Declared(_) => {
                let declared = DefaultNamespace::Declared(ns::CLIENT);
                tree(out, "", Some(ns::CLIENT), element, declared);
            }
        }
        return;
    }
    match default {
        DefaultNamespace::Declared(uri) if element.has_ns(uri) => {
            tree(out, "", None, element, default);
        }
        _ => {
            let uri = element.ns();
            tree(out, "", Some(&uri), element, DefaultNamespace::Declared(&uri));
        }
    }
}

const CONTENT: NSChoice<'static> = NSChoice::AnyOf(&[ns::CLIENT, ns::SERVER]);

/// Writes `element` with `prefix`, an `xmlns` if one must be declared, and its children, for which
/// `default` is in force.
fn tree(
    out: &mut BytesMut,
    prefix: &str,
    declare: Option<&str>,
    element: &Element,
    default: DefaultNamespace<'_>,
) {
    out.put_u8(b'<');
    out.put_slice(prefix.as_bytes());
    out.put_slice(element.name().as_bytes());
    if let Some(uri) = declare {
        attribute(out, "xmlns", uri);
    }
    attributes(out, element);
    let mut nodes = element.nodes().peekable();
    if nodes.peek().is_none() {
        out.put_slice(b"/>");
        return;
    }
    out.put_u8(b'>');
    for node in nodes {
        match node {
            Node::Element(child) => nested(out, child, default),
            Node::Text(content) => text(out, content),
        }
    }
    out.put_slice(b"</");
    out.put_slice(prefix.as_bytes());
    out.put_slice(element.name().as_bytes());
    out.put_u8(b'>');
}

fn attributes(out: &mut BytesMut, element: &Element) {
    // The map keeps the attributes of one namespace together, so one prefix is in use at a time
    // and a new one is declared exactly where the namespace changes.
    let mut current: Option<&Namespace<'static>> = None;
    let mut declared = 0_usize;
    for ((namespace, name), value) in element.attrs() {
        if namespace.is_none() {
            attribute(out, name.as_str(), value);
        } else if *namespace == ns::XML {
            qualified(out, format_args!("xml:{name}"), value);
        } else {
            if current != Some(namespace) {
                current = Some(namespace);
                declared += 1;
                qualified(out, format_args!("xmlns:ns{declared}"), namespace.as_str());
            }
            qualified(out, format_args!("ns{declared}:{name}"), value);
        }
    }
}

fn attribute(out: &mut BytesMut, name: &str, value: &str) {
    out.put_u8(b' ');
    out.put_slice(name.as_bytes());
    quoted(out, value);
}

fn qualified(out: &mut BytesMut, name: fmt::Arguments<'_>, value: &str) {
    // Writing to a buffer that grows cannot fail.
    let _ = write!(out, " {name}");
    quoted(out, value);
}

fn quoted(out: &mut BytesMut, value: &str) {
    out.put_slice(b"='");
    escaped(out, value, |byte| match byte {
        b'\'' => Some(b"&apos;"),
        b'"' => Some(b"&quot;"),
        // As they stand they would be read as spaces (XML 1.0, section 3.3.3).
        b'\t' => Some(b"&#9;"),
        b'\n' => Some(b"&#10;"),
        _ => None,
    });
    out.put_u8(b'\'');
}

fn text(out: &mut BytesMut, content: &str) {
    escaped(out, content, |_| None);
}

/// Writes `content` with what XML reserves as references. What may not stand in XML at all, even
/// as a reference, becomes U+FFFD: it can only come from our own side.
fn escaped(out: &mut BytesMut, content: &str, special: impl Fn(u8) -> Option<&'static [u8]>) {
    let bytes = content.as_bytes();
    out.reserve(bytes.len());
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let (replacement, len): (&[u8], usize) = match byte {
            b'&' => (b"&amp;", 1),
            b'<' => (b"&lt;", 1),
            b'>' => (b"&gt;", 1),
            // As it stands it would be read as a line feed (XML 1.0, section 2.11).
            b'\r' => (b"&#13;", 1),
            b'\'' | b'"' | b'\t' | b'\n' => match special(byte) {
                Some(reference) => (reference, 1),
                None => continue,
            },
            ..=0x1f => ("\u{fffd}".as_bytes(), 1),
            // U+FFFE and U+FFFF.
            0xef if matches!(bytes.get(at..at + 3), Some([_, 0xbf, 0xbe | 0xbf])) => {
                ("\u{fffd}".as_bytes(), 3)
            }
            _ => continue,
        };
        out.put_slice(bytes.get(written..at).unwrap_or_default());
        out.put_slice(replacement);
        written = at + len;
    }
    out.put_slice(bytes.get(written..).unwrap_or_default());
}

use std::fmt::{self, Write as _};

use bytes::{BufMut as _, Bytes, BytesMut};
use gatehouse_types::{Jid, spare};
use minidom::{Element, NSChoice, Node};
use rxml::Namespace;

use super::{Checked, ContentNamespace, StreamHeader};
use crate::{StreamError, ns};

/// Writes `<?xml?><stream:stream ...>` with `version='1.0'`, escaped.
pub fn write_header(out: &mut BytesMut, content: ContentNamespace, header: &StreamHeader) {
    make_room(out);
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
    make_room(out);
    let spelling = Spelling::of(element);
    if element.has_ns(ns::STREAM) {
        tree(out, "stream:", None, element, DefaultNamespace::Stream, spelling);
    } else if content == ContentNamespace::Server && element.has_ns(ns::DIALBACK) {
        tree(out, "db:", None, element, DefaultNamespace::Stream, spelling);
    } else {
        nested(out, element, DefaultNamespace::Stream, spelling);
    }
}

/// What a stanza looks like on any stream, but for its name and addresses: the content namespace is
/// never written down.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The other attributes, the children, the end tag.
    bytes: Bytes,
    /// Where `to` stands among them: attributes are sorted.
    to_at: usize,
}

impl Written {
    /// Of a stanza in the stream's own namespace.
    pub(crate) fn of(element: &Element) -> Self {
        let mut out = BytesMut::with_capacity(256);
        let to_at = attributes_but_addresses(&mut out, element);
        children(&mut out, "", element, DefaultNamespace::Stream, Spelling::of(element));
        Self { bytes: out.freeze(), to_at }
    }
}

/// Writes a stanza as it came, but with these addresses (`from`, `to`) and, if there is one, a
/// `qualified` attribute that brings its own declaration.
pub(crate) fn write_checked(
    out: &mut BytesMut,
    (from, to): (Option<&Jid>, Option<&Jid>),
    qualified: Option<&str>,
    checked: &Checked,
) {
    let passed_on = checked.passed_on();
    make_room(out);
    // Addresses have seldom more.
    out.reserve(passed_on.len() + 160);
    out.put_u8(b'<');
    out.put_slice(checked.kind().as_str().as_bytes());
    if let Some(attribute) = qualified {
        out.put_slice(attribute.as_bytes());
    }
    for (name, jid) in [("from", from), ("to", to)] {
        if let Some(jid) = jid {
            address(out, name, jid);
        }
    }
    out.put_slice(passed_on);
}

/// Writes a stanza with these addresses (`from`, `to`) and, if there is one, a `qualified`
/// attribute that brings its own declaration.
pub(crate) fn write_stanza(
    out: &mut BytesMut,
    name: &str,
    (from, to): (Option<&Jid>, Option<&Jid>),
    qualified: Option<&str>,
    written: &Written,
) {
    make_room(out);
    out.put_u8(b'<');
    out.put_slice(name.as_bytes());
    if let Some(attribute) = qualified {
        out.put_slice(attribute.as_bytes());
    }
    if let Some(from) = from {
        address(out, "from", from);
    }
    let (before, after) = written.bytes.split_at(written.to_at.min(written.bytes.len()));
    out.put_slice(before);
    if let Some(to) = to {
        address(out, "to", to);
    }
    out.put_slice(after);
}

/// What is written first after a silence is seldom alone.
fn make_room(out: &mut BytesMut) {
    if out.capacity() == 0 {
        *out = spare::take();
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
        text(out, sentence, Spelling::Usual);
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
fn nested(
    out: &mut BytesMut,
    element: &Element,
    default: DefaultNamespace<'_>,
    spelling: Spelling,
) {
    if element.has_ns(CONTENT) {
        match default {
            DefaultNamespace::Stream | DefaultNamespace::Declared(ns::CLIENT) => {
                tree(out, "", None, element, default, spelling);
            }
            // A stanza that some extension carries.
            DefaultNamespace::Declared(_) => {
                let declared = DefaultNamespace::Declared(ns::CLIENT);
                tree(out, "", Some(ns::CLIENT), element, declared, spelling);
            }
        }
        return;
    }
    match default {
        DefaultNamespace::Declared(uri) if element.has_ns(uri) => {
            tree(out, "", None, element, default, spelling);
        }
        _ => {
            let uri = element.ns();
            tree(out, "", Some(&uri), element, DefaultNamespace::Declared(&uri), spelling);
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
    spelling: Spelling,
) {
    out.put_u8(b'<');
    out.put_slice(prefix.as_bytes());
    out.put_slice(element.name().as_bytes());
    if let Some(uri) = declare {
        attribute(out, "xmlns", uri);
    }
    attributes(out, element);
    children(out, prefix, element, default, spelling);
}

/// Writes the end of the start tag and all that follows it.
fn children(
    out: &mut BytesMut,
    prefix: &str,
    element: &Element,
    default: DefaultNamespace<'_>,
    spelling: Spelling,
) {
    let mut nodes = element.nodes().peekable();
    if nodes.peek().is_none() {
        out.put_slice(b"/>");
        return;
    }
    out.put_u8(b'>');
    for node in nodes {
        match node {
            Node::Element(child) => nested(out, child, default, spelling),
            Node::Text(content) => text(out, content, spelling),
        }
    }
    out.put_slice(b"</");
    out.put_slice(prefix.as_bytes());
    out.put_slice(element.name().as_bytes());
    out.put_u8(b'>');
}

fn attributes(out: &mut BytesMut, element: &Element) {
    write_attributes(out, element, |_, _| true);
}

/// Gives the place where `to` belongs.
fn attributes_but_addresses(out: &mut BytesMut, element: &Element) -> usize {
    let mut to_at = None;
    write_attributes(out, element, |written, name| {
        if to_at.is_none() && name.is_none_or(|name| name >= "to") {
            to_at = Some(written);
        }
        !matches!(name, Some("from" | "to"))
    });
    to_at.unwrap_or(out.len())
}

/// Writes those that `wanted` says yes to: it gets how much was written so far, and the name if it
/// is in no namespace.
fn write_attributes(
    out: &mut BytesMut,
    element: &Element,
    mut wanted: impl FnMut(usize, Option<&str>) -> bool,
) {
    // The map keeps the attributes of one namespace together, so one prefix is in use at a time
    // and a new one is declared exactly where the namespace changes.
    let mut current: Option<&Namespace<'static>> = None;
    let mut declared = 0_usize;
    for ((namespace, name), value) in element.attrs() {
        if !wanted(out.len(), namespace.is_none().then(|| name.as_str())) {
            continue;
        }
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

/// An address seldom holds anything that XML reserves.
fn address(out: &mut BytesMut, name: &str, jid: &Jid) {
    let before = out.len();
    // Writing to a buffer that grows cannot fail.
    let _ = write!(out, " {name}='{jid}'");
    let start = before + name.len() + " ='".len();
    let written = out.get(start..out.len() - 1).unwrap_or_default();
    if written.iter().any(|byte| is_suspect(*byte)) {
        out.truncate(before);
        attribute(out, name, &jid.to_string());
    }
}

fn qualified(out: &mut BytesMut, name: fmt::Arguments<'_>, value: &str) {
    // Writing to a buffer that grows cannot fail.
    let _ = write!(out, " {name}");
    quoted(out, value);
}

fn quoted(out: &mut BytesMut, value: &str) {
    // The quote that costs less.
    let quotes = value.bytes().fold(0_isize, |more, byte| match byte {
        b'\'' => more + 1,
        b'"' => more - 1,
        _ => more,
    });
    let quote = if quotes <= 0 { b'\'' } else { b'"' };
    out.put_u8(b'=');
    out.put_u8(quote);
    escaped(out, value, Place::Attribute { quote });
    out.put_u8(quote);
}

/// How text is written.
#[derive(Clone, Copy)]
enum Spelling {
    /// As everybody does it, with references.
    Usual,
    /// With CDATA sections where they are shorter.
    Short,
}

/// How many bytes references may add to the text of an element.
const REFERENCES_BYTES_MAX: usize = 16 * 1024;

impl Spelling {
    /// A reference takes up to five times what it stands for, and a CDATA section came with none.
    /// What we pass on must not be much longer than what came, or it would break the next stream.
    fn of(element: &Element) -> Self {
        let (mut added, mut left) = (0_usize, vec![element]);
        while let Some(element) = left.pop() {
            for node in element.nodes() {
                match node {
                    Node::Element(child) => left.push(child),
                    Node::Text(content) => added += references_len(content.as_bytes()),
                }
            }
        }
        if added > REFERENCES_BYTES_MAX { Self::Short } else { Self::Usual }
    }
}

/// How many bytes references add where a CDATA section would need none.
fn references_len(bytes: &[u8]) -> usize {
    let added = |byte: &u8| match byte {
        b'&' => "&amp;".len() - 1,
        b'<' => "&lt;".len() - 1,
        _ => 0,
    };
    bytes.iter().map(added).sum()
}

fn text(out: &mut BytesMut, content: &str, spelling: Spelling) {
    match spelling {
        Spelling::Usual => escaped(out, content, Place::Text),
        Spelling::Short => short_text(out, content),
    }
}

/// Writes `content` in pieces between what a CDATA section cannot hold, each the shorter way.
fn short_text(out: &mut BytesMut, content: &str) {
    let bytes = content.as_bytes();
    let mut start = 0;
    while start < content.len() {
        let breaks = |at: &usize| {
            !matches!(bytes.get(*at), Some(b'&' | b'<'))
                && reference(bytes, *at, Place::Text).is_some()
        };
        let end = (start..bytes.len()).find(breaks).unwrap_or(bytes.len());
        let piece = content.get(start..end).unwrap_or_default();
        if references_len(piece.as_bytes()) > "<![CDATA[]]>".len() {
            out.put_slice(b"<![CDATA[");
            out.put_slice(piece.as_bytes());
            out.put_slice(b"]]>");
        } else {
            escaped(out, piece, Place::Text);
        }
        start = end;
        if let Some((instead, len)) = reference(bytes, end, Place::Text) {
            out.put_slice(instead);
            start += len;
        }
    }
}

#[derive(Clone, Copy)]
enum Place {
    Text,
    Attribute { quote: u8 },
}

/// True for the bytes that [`reference`] may have something to say about: most text has none.
fn is_suspect(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'&' | b'<' | b'>' | b'\'' | b'"' | 0xef)
}

/// Writes `content` with what XML reserves as references.
fn escaped(out: &mut BytesMut, content: &str, place: Place) {
    let bytes = content.as_bytes();
    out.reserve(bytes.len());
    let (mut written, mut at) = (0, 0);
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(plain) = rest.iter().position(|byte| is_suspect(*byte)) else { break };
        at += plain;
        let Some((instead, len)) = reference(bytes, at, place) else {
            at += 1;
            continue;
        };
        out.put_slice(bytes.get(written..at).unwrap_or_default());
        out.put_slice(instead);
        at += len;
        written = at;
    }
    out.put_slice(bytes.get(written..).unwrap_or_default());
}

/// What must be written instead of the bytes at `at`, and of how many. What may not stand in XML at
/// all, even as a reference, becomes U+FFFD: it can only come from our own side.
fn reference(bytes: &[u8], at: usize, place: Place) -> Option<(&'static [u8], usize)> {
    const INVALID: &[u8] = "\u{fffd}".as_bytes();
    let instead: &[u8] = match (*bytes.get(at)?, place) {
        (b'&', _) => b"&amp;",
        (b'<', _) => b"&lt;",
        // Only `]]>` is reserved (XML 1.0, section 2.4). What stands before the text is not known.
        (b'>', Place::Text) => {
            let before = bytes.get(at.saturating_sub(2)..at)?;
            before.iter().all(|byte| *byte == b']').then_some(b"&gt;")?
        }
        // As they stand they would be read as a line feed (XML 1.0, section 2.11) or spaces
        // (section 3.3.3).
        (b'\r', _) => b"&#13;",
        (b'\t', Place::Attribute { .. }) => b"&#9;",
        (b'\n', Place::Attribute { .. }) => b"&#10;",
        (b'\t' | b'\n', Place::Text) => return None,
        (b'\'', Place::Attribute { quote: b'\'' }) => b"&#39;",
        (b'"', Place::Attribute { quote: b'"' }) => b"&#34;",
        (..=0x1f, _) => INVALID,
        // U+FFFE and U+FFFF.
        (0xef, _) if matches!(bytes.get(at..at + 3), Some([_, 0xbf, 0xbe | 0xbf])) => {
            return Some((INVALID, 3));
        }
        _ => return None,
    };
    Some((instead, 1))
}

//! Stanzas as they came.

use std::fmt;

use minidom::Element;

use super::ContentNamespace;
use super::attributes::plain;
use super::notes::{Child, Notes};
use super::scope::Scope;
use super::token::Span;
use super::tree::tree;
use crate::{StanzaKind, ns};

/// A message, presence or IQ in the stream's namespace, judged. Its tree is built when somebody asks.
#[derive(Clone, Debug)]
pub struct RawStanza {
    kind: StanzaKind,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Checked(Checked),
    /// What cannot be passed on as it came.
    Tree(Element),
}

/// What they look like is no part of what two stanzas say.
impl PartialEq for RawStanza {
    fn eq(&self, other: &Self) -> bool {
        self.clone().into_element() == other.clone().into_element()
    }
}

impl RawStanza {
    pub(super) fn checked(checked: Checked) -> Self {
        Self { kind: checked.kind, form: Form::Checked(checked) }
    }

    /// Gives back what is no stanza.
    pub(super) fn tree(element: Element) -> Result<Self, Element> {
        let kind = StanzaKind::of_name(element.name().as_bytes());
        match kind.filter(|_| element.has_ns(ns::CLIENT)) {
            Some(kind) => Ok(Self { kind, form: Form::Tree(element) }),
            None => Err(element),
        }
    }

    /// The kind.
    pub fn kind(&self) -> StanzaKind {
        self.kind
    }

    /// `from`, as it is written.
    pub fn from(&self) -> Option<&str> {
        match &self.form {
            Form::Checked(checked) => checked.word(checked.from),
            Form::Tree(element) => plain(element, "from"),
        }
    }

    /// `to`, as it is written.
    pub fn to(&self) -> Option<&str> {
        match &self.form {
            Form::Checked(checked) => checked.word(checked.to),
            Form::Tree(element) => plain(element, "to"),
        }
    }

    /// The tree, with all attributes as they came.
    pub fn into_element(self) -> Element {
        match self.form {
            Form::Checked(checked) => checked.element(),
            Form::Tree(element) => element,
        }
    }

    /// What it is made of: bytes, or else a tree.
    pub(crate) fn into_parts(self) -> Result<Checked, Element> {
        match self.form {
            Form::Checked(checked) => Ok(checked),
            Form::Tree(element) => Err(element),
        }
    }
}

/// The bytes of a stanza that means the same on every stream, whichever content namespace that has.
#[derive(Clone)]
pub(crate) struct Checked {
    kind: StanzaKind,
    /// Where it came from.
    content: ContentNamespace,
    /// All of it, but first of its attributes come those that are not passed on: its addresses, the
    /// declaration of its namespace, our own.
    bytes: Box<[u8]>,
    /// Where that which is passed on starts.
    kept: u32,
    from: Place,
    to: Place,
    id: Place,
    type_: Place,
    trace: Place,
    children: Box<[(Place, Option<Place>)]>,
    weight: usize,
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Checked").field(&String::from_utf8_lossy(&self.bytes)).finish()
    }
}

/// A span in little room. What is absent starts where no word can.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    start: u32,
    end: u32,
}

impl Place {
    fn new(span: Span) -> Option<Self> {
        Some(Self { start: span.start.try_into().ok()?, end: span.end.try_into().ok()? })
    }
}

impl Checked {
    /// Of a stanza that its notes call portable; `None` if it is not, after all.
    pub(super) fn new(bytes: &[u8], content: ContentNamespace, notes: &Notes) -> Option<Self> {
        let name = notes.name.filter(|_| notes.is_portable)?.span();
        let mut checked = Self {
            kind: StanzaKind::of_name(name.of(bytes))?,
            content,
            bytes: Box::default(),
            kept: 0,
            from: Place::default(),
            to: Place::default(),
            id: Place::default(),
            type_: Place::default(),
            trace: Place::default(),
            children: Box::default(),
            weight: weight(bytes, notes),
        };
        let mut out = Vec::with_capacity(bytes.len());
        out.extend_from_slice(bytes.get(..name.end)?);
        let mut tag_end = name.end;
        for kept in [false, true] {
            if kept {
                checked.kept = out.len().try_into().ok()?;
            }
            for attribute in &notes.attributes {
                let name = attribute.name;
                tag_end = tag_end.max(attribute.whole.end);
                let (place, is_kept) = match (name.prefix(), name.local().of(bytes)) {
                    (None, b"from") => (Some(&mut checked.from), false),
                    (None, b"to") => (Some(&mut checked.to), false),
                    (None, b"xmlns") => (None, false),
                    (None, b"id") => (Some(&mut checked.id), true),
                    (None, b"type") => (Some(&mut checked.type_), true),
                    (Some(prefix), _) if prefix.of(bytes) == b"xml" => (None, true),
                    (Some(prefix), _) if prefix.of(bytes) == b"xmlns" => (None, false),
                    (Some(_), _) => (Some(&mut checked.trace), false),
                    _ => (None, true),
                };
                if is_kept != kept {
                    continue;
                }
                if let Some(place) = place {
                    if !attribute.is_plain {
                        return None;
                    }
                    let start = out.len() + attribute.value.start - attribute.whole.start;
                    let len = attribute.value.end - attribute.value.start;
                    *place = Place::new(Span { start, end: start + len })?;
                }
                out.extend_from_slice(attribute.whole.of(bytes));
            }
        }
        out.extend_from_slice(bytes.get(tag_end..)?);
        checked.bytes = out.into_boxed_slice();
        // Nothing behind the start tag has another place now.
        let child = |child: &Child| {
            let uri = match child.uri {
                Some(uri) => Some(Place::new(uri)?),
                None => None,
            };
            Some((Place::new(child.name)?, uri))
        };
        checked.children = notes.children.iter().map(child).collect::<Option<_>>()?;
        Some(checked)
    }

    pub(crate) fn kind(&self) -> StanzaKind {
        self.kind
    }

    /// Where its addresses go, and all that follows them.
    pub(crate) fn passed_on(&self) -> &[u8] {
        self.bytes.get(self.kept as usize..).unwrap_or_default()
    }

    pub(crate) fn id(&self) -> Option<&str> {
        self.word(self.id)
    }

    pub(crate) fn type_(&self) -> Option<&str> {
        self.word(self.type_)
    }

    /// Our own attribute, whoever wrote it.
    pub(crate) fn trace(&self) -> Option<&str> {
        self.word(self.trace)
    }

    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Names and namespaces of its children.
    pub(crate) fn children(&self) -> impl Iterator<Item = (&str, &str)> {
        self.children.iter().map(|(name, uri)| {
            let uri = match uri {
                None => ns::CLIENT,
                Some(uri) => self.word(*uri).unwrap_or_default(),
            };
            (self.word(*name).unwrap_or_default(), uri)
        })
    }

    /// Its bodies as they are written, from the name to the end of the end tag.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let bodies = self
            .children
            .iter()
            .enumerate()
            .filter(|(_, (name, uri))| uri.is_none() && self.word(*name) == Some("body"));
        bodies.map(|(at, (name, _))| {
            let next = self.children.get(at + 1).map(|(next, _)| next.start as usize);
            let next = next.unwrap_or(self.bytes.len());
            let rest = self.bytes.get(name.start as usize..next).unwrap_or_default();
            // Behind it stands one more tag, as far as its name: the next child's, or the end.
            let end = rest.iter().rposition(|byte| *byte == b'<').unwrap_or(rest.len());
            rest.get(..end).unwrap_or_default().trim_ascii_end()
        })
    }

    /// The tree, with all attributes as they came.
    pub(crate) fn element(&self) -> Element {
        // What was judged can be built.
        tree(&self.bytes, &mut Scope::of_stream(self.content))
            .unwrap_or_else(|| Element::bare(self.kind.as_str(), ns::CLIENT))
    }

    fn word(&self, place: Place) -> Option<&str> {
        if place.start == 0 {
            return None;
        }
        str::from_utf8(self.bytes.get(place.start as usize..place.end as usize)?).ok()
    }
}

/// About how many bytes of memory it takes once it is a tree: see
/// [`Stanza::weight`](crate::Stanza::weight).
fn weight(bytes: &[u8], notes: &Notes) -> usize {
    bytes.len()
        + notes.elements_len * crate::stanza::ELEMENT_WEIGHT
        + notes.attributes_len * crate::stanza::ATTRIBUTE_WEIGHT
}

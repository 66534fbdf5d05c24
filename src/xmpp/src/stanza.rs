//! Stanzas: kept as they came, addressed once.

mod content;
mod error;

use std::hash::{Hash as _, Hasher};
use std::sync::Arc;

use bytes::BytesMut;
use gatehouse_types::{InvalidJid, Jid, TraceId};
use minidom::{Element, Node};
use rxml::{Namespace, NcNameStr, xml_ncname};

use crate::framing::{
    Checked, NO_NAMESPACE, RawStanza, Written, plain, write_checked, write_stanza,
};
use crate::ns;

use self::content::{Content, Type};
pub(crate) use self::error::error_element;
pub use self::error::{ErrorKind, StanzaCondition};

/// The three kinds (RFC 6120, section 8).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum StanzaKind {
    /// `<message/>`
    Message,
    /// `<presence/>`
    Presence,
    /// `<iq/>`
    Iq,
}

impl StanzaKind {
    /// The element name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Presence => "presence",
            Self::Iq => "iq",
        }
    }

    /// The kind of that element name.
    pub(crate) fn of_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"message" => Self::Message,
            b"presence" => Self::Presence,
            b"iq" => Self::Iq,
            _ => return None,
        })
    }
}

/// One stanza in `jabber:client`, whatever stream it came from, with its addresses read.
///
/// Payloads are kept as they came. Copies share them, and what they look like on the wire, until one
/// is changed: another address costs no copy of the tree. What came from a stream has no tree at all
/// until somebody [asks](Self::element) for it.
#[derive(Clone, Debug)]
pub struct Stanza {
    kind: StanzaKind,
    from: Option<Jid>,
    to: Option<Jid>,
    content: Arc<Content>,
    trace: TraceId,
}

/// A child of a stanza, as far as that is known without a tree.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a>(Child<'a>);

#[derive(Clone, Copy, Debug)]
enum Child<'a> {
    Named { name: &'a str, namespace: &'a str },
    Element(&'a Element),
}

impl<'a> Payload<'a> {
    /// The local name.
    pub fn name(self) -> &'a str {
        match self.0 {
            Child::Named { name, .. } => name,
            Child::Element(element) => element.name(),
        }
    }

    /// True if it is in `namespace`.
    pub fn has_ns(self, namespace: &str) -> bool {
        match self.0 {
            Child::Named { namespace: known, .. } => known == namespace,
            Child::Element(element) => element.has_ns(namespace),
        }
    }

    /// True if it has this name in this namespace.
    pub fn is(self, name: &str, namespace: &str) -> bool {
        self.name() == name && self.has_ns(namespace)
    }
}

/// A first-level element that is no stanza.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidStanza {
    /// Another name or namespace.
    #[error("`{0}` is not a stanza")]
    NotAStanza(String),
    /// `from` or `to` cannot be read.
    #[error("the address in `{attribute}` is malformed")]
    Address {
        /// `from` or `to`.
        attribute: &'static str,
        /// Why.
        source: InvalidJid,
    },
}

/// The id in the log is no part of what a stanza says.
impl PartialEq for Stanza {
    fn eq(&self, other: &Self) -> bool {
        self.to_element() == other.to_element()
    }
}

impl Stanza {
    /// Reads the kind and addresses of `element`, which is in `jabber:client`.
    pub fn from_element(element: Element) -> Result<Self, InvalidStanza> {
        Self::read(element).map_err(|refused| refused.0)
    }

    /// The same, and gives a refused element back.
    pub(crate) fn read(element: Element) -> Result<Self, Box<(InvalidStanza, Element)>> {
        match addressed(&element) {
            Ok((kind, from, to)) => {
                let content = Arc::new(Content::new(element));
                Ok(Self { kind, from, to, content, trace: TraceId::NONE })
            }
            Err(error) => Err(Box::new((error, element))),
        }
    }

    /// What a stream brought, and gives a refused one back as an element.
    pub(crate) fn from_raw(raw: RawStanza) -> Result<Self, Box<(InvalidStanza, Element)>> {
        let read = |attribute, text: Option<&str>| match text.map(str::parse::<Jid>).transpose() {
            Ok(address) => Ok(address),
            Err(source) => Err(InvalidStanza::Address { attribute, source }),
        };
        let addresses = read("from", raw.from()).and_then(|from| Ok((from, read("to", raw.to())?)));
        match addresses {
            Ok((from, to)) => Ok(Self::addressed(raw, from, to)),
            Err(error) => Err(Box::new((error, raw.into_element()))),
        }
    }

    /// What a stream brought, with other addresses than it had.
    pub(crate) fn addressed(raw: RawStanza, from: Option<Jid>, to: Option<Jid>) -> Self {
        let kind = raw.kind();
        let content = Arc::new(match raw.into_parts() {
            Ok(checked) => Content::checked(checked),
            Err(element) => Content::new(element),
        });
        Self { kind, from, to, content, trace: TraceId::NONE }
    }

    /// The kind.
    pub fn kind(&self) -> StanzaKind {
        self.kind
    }

    /// The sender, if stated.
    pub fn from(&self) -> Option<&Jid> {
        self.from.as_ref()
    }

    /// The recipient, if stated.
    pub fn to(&self) -> Option<&Jid> {
        self.to.as_ref()
    }

    /// The `id` attribute.
    pub fn id(&self) -> Option<&str> {
        match &self.content.checked {
            Some(checked) => checked.id(),
            None => plain(self.content.element(), "id"),
        }
    }

    /// The `type` attribute, as written (an absent one means `normal`, `available`).
    pub fn type_(&self) -> Option<&str> {
        match self.content.type_ {
            Type::Absent => None,
            Type::Known(known) => Some(known),
            Type::Open => match &self.content.checked {
                Some(checked) => checked.type_(),
                None => plain(self.content.element(), "type"),
            },
        }
    }

    /// The id under which it is logged.
    pub fn trace(&self) -> TraceId {
        self.trace
    }

    /// Gives it the id under which it is logged from here on. What somebody outside wrote in the
    /// place where the trunk writes the id is taken out.
    pub fn set_trace(&mut self, trace: TraceId) {
        self.take_trace_attribute();
        self.trace = trace;
    }

    /// Takes over the id that the other end of the trunk wrote.
    pub(crate) fn adopt_trace(&mut self) {
        let written = self.take_trace_attribute();
        self.trace = written.and_then(|text| TraceId::parse(&text)).unwrap_or_default();
    }

    fn take_trace_attribute(&mut self) -> Option<String> {
        if let Some(checked) = &self.content.checked {
            // Nothing else looks at it.
            return checked.trace().map(ToOwned::to_owned);
        }
        self.content.element().attr_ns(&TRACE_NAMESPACE, TRACE)?;
        let content = Arc::make_mut(&mut self.content);
        content.element_mut().attrs_mut().remove(&TRACE_NAMESPACE, TRACE)
    }

    /// The element, to look at payloads. Its addresses may be those of the stanza that this one is a
    /// copy of; see [`from`](Self::from), [`to`](Self::to), [`to_element`](Self::to_element).
    ///
    /// Builds the tree if there is none yet: where names of payloads are enough to decide, ask for
    /// [`payloads`](Self::payloads).
    pub fn element(&self) -> &Element {
        self.content.element()
    }

    /// Its children, without a look inside.
    pub fn payloads(&self) -> impl Iterator<Item = Payload<'_>> {
        let checked = self.content.checked.as_ref();
        let element = checked.is_none().then(|| self.content.element());
        let named = checked.into_iter().flat_map(Checked::children);
        let named = named.map(|(name, namespace)| Child::Named { name, namespace });
        let elements = element.into_iter().flat_map(Element::children).map(Child::Element);
        named.chain(elements).map(Payload)
    }

    /// Feeds `state` with what its bodies (RFC 6121, section 5.2.3) say: the same for one that comes
    /// again with other payloads beside them. Builds no tree: what a stream brought counts as it is
    /// written, so that the same text in other spellings, or beside what cannot be passed on as it
    /// came, may not be the same.
    pub fn hash_bodies<H: Hasher>(&self, state: &mut H) {
        if let Some(checked) = &self.content.checked {
            checked.bodies().for_each(|body| body.hash(state));
        } else {
            let children = self.content.element().children();
            let bodies = children.filter(|child| child.is("body", ns::CLIENT));
            bodies.for_each(|body| body.text().hash(state));
        }
    }

    /// The element, to change payloads. Change addresses with the setters only.
    pub fn payload_mut(&mut self) -> &mut Element {
        Arc::make_mut(&mut self.content).element_mut()
    }

    /// The element with its addresses.
    pub fn to_element(&self) -> Element {
        self.clone().into_element()
    }

    /// The element with its addresses, given away.
    pub fn into_element(self) -> Element {
        let mut element = match Arc::try_unwrap(self.content) {
            Ok(mut content) => content.take_element(),
            Err(shared) => shared.element().clone(),
        };
        set_address(&mut element, FROM, self.from.as_ref());
        set_address(&mut element, TO, self.to.as_ref());
        element
    }

    /// Writes it as a first-level element of a stream, whichever content namespace that has. With
    /// `qualified`, which is an attribute as it is written, in its start tag.
    pub(crate) fn write(&self, out: &mut BytesMut, qualified: Option<&str>) {
        let addresses = (self.from.as_ref(), self.to.as_ref());
        if let Some(checked) = &self.content.checked {
            return write_checked(out, addresses, qualified, checked);
        }
        // Who has it alone is likely to write it once; who shares it is not.
        let shared = Arc::strong_count(&self.content) > 1;
        let written = || Written::of(self.content.element());
        let once;
        let content = if shared {
            self.content.written.get_or_init(written)
        } else if let Some(known) = self.content.written.get() {
            known
        } else {
            once = written();
            &once
        };
        write_stanza(out, self.kind.as_str(), addresses, qualified, content);
    }

    /// About how many bytes of memory it takes: its text and names, and what each element costs
    /// however short it is. Walks the whole stanza, if that was changed.
    pub fn weight(&self) -> usize {
        if let Some(checked) = &self.content.checked {
            // Somebody may ask for its tree.
            return checked.weight();
        }
        let (mut bytes, mut left) = (0, vec![self.content.element()]);
        while let Some(element) = left.pop() {
            bytes += ELEMENT_WEIGHT + element.name().len();
            for ((_, name), value) in element.attrs() {
                bytes += ATTRIBUTE_WEIGHT + name.len() + value.len();
            }
            for node in element.nodes() {
                match node {
                    Node::Element(child) => left.push(child),
                    Node::Text(text) => bytes += text.len(),
                }
            }
        }
        bytes
    }

    /// Sets or removes `from`.
    pub fn set_from(&mut self, from: Option<Jid>) {
        self.from = from;
    }

    /// Sets or removes `to`.
    pub fn set_to(&mut self, to: Option<Jid>) {
        self.to = to;
    }

    /// True for errors and IQ results: what must never be bounced (RFC 6120, section 8.3.1).
    pub fn is_answer(&self) -> bool {
        matches!((self.kind, self.type_()), (_, Some("error")) | (StanzaKind::Iq, Some("result")))
    }

    /// The error to send back to the author, or `None` where nothing may be answered (errors, IQ
    /// results, presence that is not a request). Addresses swapped, id kept, the payload not
    /// repeated.
    pub fn bounce(&self, kind: ErrorKind, condition: StanzaCondition, text: &str) -> Option<Self> {
        let answered = match self.kind {
            StanzaKind::Message | StanzaKind::Iq => !self.is_answer(),
            StanzaKind::Presence => matches!(
                self.type_(),
                Some("subscribe" | "subscribed" | "unsubscribe" | "unsubscribed" | "probe")
            ),
        };
        if !answered {
            return None;
        }
        Some(self.answer("error", Some(error_element(kind, condition, text))))
    }

    /// An IQ result to this IQ request, with `payload`. `None` if this is no IQ request.
    pub fn result(&self, payload: Option<Element>) -> Option<Self> {
        if self.kind != StanzaKind::Iq || !matches!(self.type_(), Some("get" | "set")) {
            return None;
        }
        Some(self.answer("result", payload))
    }

    /// A stanza back to the author, of the same kind and id.
    fn answer(&self, type_: &str, payload: Option<Element>) -> Self {
        let mut element = Element::bare(self.kind.as_str(), ns::CLIENT);
        let attributes = element.attrs_mut();
        attributes.insert(NO_NAMESPACE, TYPE.to_owned(), type_.to_owned());
        if let Some(id) = self.id() {
            attributes.insert(NO_NAMESPACE, xml_ncname!("id").to_owned(), id.to_owned());
        }
        if let Some(payload) = payload {
            element.append_child(payload);
        }
        Self {
            kind: self.kind,
            from: self.to.clone(),
            to: self.from.clone(),
            content: Arc::new(Content::new(element)),
            trace: self.trace,
        }
    }
}

/// What an element weighs however short it is: itself, its place among its siblings, its namespace.
pub(crate) const ELEMENT_WEIGHT: usize = 300;
/// The allocations of a name and a value, and their place in the map.
pub(crate) const ATTRIBUTE_WEIGHT: usize = 100;

/// What stands in the start tag of a stanza.
fn addressed(element: &Element) -> Result<(StanzaKind, Option<Jid>, Option<Jid>), InvalidStanza> {
    let kind = match element.name() {
        "message" => StanzaKind::Message,
        "presence" => StanzaKind::Presence,
        "iq" => StanzaKind::Iq,
        other => return Err(InvalidStanza::NotAStanza(shorten(other))),
    };
    if !element.has_ns(ns::CLIENT) {
        let name = format!("{} in {}", element.name(), shorten(&element.ns()));
        return Err(InvalidStanza::NotAStanza(name));
    }
    let address = |attribute: &'static str| match plain(element, attribute) {
        None => Ok(None),
        Some(text) => match text.parse::<Jid>() {
            Ok(jid) => Ok(Some(jid)),
            Err(source) => Err(InvalidStanza::Address { attribute, source }),
        },
    };
    Ok((kind, address("from")?, address("to")?))
}

const FROM: &NcNameStr = xml_ncname!("from");
const TO: &NcNameStr = xml_ncname!("to");
const TYPE: &NcNameStr = xml_ncname!("type");
const TRACE: &NcNameStr = xml_ncname!("trace");
const TRACE_NAMESPACE: Namespace<'static> = Namespace::from_str(ns::TRACE);

fn set_address(element: &mut Element, name: &NcNameStr, address: Option<&Jid>) {
    let attributes = element.attrs_mut();
    match address {
        Some(jid) => {
            attributes.insert(NO_NAMESPACE, name.to_owned(), jid.to_string());
        }
        None => {
            attributes.remove(&NO_NAMESPACE, name);
        }
    }
}

/// A peer chose these words; an error message holds only so many of them.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;

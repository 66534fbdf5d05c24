//! What all copies of a stanza share.

use std::sync::OnceLock;

use minidom::Element;

use super::{TRACE, TRACE_NAMESPACE};
use crate::framing::{Checked, Written, plain};
use crate::ns;

/// What all copies of a stanza have in common.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// What came from a stream and was not changed since. Our own attribute in it does not count.
    pub(super) checked: Option<Checked>,
    /// What did not, or was. `from` and `to` in it are those of the stanza that it was made for.
    element: Option<Element>,
    /// The element of what is `checked`, once somebody asked.
    built: OnceLock<Box<Element>>,
    pub(super) type_: Type,
    /// Filled once the content is written for a second reader.
    pub(super) written: OnceLock<Written>,
}

/// The `type` attribute, looked up once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Type {
    Absent,
    Known(&'static str),
    /// To be looked up: unusual, or perhaps changed.
    Open,
}

/// What RFC 6120 and RFC 6121 define.
const TYPES: [&str; 15] = [
    "chat",
    "error",
    "result",
    "get",
    "set",
    "unavailable",
    "normal",
    "groupchat",
    "headline",
    "probe",
    "subscribe",
    "subscribed",
    "unsubscribe",
    "unsubscribed",
    "",
];

impl Type {
    fn of(type_: Option<&str>) -> Self {
        let Some(text) = type_ else { return Self::Absent };
        let known = TYPES.into_iter().find(|known| *known == text);
        known.map_or(Self::Open, Self::Known)
    }
}

impl Content {
    pub(super) fn new(element: Element) -> Self {
        let type_ = Type::of(plain(&element, "type"));
        let (built, written) = (OnceLock::new(), OnceLock::new());
        Self { checked: None, element: Some(element), built, type_, written }
    }

    pub(super) fn checked(checked: Checked) -> Self {
        let type_ = Type::of(checked.type_());
        let (built, written) = (OnceLock::new(), OnceLock::new());
        Self { checked: Some(checked), element: None, built, type_, written }
    }

    pub(super) fn element(&self) -> &Element {
        match &self.element {
            Some(element) => element,
            None => self.built.get_or_init(|| Box::new(self.build())),
        }
    }

    fn build(&self) -> Element {
        let mut element = match &self.checked {
            Some(checked) => checked.element(),
            // One of the two is there.
            None => Element::bare("message", ns::CLIENT),
        };
        element.attrs_mut().remove(&TRACE_NAMESPACE, TRACE);
        element
    }

    /// To be changed: what was known of it is forgotten.
    pub(super) fn element_mut(&mut self) -> &mut Element {
        let element = self.take_element();
        self.checked = None;
        self.type_ = Type::Open;
        self.written = OnceLock::new();
        self.element.insert(element)
    }

    pub(super) fn take_element(&mut self) -> Element {
        let built = self.built.take().map(|built| *built);
        self.element.take().or(built).unwrap_or_else(|| self.build())
    }
}

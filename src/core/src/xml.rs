//! Small elements, built and read.

use gatehouse_xmpp::Element;
use gatehouse_xmpp::parsers::minidom::rxml::{Namespace, NcName, NcNameStr};

/// An element without content.
pub(crate) fn element(name: &str, namespace: &str) -> Element {
    Element::bare(name, namespace)
}

/// Sets an attribute that has no namespace.
pub(crate) fn set(element: &mut Element, name: &NcNameStr, value: impl Into<String>) {
    let name: NcName = name.to_owned();
    element.attrs_mut().insert(Namespace::NONE, name, value.into());
}

/// An element whose content is `text`.
pub(crate) fn text(name: &str, namespace: &str, text: &str) -> Element {
    let mut element = Element::bare(name, namespace);
    element.append_text_node(text);
    element
}

/// The text of `element`, if it can be read again: what cannot must not be stored. Names and prefixes
/// that XML reserves have come in by ways that others read differently.
pub(crate) fn storable(element: &Element) -> Option<String> {
    let mut bytes = Vec::new();
    element.write_to(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    text.parse::<Element>().is_ok().then_some(text)
}

/// The only child of `element`, or `None` if there is none or more than one.
pub(crate) fn only_child(element: &Element) -> Option<&Element> {
    let mut children = element.children();
    children.next().filter(|_| children.next().is_none())
}

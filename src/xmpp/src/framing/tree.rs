//! Builds elements from bytes that were judged.

use minidom::Element;
use rxml::{AttrMap, Namespace, NcName};

use super::NO_NAMESPACE;
use super::scope::{Scope, Uri};
use super::token::{Attribute, Span, Token, attribute_text, cdata_of, text_of, token};
use crate::ns;

/// The element that `bytes` hold, all of it and nothing else, where `scope` is in force around it.
/// What is in either content namespace is in `jabber:client` in it. `None` only for bytes that a
/// [`Scan`](super::scan::Scan) would not have taken.
pub(super) fn tree(bytes: &[u8], scope: &mut Scope) -> Option<Element> {
    let mut attributes = Vec::new();
    let mut open: Vec<(Element, Uri, usize)> = Vec::new();
    let mut at = 0;
    loop {
        let (found, end) = token(bytes, at, &mut attributes).ok()??;
        at = end;
        let closes = match found {
            Token::Start { name, is_empty } => {
                let mark = scope.mark();
                let map = declare(bytes, &attributes, scope)?;
                let uri = scope.of_element(bytes, name.prefix()).ok()?;
                let namespace = match uri {
                    Uri::Server => ns::CLIENT,
                    uri => str::from_utf8(scope.name(uri, bytes)).ok()?,
                };
                let mut element = Element::bare(word(bytes, name.local())?, namespace);
                *element.attrs_mut() = map;
                open.push((element, uri, mark));
                is_empty
            }
            Token::End { .. } => true,
            Token::Text { content, .. } => {
                append(&mut open, &text_of(content.of(bytes)));
                false
            }
            Token::Cdata { content } => {
                append(&mut open, &cdata_of(content.of(bytes)));
                false
            }
        };
        if closes {
            let (element, _, mark) = open.pop()?;
            scope.close(mark);
            match open.last_mut() {
                Some((parent, ..)) => drop(parent.append_child(element)),
                None => {
                    scope.leave();
                    return Some(element);
                }
            }
        }
    }
}

fn append(open: &mut [(Element, Uri, usize)], text: &str) {
    if let Some((element, ..)) = open.last_mut()
        && !text.is_empty()
    {
        element.append_text(text);
    }
}

fn declare(bytes: &[u8], attributes: &[Attribute], scope: &mut Scope) -> Option<AttrMap> {
    let mut map = AttrMap::new();
    let mut others = Vec::new();
    for attribute in attributes {
        if !scope.declare(bytes, attribute).ok()? {
            others.push(attribute);
        }
    }
    for attribute in others {
        let namespace = match attribute.name.prefix() {
            None => NO_NAMESPACE,
            Some(prefix) => match scope.of_prefix(bytes, prefix).ok()? {
                Uri::Xml => Namespace::XML,
                uri => Namespace::from(str::from_utf8(scope.name(uri, bytes)).ok()?.to_owned()),
            },
        };
        let name = NcName::try_from(word(bytes, attribute.name.local())?).ok()?;
        let value = attribute_text(attribute.value.of(bytes)).into_owned();
        map.insert(namespace, name, value);
    }
    Some(map)
}

fn word(bytes: &[u8], span: Span) -> Option<&str> {
    str::from_utf8(span.of(bytes)).ok()
}

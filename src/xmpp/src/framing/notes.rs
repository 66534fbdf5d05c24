//! What a scan remembers of a stanza.

use std::mem;

use super::name::Name;
use super::scope::{Scope, Uri};
use super::token::{Attribute, Span};
use crate::ns;

/// What there is to know of a stanza besides that it is well-formed.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) name: Option<Name>,
    /// Those of its start tag.
    pub(super) attributes: Vec<Attribute>,
    pub(super) children: Vec<Child>,
    /// Attributes of all elements.
    pub(super) attributes_len: usize,
    pub(super) elements_len: usize,
    /// What stands between its start tag and its end tag means the same on every stream, and is
    /// written as everybody writes it: no prefixes but `xml`, no content namespace by name, no CDATA,
    /// no carriage returns. In its start tag only our own attribute may have a prefix.
    pub(super) is_portable: bool,
}

/// A child of a stanza.
#[derive(Clone, Copy)]
pub(super) struct Child {
    pub(super) name: Span,
    /// Its namespace, or nothing if that is the stanza's own.
    pub(super) uri: Option<Span>,
}

/// The attributes of a start tag that declare nothing, and whether there are others.
#[derive(Default)]
pub(super) struct Judged {
    /// How many there are.
    pub(super) others: usize,
    /// Whether there are others.
    pub(super) declares: bool,
    /// The namespaces and local names of those that have a prefix.
    pub(super) qualified: Vec<(Uri, Span)>,
}

/// A start tag that was judged.
pub(super) struct Tag<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) name: Name,
    pub(super) uri: Uri,
    pub(super) judged: &'a Judged,
    pub(super) scope: &'a Scope,
}

impl Notes {
    /// Takes notes of the next start tag, that of an element within `depth` others. Keeps the
    /// attributes of a stanza.
    pub(super) fn take(&mut self, depth: usize, tag: &Tag<'_>, attributes: &mut Vec<Attribute>) {
        if depth == 0 {
            self.name = Some(tag.name);
            self.is_portable = tag.is_portable_stanza(attributes);
            self.children.clear();
            self.attributes_len = attributes.len();
            mem::swap(&mut self.attributes, attributes);
            return;
        }
        self.attributes_len += attributes.len();
        self.is_portable = self.is_portable && tag.is_portable(attributes);
        if depth == 1 {
            let uri = match tag.uri {
                Uri::Here(span) => Some(span),
                Uri::None => Some(Span::default()),
                _ => None,
            };
            self.children.push(Child { name: tag.name.local(), uri });
        }
    }
}

impl Tag<'_> {
    fn is_portable_stanza(&self, attributes: &[Attribute]) -> bool {
        let bytes = self.bytes;
        let is_stanza = self.uri == Uri::Client
            && self.name.prefix().is_none()
            && matches!(self.name.local().of(bytes), b"message" | b"presence" | b"iq");
        let is_ours = |uri: Span| uri.of(bytes) == ns::TRACE.as_bytes();
        is_stanza
            && self.judged.qualified.iter().all(|(uri, local)| match uri {
                Uri::Xml => true,
                Uri::Here(uri) => local.of(bytes) == b"trace" && is_ours(*uri),
                _ => false,
            })
            && attributes.iter().all(|attribute| {
                let declares = attribute.name.prefix().is_some_and(|it| it.of(bytes) == b"xmlns");
                attribute.is_tidy && (!declares || is_ours(attribute.value))
            })
    }

    /// Of an element within a stanza.
    fn is_portable(&self, attributes: &[Attribute]) -> bool {
        let is_plain = |prefix: Span| prefix.of(self.bytes) == b"xml";
        let names_content =
            self.judged.declares && !matches!(self.scope.newest(), Uri::None | Uri::Here(_));
        !names_content
            && self.name.prefix().is_none()
            && attributes
                .iter()
                .all(|attribute| attribute.is_tidy && attribute.name.prefix().is_none_or(is_plain))
    }
}

use rxml::{XMLNS_XML, XMLNS_XMLNS};

use super::ContentNamespace;
use super::fault::{Fault, over_limit};
use super::token::{Attribute, Span, attribute_text};
use crate::{StreamError, ns};

/// A namespace, as cheap to compare as can be: most are what they were for the element around.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Uri {
    /// No namespace.
    None,
    /// What `xml:` stands for.
    Xml,
    Client,
    Server,
    /// Among the bytes of the element.
    Here(Span),
    /// Among what the scope keeps, by number.
    Kept(usize),
}

impl Uri {
    /// `jabber:client` or `jabber:server`.
    pub(super) fn is_content(self) -> bool {
        matches!(self, Self::Client | Self::Server)
    }
}

/// Which prefixes mean what, at the current place in the document.
#[derive(Debug)]
pub(super) struct Scope {
    declarations_max: usize,
    declarations: Vec<Declaration>,
    /// How many of them are the stream header's.
    outer: usize,
    /// Words that do not stand among the bytes of the current element: those of the stream header,
    /// and names of namespaces that were written with references.
    kept: Vec<Box<[u8]>>,
    /// How many of those are the stream header's.
    outer_kept: usize,
}

#[derive(Clone, Copy, Debug)]
struct Declaration {
    /// `None` for the default namespace.
    prefix: Option<Word>,
    uri: Uri,
}

#[derive(Clone, Copy, Debug)]
enum Word {
    Here(Span),
    Kept(usize),
}

impl Scope {
    pub(super) fn new(declarations_max: usize) -> Self {
        Self {
            declarations_max,
            declarations: Vec::new(),
            outer: 0,
            kept: Vec::new(),
            outer_kept: 0,
        }
    }

    /// Around an element that makes no use of what its stream declares but the content namespace.
    pub(super) fn of_stream(content: ContentNamespace) -> Self {
        let uri = match content {
            ContentNamespace::Client => Uri::Client,
            ContentNamespace::Server => Uri::Server,
        };
        let declarations = vec![Declaration { prefix: None, uri }];
        Self { declarations, outer: 1, ..Self::new(usize::MAX) }
    }

    /// Where the declarations of an element that opens now will start.
    pub(super) fn mark(&self) -> usize {
        self.declarations.len()
    }

    /// The element with this mark closes.
    pub(super) fn close(&mut self, mark: usize) {
        self.declarations.truncate(mark);
    }

    /// The first-level element is over, and its bytes are gone.
    pub(super) fn leave(&mut self) {
        self.declarations.truncate(self.outer);
        self.kept.truncate(self.outer_kept);
    }

    /// Gives unused memory back.
    pub(super) fn shrink(&mut self) {
        self.declarations.shrink_to_fit();
        self.kept.shrink_to_fit();
    }

    /// The stream header is read: its declarations hold from here on, without its bytes.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        for number in 0..self.declarations.len() {
            let Some(Declaration { prefix, uri }) = self.declarations.get(number).copied() else {
                continue;
            };
            let prefix = prefix.map(|prefix| match prefix {
                Word::Here(span) => Word::Kept(self.store(span.of(bytes).into())),
                kept @ Word::Kept(_) => kept,
            });
            let uri = match uri {
                Uri::Here(span) => Uri::Kept(self.store(span.of(bytes).into())),
                known => known,
            };
            if let Some(declaration) = self.declarations.get_mut(number) {
                *declaration = Declaration { prefix, uri };
            }
        }
        self.outer = self.declarations.len();
        self.outer_kept = self.kept.len();
    }

    /// What was declared last.
    pub(super) fn newest(&self) -> Uri {
        self.declarations.last().map_or(Uri::None, |known| known.uri)
    }

    /// Takes `attribute` if it is `xmlns='uri'` or `xmlns:prefix='uri'`; false if it is neither.
    /// What Namespaces in XML 1.0, section 3, reserves cannot be bound: the next parser would
    /// refuse it, if we passed it on. That no attribute is there twice is for the caller to see.
    pub(super) fn declare(
        &mut self,
        bytes: &[u8],
        attribute: &Attribute,
    ) -> Result<bool, StreamError> {
        let name = attribute.name;
        let local = name.local();
        let prefix = match name.prefix().map(|prefix| prefix.of(bytes)) {
            None if local.of(bytes) == XMLNS => None,
            Some(XMLNS) => Some(local),
            _ => return Ok(false),
        };
        let raw = attribute.value.of(bytes);
        let uri = if attribute.is_plain { None } else { Some(attribute_text(raw)) };
        let text = uri.as_ref().map_or(raw, |uri| uri.as_bytes());
        match prefix.map(|prefix| prefix.of(bytes)) {
            Some(b"xmlns") => return Err(RESERVED_PREFIX.into()),
            // It is bound anyway.
            Some(b"xml") if text == XMLNS_XML.as_bytes() => return Ok(true),
            Some(b"xml") => return Err(RESERVED_PREFIX.into()),
            _ if text == XMLNS_XML.as_bytes() || text == XMLNS_XMLNS.as_bytes() => {
                return Err(Fault::malformed("a name of XML itself was bound to a prefix").into());
            }
            Some(_) if text.is_empty() => {
                return Err(Fault::malformed("a prefix stands for nothing").into());
            }
            _ => {}
        }
        if self.declarations.len() >= self.declarations_max {
            return Err(over_limit("a stanza", self.declarations_max, "namespace declarations"));
        }
        let uri = if text.is_empty() {
            Uri::None
        } else if text == ns::CLIENT.as_bytes() {
            Uri::Client
        } else if text == ns::SERVER.as_bytes() {
            Uri::Server
        } else if uri.is_some() {
            let text = text.into();
            Uri::Kept(self.store(text))
        } else {
            Uri::Here(attribute.value)
        };
        self.declarations.push(Declaration { prefix: prefix.map(Word::Here), uri });
        Ok(true)
    }

    /// The namespace of an element with `prefix`.
    pub(super) fn of_element(&self, bytes: &[u8], prefix: Option<Span>) -> Result<Uri, Fault> {
        match prefix {
            Some(prefix) => self.of_prefix(bytes, prefix),
            None => {
                let mut inner_first = self.declarations.iter().rev();
                let default = inner_first.find(|known| known.prefix.is_none());
                Ok(default.map_or(Uri::None, |known| known.uri))
            }
        }
    }

    /// What `prefix` stands for.
    pub(super) fn of_prefix(&self, bytes: &[u8], prefix: Span) -> Result<Uri, Fault> {
        let prefix = prefix.of(bytes);
        if prefix == b"xml" {
            return Ok(Uri::Xml);
        }
        let is_it = |known: &&Declaration| {
            known.prefix.is_some_and(|known| self.word(known, bytes) == prefix)
        };
        let found = self.declarations.iter().rev().find(is_it);
        found.map(|known| known.uri).ok_or(Fault::malformed("a prefix is not declared"))
    }

    /// True if any prefix in force means `uri`.
    pub(super) fn declares(&self, bytes: &[u8], uri: &str) -> bool {
        self.declarations
            .iter()
            .any(|known| known.prefix.is_some() && self.name(known.uri, bytes) == uri.as_bytes())
    }

    /// True if an element with this `mark`, the innermost one, itself declares `uri`.
    pub(super) fn declares_here(&self, bytes: &[u8], mark: usize, uri: &[u8]) -> bool {
        self.declarations.iter().skip(mark).any(|known| self.name(known.uri, bytes) == uri)
    }

    /// The name of a namespace.
    pub(super) fn name<'a>(&'a self, uri: Uri, bytes: &'a [u8]) -> &'a [u8] {
        match uri {
            Uri::None => b"",
            Uri::Xml => XMLNS_XML.as_bytes(),
            Uri::Client => ns::CLIENT.as_bytes(),
            Uri::Server => ns::SERVER.as_bytes(),
            Uri::Here(span) => span.of(bytes),
            Uri::Kept(number) => self.kept(number),
        }
    }

    /// True if both are the same namespace.
    pub(super) fn is_same(&self, one: Uri, other: Uri, bytes: &[u8]) -> bool {
        one == other || self.name(one, bytes) == self.name(other, bytes)
    }

    fn word<'a>(&'a self, word: Word, bytes: &'a [u8]) -> &'a [u8] {
        match word {
            Word::Here(span) => span.of(bytes),
            Word::Kept(number) => self.kept(number),
        }
    }

    fn kept(&self, number: usize) -> &[u8] {
        self.kept.get(number).map(|kept| &**kept).unwrap_or_default()
    }

    fn store(&mut self, word: Box<[u8]>) -> usize {
        self.kept.push(word);
        self.kept.len() - 1
    }
}

const XMLNS: &[u8] = b"xmlns";
const RESERVED_PREFIX: Fault =
    Fault::malformed("a prefix of XML itself was bound to something else");

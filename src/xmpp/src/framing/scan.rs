//! Judges what stands between `<stream:stream>` and `</stream:stream>` in one pass over the bytes.

use super::ContentNamespace;
use super::bounds::Bounds;
use super::fault::{Fault, over_limit};
use super::name::Name;
use super::notes::{Judged, Notes, Tag};
use super::scope::{Scope, Uri};
use super::token::{Attribute, Hunt, Span, Token, token};
use crate::{StreamCondition, StreamError, ns};

/// Goes over one first-level element, or the stream header, as its bytes come. Places are counted
/// from its first byte.
pub(super) struct Scan {
    pub(super) scope: Scope,
    /// Of the start tag that was read last.
    attributes: Vec<Attribute>,
    /// Everything before is judged.
    at: usize,
    /// Looks for the end of a token that is not all there yet.
    hunt: Option<Hunt>,
    /// The open elements, outermost first.
    open: Vec<Open>,
    /// Elements so far.
    elements: usize,
    /// Bytes that the element needs beyond its own when it is written again: a prefix may stand for
    /// a name that is very long.
    owed: usize,
    /// Namespace declarations in force when it is written again.
    in_force: usize,
    pub(super) notes: Notes,
}

struct Open {
    /// As it is written.
    name: Span,
    uri: Uri,
    /// Where its declarations start in the scope.
    mark: usize,
    children: usize,
    /// Namespace declarations that it needs when it is written again.
    declarations: usize,
}

/// What became of an attempt to read a token.
pub(super) enum Taken<T> {
    Token(T),
    /// It is not all there.
    More,
    /// More than there may be.
    TooLong,
}

/// The start tag of a stream.
pub(super) struct Header {
    pub(super) name: Name,
    pub(super) uri: Uri,
    pub(super) is_empty: bool,
    pub(super) end: usize,
}

impl Scan {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            scope: Scope::new(bounds.declarations_max),
            attributes: Vec::new(),
            at: 0,
            hunt: None,
            open: Vec::new(),
            elements: 0,
            owed: 0,
            in_force: 0,
            notes: Notes::default(),
        }
    }

    /// Those of the start tag that was read last.
    pub(super) fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// Gives unused memory back: most streams are silent most of the time.
    pub(super) fn shrink(&mut self) {
        self.attributes = Vec::new();
        self.open = Vec::new();
        self.notes = Notes::default();
        self.scope.shrink();
    }

    /// Forgets the element that is over.
    fn leave(&mut self) {
        self.scope.leave();
        self.at = 0;
        self.open.clear();
        self.notes.elements_len = self.elements;
        self.elements = 0;
        self.owed = 0;
        self.in_force = 0;
    }

    /// Goes on with the element at the beginning of `input`, which holds at least its first two
    /// bytes. Gives its length once it is complete.
    pub(super) fn element(
        &mut self,
        input: &[u8],
        bounds: &Bounds,
        content: ContentNamespace,
    ) -> Result<Option<usize>, StreamError> {
        let max = bounds.element_bytes_max;
        let too_long = || over_limit("the element", max, "bytes");
        loop {
            let left = max.saturating_sub(self.owed);
            let (found, end) = match self.take(input, left, token)? {
                Taken::Token(found) => found,
                Taken::More => return Ok(None),
                Taken::TooLong => return Err(too_long()),
            };
            match found {
                Token::Start { name, is_empty } => {
                    self.start(input, name, bounds, content)?;
                    if end + self.owed > max {
                        return Err(too_long());
                    }
                    if is_empty {
                        self.close();
                    }
                }
                Token::End { name } => {
                    let open = self.open.last().map(|open| open.name.of(input));
                    if open != Some(name.of(input)) {
                        return Err(Fault::malformed("an end tag has the wrong name").into());
                    }
                    self.close();
                }
                Token::Text { is_tidy, .. } => self.notes.is_portable &= is_tidy,
                Token::Cdata { .. } => self.notes.is_portable = false,
            }
            if self.open.is_empty() {
                self.leave();
                return Ok(Some(end));
            }
        }
    }

    /// Goes on with the stream header at the beginning of `input`, which may have `left` bytes.
    pub(super) fn header(
        &mut self,
        input: &[u8],
        left: usize,
        bounds: &Bounds,
    ) -> Result<Taken<Header>, StreamError> {
        let (found, end) = match self.take(input, left, token)? {
            Taken::Token(found) => found,
            Taken::More => return Ok(Taken::More),
            Taken::TooLong => return Ok(Taken::TooLong),
        };
        let Token::Start { name, is_empty } = found else {
            return Err(Fault::malformed("a stream starts with a start tag").into());
        };
        self.attributes_of(input, bounds)?;
        let uri = self.scope.of_element(input, name.prefix())?;
        self.at = 0;
        Ok(Taken::Token(Header { name, uri, is_empty, end }))
    }

    /// Reads one token with `lex`, and its end. It may end at `left` and no later; what follows
    /// makes no difference.
    pub(super) fn take<T>(
        &mut self,
        input: &[u8],
        left: usize,
        lex: impl FnOnce(&[u8], usize, &mut Vec<Attribute>) -> Result<Option<(T, usize)>, Fault>,
    ) -> Result<Taken<(T, usize)>, StreamError> {
        // One byte over the limit is enough to know.
        let window = left.saturating_add(1);
        let bytes = input.get(..window).unwrap_or(input);
        let incomplete = if bytes.len() < window { Taken::More } else { Taken::TooLong };
        if let Some(hunt) = &mut self.hunt {
            if hunt.end(bytes).is_none() {
                return Ok(incomplete);
            }
            self.hunt = None;
        }
        let fault = match lex(bytes, self.at, &mut self.attributes) {
            Ok(Some((_, end))) if end > left => return Ok(Taken::TooLong),
            Ok(Some((found, end))) => {
                self.at = end;
                return Ok(Taken::Token((found, end)));
            }
            Ok(None) => None,
            Err(fault) if fault.is_hopeless => return Err(fault.into()),
            Err(fault) => Some(fault),
        };
        let mut hunt = Hunt::new(bytes, self.at);
        let end = hunt.as_mut().and_then(|hunt| hunt.end(bytes));
        match (end, fault) {
            (None, _) => {
                self.hunt = hunt;
                Ok(incomplete)
            }
            (Some(end), _) if end > left => Ok(Taken::TooLong),
            (Some(_), Some(fault)) => Err(fault.into()),
            (Some(_), None) => Err(Fault::malformed("a tag is malformed").into()),
        }
    }

    fn start(
        &mut self,
        bytes: &[u8],
        name: Name,
        bounds: &Bounds,
        content: ContentNamespace,
    ) -> Result<(), StreamError> {
        // The stream element and the new one count too.
        if self.open.len() + 2 > bounds.depth_max {
            return Err(over_limit("the stream", bounds.depth_max, "levels of elements"));
        }
        self.elements += 1;
        if self.elements > bounds.elements_max {
            return Err(over_limit("the stanza", bounds.elements_max, "elements"));
        }
        let mut around = Uri::Client;
        if let Some(parent) = self.open.last_mut() {
            parent.children += 1;
            if parent.children > bounds.children_max {
                return Err(over_limit("an element", bounds.children_max, "children"));
            }
            around = parent.uri;
        }
        let mark = self.scope.mark();
        let judged = self.attributes_of(bytes, bounds)?;
        let uri = self.scope.of_element(bytes, name.prefix())?;
        if self.open.is_empty() {
            self.check_first_level(bytes, name, uri, content)?;
        }
        let uri = match uri {
            Uri::Xml => {
                // Legal, but it means nothing and no declaration can bring it back: XML 1.0 has only
                // attributes there.
                let text = "an element cannot be in the namespace of XML itself";
                return Err(StreamError::new(StreamCondition::BadNamespacePrefix, text));
            }
            Uri::Server => Uri::Client,
            uri => uri,
        };
        let declarations = self.declarations_of(bytes, mark, (uri, around), &judged.qualified);
        if judged.others + declarations > bounds.attributes_max {
            return Err(over_limit("an element", bounds.attributes_max, "attributes"));
        }
        self.in_force += declarations;
        if self.in_force > bounds.declarations_max {
            let max = bounds.declarations_max;
            return Err(over_limit("a stanza", max, "namespace declarations"));
        }
        let tag = Tag { bytes, name, uri, judged: &judged, scope: &self.scope };
        self.notes.take(self.open.len(), &tag, &mut self.attributes);
        self.open.push(Open { name: name.span(), uri, mark, children: 0, declarations });
        Ok(())
    }

    fn check_first_level(
        &self,
        bytes: &[u8],
        name: Name,
        uri: Uri,
        content: ContentNamespace,
    ) -> Result<(), StreamError> {
        if uri.is_content() && self.scope.name(uri, bytes) != content.as_str().as_bytes() {
            // RFC 6120, section 4.8.2: a stream has one content namespace, in both directions.
            let text = format!("stanzas on this stream are in {}", content.as_str());
            return Err(StreamError::new(StreamCondition::InvalidNamespace, text));
        }
        let is_stream = name.local().of(bytes) == b"stream"
            && self.scope.name(uri, bytes) == ns::STREAM.as_bytes();
        if is_stream {
            // COMPAT(ejabberd, 24.12): falling back from direct TLS, it may say its header twice.
            let text = "a stream cannot hold a stream: the header came twice";
            return Err(StreamError::new(StreamCondition::BadFormat, text));
        }
        Ok(())
    }

    fn close(&mut self) {
        if let Some(open) = self.open.pop() {
            self.scope.close(open.mark);
            self.in_force -= open.declarations;
        }
    }

    /// Judges the attributes of the start tag that was read last, and takes its declarations.
    fn attributes_of(&mut self, bytes: &[u8], bounds: &Bounds) -> Result<Judged, StreamError> {
        const TWICE: Fault = Fault::malformed("an attribute stands in a tag twice");
        if self.attributes.len() > bounds.attributes_max {
            return Err(over_limit("an element", bounds.attributes_max, "attributes"));
        }
        let mut judged = Judged::default();
        let mut is_qualified = false;
        for (number, attribute) in self.attributes.iter().enumerate() {
            let name = attribute.name.span().of(bytes);
            let mut before = self.attributes.iter().take(number);
            if before.any(|before| before.name.span().of(bytes) == name) {
                return Err(TWICE.into());
            }
            if self.scope.declare(bytes, attribute)? {
                judged.declares = true;
            } else {
                judged.others += 1;
                is_qualified |= attribute.name.prefix().is_some();
            }
        }
        if !is_qualified {
            return Ok(judged);
        }
        for attribute in &self.attributes {
            let Some(prefix) = attribute.name.prefix() else { continue };
            if prefix.of(bytes) == b"xmlns" {
                continue;
            }
            let (uri, local) = (self.scope.of_prefix(bytes, prefix)?, attribute.name.local());
            let is_twice = |(known, name): &(Uri, Span)| {
                name.of(bytes) == local.of(bytes) && self.scope.is_same(*known, uri, bytes)
            };
            if judged.qualified.iter().any(is_twice) {
                return Err(TWICE.into());
            }
            judged.qualified.push((uri, local));
        }
        Ok(judged)
    }

    /// How many namespaces must be declared on the new element, which is in the first `uri` within
    /// the second, when it is written again. The bytes that this adds are owed: whoever reads it
    /// next must not find it too long because of us.
    fn declarations_of(
        &mut self,
        bytes: &[u8],
        mark: usize,
        (uri, around): (Uri, Uri),
        qualified: &[(Uri, Span)],
    ) -> usize {
        /// ` xmlns:ns10=''`
        const SYNTAX_LEN: usize = 13;
        let own = !self.scope.is_same(uri, around, bytes);
        let mut owed = 0;
        let mut count = 0;
        let mut declare = |uri| {
            let name = self.scope.name(uri, bytes);
            count += 1;
            if !self.scope.declares_here(bytes, mark, name) {
                owed += name.len() + SYNTAX_LEN;
            }
        };
        if own {
            declare(uri);
        }
        for (number, (uri, _)) in qualified.iter().enumerate() {
            let is_known = |(known, _): &(Uri, Span)| self.scope.is_same(*known, *uri, bytes);
            if *uri != Uri::Xml && !qualified.iter().take(number).any(is_known) {
                declare(*uri);
            }
        }
        self.owed += owed;
        count
    }
}

use rxml::{Error, Namespace, NcName, XMLNS_XML, XMLNS_XMLNS};

use super::fault::{over_limit, stream_error};
use crate::StreamError;
use crate::framing::NO_NAMESPACE;

/// Which prefixes mean what, at the current place in the document.
#[derive(Debug)]
pub(super) struct Scope {
    declarations_max: usize,
    declarations: Vec<(Option<NcName>, Namespace<'static>)>,
    /// Where the declarations of each open element start.
    marks: Vec<usize>,
}

impl Scope {
    pub(super) fn new(declarations_max: usize) -> Self {
        Self { declarations_max, declarations: Vec::new(), marks: Vec::new() }
    }

    /// An element opens; its declarations follow.
    pub(super) fn open(&mut self) {
        self.marks.push(self.declarations.len());
    }

    /// The innermost element closes.
    pub(super) fn close(&mut self) {
        if let Some(mark) = self.marks.pop() {
            self.declarations.truncate(mark);
        }
    }

    /// `xmlns='uri'` or `xmlns:prefix='uri'` on the innermost element. What Namespaces in XML 1.0,
    /// section 3, reserves cannot be bound: the next parser would refuse it, if we passed it on.
    pub(super) fn declare(
        &mut self,
        prefix: Option<NcName>,
        uri: String,
    ) -> Result<(), StreamError> {
        match prefix.as_ref().map(|prefix| prefix.as_str()) {
            Some("xmlns") => return Err(stream_error(Error::ReservedNamespacePrefix)),
            // It is bound anyway.
            Some("xml") if uri == XMLNS_XML => return Ok(()),
            Some("xml") => return Err(stream_error(Error::ReservedNamespacePrefix)),
            _ if uri == XMLNS_XML || uri == XMLNS_XMLNS => {
                return Err(stream_error(Error::ReservedNamespaceName));
            }
            Some(_) if uri.is_empty() => return Err(stream_error(Error::EmptyNamespaceUri)),
            _ => {}
        }
        let mark = self.mark();
        if self.declarations.iter().skip(mark).any(|(known, _)| *known == prefix) {
            return Err(stream_error(Error::DuplicateAttribute));
        }
        if self.declarations.len() >= self.declarations_max {
            return Err(over_limit("a stanza", self.declarations_max, "namespace declarations"));
        }
        let namespace = Namespace::try_share_static(&uri).unwrap_or_else(|| uri.into());
        self.declarations.push((prefix, namespace));
        Ok(())
    }

    /// The namespace of an element with `prefix`.
    pub(super) fn of_element(&self, prefix: Option<&NcName>) -> Result<&Namespace<'static>, Error> {
        match self.find(prefix) {
            Some(namespace) => Ok(namespace),
            None if prefix.is_none() => Ok(Namespace::none()),
            None => Err(Error::UndeclaredNamespacePrefix(None)),
        }
    }

    /// The namespace of an attribute with `prefix`: without one it has none.
    pub(super) fn of_attribute(
        &self,
        prefix: Option<&NcName>,
    ) -> Result<Namespace<'static>, Error> {
        match prefix {
            None => Ok(NO_NAMESPACE),
            Some(_) => self.find(prefix).cloned().ok_or(Error::UndeclaredNamespacePrefix(None)),
        }
    }

    /// True if the innermost element itself declares `uri`.
    pub(super) fn declares_here(&self, uri: &str) -> bool {
        self.declarations.iter().skip(self.mark()).any(|(_, known)| *known == uri)
    }

    fn mark(&self) -> usize {
        self.marks.last().copied().unwrap_or_default()
    }

    fn find(&self, prefix: Option<&NcName>) -> Option<&Namespace<'static>> {
        if prefix.is_some_and(|prefix| *prefix == "xml") {
            return Some(Namespace::xml());
        }
        self.declarations
            .iter()
            .rev()
            .find(|(known, _)| known.as_ref() == prefix)
            .map(|(_, namespace)| namespace)
    }
}

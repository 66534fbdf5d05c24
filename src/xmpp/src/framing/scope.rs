use rxml::{Error, Namespace, NcName};

use super::fault::{over_limit, stream_error};
use crate::StreamError;

/// Namespace declarations in force at once, over all open elements. A lookup walks them all, so
/// this bounds the work that one prefix costs.
const DECLARATIONS_MAX: usize = 256;

/// Which prefixes mean what, at the current place in the document.
#[derive(Debug, Default)]
pub(super) struct Scope {
    declarations: Vec<(Option<NcName>, Namespace<'static>)>,
    /// Where the declarations of each open element start.
    marks: Vec<usize>,
}

impl Scope {
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

    /// `xmlns='uri'` or `xmlns:prefix='uri'` on the innermost element.
    pub(super) fn declare(
        &mut self,
        prefix: Option<NcName>,
        uri: String,
    ) -> Result<(), StreamError> {
        let mark = self.marks.last().copied().unwrap_or_default();
        if self.declarations.iter().skip(mark).any(|(known, _)| *known == prefix) {
            return Err(stream_error(Error::DuplicateAttribute));
        }
        if self.declarations.len() >= DECLARATIONS_MAX {
            return Err(over_limit("a stanza", DECLARATIONS_MAX, "namespace declarations"));
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
    ) -> Result<&Namespace<'static>, Error> {
        match prefix {
            None => Ok(Namespace::none()),
            Some(_) => self.find(prefix).ok_or(Error::UndeclaredNamespacePrefix(None)),
        }
    }

    /// True if any prefix in force means `uri`.
    pub(super) fn declares(&self, uri: &str) -> bool {
        self.declarations.iter().any(|(prefix, known)| prefix.is_some() && *known == uri)
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

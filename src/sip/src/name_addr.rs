use std::fmt;

use crate::{InvalidMessage, Params, Uri};

/// `"name" <uri>;params` or `uri;params` (RFC 3261 section 20.10): From, To, Contact, Route,
/// Record-Route, P-Asserted-Identity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameAddr {
    /// The display name, unquoted.
    pub display: Option<String>,
    /// The address.
    pub uri: Uri,
    /// Parameters of the header, not of the URI: `tag`, `epid`, `expires`, `q`.
    pub params: Params,
}

impl NameAddr {
    /// Without display name and parameters.
    pub fn new(uri: Uri) -> Self {
        Self { display: None, uri, params: Params::default() }
    }

    /// Parses one; nothing may follow.
    pub fn parse(text: &str) -> Result<Self, InvalidMessage> {
        let _ = text;
        todo!()
    }

    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&str> {
        self.params.get("tag")
    }

    /// With this tag.
    #[must_use]
    pub fn with_tag(mut self, tag: &str) -> Self {
        self.params.set("tag", Some(tag));
        self
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        todo!()
    }
}

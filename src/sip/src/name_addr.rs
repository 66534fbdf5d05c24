use std::fmt;

use crate::grammar::{is_space, quoted, trim, write_quoted};
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
        Self::read(text).map_err(|why| InvalidMessage::new("an address", why))
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        let text = trim(text);
        let (display, rest) = if text.starts_with('"') {
            let (said, rest) = quoted(text).ok_or("a quote is not closed")?;
            (Some(said), trim(rest))
        } else {
            match text.split_once('<') {
                None => return Self::read_bare(text),
                Some((words, _)) if !words.chars().all(is_word) => {
                    return Err("a name that needs quotes has none");
                }
                Some((words, _)) => {
                    let name = Some(trim(words)).filter(|name| !name.is_empty());
                    (name.map(str::to_owned), text.get(words.len()..).unwrap_or_default())
                }
            }
        };
        let rest = rest.strip_prefix('<').ok_or("no address in angle brackets")?;
        let (uri, params) = rest.split_once('>').ok_or("a bracket is not closed")?;
        let uri = Uri::parse(uri).map_err(|invalid| invalid.why)?;
        Ok(Self { display, uri, params: Params::parse_header(params)? })
    }

    /// Without brackets what follows a semicolon belongs to the header, and a URI that holds a
    /// comma, a question mark or a semicolon of its own cannot be told apart (section 20).
    fn read_bare(text: &str) -> Result<Self, &'static str> {
        let (uri, params) = text.split_at(text.find(';').unwrap_or(text.len()));
        if uri.contains(['?', ',']) || params.contains('@') {
            return Err("this address needs angle brackets");
        }
        let uri = Uri::parse(trim(uri)).map_err(|invalid| invalid.why)?;
        Ok(Self { display: None, uri, params: Params::parse_header(params)? })
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

/// What may stand in a name without quotes; more than tokens, because many write more.
fn is_word(c: char) -> bool {
    !c.is_ascii() || is_space(c) || (c.is_ascii_graphic() && !"\"<>,;:\\@".contains(c))
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            write_quoted(f, display)?;
            f.write_str(" ")?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_peers_write_them() {
        for (text, written) in [
            (
                "\"alice\"<sip:alice@partner.test>;tag=9d5c;epid=b84a",
                "\"alice\" <sip:alice@partner.test>;tag=9d5c;epid=b84a",
            ),
            ("Bob Builder <sip:b@d>", "\"Bob Builder\" <sip:b@d>"),
            ("sip:b@d;tag=x", "<sip:b@d>;tag=x"),
            (" sip:b@d ; tag = x ", "<sip:b@d>;tag=x"),
            ("\"a \\\" <b\" <sip:b@d;lr>;q=\"1\"", "\"a \\\" <b\" <sip:b@d;lr>;q=\"1\""),
            ("<tel:+1555>", "<tel:+1555>"),
            (
                "<sip:e:5061;transport=tls;opaque=state:F:Ci.R3;lr;ms-route-sig=a>;tag=AB",
                "<sip:e:5061;transport=tls;opaque=state:F:Ci.R3;lr;ms-route-sig=a>;tag=AB",
            ),
        ] {
            let parsed = NameAddr::parse(text).unwrap();
            assert_eq!(parsed.to_string(), written);
            assert_eq!(NameAddr::parse(written).unwrap(), parsed);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "<",
            "<>",
            "\"a <sip:b@d>",
            "\"a\" sip:b@d",
            "Bell, A <sip:b@d>",
            "<sip:b@d",
            "< sip:b@d >",
            "<sip:b@d> x",
            "<sip:b@d>;;",
            "sip:b@d?Route=x",
            "sip:user;par=u@d",
            "<sip:b@d>;tag=1;tag=2",
            "sip:a@b, sip:c@d",
        ] {
            assert!(NameAddr::parse(text).is_err(), "{text}");
        }
    }
}

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::Domain;

mod known;

/// RFC 7622, section 3: no part is longer, in octets.
const PART_BYTES_MAX: usize = 1023;

/// An XMPP address, prepared (RFC 6122 profiles) and with its domain in the form of [`Domain`].
///
/// Two addresses are equal exactly when XMPP says they are. `Display` writes the wire form, with
/// the domain in U-labels.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Jid {
    domain: Domain,
    local: Option<Arc<str>>,
    resource: Option<Arc<str>>,
}

/// Text that is not an XMPP address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not an XMPP address: {reason}")]
pub struct InvalidJid {
    text: String,
    reason: String,
}

impl Jid {
    /// The address of a server.
    pub fn of_domain(domain: Domain) -> Self {
        Self { domain, local: None, resource: None }
    }

    /// The address of an account. Fails if `local` cannot be prepared.
    pub fn of_account(local: &str, domain: &Domain) -> Result<Self, InvalidJid> {
        let local = prepare_local(local).map_err(|reason| InvalidJid::new(local, reason))?;
        Ok(Self { domain: domain.clone(), local: Some(local), resource: None })
    }

    /// The part before `@`.
    pub fn local(&self) -> Option<&str> {
        self.local.as_deref()
    }

    /// The part between `@` and `/`.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The part after the first `/`.
    pub fn resource(&self) -> Option<&str> {
        self.resource.as_deref()
    }

    /// True without a resource.
    pub fn is_bare(&self) -> bool {
        self.resource.is_none()
    }

    /// The same address without its resource.
    pub fn to_bare(&self) -> Self {
        Self { resource: None, ..self.clone() }
    }

    /// The same account at `resource`. Fails if `resource` cannot be prepared.
    pub fn with_resource(&self, resource: &str) -> Result<Self, InvalidJid> {
        let resource =
            prepare_resource(resource).map_err(|reason| InvalidJid::new(resource, reason))?;
        Ok(Self { resource: Some(resource), ..self.clone() })
    }

    /// True if both are the same but for the resource.
    pub fn same_bare(&self, other: &Self) -> bool {
        self.domain == other.domain && self.local == other.local
    }
}

impl InvalidJid {
    fn new(text: &str, reason: String) -> Self {
        Self { text: text.chars().take(80).collect(), reason }
    }
}

impl FromStr for Jid {
    type Err = InvalidJid;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        known::find_or(input, Self::prepare)
    }
}

impl Jid {
    fn prepare(input: &str) -> Result<Self, InvalidJid> {
        let invalid = |reason: String| InvalidJid::new(input, reason);
        // RFC 7622, section 3.1: the first `/` ends the domain, then the first `@` begins it.
        let (bare, resource) = match input.split_once('/') {
            Some((bare, resource)) => (bare, Some(resource)),
            None => (input, None),
        };
        let (local, domain) = match bare.split_once('@') {
            Some((local, domain)) => (Some(local), domain),
            None => (None, bare),
        };
        Ok(Self {
            domain: domain.parse::<Domain>().map_err(|error| invalid(error.to_string()))?,
            local: local.map(prepare_local).transpose().map_err(invalid)?,
            resource: resource.map(prepare_resource).transpose().map_err(invalid)?,
        })
    }
}

/// Nodeprep (RFC 6122, appendix A), which is what the servers that we meet compare by.
fn prepare_local(text: &str) -> Result<Arc<str>, String> {
    let part = jid::NodePart::new(text).map_err(|error| error.to_string())?;
    // The tables of Nodeprep end with Unicode 3.2, those of normalization do not: U+213B becomes
    // `FAX`, and only the next reader would make that `fax`. An address is one or the other.
    if !text.is_ascii() && !jid::NodePart::new(part.as_str()).is_ok_and(|again| *again == *part) {
        return Err("a sign before `@` has no settled form; write it in plain letters".to_owned());
    }
    Ok(part.as_str().into())
}

/// Resourceprep (RFC 6122, appendix B) where it can. It ends with Unicode 3.2, and people like newer
/// signs in the names of their devices: such a name is taken as it is, if all its characters are
/// fit to be shown (in the spirit of RFC 7622, section 3.4, whose tables end with Unicode 6.3 in
/// the libraries there are). A resource is compared, never looked at for meaning.
fn prepare_resource(text: &str) -> Result<Arc<str>, String> {
    match jid::ResourcePart::new(text) {
        Ok(part) => Ok(part.as_str().into()),
        Err(_)
            if !text.is_empty()
                && text.len() <= PART_BYTES_MAX
                && text.chars().all(can_be_shown) =>
        {
            Ok(text.into())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// False for what Stringprep prohibits in tables C.1.2 to C.9 (RFC 3454): controls, spaces that are
/// not the space, private use, non-characters, signs that turn the direction of text, tags.
fn can_be_shown(sign: char) -> bool {
    let prohibited = sign.is_control()
        || (sign.is_whitespace() && sign != ' ')
        || matches!(
            sign,
            '\u{ad}' | '\u{340}' | '\u{341}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2ff0}'..='\u{2ffb}' | '\u{e000}'..='\u{f8ff}'
            | '\u{fdd0}'..='\u{fdef}' | '\u{feff}' | '\u{fff9}'..='\u{ffff}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..='\u{10ffff}'
        );
    !prohibited && u32::from(sign) & 0xfffe != 0xfffe
}

impl From<Domain> for Jid {
    fn from(domain: Domain) -> Self {
        Self::of_domain(domain)
    }
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(local) = &self.local {
            write!(f, "{local}@")?;
        }
        write!(f, "{}", self.domain.to_unicode())?;
        if let Some(resource) = &self.resource {
            write!(f, "/{resource}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(text: &str) -> Jid {
        text.parse().unwrap()
    }

    #[test]
    fn spellings_compare_equal() {
        assert_eq!(jid("JULIET@Capulet.EXAMPLE./Balcony"), jid("juliet@capulet.example/Balcony"));
        assert_eq!(jid("a@bücher.example"), jid("a@xn--bcher-kva.example"));
        assert_ne!(jid("a@b.example/x"), jid("a@b.example/X"));
    }

    #[test]
    fn wire_form_has_u_labels() {
        assert_eq!(jid("a@xn--bcher-kva.example/r").to_string(), "a@bücher.example/r");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "@a.example", "a@", "a b@c.example", "a@192.0.2.1", "a@b.example/", "a@*.example"]
        {
            assert!(text.parse::<Jid>().is_err(), "{text}");
        }
    }

    #[test]
    fn newer_signs_are_fit_for_a_resource_but_not_for_an_account() {
        assert_eq!(jid("a@b.example/phone \u{1f973}").resource(), Some("phone \u{1f973}"));
        assert_eq!(
            jid("a@b.example").with_resource("\u{1f973}").unwrap(),
            jid("a@b.example/\u{1f973}")
        );
        for text in [
            "\u{1f973}@b.example",
            "a@b.example/\u{7}",
            "a@b.example/x\u{0}",
            "a@b.example/\u{1f973}\u{202e}",
            "a@b.example/\u{1fffe}",
        ] {
            assert!(text.parse::<Jid>().is_err(), "{text:?}");
        }
    }

    /// Found by fuzzing: these would be other accounts here than for whoever reads them next.
    #[test]
    fn signs_that_are_prepared_twice_before_they_settle_are_refused() {
        for text in ["\u{213b}@b.example", "x\u{213b}@b.example/r"] {
            assert!(text.parse::<Jid>().is_err(), "{text}");
        }
        // U+2121 was in the tables already.
        assert_eq!(jid("\u{2121}@b.example"), jid("tel@b.example"));
        assert_eq!(jid("\u{c4}@b.example"), jid("\u{e4}@b.example"));
    }

    #[test]
    fn parts_are_bounded() {
        let fits = |len: usize| {
            format!("{}@b.example/{}", "a".repeat(len), "r".repeat(len)).parse::<Jid>().is_ok()
        };
        assert!(fits(1023) && !fits(1024));
        let emoji = format!("a@b.example/{}", "\u{1f973}".repeat(256));
        assert!(emoji.parse::<Jid>().is_err());
    }

    #[test]
    fn parts() {
        let full = jid("a@b.example/c/d@e");
        assert_eq!(
            (full.local(), full.domain().as_str(), full.resource()),
            (Some("a"), "b.example", Some("c/d@e"))
        );
        assert!(full.to_bare().is_bare() && full.same_bare(&jid("a@b.example")));
    }
}

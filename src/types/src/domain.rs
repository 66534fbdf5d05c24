use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A DNS domain in the one form peers are compared by: lower-case A-labels, no trailing dot.
///
/// `bücher.example`, `BÜCHER.example.` and `xn--bcher-kva.example` are the same `Domain`.
#[derive(Clone, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(Arc<str>);

/// Text that is not a domain name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a domain name: write it like `example.com`, without scheme, port or address")]
pub struct InvalidDomain(String);

impl Domain {
    /// The A-label form, as it goes into SNI, DNS queries, and comparisons.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The U-label form, as it goes into an address on the wire (RFC 7622, section 3.2); the
    /// A-label form where peers would read the U-labels as another name.
    pub fn to_unicode(&self) -> Cow<'_, str> {
        if self.0.contains("xn--") {
            let (name, result) = idna::domain_to_unicode(&self.0);
            // Servers that still follow IDNA 2003 read these four as another name (UTS 46, section
            // 4): `faß.example` would become `fass.example`. The A-label means one thing to all.
            let deviates = name.contains(['ß', 'ς', '\u{200c}', '\u{200d}']);
            if result.is_ok() && !deviates {
                return Cow::Owned(name);
            }
        }
        Cow::Borrowed(&self.0)
    }

    /// True if `self` lies below `parent`, at any depth; a domain does not lie below itself.
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0.strip_suffix(&*parent.0).is_some_and(|head| head.ends_with('.') && head.len() > 1)
    }

    /// The domain one label up, if there is one.
    pub fn parent(&self) -> Option<Self> {
        self.0.split_once('.').map(|(_, parent)| Self(parent.into()))
    }
}

impl FromStr for Domain {
    type Err = InvalidDomain;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDomain(input.chars().take(80).collect());
        // RFC 1035, section 2.3.4, in octets of the longest form that could still become legal.
        if input.len() > 1023 {
            return Err(invalid());
        }
        let name = input.strip_suffix('.').unwrap_or(input);
        let ascii = idna::domain_to_ascii_strict(name).map_err(|_| invalid())?;
        // An address literal is a way to reach a peer, never the name of one.
        let is_address = ascii
            .rsplit('.')
            .next()
            .is_none_or(|tld| tld.is_empty() || tld.starts_with(char::is_numeric));
        if is_address { Err(invalid()) } else { Ok(Self(ascii.into())) }
    }
}

impl TryFrom<String> for Domain {
    type Error = InvalidDomain;

    fn try_from(input: String) -> Result<Self, Self::Error> {
        input.parse()
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0.as_ref().to_owned()
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        text.parse().unwrap()
    }

    #[test]
    fn every_spelling_is_the_same_domain() {
        for spelling in ["bücher.example", "BÜCHER.example.", "xn--bcher-kva.example"] {
            assert_eq!(domain(spelling).as_str(), "xn--bcher-kva.example");
            assert_eq!(domain(spelling).to_unicode(), "bücher.example");
        }
    }

    #[test]
    fn names_that_two_standards_read_differently_stay_a_labels() {
        assert_eq!(domain("faß.example").as_str(), "xn--fa-hia.example");
        assert_eq!(domain("faß.example").to_unicode(), "xn--fa-hia.example");
        assert_ne!(domain("faß.example"), domain("fass.example"));
    }

    #[test]
    fn what_is_not_a_domain_is_refused() {
        let long = "a".repeat(64) + ".example";
        for text in [
            "",
            ".",
            "a..b",
            "192.0.2.1",
            "[::1]",
            "a b",
            "*.example",
            "exa_mple.example",
            "http://a",
            &long,
        ] {
            assert!(text.parse::<Domain>().is_err(), "{text}");
        }
    }

    #[test]
    fn below_means_whole_labels() {
        assert!(domain("a.b.example").is_below(&domain("b.example")));
        for other in ["b.example", "ab.example", "example", "b.example.evil"] {
            assert!(!domain(other).is_below(&domain("b.example")), "{other}");
        }
    }
}

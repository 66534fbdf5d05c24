use std::fmt;
use std::str::FromStr;

use gatehouse_types::{Domain, InvalidDomain};
use serde::{Deserialize, Serialize};

/// Which domains a rule speaks of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    /// `*`: every domain.
    Any,
    /// `*.them.example`: every domain below this one, at any depth, but not itself.
    Below(Domain),
    /// `them.example`: this domain and no other.
    Exact(Domain),
}

/// Text that is no pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidPattern {
    /// `*.` and nothing behind it.
    #[error("`*.` must be followed by a domain, like `*.them.example`")]
    NothingBelow,
    /// A star somewhere else.
    #[error("`{0}`: a `*` stands alone or as `*.` at the beginning, like `*.them.example`")]
    MisplacedStar(String),
    /// Not a domain.
    #[error(transparent)]
    Domain(#[from] InvalidDomain),
}

impl Pattern {
    /// True if the pattern speaks of `domain`.
    pub fn matches(&self, domain: &Domain) -> bool {
        match self {
            Self::Any => true,
            Self::Below(parent) => domain.is_below(parent),
            Self::Exact(exact) => domain == exact,
        }
    }

    /// True if every domain that `other` speaks of is one that `self` speaks of.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) | (Self::Exact(_), Self::Below(_)) => false,
            (_, Self::Exact(domain)) => self.matches(domain),
            (Self::Below(wide), Self::Below(narrow)) => narrow == wide || narrow.is_below(wide),
        }
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        if input == "*" {
            return Ok(Self::Any);
        }
        let (is_below, name) = match input.strip_prefix("*.") {
            Some("") => return Err(InvalidPattern::NothingBelow),
            Some(rest) => (true, rest),
            None => (false, input),
        };
        if name.contains('*') {
            return Err(InvalidPattern::MisplacedStar(input.chars().take(80).collect()));
        }
        let domain = name.parse::<Domain>()?;
        Ok(if is_below { Self::Below(domain) } else { Self::Exact(domain) })
    }
}

impl TryFrom<String> for Pattern {
    type Error = InvalidPattern;

    fn try_from(input: String) -> Result<Self, Self::Error> {
        input.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(domain) => write!(f, "*.{domain}"),
            Self::Exact(domain) => write!(f, "{domain}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn matches_what_it_says_and_nothing_else() {
        for (text, yes, no) in [
            ("them.example", &["them.example"][..], &["a.them.example", "them.example.evil"][..]),
            (
                "*.them.example",
                &["a.them.example", "b.a.them.example"],
                &["them.example", "evilthem.example", "a.them.example.evil"],
            ),
            ("*", &["them.example", "a.b"], &[]),
        ] {
            for name in yes {
                assert!(pattern(text).matches(&name.parse().unwrap()), "{text} must match {name}");
            }
            for name in no {
                assert!(!pattern(text).matches(&name.parse().unwrap()), "{text} matches {name}");
            }
        }
    }

    #[test]
    fn covers_means_every_domain_of_the_other() {
        for (wide, narrow) in [
            ("*", "*"),
            ("*", "*.b.example"),
            ("*.example", "*.b.example"),
            ("*.b.example", "*.b.example"),
            ("*.b.example", "a.b.example"),
            ("b.example", "b.example"),
        ] {
            assert!(pattern(wide).covers(&pattern(narrow)), "{wide} covers {narrow}");
            if wide != narrow {
                assert!(!pattern(narrow).covers(&pattern(wide)), "{narrow} covers {wide}");
            }
        }
        assert!(!pattern("*.b.example").covers(&pattern("b.example")));
        assert!(!pattern("b.example").covers(&pattern("*.b.example")));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (text, want) in [
            ("*.", "must be followed by a domain"),
            ("*them.example", "at the beginning"),
            ("a.*.example", "at the beginning"),
            ("**", "at the beginning"),
            ("http://them.example", "is not a domain name"),
            ("192.0.2.1", "is not a domain name"),
            ("", "is not a domain name"),
        ] {
            let error = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn written_as_read() {
        for text in ["*", "*.them.example", "them.example"] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }
}

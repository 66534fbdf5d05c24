use std::fmt;

use gatehouse_types::Domain;

/// What a pattern is compared with.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RouteBy {
    /// The part before the `@`. Narrower than any pattern for a domain, so it comes first.
    User,
    /// The part after it.
    Domain,
}

/// Which addresses a static route is for.
///
/// For users `.` is any one character and `*`, at the end only, any number of them. In a domain `.`
/// is itself and `*` is any number of characters. `\*`, and for users `\.`, mean the character.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoutePattern {
    by: RouteBy,
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    Is(char),
    One,
    Many,
}

/// Text that is no pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRoutePattern {
    /// Nothing.
    #[error("a pattern is empty: write `*` for everything")]
    Empty,
    /// Over 255 characters.
    #[error("a pattern has {0} characters: at most 255 are allowed; end it earlier, with `*`")]
    TooLong(usize),
    /// A character that no address has.
    #[error("`{0}` stands in no address: remove it from the pattern")]
    Character(char),
    /// A backslash before something that means itself anyway.
    #[error("a backslash stands only before `*` or `.`: remove it")]
    Backslash,
    /// An asterisk that is not at the end of a pattern for users.
    #[error(
        "`*` stands only at the end of a pattern for users: write `.` for each character, or `\\*` for the character itself"
    )]
    AsteriskInside,
}

/// The longest pattern, in characters.
const CHARS_MAX: usize = 255;

impl RoutePattern {
    /// Reads one. Letters are compared without regard to case.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn parse(by: RouteBy, text: &str) -> Result<Self, InvalidRoutePattern> {
        let chars = text.chars().count();
        if chars > CHARS_MAX {
            return Err(InvalidRoutePattern::TooLong(chars));
        }
        let mut parts = Vec::with_capacity(chars);
        let mut rest = text.chars();
        while let Some(sign) = rest.next() {
            if parts.last() == Some(&Part::Many) && by == RouteBy::User {
                return Err(InvalidRoutePattern::AsteriskInside);
            }
            let part = match (sign, by) {
                ('*', _) if parts.last() == Some(&Part::Many) => continue,
                ('*', _) => Part::Many,
                ('.', RouteBy::User) => Part::One,
                ('\\', _) => match rest.next() {
                    Some(plain @ ('*' | '.')) => Part::Is(plain),
                    _ => return Err(InvalidRoutePattern::Backslash),
                },
                (sign, _) if is_in_an_address(sign, by) => Part::Is(lower(sign)),
                (sign, _) => return Err(InvalidRoutePattern::Character(sign)),
            };
            parts.push(part);
        }
        if parts.is_empty() {
            return Err(InvalidRoutePattern::Empty);
        }
        Ok(Self { by, text: text.to_lowercase(), parts })
    }

    /// What it is compared with.
    pub fn by(&self) -> RouteBy {
        self.by
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The one domain that it means, if it is a pattern for domains without a wildcard.
    pub fn single_domain(&self) -> Option<Domain> {
        let is_single = self.by == RouteBy::Domain && !self.parts.contains(&Part::Many);
        let literal = |part: &Part| match part {
            Part::Is(sign) => Some(*sign),
            Part::One | Part::Many => None,
        };
        let text: String = self.parts.iter().filter_map(literal).collect();
        is_single.then(|| text.parse().ok()).flatten()
    }

    /// True if the address, its user part without percent-encoding, is one of those meant.
    pub(super) fn matches(&self, user: Option<&str>, domain: &str) -> bool {
        match self.by {
            RouteBy::User => user.is_some_and(|user| fits(&self.parts, user)),
            RouteBy::Domain => fits(&self.parts, domain),
        }
    }

    /// True if a wildcard stands before something that is none: then one of the embed templates
    /// must allow it.
    pub(super) fn is_embedded(&self) -> bool {
        let literal = |part: &Part| matches!(part, Part::Is(_));
        self.by == RouteBy::User
            && self
                .parts
                .iter()
                .position(|part| *part == Part::One)
                .and_then(|at| self.parts.get(at..))
                .is_some_and(|rest| rest.iter().any(literal))
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Greater for the one that says more: users before domains, then what is written out, then
    /// the single characters, then whether the end is open.
    pub(super) fn specificity(&self) -> (bool, usize, usize, bool) {
        let count =
            |wanted: fn(&Part) -> bool| self.parts.iter().filter(|part| wanted(part)).count();
        (
            self.by == RouteBy::User,
            count(|part| matches!(part, Part::Is(_))),
            count(|part| *part == Part::One),
            !self.parts.contains(&Part::Many),
        )
    }
}

fn lower(sign: char) -> char {
    let mut lower = sign.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(one), None) => one,
        _ => sign,
    }
}

fn is_in_an_address(sign: char, by: RouteBy) -> bool {
    match by {
        RouteBy::User => !sign.is_control() && !sign.is_whitespace() && !"\"<>@".contains(sign),
        RouteBy::Domain => sign.is_ascii_alphanumeric() || ".-_".contains(sign),
    }
}

/// Whether the whole text fits. Looks back to the last `*` only, so the work is bounded by the
/// product of both lengths.
fn fits(parts: &[Part], text: &str) -> bool {
    let text: Vec<char> = text.chars().map(lower).collect();
    let (mut at, mut part) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while at < text.len() {
        let matched = match (parts.get(part), text.get(at)) {
            (Some(Part::Many), _) => {
                retry = Some((part, at));
                part += 1;
                continue;
            }
            (Some(Part::One), Some(_)) => true,
            (Some(Part::Is(wanted)), Some(found)) => wanted == found,
            _ => false,
        };
        if matched {
            (at, part) = (at + 1, part + 1);
        } else if let Some((star, from)) = retry {
            retry = Some((star, from + 1));
            (at, part) = (from + 1, star + 1);
        } else {
            return false;
        }
    }
    parts.get(part..).is_some_and(|rest| rest.iter().all(|part| *part == Part::Many))
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Result<RoutePattern, InvalidRoutePattern> {
        RoutePattern::parse(RouteBy::User, text)
    }

    #[test]
    fn one_domain_or_many() {
        let single = |text: &str| {
            let pattern = RoutePattern::parse(RouteBy::Domain, text).unwrap();
            pattern.single_domain().map(|domain| domain.to_string())
        };
        assert_eq!(single("Phones.example").as_deref(), Some("phones.example"));
        assert_eq!(single("*.example"), None);
        assert_eq!(single("a..b"), None, "it is no domain");
        assert_eq!(user("phones").unwrap().single_domain(), None);
    }

    #[test]
    fn patterns_for_users() {
        for (pattern, yes, no) in [
            ("1001", &["1001"][..], &["100", "10011", "x1001"][..]),
            ("10..", &["1001", "10ab"], &["100", "10011"]),
            ("74*", &["74", "741", "74abc"], &["7", "174"]),
            ("*", &["", "anything"], &[]),
            (r"a\.b\*", &["a.b*", "A.B*"], &["axb*", "a.bc"]),
            ("Bob", &["bob", "BOB"], &["bo"]),
            (".*", &["a", "ab"], &[""]),
        ] {
            let parsed = user(pattern).unwrap();
            for text in yes {
                assert!(parsed.matches(Some(text), "d.example"), "{pattern} {text}");
            }
            for text in no {
                assert!(!parsed.matches(Some(text), "d.example"), "{pattern} {text}");
            }
            assert!(!parsed.matches(None, "1001"), "a domain is no user");
        }
    }

    #[test]
    fn patterns_for_domains() {
        for (pattern, yes, no) in [
            (
                "phones.example",
                &["phones.example"][..],
                &["phonesxexample", "a.phones.example"][..],
            ),
            ("*.phones.example", &["a.phones.example", "b.c.phones.example"], &["phones.example"]),
            ("pbx*.example", &["pbx.example", "pbx1.example"], &["pbx1.example.net"]),
            ("10.1.2.*", &["10.1.2.3"], &["10.1.20.3"]),
            ("a*b*c", &["abc", "axbybzc"], &["acb", "abcd"]),
        ] {
            let parsed = RoutePattern::parse(RouteBy::Domain, pattern).unwrap();
            for text in yes {
                assert!(parsed.matches(Some("u"), text), "{pattern} {text}");
            }
            for text in no {
                assert!(!parsed.matches(Some("u"), text), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_says_what_to_write() {
        assert_eq!(user(""), Err(InvalidRoutePattern::Empty));
        assert_eq!(user("7*4"), Err(InvalidRoutePattern::AsteriskInside));
        assert_eq!(user("**"), Err(InvalidRoutePattern::AsteriskInside));
        assert_eq!(user(r"7\4"), Err(InvalidRoutePattern::Backslash));
        assert_eq!(user("7\\"), Err(InvalidRoutePattern::Backslash));
        assert_eq!(user("a b"), Err(InvalidRoutePattern::Character(' ')));
        assert_eq!(user(&"1".repeat(256)), Err(InvalidRoutePattern::TooLong(256)));
        assert!(user(&"1".repeat(255)).is_ok());
        let domain = RoutePattern::parse(RouteBy::Domain, "ä.example");
        assert_eq!(domain, Err(InvalidRoutePattern::Character('ä')));
    }

    #[test]
    fn a_pattern_that_would_explode_does_not() {
        let pattern = format!("{}b", "a*".repeat(100));
        let parsed = RoutePattern::parse(RouteBy::Domain, &pattern).unwrap();
        assert!(!parsed.matches(None, &"a".repeat(1000)));
    }

    #[test]
    fn embedded_is_what_stands_before_more() {
        for (pattern, embedded) in
            [("10..", false), ("10..*", false), ("1..2", true), ("..2*", true), (r"1\.2", false)]
        {
            assert_eq!(user(pattern).unwrap().is_embedded(), embedded, "{pattern}");
        }
    }
}

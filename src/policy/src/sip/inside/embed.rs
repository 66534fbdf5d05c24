use std::fmt;
use std::str::FromStr;

use super::RoutePattern;
use super::pattern::Part;

/// How many templates there may be; each allows any number of routes.
pub(super) const TEMPLATES_MAX: usize = 5;

/// The longest template, in characters.
const CHARS_MAX: usize = 255;

/// What a pattern with wildcards inside may look like: its first digits, how long it is, and where
/// its wildcards stand; `x` stands for a digit after them. Guards against a pattern that catches
/// more numbers than was meant, because a dot was dropped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EmbedTemplate {
    text: String,
}

/// Text that is no template.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is no embed template: write its first digits, `.` for each wildcard, `x` for each digit after them, and `*` at the end if it is open, such as `74..78xxxxx*`"
)]
pub struct InvalidTemplate(String);

impl EmbedTemplate {
    /// True if the pattern has this form.
    pub(super) fn allows(&self, pattern: &RoutePattern) -> bool {
        let parts = pattern.parts();
        self.text.chars().count() == parts.len()
            && self.text.chars().zip(parts).all(|(sign, part)| match (sign, part) {
                ('.', Part::One) | ('*', Part::Many) => true,
                ('x', Part::Is(found)) => found.is_ascii_digit(),
                (sign, Part::Is(found)) => sign == *found,
                _ => false,
            })
    }
}

impl FromStr for EmbedTemplate {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let body = text.strip_suffix('*').unwrap_or(text);
        let known = |sign: char| sign.is_ascii_digit() || sign == '.' || sign == 'x';
        let starts = body.strip_prefix('+').unwrap_or(body);
        let is_template = text.len() <= CHARS_MAX
            && starts.starts_with(|sign: char| sign.is_ascii_digit())
            && starts.chars().all(known)
            && body.contains('.')
            && !body.ends_with('.');
        if is_template {
            return Ok(Self { text: text.to_owned() });
        }
        Err(InvalidTemplate(text.chars().filter(|sign| !sign.is_control()).take(80).collect()))
    }
}

impl fmt::Display for EmbedTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::inside::RouteBy;

    #[test]
    fn a_template_fixes_prefix_length_and_wildcards() {
        for (template, yes, no) in [
            (
                "74..78xxxxx*",
                &["74..7812345*", "74..7867890*", "74..7811993*"][..],
                &["73..7812345*", "74..781*", "74...7812345*", "74..78123456", "74..78a2345*"][..],
            ),
            (
                "471....xx*",
                &["471....34*", "471....55*"],
                // One dot fewer is another length.
                &["471...55*", "47...344*", "471...4*", "471.450*"],
            ),
        ] {
            let parsed: EmbedTemplate = template.parse().unwrap();
            for (patterns, wanted) in [(yes, true), (no, false)] {
                for text in patterns {
                    let pattern = RoutePattern::parse(RouteBy::User, text).unwrap();
                    assert_eq!(parsed.allows(&pattern), wanted, "{template} {text}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in ["", "74", "74..", "74..*", "..74", "7*4.1", "74 .1", "x.1", "\u{2026}"] {
            assert!(text.parse::<EmbedTemplate>().is_err(), "{text}");
        }
    }
}

use std::fmt;

use crate::grammar::{is_space, is_token, number, quoted, seconds, trim};
use crate::{InvalidMessage, Method, Params};

/// The CSeq header: number below 2^31, and method.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CSeq {
    /// The number.
    pub number: u32,
    /// The method.
    pub method: Method,
}

impl CSeq {
    /// Parses the value of a CSeq header. Numbers of 2^31 and more are refused.
    pub fn parse(text: &str) -> Result<Self, InvalidMessage> {
        let invalid = |why| InvalidMessage::new("CSeq", why);
        let (digits, method) =
            trim(text).split_once(is_space).ok_or_else(|| invalid("no number and method"))?;
        let number = number(digits, i32::MAX.unsigned_abs()).ok_or_else(|| invalid("no number"))?;
        let method = Method::parse(trim(method)).ok_or_else(|| invalid("no method"))?;
        Ok(Self { number, method })
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

/// The Event header (RFC 6665).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// `presence` and so on.
    pub package: String,
    /// The `id` parameter.
    pub id: Option<String>,
}

impl Event {
    /// Parses the value of an Event header.
    pub fn parse(text: &str) -> Result<Self, InvalidMessage> {
        let (package, params) = word_and_params(text, "Event")?;
        Ok(Self { package: package.to_owned(), id: params.get("id").map(str::to_owned) })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut params = Params::default();
        if let Some(id) = &self.id {
            params.set("id", Some(id));
        }
        write!(f, "{}{params}", self.package)
    }
}

/// A token and what follows its semicolon.
fn word_and_params<'a>(
    text: &'a str,
    what: &'static str,
) -> Result<(&'a str, Params), InvalidMessage> {
    let (word, params) = text.split_at(text.find(';').unwrap_or(text.len()));
    let params = Params::parse_header(params).map_err(|why| InvalidMessage::new(what, why))?;
    match trim(word) {
        word if is_token(word) => Ok((word, params)),
        _ => Err(InvalidMessage::new(what, "no name")),
    }
}

/// The Subscription-State header (RFC 6665 section 4.1.3).
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "the names are those on the wire")]
pub enum SubscriptionState {
    Active {
        expires: Option<u32>,
    },
    Pending {
        expires: Option<u32>,
    },
    /// `reason` in lower case: `rejected`, `timeout`, `deactivated`, `probation`, `giveup`,
    /// `noresource`, `invariant`.
    Terminated {
        reason: Option<String>,
        retry_after: Option<u32>,
    },
}

impl SubscriptionState {
    /// Parses the value of a Subscription-State header.
    pub fn parse(text: &str) -> Result<Self, InvalidMessage> {
        const WHAT: &str = "Subscription-State";
        let (state, params) = word_and_params(text, WHAT)?;
        let number = |name| match params.get(name) {
            None => Ok(None),
            Some(text) => match seconds(text) {
                Some(seconds) => Ok(Some(seconds)),
                None => Err(InvalidMessage::new(WHAT, "a time is no number")),
            },
        };
        let expires = number("expires")?;
        match state.to_ascii_lowercase().as_str() {
            "active" => Ok(Self::Active { expires }),
            "pending" => Ok(Self::Pending { expires }),
            "terminated" => Ok(Self::Terminated {
                reason: params.get("reason").map(str::to_ascii_lowercase),
                retry_after: number("retry-after")?,
            }),
            _ => Err(InvalidMessage::new(WHAT, "no state we know")),
        }
    }
}

impl fmt::Display for SubscriptionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut params = Params::default();
        let mut add = |name, seconds: &Option<u32>| {
            if let Some(seconds) = seconds {
                params.set(name, Some(&seconds.to_string()));
            }
        };
        let state = match self {
            Self::Active { expires } => {
                add("expires", expires);
                "active"
            }
            Self::Pending { expires } => {
                add("expires", expires);
                "pending"
            }
            Self::Terminated { reason, retry_after } => {
                add("retry-after", retry_after);
                if let Some(reason) = reason {
                    params.set("reason", Some(reason));
                }
                "terminated"
            }
        };
        write!(f, "{state}{params}")
    }
}

/// A media type with its parameters; type and subtype in lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContentType {
    /// `text/plain`.
    pub essence: String,
    /// `charset`, `boundary`, `msgr` and so on.
    pub params: Params,
}

impl ContentType {
    /// Parses the value of a Content-Type header or of a line in Accept.
    pub fn parse(text: &str) -> Result<Self, InvalidMessage> {
        let invalid = |why| InvalidMessage::new("a media type", why);
        let (essence, params) = text.split_at(text.find(';').unwrap_or(text.len()));
        let (kind, subtype) = essence.split_once('/').ok_or_else(|| invalid("no slash"))?;
        let (kind, subtype) = (trim(kind), trim(subtype));
        if !is_token(kind) || !is_token(subtype) {
            return Err(invalid("no type and subtype"));
        }
        let essence = format!("{kind}/{subtype}").to_ascii_lowercase();
        Ok(Self { essence, params: Params::parse_header(params).map_err(invalid)? })
    }
}

/// One Warning (RFC 3261 section 20.43).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// 300 to 399.
    pub code: u16,
    /// Who warns.
    pub agent: String,
    /// For people.
    pub text: String,
}

impl Warning {
    /// Parses one element of a Warning header.
    pub fn parse(text: &str) -> Result<Self, InvalidMessage> {
        Self::read(trim(text)).ok_or_else(|| InvalidMessage::new("Warning", "not as it should be"))
    }

    fn read(text: &str) -> Option<Self> {
        let (code, rest) = text.split_once(is_space)?;
        let code = number(code, 399).and_then(|code| u16::try_from(code).ok())?;
        let (agent, rest) = trim(rest).split_once(is_space)?;
        let (text, rest) = quoted(trim(rest))?;
        let good = code >= 300 && trim(rest).is_empty();
        good.then(|| Self { code, agent: agent.to_owned(), text })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.code, self.agent)?;
        crate::grammar::write_quoted(f, &self.text)
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.essence, self.params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_values_are_read_as_they_are_written() {
        for text in ["1 INVITE", "2147483647 BENOTIFY"] {
            assert_eq!(CSeq::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "active;expires=3600",
            "pending",
            "terminated;reason=rejected",
            "terminated;retry-after=5;reason=probation",
        ] {
            assert_eq!(SubscriptionState::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(CSeq::parse("0009\t INVITE").unwrap().to_string(), "9 INVITE");
        assert_eq!(Event::parse("presence ; id=\"x\"").unwrap().to_string(), "presence;id=x");
        let html = ContentType::parse("Text/HTML ; charset=UTF-8; msgr=WAAt").unwrap();
        assert_eq!(
            (html.essence.as_str(), html.params.get("charset")),
            ("text/html", Some("UTF-8"))
        );
        let text = "309 lcs.test \"Message \\\"contents\\\" not allowed\"";
        let warning = Warning::parse(text).unwrap();
        assert_eq!(
            (warning.code, warning.text.as_str()),
            (309, "Message \"contents\" not allowed")
        );
        assert_eq!(warning.to_string(), text);
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "1", "INVITE", "-1 INVITE", "+1 INVITE", "2147483648 INVITE", "1 IN VITE"]
        {
            assert!(CSeq::parse(text).is_err(), "{text}");
        }
        for text in ["", "gone", "active;expires=-1", "active;", "active;expires=x"] {
            assert!(SubscriptionState::parse(text).is_err(), "{text}");
        }
        for text in ["", "text", "text/", "/plain", "text/plain;", "te xt/plain"] {
            assert!(ContentType::parse(text).is_err(), "{text}");
        }
        for text in ["", "200 a \"x\"", "399 a x", "399 a \"x", "399 a \"x\" y"] {
            assert!(Warning::parse(text).is_err(), "{text}");
        }
    }
}

use std::fmt;

use crate::grammar::{is_token, is_token_byte};

/// The longest name taken. The longest in RFC 4475 has 43 bytes.
const BYTES_MAX: usize = 64;

/// A method name (RFC 3261 section 25.1: any token; compared case-sensitively).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[allow(missing_docs, reason = "the names are those on the wire")]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Message,
    Subscribe,
    Notify,
    /// Microsoft: a NOTIFY that is never answered (MS-SIP 4.4).
    Benotify,
    Info,
    Update,
    Refer,
    Prack,
    Publish,
    Register,
    /// Microsoft.
    Service,
    /// Any other token.
    Other(Box<str>),
}

impl Method {
    /// As it stands on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Options => "OPTIONS",
            Self::Message => "MESSAGE",
            Self::Subscribe => "SUBSCRIBE",
            Self::Notify => "NOTIFY",
            Self::Benotify => "BENOTIFY",
            Self::Info => "INFO",
            Self::Update => "UPDATE",
            Self::Refer => "REFER",
            Self::Prack => "PRACK",
            Self::Publish => "PUBLISH",
            Self::Register => "REGISTER",
            Self::Service => "SERVICE",
            Self::Other(name) => name,
        }
    }

    /// Parses a token; `None` if it is none, or longer than 64 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "INVITE" => Self::Invite,
            "ACK" => Self::Ack,
            "BYE" => Self::Bye,
            "CANCEL" => Self::Cancel,
            "OPTIONS" => Self::Options,
            "MESSAGE" => Self::Message,
            "SUBSCRIBE" => Self::Subscribe,
            "NOTIFY" => Self::Notify,
            "BENOTIFY" => Self::Benotify,
            "INFO" => Self::Info,
            "UPDATE" => Self::Update,
            "REFER" => Self::Refer,
            "PRACK" => Self::Prack,
            "PUBLISH" => Self::Publish,
            "REGISTER" => Self::Register,
            "SERVICE" => Self::Service,
            _ if is_token(text) && text.len() <= BYTES_MAX => Self::Other(text.into()),
            _ => return None,
        })
    }
}

/// What it writes is a token, whatever was put into [`Method::Other`].
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(name) if !is_token(name) => {
                let token: String =
                    name.bytes().filter(|byte| is_token_byte(*byte)).map(char::from).collect();
                f.write_str(if token.is_empty() { "-" } else { &token })
            }
            known => f.write_str(known.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_read_as_it_is_written() {
        for name in [
            "INVITE",
            "ACK",
            "BYE",
            "CANCEL",
            "OPTIONS",
            "MESSAGE",
            "SUBSCRIBE",
            "NOTIFY",
            "BENOTIFY",
            "INFO",
            "UPDATE",
            "REFER",
            "PRACK",
            "PUBLISH",
            "REGISTER",
            "SERVICE",
        ] {
            let method = Method::parse(name).unwrap();
            assert_eq!(method.to_string(), name);
            assert!(!matches!(method, Method::Other(_)), "{name}");
        }
    }

    #[test]
    fn any_other_token_is_a_method_and_case_matters() {
        for name in ["invite", "RE%47IST%45R", "!interesting-Method0123456789_*+`.%indeed'~"] {
            assert_eq!(Method::parse(name), Some(Method::Other(name.into())));
        }
        for none in ["", "A B", "A\r\nB", "MÉTHODE", "A/B", &"A".repeat(65)] {
            assert_eq!(Method::parse(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_token_is_not_written() {
        assert_eq!(Method::Other("A\r\nVia: x".into()).to_string(), "AViax");
        assert_eq!(Method::Other(" ".into()).to_string(), "-");
    }
}

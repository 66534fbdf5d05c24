use std::fmt;
use std::str::FromStr;

use gatehouse_types::Domain;
use serde::Deserialize;

/// The port of SIP over TLS (RFC 3261 section 19.1.2).
const PORT: u16 = 5061;

/// Where a SIP partner's server is, in the words of an administrator: `host:port`, 5061 if no port
/// is written. A name, because the certificate must name it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct SipRoute {
    /// The host; its addresses are looked up, and its certificate must name it.
    pub host: Domain,
    /// The TCP port.
    pub port: u16,
}

/// Text that is not a route.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is not a route to a SIP server: write `sip.them.example` or `sip.them.example:5061` (a name, because the certificate must have it)"
)]
pub struct InvalidSipRoute(String);

impl FromStr for SipRoute {
    type Err = InvalidSipRoute;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let (host, port) = match input.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)),
            None => (input, Some(PORT)),
        };
        host.parse().ok().zip(port).map(|(host, port)| Self { host, port }).ok_or_else(|| {
            InvalidSipRoute(input.chars().filter(|c| !c.is_control()).take(80).collect())
        })
    }
}

impl TryFrom<String> for SipRoute {
    type Error = InvalidSipRoute;

    fn try_from(input: String) -> Result<Self, Self::Error> {
        input.parse()
    }
}

impl fmt::Display for SipRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_a_name_and_a_port() {
        let route = |text: &str| text.parse::<SipRoute>().map(|route| route.to_string());
        assert_eq!(route("sip.them.example").as_deref(), Ok("sip.them.example:5061"));
        assert_eq!(route("Sip.Them.example:15061").as_deref(), Ok("sip.them.example:15061"));
        for text in ["", ":5061", "sip.them.example:0", "sip.them.example:x", "a b:1", "::1"] {
            assert!(route(text).is_err(), "{text}");
        }
    }
}

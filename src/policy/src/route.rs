use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use gatehouse_types::Domain;
use serde::Deserialize;

/// Where servers listen for STARTTLS, and for direct TLS, if a route does not say.
const STARTTLS_PORT: u16 = 5269;
const DIRECT_TLS_PORT: u16 = 5270;

/// What goes before a place that wants TLS from the first byte.
const DIRECT_TLS: &str = "direct-tls:";

/// One place where a partner's servers are, in the words of an administrator and not of DNS.
///
/// Written `host:port`, with a name or an address (IPv6 in brackets) and `direct-tls:` before it for
/// TLS from the first byte (XEP-0368). Without a port it is 5269, or 5270 for direct TLS.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct Route {
    /// Where.
    pub host: RouteHost,
    /// The TCP port.
    pub port: u16,
    /// What to speak.
    pub transport: RouteTransport,
}

/// The host of a route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RouteHost {
    /// Its addresses are looked up.
    Name(Domain),
    /// As it is.
    Address(IpAddr),
}

/// What a place expects to be spoken to with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RouteTransport {
    /// XMPP, and TLS after `<starttls/>`.
    StartTls,
    /// TLS from the first byte.
    DirectTls,
}

/// Text that is not a route.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is not a route: write `xmpp.them.example:5269`, `192.0.2.7:5269` or `[2001:db8::7]:5269`, \
     with `direct-tls:` before it if the place speaks TLS from the first byte"
)]
pub struct InvalidRoute(String);

impl FromStr for Route {
    type Err = InvalidRoute;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let (place, transport, default_port) = match input.strip_prefix(DIRECT_TLS) {
            Some(place) => (place, RouteTransport::DirectTls, DIRECT_TLS_PORT),
            None => (input, RouteTransport::StartTls, STARTTLS_PORT),
        };
        let (host, port) =
            place_of(place, default_port).filter(|(_, port)| *port != 0).ok_or_else(|| {
                InvalidRoute(input.chars().filter(|c| !c.is_control()).take(80).collect())
            })?;
        Ok(Self { host, port, transport })
    }
}

fn place_of(text: &str, default_port: u16) -> Option<(RouteHost, u16)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((RouteHost::Address(address.ip()), address.port()));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some((RouteHost::Address(address), default_port));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, port.parse().ok()?),
        None => (text, default_port),
    };
    Some((RouteHost::Name(name.parse().ok()?), port))
}

impl TryFrom<String> for Route {
    type Error = InvalidRoute;

    fn try_from(input: String) -> Result<Self, Self::Error> {
        input.parse()
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.transport == RouteTransport::DirectTls {
            f.write_str(DIRECT_TLS)?;
        }
        match &self.host {
            RouteHost::Name(name) => write!(f, "{name}:{}", self.port),
            RouteHost::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_read_and_written() {
        for (text, want) in [
            ("xmpp.them.example:5269", "xmpp.them.example:5269"),
            ("XMPP.Them.example", "xmpp.them.example:5269"),
            ("direct-tls:xmpp.them.example", "direct-tls:xmpp.them.example:5270"),
            ("direct-tls:192.0.2.7:443", "direct-tls:192.0.2.7:443"),
            ("192.0.2.7", "192.0.2.7:5269"),
            ("[2001:db8::7]:15269", "[2001:db8::7]:15269"),
            ("[2001:db8::7]", "[2001:db8::7]:5269"),
        ] {
            assert_eq!(text.parse::<Route>().unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            ":5269",
            "them.example:0",
            "them.example:99999",
            "them.example:x",
            "192.0.2.7:0",
            "https://them.example",
            "tls:them.example",
            "[2001:db8::7",
            "a b.example:1",
        ] {
            assert!(text.parse::<Route>().is_err(), "{text}");
        }
    }
}

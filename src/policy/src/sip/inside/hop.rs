use std::fmt;
use std::net::IpAddr;

use gatehouse_types::Domain;

/// The ports of SIP over TCP and over TLS (RFC 3261 section 19.1.2).
const PORT: u16 = 5060;
const PORT_TLS: u16 = 5061;

/// How a server of the inside is spoken to.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum HopProtocol {
    /// In the clear.
    #[default]
    Tcp,
    /// Over TLS, both sides with a certificate.
    Tls,
}

/// A server of the inside that requests are sent to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Hop {
    /// Where it is.
    pub next: NextHop,
    /// How it is spoken to.
    pub protocol: HopProtocol,
}

/// Where a server of the inside is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum NextHop {
    /// A host; its addresses are looked up.
    Host(Domain, u16),
    /// One address.
    Address(IpAddr, u16),
    /// A domain whose SRV records name the hosts (RFC 3263).
    Service(Domain),
}

/// A next hop that cannot be one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidHop {
    /// Neither a name nor an address.
    #[error(
        "`{0}` is neither a host name nor an IP address: write one, such as `pbx.ours.example`"
    )]
    Host(String),
    /// Port 0 asks DNS, which knows names only.
    #[error("port 0 means SRV records, and an IP address has none: write its port")]
    SrvOfAddress,
    /// A certificate names hosts.
    #[error(
        "TLS needs the name that stands in the server's certificate: write a host name, or protocol \"tcp\""
    )]
    TlsToAddress,
    /// `_sip._tcp.` with a port.
    #[error("`{0}` is the name of SRV records: write `port = 0`")]
    SrvWithPort(String),
    /// `_sips._tcp.` over TCP, or the other way round.
    #[error(
        "`{0}` does not go with this protocol: `_sip._tcp` is \"tcp\", `_sips._tcp` is \"tls\""
    )]
    SrvProtocol(String),
}

impl Hop {
    /// From what an administrator writes: host, address or SRV name; a port, 0 for SRV records, by
    /// default 5060, or 5061 for TLS.
    ///
    /// # Errors
    /// What does not go together, and what to write.
    pub fn new(text: &str, port: Option<u16>, protocol: HopProtocol) -> Result<Self, InvalidHop> {
        let default = match protocol {
            HopProtocol::Tcp => PORT,
            HopProtocol::Tls => PORT_TLS,
        };
        let shown = || text.chars().filter(|sign| !sign.is_control()).take(80).collect::<String>();
        if let Ok(address) = text.parse::<IpAddr>() {
            return match (port, protocol) {
                (Some(0), _) => Err(InvalidHop::SrvOfAddress),
                (_, HopProtocol::Tls) => Err(InvalidHop::TlsToAddress),
                (port, _) => {
                    Ok(Self { next: NextHop::Address(address, port.unwrap_or(default)), protocol })
                }
            };
        }
        for (prefix, of) in [("_sip._tcp.", HopProtocol::Tcp), ("_sips._tcp.", HopProtocol::Tls)] {
            let Some(domain) = text.strip_prefix(prefix) else { continue };
            if port != Some(0) {
                return Err(InvalidHop::SrvWithPort(shown()));
            }
            if of != protocol {
                return Err(InvalidHop::SrvProtocol(shown()));
            }
            let domain = host(domain).ok_or_else(|| InvalidHop::Host(shown()))?;
            return Ok(Self { next: NextHop::Service(domain), protocol });
        }
        let host = host(text).ok_or_else(|| InvalidHop::Host(shown()))?;
        let next = match port.unwrap_or(default) {
            0 => NextHop::Service(host),
            port => NextHop::Host(host, port),
        };
        Ok(Self { next, protocol })
    }
}

/// A host name; what looks like an address and is none (`5.6.7.8.9`) is not one.
fn host(text: &str) -> Option<Domain> {
    let last = text.trim_end_matches('.').rsplit('.').next()?;
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

impl fmt::Display for HopProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        })
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.next {
            NextHop::Host(host, port) => write!(f, "{host}:{port}")?,
            NextHop::Address(IpAddr::V6(address), port) => write!(f, "[{address}]:{port}")?,
            NextHop::Address(address, port) => write!(f, "{address}:{port}")?,
            NextHop::Service(domain) => write!(f, "SRV {domain}")?,
        }
        write!(f, " ({})", self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HopProtocol::{Tcp, Tls};

    #[test]
    fn a_next_hop_is_a_host_an_address_or_a_service() {
        for (text, port, protocol, shown) in [
            ("pbx.ours.example", None, Tcp, "pbx.ours.example:5060 (tcp)"),
            ("pbx.ours.example", None, Tls, "pbx.ours.example:5061 (tls)"),
            ("pbx.ours.example", Some(5070), Tls, "pbx.ours.example:5070 (tls)"),
            ("10.0.0.5", None, Tcp, "10.0.0.5:5060 (tcp)"),
            ("fd00::5", Some(5070), Tcp, "[fd00::5]:5070 (tcp)"),
            ("pbx.ours.example", Some(0), Tls, "SRV pbx.ours.example (tls)"),
            ("_sip._tcp.pbx.ours.example", Some(0), Tcp, "SRV pbx.ours.example (tcp)"),
        ] {
            assert_eq!(Hop::new(text, port, protocol).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let refused = |text, port, protocol| Hop::new(text, port, protocol).unwrap_err();
        assert_eq!(refused("10.0.0.5", Some(0), Tcp), InvalidHop::SrvOfAddress);
        assert_eq!(refused("10.0.0.5", None, Tls), InvalidHop::TlsToAddress);
        assert!(matches!(refused("5.6.7.8.9", None, Tcp), InvalidHop::Host(_)));
        assert!(matches!(refused("a b", None, Tcp), InvalidHop::Host(_)));
        assert!(matches!(refused("_sip._tcp.a.example", None, Tcp), InvalidHop::SrvWithPort(_)));
        assert!(matches!(refused("_sip._tcp.a.example", Some(0), Tls), InvalidHop::SrvProtocol(_)));
    }
}

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use gatehouse_types::Domain;

/// How an endpoint expects to be spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// TLS from the first byte (`_xmpps-server._tcp`, XEP-0368).
    DirectTls,
    /// STARTTLS (`_xmpp-server._tcp`, or the fallback port).
    StartTls,
}

/// One place to dial, in the order to try.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// The SRV target, the domain itself, or what a [`Place`] says.
    pub host: Host,
    /// Its addresses with the port, in the order to try (at most eight).
    pub addresses: Vec<SocketAddr>,
    /// What to speak.
    pub transport: Transport,
}

/// Where an endpoint is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Host {
    /// By name.
    Name(Domain),
    /// By address alone.
    Address(IpAddr),
}

/// An endpoint that somebody other than DNS names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// Where; the addresses of a name are looked up.
    pub host: Host,
    /// The TCP port.
    pub port: u16,
    /// What to speak.
    pub transport: Transport,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// How many addresses of one host are tried.
const ADDRESSES_MAX: usize = 8;

/// IPv6 and IPv4 in turn, IPv6 first, so that one family that goes nowhere delays us by one attempt
/// and not by all (RFC 8305, section 4). Repeated addresses count once.
pub(crate) fn interleave(
    addresses: impl IntoIterator<Item = IpAddr>,
    port: u16,
) -> Vec<SocketAddr> {
    let (mut six, mut four) = (Vec::new(), Vec::new());
    for address in addresses {
        let family = if address.is_ipv6() { &mut six } else { &mut four };
        if family.len() < ADDRESSES_MAX && !family.contains(&address) {
            family.push(address);
        }
    }
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut mixed = Vec::new();
    while mixed.len() < ADDRESSES_MAX {
        let round = [six.next(), four.next()];
        if round == [None, None] {
            break;
        }
        mixed.extend(round.into_iter().flatten());
    }
    mixed.truncate(ADDRESSES_MAX);
    mixed.into_iter().map(|address| SocketAddr::new(address, port)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(addresses: &[&str]) -> Vec<String> {
        let addresses = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap());
        interleave(addresses, 1).iter().map(|address| address.ip().to_string()).collect()
    }

    #[test]
    fn families_take_turns() {
        let ips = mixed(&["192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.1", "192.0.2.3"]);
        assert_eq!(ips, ["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    }

    #[test]
    fn eight_addresses_are_enough() {
        let many: Vec<String> =
            (0..20).flat_map(|n| [format!("192.0.2.{n}"), format!("2001:db8::{n}")]).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let ips = mixed(&many);
        assert_eq!(ips.len(), ADDRESSES_MAX);
        assert_eq!(ips.iter().filter(|ip| ip.contains(':')).count(), ADDRESSES_MAX / 2);
    }
}

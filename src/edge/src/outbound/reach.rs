//! Which addresses may be dialled. A domain's owner says in its DNS where we go, so without a check
//! a stranger could point us at anything that this machine can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What becomes of a target whose address is not on the public Internet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PrivateTargets {
    /// It is not dialled.
    #[default]
    Refuse,
    /// It is dialled: partners are on networks of our own.
    Allow,
}

impl PrivateTargets {
    /// True if `address` may be dialled.
    pub(crate) fn let_pass(self, address: IpAddr) -> bool {
        match self {
            Self::Refuse => is_public(address),
            Self::Allow => true,
        }
    }
}

/// True for what the registries of special-purpose addresses (RFC 6890) call globally reachable,
/// and for nothing that leads elsewhere in disguise.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        // "This network"; the unspecified address reaches this very machine.
        [0, ..] => true,
        // Shared by the customers of a carrier (RFC 6598).
        [100, second, ..] => second & 0b1100_0000 == 64,
        // Protocol assignments, and the anycast of 6to4.
        [192, 0, 0, _] | [192, 88, 99, _] => true,
        // Benchmarks (RFC 2544).
        [198, 18 | 19, ..] => true,
        // Multicast, reserved, broadcast.
        [224..=255, ..] => true,
        _ => false,
    };
    !(special
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) carry an IPv4 address, and lead to it.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(embedded(high, low)),
        [0x2002, high, low, ..] => is_public_v4(embedded(high, low)),
        // Teredo and other protocol assignments; documentation.
        [0x2001, second, ..] => second >= 0x200 && second != 0xdb8,
        [0x3fff, second, ..] => second > 0xfff,
        // All that is given out to networks (RFC 4291, section 2.4); the rest is this machine, this
        // link, this site, multicast, or nothing.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_dialled() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.8.9.10",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:c0a8:101::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456:789a::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert!(!PrivateTargets::Refuse.let_pass(address), "{text} is dialled");
            assert!(PrivateTargets::Allow.let_pass(address), "{text}");
        }
    }

    #[test]
    fn the_public_internet_is_dialled() {
        for text in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.254",
            "::ffff:9.9.9.9",
            "64:ff9b::9.9.9.9",
            "2001:470::1",
            "2002:909:909::1",
            "2606:4700::1111",
            "2a01:4f8::1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert!(PrivateTargets::Refuse.let_pass(address), "{text} is not dialled");
        }
    }
}

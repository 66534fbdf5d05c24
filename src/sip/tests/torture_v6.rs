//! The 12 messages of RFC 5118 (IPv6): by name, section, and what the message layer says of ours,
//! which have the same features. Why they are ours: `torture/README.md`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::net::IpAddr;

use gatehouse_sip::{Framer, Host, Limits, Message};

/// Name, section, and the status it is refused with, if it is.
const EXPECTED: [(&str, &str, Option<u16>); 12] = [
    ("ipv6-good", "4.1", None),
    // Without brackets nobody can tell address and port apart.
    ("ipv6-bad", "4.2", Some(400)),
    // Taken as the address it is: what looks like a port inside the brackets is none.
    ("port-ambiguous", "4.3", None),
    ("port-unambiguous", "4.4", None),
    ("via-received-param-with-delim", "4.5", None),
    ("via-received-param-no-delim", "4.5", None),
    ("ipv6-in-sdp", "4.6", None),
    ("mult-ip-in-header", "4.7", None),
    ("mult-ip-in-sdp", "4.8", None),
    ("ipv4-mapped-ipv6", "4.9", None),
    // A slip of RFC 3261's grammar, mended by RFC 5954: three colons are no address.
    ("ipv6-bug-abnf-3-colons", "4.10", Some(400)),
    ("ipv6-correct-abnf-2-colons", "4.10", None),
];

fn read(name: &str) -> Result<Message, u16> {
    let path = format!("{}/tests/torture/rfc5118/{name}.sip", env!("CARGO_MANIFEST_DIR"));
    let message = Framer::datagram(Limits::default(), &std::fs::read(path).unwrap());
    let message = message.map_err(|error| error.status.code())?;
    message.check().map_err(|invalid| invalid.status.code())?;
    Ok(message)
}

#[test]
fn every_message_like_those_of_rfc_5118() {
    for (name, section, refused) in EXPECTED {
        let seen = read(name);
        assert_eq!(seen.as_ref().err(), refused.as_ref(), "{name} ({section})");
        if let Ok(message) = seen {
            let again = Framer::datagram(Limits::default(), &message.to_bytes()).unwrap();
            assert_eq!(again.to_bytes(), message.to_bytes(), "{name}");
        }
    }
    let dir = format!("{}/tests/torture/rfc5118", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), EXPECTED.len(), "no message without a row");
}

fn address(text: &str) -> Host {
    match text.parse().unwrap() {
        IpAddr::V4(address) => Host::V4(address),
        IpAddr::V6(address) => Host::V6(address),
    }
}

#[test]
fn addresses_and_ports_are_what_they_say() {
    let uri = |name| read(name).unwrap().uri().unwrap().clone();
    let ambiguous = uri("port-ambiguous");
    assert_eq!((ambiguous.host, ambiguous.port), (address("2001:db8:7::1:5062"), None));
    let clear = uri("port-unambiguous");
    assert_eq!((clear.host, clear.port), (address("2001:db8:7::1"), Some(5062)));
    assert_eq!(uri("ipv6-correct-abnf-2-colons").host, address("2001:db8::203.0.113.36"));
    let via = read("via-received-param-no-delim").unwrap().vias().unwrap().remove(0);
    assert_eq!((via.host, via.port), (address("2001:db8:7::20"), Some(5063)));
    assert_eq!(via.params.get("received"), Some("2001:db8:7::ff"));
    let vias = read("mult-ip-in-header").unwrap().vias().unwrap();
    let hosts: Vec<_> = vias.into_iter().map(|via| via.host).collect();
    assert_eq!(hosts, ["2001:db8:7::30", "203.0.113.30", "2001:db8:7::31"].map(address));
    let routes = read("mult-ip-in-header").unwrap().routes().unwrap();
    assert_eq!(routes.len(), 2);
    let mapped = read("ipv4-mapped-ipv6").unwrap().vias().unwrap().remove(0);
    assert_eq!(mapped.host, address("::ffff:203.0.113.34"));
}

//! The 49 messages of RFC 4475: by name, section, and what the message layer says.
//!
//! The RFC is older than the licence that lets code be taken from RFCs, so what always runs are
//! messages of our own, each with the features of its namesake; with the RFC's own bytes the same
//! table is held by an ignored test. Both: `torture/README.md`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must fail"
)]

use gatehouse_sip::{Framer, Header, HeaderName, Limits, Message, Received};

/// What the message layer says. What a caller must still refuse is `Fine`: 416 (`unkscm`,
/// `novelsc`, `unksm2`), 420 (`bext01`), 415 (`invut`), 483 (`zeromf`), 406 (`sdp01`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// Accepted, with all mandatory headers typed.
    Fine,
    /// Understood, and refused by `check` with this status; a response is dropped.
    Refused(u16),
    /// Only this message is spoilt.
    Unusable(u16),
    /// The stream ends.
    Ends(u16),
    /// More bytes are awaited: nothing is taken for a message that is not one.
    Waits,
}
use Verdict::{Ends, Fine, Refused, Unusable, Waits};

/// Name, section, verdict. Sections 3.1.1 valid, 3.1.2 invalid, 3.2 transactions, 3.3 for the
/// application, 3.4 old peers.
const EXPECTED: [(&str, &str, Verdict); 49] = [
    ("wsinv", "3.1.1.1", Fine),
    ("intmeth", "3.1.1.2", Fine),
    ("esc01", "3.1.1.3", Fine),
    ("escnull", "3.1.1.4", Fine),
    ("esc02", "3.1.1.5", Fine),
    ("lwsdisp", "3.1.1.6", Fine),
    ("longreq", "3.1.1.7", Fine),
    ("dblreq", "3.1.1.8", Fine),
    ("semiuri", "3.1.1.9", Fine),
    ("transports", "3.1.1.10", Fine),
    ("mpart01", "3.1.1.11", Fine),
    ("unreason", "3.1.1.12", Fine),
    ("noreason", "3.1.1.13", Fine),
    ("badinv01", "3.1.2.1", Refused(400)),
    // Ours and theirs promise more than comes: nothing is taken for what was promised.
    ("clerr", "3.1.2.2", Waits),
    ("ncl", "3.1.2.3", Ends(400)),
    ("scalar02", "3.1.2.4", Refused(400)),
    ("scalarlg", "3.1.2.5", Refused(400)),
    ("quotbal", "3.1.2.6", Refused(400)),
    ("ltgtruri", "3.1.2.7", Unusable(400)),
    ("lwsruri", "3.1.2.8", Unusable(400)),
    ("lwsstart", "3.1.2.9", Unusable(400)),
    ("trws", "3.1.2.10", Unusable(400)),
    ("escruri", "3.1.2.11", Refused(400)),
    ("baddate", "3.1.2.12", Refused(400)),
    ("regbadct", "3.1.2.13", Refused(400)),
    ("badaspec", "3.1.2.14", Refused(400)),
    ("baddn", "3.1.2.15", Refused(400)),
    ("badvers", "3.1.2.16", Unusable(505)),
    ("mismatch01", "3.1.2.17", Refused(400)),
    ("mismatch02", "3.1.2.18", Refused(400)),
    ("bigcode", "3.1.2.19", Unusable(400)),
    ("badbranch", "3.2.1", Fine),
    ("insuf", "3.3.1", Refused(400)),
    ("unkscm", "3.3.2", Fine),
    ("novelsc", "3.3.3", Fine),
    ("unksm2", "3.3.4", Fine),
    ("bext01", "3.3.5", Fine),
    ("invut", "3.3.6", Fine),
    ("regaut01", "3.3.7", Fine),
    ("multi01", "3.3.8", Refused(400)),
    ("mcl01", "3.3.9", Ends(400)),
    ("bcast", "3.3.10", Fine),
    ("zeromf", "3.3.11", Fine),
    ("cparam01", "3.3.12", Fine),
    ("cparam02", "3.3.13", Fine),
    ("regescrt", "3.3.14", Fine),
    ("sdp01", "3.3.15", Fine),
    // No Content-Length: fine in a datagram, the end of a stream.
    ("inv2543", "3.4.1", Ends(400)),
];

fn verdicts(data: &[u8], step: usize) -> Vec<Verdict> {
    let mut framer = Framer::new(Limits::default());
    let mut verdicts = Vec::new();
    for piece in data.chunks(step) {
        framer.push(piece);
        loop {
            match framer.next() {
                Ok(None) => break,
                Ok(Some(Received::Message(message))) => verdicts.push(match message.check() {
                    Ok(()) => Fine,
                    Err(invalid) => Refused(invalid.status.code()),
                }),
                Ok(Some(Received::Unusable(fault))) => {
                    verdicts.push(Unusable(fault.status.code()));
                }
                Ok(Some(_)) => {}
                Err(error) => {
                    verdicts.push(Ends(error.status.code()));
                    return verdicts;
                }
            }
        }
    }
    if !framer.is_between_messages() {
        verdicts.push(Waits);
    }
    verdicts
}

/// All headers but Content-Length, which is written anew.
fn typed(message: &Message) -> Vec<Header> {
    let others = |header: &&Header| header.name != HeaderName::ContentLength;
    message.headers.iter().filter(others).cloned().collect()
}

/// Holds the table against `<dir>/<name>.<ext>`.
fn hold(dir: &str, ext: &str) {
    let read = |name: &str| std::fs::read(format!("{dir}/{name}.{ext}")).expect(name);
    let mut wrong = Vec::new();
    for (name, section, expected) in EXPECTED {
        let mut data = read(name);
        // The RFC's archive holds this one without its empty line.
        if name == "baddn" && !data.ends_with(b"\r\n\r\n") {
            assert_eq!(verdicts(&data, data.len()), [Waits], "{name}");
            data.extend_from_slice(b"\r\n");
        }
        let mut seen = verdicts(&data, data.len());
        for step in [1, 7] {
            if seen != verdicts(&data, step) {
                wrong.push(format!("{name} ({section}): another result {step} bytes at a time"));
            }
        }
        // Its second request comes after `Content-Length: 0` and is a message of its own.
        if name == "dblreq" {
            // What follows that one is no message, and no part of one either.
            assert_eq!(seen, [Fine, Fine, Ends(400)]);
            seen.truncate(1);
        }
        // A valid message is that message and no more.
        let valid = section.starts_with("3.1.1.");
        if seen.first() != Some(&expected) || (valid && seen.len() != 1) {
            wrong.push(format!("{name} ({section}): {seen:?}, not {expected:?}"));
        }
        assert!(valid == (expected == Fine) || !section.starts_with("3.1."), "{name}");
        if let Ok(message) = Framer::datagram(Limits::default(), &data) {
            let again = Framer::datagram(Limits::default(), &message.to_bytes()).unwrap();
            let same = |m: &Message| (m.start.clone(), typed(m), m.body.clone());
            if same(&again) != same(&message) {
                wrong.push(format!("{name}: another message when written and read again"));
            }
        }
    }
    assert_eq!(Framer::datagram(Limits::default(), &read("inv2543")).unwrap().check(), Ok(()));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_message_like_those_of_rfc_4475() {
    let dir = format!("{}/tests/torture/rfc4475", env!("CARGO_MANIFEST_DIR"));
    hold(&dir, "sip");
    let files = std::fs::read_dir(dir).unwrap().count();
    assert_eq!(files, EXPECTED.len(), "no message without a row");
}

#[test]
#[ignore = "needs the messages of RFC 4475: see tests/torture/README.md"]
fn every_message_of_rfc_4475() {
    hold(&std::env::var("SIP_TORTURE_DIR").expect("SIP_TORTURE_DIR names the directory"), "dat");
}

/// One of ours, read as a datagram.
fn ours(name: &str) -> Message {
    let path = format!("{}/tests/torture/rfc4475/{name}.sip", env!("CARGO_MANIFEST_DIR"));
    Framer::datagram(Limits::default(), &std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn what_is_odd_and_valid_is_read_as_it_is_meant() {
    let wide = ours("wsinv");
    assert_eq!(wide.from().unwrap().tag(), Some("l3n4"));
    assert_eq!(wide.to().unwrap().to_string(), "<sip:otto@desk.otter.test>;tag=77aa01");
    assert_eq!((wide.cseq().unwrap().number, wide.max_forwards().unwrap()), (11, Some(42)));
    let vias: Vec<_> = wide.vias().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(
        vias,
        [
            "SIP/2.0/TCP 203.0.113.9;branch=plain17",
            "SIP/2.0/TLS loom.lynx.test;branch=z9hG4bKwide1",
            "SIP/2.0/UDP 198.51.100.44;branch=z9hG4bKwide2",
        ]
    );
    // Percent signs in a user part are decoded where somebody asks; in a method they are not.
    let escaped = ours("esc01");
    assert_eq!(escaped.uri().unwrap().user_decoded().as_deref(), Some("sips:lena@lynx.test"));
    assert_eq!(ours("esc02").method().unwrap().as_str(), "SUB%53CR%49BE");
    assert_eq!(ours("esc02").contacts().unwrap().len(), 2, "C%6fntact is no Contact");
    // Two bindings, not one.
    assert_eq!(ours("escnull").contacts().unwrap().len(), 2);
    // What stands before the `@` is the user, semicolons and all.
    let user = ours("semiuri").uri().unwrap().user.clone();
    assert_eq!(user.as_deref(), Some("otto;room=7%40lynx.test"));
    let domain = ours("semiuri").uri().unwrap().domain().map(|domain| domain.to_string());
    assert_eq!(domain.as_deref(), Some("otter.test"));
    assert_eq!(ours("transports").vias().unwrap().len(), 5);
    assert_eq!(ours("longreq").vias().unwrap().len(), 18);
    assert_eq!(ours("noreason").reason(), Some(""));
    // A request in the body is a body.
    let parts = ours("mpart01");
    assert!(parts.body.windows(7).any(|window| window == b"INVITE "));
    // `?` inside the brackets belongs to the URI, `;` outside to the header.
    let escaped_route = ours("regescrt").contacts().unwrap();
    assert!(escaped_route[0].uri.headers.is_some());
    assert!(ours("cparam01").contacts().unwrap()[0].params.has("extra"));
    assert!(ours("cparam02").contacts().unwrap()[0].uri.params.has("extra"));
}

//! The 49 messages of RFC 4475, byte for byte, when somebody has them: the RFC is older than the
//! licence that lets code be taken from RFCs, so they are not in this repository.
//!
//! `tests/README.md` says how to get them. Faults like theirs, in messages of our own, are in
//! `hostile.rs` and always run.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must fail"
)]

use gatehouse_sip::{Framer, Header, HeaderName, Limits, Message, Received};

/// What the message layer says. What a caller must still refuse (416, 420, 415, 483) is `Fine`.
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

/// By section: 3.1.1 valid, 3.1.2 invalid, 3.2 to 3.4 transaction, application and old peers.
const EXPECTED: [(&str, Verdict); 49] = [
    ("wsinv", Fine),
    ("intmeth", Fine),
    ("esc01", Fine),
    ("escnull", Fine),
    ("esc02", Fine),
    ("lwsdisp", Fine),
    ("longreq", Fine),
    ("dblreq", Fine),
    ("semiuri", Fine),
    ("transports", Fine),
    ("mpart01", Fine),
    ("unreason", Fine),
    ("noreason", Fine),
    ("badinv01", Refused(400)),
    ("clerr", Waits),
    ("ncl", Ends(400)),
    ("scalar02", Refused(400)),
    ("scalarlg", Refused(400)),
    ("quotbal", Refused(400)),
    ("ltgtruri", Unusable(400)),
    ("lwsruri", Unusable(400)),
    ("lwsstart", Unusable(400)),
    ("trws", Unusable(400)),
    ("escruri", Refused(400)),
    ("baddate", Refused(400)),
    ("regbadct", Refused(400)),
    ("badaspec", Refused(400)),
    // The archive holds it without the empty line; below it is completed and refused.
    ("baddn", Waits),
    ("badvers", Unusable(505)),
    ("mismatch01", Refused(400)),
    ("mismatch02", Refused(400)),
    ("bigcode", Unusable(400)),
    ("badbranch", Fine),
    ("insuf", Refused(400)),
    ("unkscm", Fine),
    ("novelsc", Fine),
    ("unksm2", Fine),
    ("bext01", Fine),
    ("invut", Fine),
    ("regaut01", Fine),
    ("multi01", Refused(400)),
    ("mcl01", Ends(400)),
    ("bcast", Fine),
    ("zeromf", Fine),
    ("cparam01", Fine),
    ("cparam02", Fine),
    ("regescrt", Fine),
    ("sdp01", Fine),
    // No Content-Length: fine in a datagram, the end of a stream.
    ("inv2543", Ends(400)),
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

#[test]
#[ignore = "needs the messages of RFC 4475: see tests/README.md"]
fn every_message_of_rfc_4475() {
    let dir = std::env::var("SIP_TORTURE_DIR").expect("SIP_TORTURE_DIR names the directory");
    let mut wrong = Vec::new();
    for (name, expected) in EXPECTED {
        let data = std::fs::read(format!("{dir}/{name}.dat")).unwrap();
        let mut seen = verdicts(&data, data.len());
        if seen != verdicts(&data, 1) {
            wrong.push(format!("{name}: another result byte by byte"));
        }
        // Its second request comes after `Content-Length: 0` and is a message of its own.
        if name == "dblreq" {
            // What follows that one is no message, and no part of one either.
            assert_eq!(seen, [Fine, Fine, Ends(400)]);
            seen.truncate(1);
        }
        if seen.first() != Some(&expected) {
            wrong.push(format!("{name}: {seen:?}, not {expected:?}"));
        }
        if let Ok(message) = Framer::datagram(Limits::default(), &data) {
            let again = Framer::datagram(Limits::default(), &message.to_bytes()).unwrap();
            let same = |m: &Message| (m.start.clone(), typed(m), m.body.clone());
            if same(&again) != same(&message) {
                wrong.push(format!("{name}: another message when written and read again"));
            }
        }
    }
    let old = std::fs::read(format!("{dir}/inv2543.dat")).unwrap();
    assert_eq!(Framer::datagram(Limits::default(), &old).unwrap().check(), Ok(()));
    let mut named = std::fs::read(format!("{dir}/baddn.dat")).unwrap();
    named.extend_from_slice(b"\r\n");
    assert_eq!(verdicts(&named, named.len()).first(), Some(&Refused(400)));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

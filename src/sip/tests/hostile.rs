//! What peers write, right and wrong: one row each, at once and byte by byte.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must fail"
)]

use gatehouse_sip::{Framer, Limits, Message, Received};

/// A request with `headers` put in, and its answerable head.
fn request(start: &str, headers: &str, tail: &str) -> Vec<u8> {
    let method = start.split(' ').next().unwrap();
    format!(
        "{start}\r\nVia: SIP/2.0/TLS edge.lync.test:5061;branch=z9hG4bK1.A;branched=FALSE;\
         ms-internal-info=\"aaBB_cc-\"\r\nMax-Forwards: 69\r\n\
         From: \"Bob\"<sip:bob@lync.test>;tag=1;epid=a1b2\r\nTo: <sip:alice@ours.test>\r\n\
         Call-ID: x\r\nCSeq: 1 {method}\r\n{headers}{tail}"
    )
    .into_bytes()
}

const END: &str = "Content-Length: 0\r\n\r\n";
const MESSAGE: &str = "MESSAGE sip:alice@ours.test SIP/2.0";

/// What the framer and `check` say of these bytes, followed by a good request.
fn verdict(data: &[u8], step: usize) -> (Vec<String>, Vec<Message>) {
    let mut framer = Framer::new(Limits::default());
    let (mut said, mut messages) = (Vec::new(), Vec::new());
    for piece in data.chunks(step) {
        framer.push(piece);
        loop {
            match framer.next() {
                Ok(None) => break,
                Ok(Some(Received::Message(message))) => {
                    said.push(match message.check() {
                        Ok(()) => "ok".to_owned(),
                        Err(invalid) => format!("{} {invalid}", invalid.status),
                    });
                    messages.push(message);
                }
                Ok(Some(Received::Unusable(fault))) => {
                    assert!(fault.answer.is_some());
                    said.push(format!("{} {}", fault.status, fault.why));
                }
                Ok(Some(keepalive)) => said.push(format!("{keepalive:?}")),
                Err(error) => {
                    let answered = if error.answer.is_some() { "" } else { ", unanswered" };
                    said.push(format!("end: {}{answered}", error.why));
                    assert!(framer.next().is_err_and(|error| error.answer.is_none()));
                    return (said, messages);
                }
            }
        }
    }
    (said, messages)
}

fn assert_rows(rows: &[(&str, Vec<u8>, &str)]) {
    for (name, data, expected) in rows {
        let mut data = data.clone();
        data.extend_from_slice(&request("INFO sip:alice@ours.test SIP/2.0", "", END));
        let (said, messages) = verdict(&data, data.len());
        assert_eq!(said[0], *expected, "{name}");
        if !said[0].starts_with("end") {
            assert_eq!(said[1..], ["ok"], "{name}: the next request is whole");
        }
        assert_eq!(verdict(&data, 1), (said, messages.clone()), "{name}: byte by byte");
        for message in messages {
            let written = message.to_bytes();
            let again = Framer::datagram(Limits::default(), &written).unwrap();
            assert_eq!(again.to_bytes(), written, "{name}");
        }
    }
}

#[test]
fn what_lync_and_others_write_is_taken() {
    let good = |name, start, headers: &str| (name, request(start, headers, END), "ok");
    let mut latin = request(MESSAGE, "Subject: caf#\r\n", END);
    latin.iter_mut().filter(|byte| **byte == b'#').for_each(|byte| *byte = 0xe9);
    assert_rows(&[
        good("GRUU", "INVITE sip:alice@ours.test;opaque=user:epid:AbC1_x;gruu SIP/2.0", ""),
        good("Contact", MESSAGE, "Contact: <sip:bob@lync.test;opaque=user:epid:Zx9-_k;gruu>\r\n"),
        good(
            "Record-Route",
            MESSAGE,
            "Record-Route: <sip:edge.lync.test:5061;transport=tls;opaque=state:F:Ci.R3;lr>;tag=AB\r\n\
             Record-Route: <sip:p.test:5061;ms-fe=fe1.test;opaque=state:T:F;lr>\r\n",
        ),
        good(
            "Via without branch",
            MESSAGE,
            "Via: SIP/2.0/TLS 198.51.100.57:37737;ms-received-cid=3\r\n",
        ),
        good("BENOTIFY", "BENOTIFY sip:alice@ours.test SIP/2.0", "Event: presence\r\n"),
        good("SERVICE", "SERVICE sip:alice@ours.test SIP/2.0", ""),
        good("folded", MESSAGE, "Subject: one\r\n two\r\n"),
        good("compact", MESSAGE, "c: text/plain\r\nm: <sip:a@b>\r\n"),
        good("space before colon", MESSAGE, "Subject : hi\r\n"),
        good("IPv6", "MESSAGE sip:alice@[2001:db8::1]:5061 SIP/2.0", ""),
        good("IPv6 Via", MESSAGE, "Via: SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255\r\n"),
        good("tel", "INVITE tel:+15551212 SIP/2.0", ""),
        good("sips", "MESSAGE sips:alice@ours.test SIP/2.0", ""),
        good("INFO", "INFO sip:alice@ours.test SIP/2.0", ""),
        good("unknown scheme", "OPTIONS nobody:anything SIP/2.0", ""),
        good("two Vias in a line", MESSAGE, "Via: SIP/2.0/TLS a;branch=z9, SIP/2.0/TLS b\r\n"),
        good("quoted comma", MESSAGE, "Contact: \"Doe, Bob\" <sip:b@l.test>, <sip:c@l.test>\r\n"),
        ("not UTF-8", latin, "ok"),
        good("escaped NUL", MESSAGE, "Subject: \"a\\\0b\"\r\n"),
    ]);
    let two = request(MESSAGE, "Via: SIP/2.0/TLS a;branch=z9, SIP/2.0/TLS b\r\n", END);
    let two = Framer::datagram(Limits::default(), &two).unwrap();
    assert_eq!(two.vias().unwrap().len(), 3);
    let quoted = request(MESSAGE, "m: \"Doe, Bob\" <sip:b@l.test>, <sip:c@l.test>\r\n", END);
    let quoted = Framer::datagram(Limits::default(), &quoted).unwrap();
    assert_eq!(quoted.contacts().unwrap().len(), 2);
}

/// Where `rsip` writes its own phrase, reads no Subscription-State, and makes UTF-8 of a body.
#[test]
fn what_is_passed_on_is_what_came() {
    let mut data =
        b"SIP/2.0 606 Not here, \xd0\xb4\xd0\xb0\r\nVia: SIP/2.0/TLS a;branch=z9hG4bK1\r\n\
        From: <sip:b@l.test>;tag=1\r\nTo: <sip:a@o.test>;tag=2\r\nCall-ID: x\r\nCSeq: 1 NOTIFY\r\n\
        Subscription-State: terminated;reason=rejected\r\nContent-Length: 4\r\n\r\n"
            .to_vec();
    let body = [0xff, 0, b'\n', 0xfe];
    data.extend_from_slice(&body);
    let message = Framer::datagram(Limits::default(), &data).unwrap();
    assert_eq!(message.reason(), Some("Not here, \u{434}\u{430}"));
    let state = message.subscription_state().unwrap().unwrap().to_string();
    assert_eq!(state, "terminated;reason=rejected");
    assert_eq!(message.body, body.as_slice());
    assert_eq!(message.to_bytes(), data);
}

#[test]
fn what_makes_the_end_uncertain_ends_the_stream() {
    let length =
        |value: &str| request(MESSAGE, "", &format!("Content-Length: {value}\r\n\r\nhello"));
    let bad = |headers: &str| request(MESSAGE, headers, END);
    let bare = String::from_utf8(bad("")).unwrap().replace("\r\n", "\n").into_bytes();
    let many = "Via: SIP/2.0/TLS a.test;branch=z9hG4bKa\r\n";
    assert_rows(&[
        ("negative", length("-1"), "end: Content-Length is no number"),
        ("signed", length("+5"), "end: Content-Length is no number"),
        ("overflow", length("4294967301"), "end: Content-Length is no number"),
        ("list", length("5, 5"), "end: Content-Length is no number"),
        ("empty", length(""), "end: Content-Length is no number"),
        ("huge", length("65537"), "end: the body is too long"),
        ("twice", bad("Content-Length: 5\r\n"), "end: two Content-Length"),
        ("twice the same", bad("l: 0\r\n"), "end: two Content-Length"),
        ("none", request(MESSAGE, "", "\r\n"), "end: no Content-Length"),
        ("bare LF", bare, "end: a bare LF"),
        ("one bare LF", bad("Subject: a\nb: c\r\n"), "end: a bare LF"),
        ("bare CR", bad("Subject: a\rb\r\n"), "end: a bare CR"),
        ("NUL", bad("Subject: a\0b\r\n"), "end: a NUL"),
        ("no colon", bad("garbage line\r\n"), "end: a line without colon"),
        ("no name", bad(": x\r\n"), "end: a header name that is none"),
        ("form feed", bad("Content-Length\x0c: 5\r\n"), "end: a header name that is none"),
        ("name with space", bad("Content Length: 5\r\n"), "end: a header name that is none"),
        ("many lines", bad(&many.repeat(130)), "end: too many header lines"),
        ("2000 Vias", bad(&many.repeat(2000)), "end: the head is too long"),
        ("HTTP", request("GET / HTTP/1.1", "", END), "end: another protocol"),
        ("TLS", b"\x16\x03\x01\n\n".to_vec(), "end: a bare LF, unanswered"),
        ("ACK", request("ACK sip:a@b SIP/2.0", "", "\r\n"), "end: no Content-Length, unanswered"),
    ]);
}

#[test]
fn the_first_header_continues_nothing() {
    let text = String::from_utf8(request(MESSAGE, "", END)).unwrap();
    let (said, _) = verdict(text.replacen("Via", " Via", 1).as_bytes(), 1);
    assert!(said[0].starts_with("end: a header name that is none"), "{said:?}");
}

#[test]
fn what_is_only_wrong_itself_does_not_end_the_stream() {
    let line = |start: &str| request(start, "", END);
    let with = |headers: &str| request(MESSAGE, headers, END);
    assert_rows(&[
        ("brackets", line("INVITE <sip:a@b> SIP/2.0"), "400 the Request-URI is no URI"),
        ("IPv6 bare", line("INVITE sip:2001:db8::10 SIP/2.0"), "400 the Request-URI is no URI"),
        (
            "space",
            line("INVITE sip:a@b; lr SIP/2.0"),
            "400 a request line that has not three words",
        ),
        ("spaces", line("INVITE  sip:a@b  SIP/2.0"), "400 a request line that has not three words"),
        ("after", line("INVITE sip:a@b SIP/2.0 "), "400 a request line that has not three words"),
        ("version", line("INVITE sip:a@b SIP/7.0"), "505 another version of SIP"),
        (
            "long",
            line(&format!("INVITE sip:{}@b SIP/2.0", "a".repeat(2100))),
            "414 the Request-URI is too long",
        ),
        (
            "headers in it",
            line("INVITE sip:a@b?Route=x SIP/2.0"),
            "400 Request-URI: has headers in it",
        ),
        ("two To", with("t: sip:a@b\r\n"), "400 To: stands there twice"),
        ("two CSeq", with("CSeq: 2 MESSAGE\r\n"), "400 CSeq: stands there twice"),
        ("hops", with("Max-Forwards: 1\r\n"), "400 Max-Forwards: stands there twice"),
        ("date", with("Date: Fri, 01 Jan 2010 16:00:00 EST\r\n"), "400 Date: is not in GMT"),
        ("Via", with("Via: SIP/2.0/UDP 192.0.2.15;;,;,,\r\n"), "400 Via: a parameter has no name"),
    ]);
}

#[test]
fn keepalives_between_messages() {
    let (said, _) = verdict(b"\r\n\r\n\r\n", 6);
    assert_eq!(said, ["Ping", "Pong"]);
    // Two that come apart are two signs of life.
    let (said, _) = verdict(b"\r\n\r\n", 1);
    assert_eq!(said, ["Pong", "Ping"]);
    assert_eq!(verdict(b"\rX\r\n\r\n", 1).0, ["end: a bare CR, unanswered"]);
}

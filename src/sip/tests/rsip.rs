//! What keeps `rsip` 0.4 out of the program, measured: docs/decisions/0007. If a newer `rsip` makes
//! a line of this fail, the decision is to be looked at again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use gatehouse_sip::{HeaderName, Headers, Method, NameAddr, Status, Uri, Via};
use rsip::prelude::*;

#[test]
fn its_reason_phrases_are_names_of_variants() {
    let known = (100..=699).map(rsip::StatusCode::from);
    let known: Vec<_> = known.filter(|it| !matches!(it, rsip::StatusCode::Other(..))).collect();
    let ours = |code: u16| format!("{code} {}", Status::new(code).unwrap().reason());
    let right = known.iter().filter(|status| status.to_string() == ours(status.code())).count();
    assert_eq!((right, known.len()), (12, 73));
    assert_eq!(rsip::StatusCode::from(504).to_string(), "504 ServerTimeOut");
    assert_eq!(ours(504), "504 Server Time-out");
}

#[test]
fn its_values_break_lines_and_ours_do_not() {
    let subject = rsip::headers::Subject::new("a\r\nVia: SIP/2.0/TLS evil.test");
    assert!(rsip::Header::from(subject).to_string().contains("\r\nVia: "));
    let mut headers = Headers::default();
    assert!(headers.push(HeaderName::Subject, "a\r\nVia: SIP/2.0/TLS evil.test").is_err());
}

#[test]
fn its_display_names_leave_their_quotes() {
    let name = "a\" <sip:evil.test>, \"b";
    let theirs = rsip::typed::Contact {
        display_name: Some(name.to_owned()),
        uri: rsip::Uri::try_from("sip:b@l.test").unwrap(),
        params: Vec::new(),
    };
    assert_eq!(theirs.to_string(), "a\" <sip:evil.test>, \"b <sip:b@l.test>");
    let mut ours = NameAddr::new(Uri::parse("sip:b@l.test").unwrap());
    ours.display = Some(name.to_owned());
    assert_eq!(NameAddr::parse(&ours.to_string()), Ok(ours));
}

#[test]
fn it_has_no_words_for_what_we_must_name() {
    let uri = |text: &str| rsip::Uri::try_from(text).map(|uri| uri.to_string());
    let ours = |text: &str| Uri::parse(text).unwrap().to_string();
    // What it does not understand of a URI it drops without a word.
    for (text, theirs) in [
        ("sip:b@l.test;opaque=user:epid:x;gruu", "sip:b@l.test;opaque=user"),
        ("sip:b@l.test;transport=tls", "sip:b@l.test;transport=TLS"),
        ("tel:+1555", "tel:1555"),
    ] {
        assert_eq!((uri(text).unwrap().as_str(), ours(text).as_str()), (theirs, text));
    }
    for text in ["sip:b@[2001:db8::1]:5061", "sip:[2001:db8::1]", "tel:+15550100"] {
        assert!(uri(text).is_err(), "{text}");
        assert_eq!(ours(text), text);
    }
    let via = "SIP/2.0/TLS [2001:db8::1]:5061;branch=z9hG4bK1";
    assert!(rsip::headers::Via::new(via).typed().is_err());
    assert_eq!(Via::parse(via).unwrap().to_string(), via);
    for method in ["BENOTIFY", "SERVICE"] {
        assert!(method.parse::<rsip::Method>().is_err());
        assert_eq!(Method::parse(method).unwrap().to_string(), method);
    }
    assert!(rsip::headers::Allow::new("INVITE, BENOTIFY").typed().is_err());
}

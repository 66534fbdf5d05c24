use super::*;
use crate::{Framer, Limits, Status};

fn message(text: &str) -> Message {
    let text = text.replace('\n', "\r\n");
    Framer::datagram(Limits::default(), text.as_bytes()).unwrap()
}

/// As Lync writes it: routes with header parameters after the bracket, a GRUU as Contact.
fn invite() -> Message {
    message(
        "INVITE sip:bob@sip.ours.test SIP/2.0\n\
         Record-Route: <sip:fe01.partner.test:5061;transport=tls;opaque=state:T:F;lr;ms-route-sig=d>;tag=33\n\
         Record-Route: <sip:fe02.partner.test;transport=tls;lr>\n\
         Via: SIP/2.0/TLS 198.51.100.7:5061;branch=z9hG4bK1\nMax-Forwards: 69\n\
         From: \"alice\"<sip:alice@partner.test>;tag=9d5c;epid=b84a\nTo: <sip:bob@ours.test>\n\
         Call-ID: ce87\nCSeq: 5 INVITE\n\
         Contact: <sip:alice@partner.test;opaque=user:epid:hYns;gruu>\nContent-Length: 0\n\n",
    )
}

fn answered() -> Dialog {
    let ok = Message::response_to(&invite(), Status::of(200), Some("ours"));
    Dialog::accepted(&invite(), &ok).unwrap()
}

fn show(message: &Message) -> String {
    String::from_utf8_lossy(&message.to_bytes()).replace("\r\n", "\n")
}

#[test]
fn who_was_asked_sends_requests_along_the_routes_in_order() {
    let mut dialog = answered();
    insta::assert_snapshot!(show(&dialog.request(Method::Bye)), @r#"
    BYE sip:alice@partner.test;opaque=user:epid:hYns;gruu SIP/2.0
    Route: <sip:fe01.partner.test:5061;transport=tls;opaque=state:T:F;lr;ms-route-sig=d>;tag=33
    Route: <sip:fe02.partner.test;transport=tls;lr>
    Max-Forwards: 70
    From: <sip:bob@ours.test>;tag=ours
    To: "alice" <sip:alice@partner.test>;tag=9d5c;epid=b84a
    Call-ID: ce87
    CSeq: 1 BYE
    Content-Length: 0
    "#);
}

#[test]
fn who_asked_sends_them_in_reverse_and_the_ack_keeps_the_number() {
    let mut response = Message::response_to(&invite(), Status::of(200), Some("theirs"));
    response.headers.push(HeaderName::Contact, "<sip:bob@10.0.0.1:5062>").unwrap();
    let mut dialog = Dialog::established(&invite(), &response).unwrap();
    assert_eq!(dialog.request(Method::Message).cseq().unwrap().number, 6);
    insta::assert_snapshot!(show(&dialog.request(Method::Ack)), @r#"
    ACK sip:bob@10.0.0.1:5062 SIP/2.0
    Route: <sip:fe02.partner.test;transport=tls;lr>
    Route: <sip:fe01.partner.test:5061;transport=tls;opaque=state:T:F;lr;ms-route-sig=d>;tag=33
    Max-Forwards: 70
    From: "alice" <sip:alice@partner.test>;tag=9d5c;epid=b84a
    To: <sip:bob@ours.test>;tag=theirs
    Call-ID: ce87
    CSeq: 5 ACK
    Content-Length: 0
    "#);
    assert_eq!(dialog.request(Method::Invite).cseq().unwrap().number, 7);
    assert_eq!(dialog.request(Method::Ack).cseq().unwrap().number, 7);
}

#[test]
fn a_strict_router_stands_in_the_request_line() {
    let mut dialog = answered();
    dialog.route_set = vec![
        NameAddr::parse("<sip:old.partner.test>").unwrap(),
        NameAddr::parse("<sip:new.partner.test;lr>").unwrap(),
    ];
    let request = dialog.request(Method::Bye);
    assert_eq!(request.uri().unwrap().to_string(), "sip:old.partner.test");
    let routes: Vec<_> = request.routes().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(routes.len(), 2);
    assert!(routes[0].contains("new.partner.test"));
    assert!(routes[1].contains("opaque=user:epid:hYns"));
    dialog.route_set.clear();
    assert!(dialog.request(Method::Bye).routes().unwrap().is_empty());
}

#[test]
fn what_a_contact_must_not_hold_stays_out_of_the_request_line() {
    let contact = "<sip:alice@partner.test;method=BYE;gruu?Route=%3Csip:evil.test%3E>";
    let mut asked = invite();
    asked.headers.set(HeaderName::Contact, contact).unwrap();
    let ok = Message::response_to(&asked, Status::of(200), Some("ours"));
    let mut dialog = Dialog::accepted(&asked, &ok).unwrap();
    let uri = dialog.request(Method::Message).uri().unwrap().to_string();
    assert_eq!(uri, "sip:alice@partner.test;gruu");
}

fn in_dialog(method: &str, number: u32, contact: &str) -> Message {
    message(&format!(
        "{method} sip:bob@sip.ours.test SIP/2.0\nVia: SIP/2.0/TLS h;branch=z9hG4bK2\n\
         Max-Forwards: 70\nFrom: <sip:alice@partner.test>;tag=9d5c\n\
         To: <sip:bob@ours.test>;tag=ours\nCall-ID: ce87\nCSeq: {number} {method}\n\
         Contact: <{contact}>\nContent-Length: 0\n\n"
    ))
}

#[test]
fn numbers_must_grow_and_targets_refresh() {
    let mut dialog = answered();
    let first = dialog.remote_target.clone();
    assert_eq!(dialog.receive(&in_dialog("MESSAGE", 5, "sip:x@y")), Err(DialogError::OutOfOrder));
    assert_eq!(dialog.receive(&in_dialog("MESSAGE", 6, "sip:x@y")), Ok(()));
    assert_eq!(dialog.remote_target, first, "a MESSAGE refreshes nothing");
    assert_eq!(dialog.receive(&in_dialog("INVITE", 9, "sip:moved@partner.test")), Ok(()));
    assert_eq!(dialog.remote_target.to_string(), "sip:moved@partner.test");
    assert_eq!(dialog.receive(&in_dialog("ACK", 9, "sip:x@y")), Ok(()), "an ACK repeats it");
    assert_eq!(dialog.receive(&in_dialog("BYE", 8, "sip:x@y")), Err(DialogError::OutOfOrder));
    let mut strange = in_dialog("BYE", 10, "sip:x@y");
    strange.headers.set(HeaderName::CallId, "other").unwrap();
    assert_eq!(dialog.receive(&strange), Err(DialogError::NotOurs));
}

#[test]
fn a_dialog_is_confirmed_by_its_2xx() {
    let mut ringing = Message::response_to(&invite(), Status::of(180), Some("theirs"));
    ringing.headers.push(HeaderName::Contact, "<sip:bob@10.0.0.1>").unwrap();
    let mut dialog = Dialog::established(&invite(), &ringing).unwrap();
    assert!(dialog.early);
    let mut ok = Message::response_to(&invite(), Status::of(200), Some("theirs"));
    let before = dialog.clone();
    let mut strange = ok.clone();
    strange.headers.push(HeaderName::RecordRoute, "<sip:no closing bracket").unwrap();
    assert_eq!(dialog.receive_response(&strange), Err(DialogError::Routes));
    assert_eq!(dialog, before, "what is refused changes nothing");
    ok.headers.push(HeaderName::Contact, "<sip:bob@10.0.0.2>").unwrap();
    ok.headers.remove(&HeaderName::RecordRoute);
    dialog.receive_response(&ok).unwrap();
    assert!(!dialog.early && dialog.route_set.is_empty());
    assert_eq!(dialog.remote_target.to_string(), "sip:bob@10.0.0.2");
    let fork = Message::response_to(&invite(), Status::of(200), Some("other"));
    assert_eq!(dialog.receive_response(&fork), Err(DialogError::NotOurs));
}

#[test]
fn without_names_or_contact_there_is_none() {
    let ok = Message::response_to(&invite(), Status::of(200), Some("ours"));
    let mut poor = invite();
    poor.headers.remove(&HeaderName::Contact);
    assert_eq!(Dialog::accepted(&poor, &ok), Err(DialogError::NoContact));
    let untagged = Message::response_to(&invite(), Status::of(200), None);
    assert_eq!(Dialog::accepted(&invite(), &untagged), Err(DialogError::NoName));
    let mut long = invite();
    for _ in 0..32 {
        long.headers.push(HeaderName::RecordRoute, "<sip:h;lr>").unwrap();
    }
    assert_eq!(Dialog::accepted(&long, &ok), Err(DialogError::Routes));
}

#[test]
fn stored_and_revived_it_is_the_same() {
    let mut dialog = answered();
    dialog.request(Method::Message);
    let bytes = dialog.to_bytes();
    assert_eq!(Dialog::from_bytes(&bytes), Ok(dialog));
    for length in 0..bytes.len() {
        assert!(Dialog::from_bytes(&bytes[..length]).is_err(), "cut at {length}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        // It may be another dialog, but never a panic.
        let _ = Dialog::from_bytes(&changed);
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    assert!(Dialog::from_bytes(&longer).is_err());
}

use std::collections::HashSet;
use std::hash::DefaultHasher;

use gatehouse_types::StreamLimits;

use super::*;
use crate::framing::{ContentNamespace, Frame, Framer};

fn stanza(text: &str) -> Stanza {
    let text = text.replacen(' ', " xmlns='jabber:client' ", 1);
    Stanza::from_element(text.parse().unwrap()).unwrap()
}

fn jid(text: &str) -> Jid {
    text.parse().unwrap()
}

#[test]
fn addresses_are_read_once() {
    let message = stanza("<message from='A@X.example./r' to='y.example' id='1' type='chat'/>");
    assert_eq!(message.kind(), StanzaKind::Message);
    assert_eq!(message.from(), Some(&jid("a@x.example/r")));
    assert_eq!(message.to(), Some(&jid("y.example")));
    assert_eq!((message.id(), message.type_()), (Some("1"), Some("chat")));
}

#[test]
fn what_is_no_stanza_is_refused() {
    for text in [
        "<challenge xmlns='jabber:client'/>",
        "<message xmlns='jabber:server'/>",
        "<message xmlns='urn:other'/>",
        "<message xmlns='jabber:client' from='@'/>",
        "<message xmlns='jabber:client' to=''/>",
    ] {
        assert!(Stanza::from_element(text.parse().unwrap()).is_err(), "{text}");
    }
}

#[test]
fn setters_keep_element_and_addresses_together() {
    let mut message = stanza("<message to='a@x.example'/>");
    message.set_from(Some(jid("b@y.example/r")));
    message.set_to(None);
    assert_eq!(message.to_element().attr("from"), Some("b@y.example/r"));
    assert_eq!(message.to_element().attr("to"), None);
    assert_eq!(Stanza::from_element(message.to_element()), Ok(message));
}

#[test]
fn bounce_goes_back_with_a_reason() {
    let message =
        stanza("<message from='a@x.example/r' to='b@y.example' id='7'><body>hi</body></message>");
    let bounce = message
        .bounce(ErrorKind::Wait, StanzaCondition::RemoteServerTimeout, "y.example is silent")
        .unwrap();
    let want = "<message xmlns='jabber:client' from='b@y.example' to='a@x.example/r' id='7' \
        type='error'><error type='wait'>\
        <remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
        <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>y.example is silent\
        </text></error></message>";
    assert_eq!(bounce.to_element(), want.parse::<Element>().unwrap());
    assert_eq!(Stanza::from_element(bounce.to_element()), Ok(bounce));
}

#[test]
fn weight_grows_with_text_attributes_and_elements() {
    let weight = |text: &str| stanza(text).weight();
    let empty = weight("<message />");
    assert!((300..400).contains(&empty), "{empty}");
    let text = format!("<message ><body>{}</body></message>", "x".repeat(5000));
    assert!((5600..6000).contains(&weight(&text)));
    assert!(weight(&format!("<message id='{}'/>", "x".repeat(5000))) > empty + 5000);
    assert!(weight(&format!("<message >{}</message>", "<a/>".repeat(100))) > 30_000);
}

#[test]
fn only_requests_are_bounced() {
    for (text, want) in [
        ("<message />", true),
        ("<message type='chat'/>", true),
        ("<message type='error'/>", false),
        ("<iq type='get'/>", true),
        ("<iq type='set'/>", true),
        ("<iq type='result'/>", false),
        ("<iq type='error'/>", false),
        ("<presence />", false),
        ("<presence type='unavailable'/>", false),
        ("<presence type='error'/>", false),
        ("<presence type='subscribe'/>", true),
        ("<presence type='subscribed'/>", true),
        ("<presence type='unsubscribe'/>", true),
        ("<presence type='unsubscribed'/>", true),
        ("<presence type='probe'/>", true),
    ] {
        let bounce =
            stanza(text).bounce(ErrorKind::Cancel, StanzaCondition::ServiceUnavailable, "");
        assert_eq!(bounce.is_some(), want, "{text}");
        if let Some(bounce) = bounce {
            let again = bounce.bounce(ErrorKind::Cancel, StanzaCondition::ServiceUnavailable, "");
            assert_eq!(again, None, "a bounce of a bounce");
        }
    }
}

#[test]
fn only_iq_requests_have_results() {
    let ping = stanza("<iq type='get' id='1' from='a@x.example/r'/>");
    let result = ping.result(Some(Element::bare("q", "u"))).unwrap();
    assert_eq!((result.type_(), result.id()), (Some("result"), Some("1")));
    assert_eq!((result.from(), result.to()), (None, Some(&jid("a@x.example/r"))));
    assert!(result.element().has_child("q", "u"));
    for text in ["<iq type='result'/>", "<iq type='error'/>", "<message type='get'/>"] {
        assert_eq!(stanza(text).result(None), None, "{text}");
    }
}

/// As it comes from a stream.
fn read(text: &str) -> Stanza {
    let mut framer = Framer::new(&StreamLimits::default(), ContentNamespace::Server);
    framer.push(
        b"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>",
    );
    framer.push(text.as_bytes());
    assert!(matches!(framer.next_frame(), Ok(Some(Frame::Header(_)))));
    let Ok(Some(Frame::Stanza(raw))) = framer.next_frame() else { panic!("{text}") };
    Stanza::from_raw(raw).unwrap()
}

#[test]
fn bodies_hash_the_same_whatever_stands_beside_them() {
    fn hash(stanza: &Stanza) -> u64 {
        let mut hasher = DefaultHasher::new();
        stanza.hash_bodies(&mut hasher);
        hasher.finish()
    }
    let message =
        |payload: &str| read(&format!("<message to='a@x.example' id='1'>{payload}</message>"));
    let delay = "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>";
    for body in [
        "<body>hi</body>",
        "<body/>",
        "<body xml:lang='a&gt;b'>a &lt; b</body>",
        "<body><![CDATA[</body>]]></body>",
    ] {
        let want = hash(&message(body));
        for payload in
            [format!("{body}{delay}"), format!("{delay}{body}"), format!("{body} {delay} ")]
        {
            assert_eq!(hash(&message(&payload)), want, "{payload}");
        }
    }
    let both = "<body>hi</body><body xml:lang='de'>ho</body>";
    let texts = [
        "<body>hi</body>",
        "<body>ho</body>",
        "<body>hi </body>",
        "<body/>",
        "<subject>hi</subject>",
        "<body><![CDATA[hi]]></body>",
        "<body><![CDATA[ho]]></body>",
        "<body xml:lang='de'>hi</body>",
        both,
    ];
    let hashes: HashSet<u64> = texts.iter().map(|text| hash(&message(text))).collect();
    assert_eq!(hashes.len(), texts.len());
    // One in another namespace is no body.
    let other = message("<body xmlns='urn:other'>hi</body>");
    assert_eq!(hash(&other), hash(&message("<subject>hi</subject>")));
    // A tree has bodies, too.
    let tree = |text: &str| Stanza::from_element(text.parse().unwrap()).unwrap();
    let [one, two] = ["hi", "ho"].map(|text| {
        hash(&tree(&format!("<message xmlns='jabber:client'><body>{text}</body></message>")))
    });
    assert_ne!(one, two);
}

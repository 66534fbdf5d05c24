//! What a peer may try, and that it gets nowhere.

use gatehouse_types::Machine as _;

use super::world::*;
use crate::s2s::{DialbackAnswer, Encryption, Purpose, S2sEvent, Terms};
use crate::stream::CloseReason;
use crate::{Entry, StreamCondition as C};

fn gate() -> TestGate {
    TestGate::new(&["us.example", "rooms.us.example"], DIALBACK)
}

#[test]
fn headers_to_or_from_the_wrong_place() {
    for (from, to, want) in [
        ("from='them.example'", "to='other.example'", Some(C::HostUnknown)),
        ("from='them.example'", "", Some(C::ImproperAddressing)),
        ("from='them.example'", "to='us@us.example'", Some(C::ImproperAddressing)),
        ("from='192.0.2.1'", "to='us.example'", Some(C::ImproperAddressing)),
        ("from='us.example'", "to='us.example'", Some(C::InvalidFrom)),
        ("from='rooms.us.example'", "to='us.example'", Some(C::InvalidFrom)),
        ("from='them.example'", "to='US.example.'", None),
        ("from='them.example'", "to='us.example'", None),
    ] {
        let mut played = Played::new(gate(), Entry::StartTls);
        let header = HEADER.replace("from='them.example'", from).replace("to='us.example'", to);
        let said = played.say(&header);
        assert!(said.starts_with("<?xml version='1.0'?><stream:stream"), "{said}");
        assert_eq!(played.refusal(), want, "{header}");
    }
}

#[test]
fn no_stanza_before_authentication() {
    for entry in
        [Entry::StartTls, Entry::Direct(verified("them.example")), Entry::Direct(untrusted())]
    {
        let mut played = Played::new(gate(), entry);
        played.say(HEADER);
        let said = played.say(MESSAGE);
        assert!(said.contains("<not-authorized") && said.ends_with("</stream:stream>"), "{said}");
        let events = played.events();
        assert!(!events.iter().any(|event| matches!(event, S2sEvent::Stanza(..))));
        assert!(played.receiver.is_closed());
    }
}

#[test]
fn no_stanza_while_a_key_is_being_verified() {
    let mut played = Played::new(gate(), Entry::Direct(no_certificate()));
    played.say(HEADER);
    played.say(KEY);
    played.say(MESSAGE);
    assert_eq!(played.refusal(), Some(C::NotAuthorized));
}

#[test]
fn forged_and_relayed_stanzas_end_the_stream() {
    for (text, want) in [
        ("<message from='a@evil.example' to='b@us.example'/>", C::InvalidFrom),
        ("<message from='a@us.example' to='b@us.example'/>", C::InvalidFrom),
        ("<message from='a@sub.them.example' to='b@us.example'/>", C::InvalidFrom),
        ("<message from='a@them.example' to='b@elsewhere.example'/>", C::HostUnknown),
        ("<message from='a@them.example' to='b@rooms.us.example'/>", C::NotAuthorized),
        ("<message from='a@them.example'/>", C::ImproperAddressing),
        ("<message to='b@us.example'/>", C::ImproperAddressing),
        ("<message from='a@evil.example' to='@us.example'/>", C::InvalidFrom),
        ("<what from='a@them.example' to='b@us.example'/>", C::UnsupportedStanzaType),
        (
            "<message xmlns='urn:x' from='a@them.example' to='b@us.example'/>",
            C::UnsupportedStanzaType,
        ),
        (
            "<message xmlns='jabber:client' from='a@them.example' to='b@us.example'/>",
            C::InvalidNamespace,
        ),
    ] {
        let mut played = Played::open(DIALBACK);
        played.say(text);
        let events = played.events();
        assert!(!events.iter().any(|event| matches!(event, S2sEvent::Stanza(..))), "{text}");
        match closed(&events) {
            Some(CloseReason::WeRefused(error)) => assert_eq!(error.condition, want, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    let mut played = Played::open(DIALBACK);
    assert_eq!(played.say(MESSAGE), "");
    assert!(matches!(played.events().as_slice(), [S2sEvent::Stanza(..)]));
}

#[test]
fn one_malformed_address_does_not_end_the_stream_for_all() {
    for (text, answered) in [
        ("<message from='' to='b@us.example'/>", false),
        ("<presence from='a b@them.example' to='b@us.example'/>", false),
        ("<message from='a@them.example' to='@us.example' id='7'/>", true),
        ("<message from='a@them.example' to='@us.example' type='error'/>", false),
        ("<presence from='a@them.example' to='@us.example'/>", false),
    ] {
        let mut played = Played::open(DIALBACK);
        played.say(text);
        let events = played.events();
        let [S2sEvent::Malformed { answer, reason }] = events.as_slice() else {
            panic!("{text}: {events:?}");
        };
        assert!(reason.contains("malformed"), "{reason}");
        assert_eq!(answer.is_some(), answered, "{text}");
        if let Some(answer) = answer {
            assert_eq!(answer.from().map(ToString::to_string).as_deref(), Some("us.example"));
            assert_eq!(answer.to().map(ToString::to_string).as_deref(), Some("a@them.example"));
            assert_eq!((answer.id(), answer.type_()), (Some("7"), Some("error")));
        }
        played.say(MESSAGE);
        assert!(matches!(played.events().as_slice(), [S2sEvent::Stanza(..)]), "{text}");
    }
}

#[test]
fn nothing_is_smuggled_in_behind_starttls() {
    for extra in ["<db:result/>", "x", MESSAGE, "<?xml version='1.0'?>"] {
        let mut played = Played::new(gate(), Entry::StartTls);
        played.say(HEADER);
        let said = played.say(&format!("{STARTTLS}{extra}"));
        assert!(!said.contains("<proceed"), "{said}");
        assert_eq!(played.refusal(), Some(C::PolicyViolation));
        assert!(!played.receiver.wants_upgrade());
    }
    // In a packet of its own, after `<proceed/>`.
    let mut played = Played::new(gate(), Entry::StartTls);
    played.say(HEADER);
    assert!(played.say(STARTTLS).contains("<proceed"));
    assert_eq!(played.say(MESSAGE), "", "nothing in the clear any more");
    assert!(played.receiver.is_closed());
}

#[test]
fn nothing_is_smuggled_in_behind_proceed() {
    let response = "<stream:stream xmlns='jabber:server' \
        xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'><stream:features>\
        <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>";
    let proceed = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    for (extra, accepted) in [("", true), ("<stream:features/>", false)] {
        let mut machine =
            initiator("them.example", "us.example", Purpose::Stanzas, DIALBACK, Entry::StartTls);
        machine.handle_data(response.as_bytes(), start());
        machine.handle_data(format!("{proceed}{extra}").as_bytes(), start());
        assert_eq!(machine.wants_upgrade(), accepted);
        assert_eq!(machine.is_closed(), !accepted);
    }
}

#[test]
fn external_without_tls_or_proof_fails_and_is_counted() {
    for (entry, condition) in [
        (Entry::StartTls, "<encryption-required"),
        (Entry::Direct(untrusted()), "<not-authorized"),
        (Entry::Direct(no_certificate()), "<not-authorized"),
        (Entry::Direct(verified("evil.example")), "<not-authorized"),
    ] {
        let mut played = Played::new(gate(), entry);
        played.say(HEADER);
        for _ in 0..2 {
            let said = played.say(AUTH);
            assert!(said.contains(condition) && !said.contains("<success"), "{said}");
            assert!(!played.receiver.is_closed());
        }
        played.say(AUTH);
        assert_eq!(played.refusal(), Some(C::PolicyViolation), "three tries are enough");
    }
}

#[test]
fn other_mechanisms_are_unknown() {
    let mut played = Played::new(gate(), Entry::Direct(verified("them.example")));
    played.say(HEADER);
    for text in [
        AUTH.replace("EXTERNAL", "PLAIN"),
        "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>".to_owned(),
    ] {
        let said = played.say(&text);
        assert!(said.contains("<failure"), "{said}");
    }
}

#[test]
fn who_was_proved_cannot_become_somebody_else() {
    let mut played = Played::new(gate(), Entry::Direct(verified("them.example")));
    played.say(HEADER);
    assert!(played.say(AUTH).contains("<success"));
    played.say(&HEADER.replace("them.example", "evil.example"));
    assert_eq!(played.refusal(), Some(C::InvalidFrom));
    assert!(opened(&played.events()).is_none());
}

#[test]
fn keys_for_others_open_nothing() {
    for (text, want) in [
        ("<db:result from='them.example' to='elsewhere.example'>k</db:result>", "item-not-found"),
        ("<db:result from='us.example' to='rooms.us.example'>k</db:result>", "not-acceptable"),
    ] {
        let mut played = Played::new(gate(), Entry::Direct(no_certificate()));
        played.say(HEADER);
        let said = played.say(text);
        assert!(said.contains("type='error'") && said.contains(want), "{said}");
        let events = played.events();
        assert!(!events.iter().any(|event| matches!(event, S2sEvent::VerifyKey(_))));
    }
}

#[test]
fn a_key_where_only_a_certificate_will_do_is_refused() {
    let gate = TestGate::new(&["us.example"], CERTIFICATE);
    let mut played = Played::new(gate, Entry::Direct(untrusted()));
    played.say(HEADER);
    let said = played.say(KEY);
    assert!(said.contains("type='error'") && said.contains("self-signed"), "{said}");
    assert!(!played.events().iter().any(|event| matches!(event, S2sEvent::VerifyKey(_))));
}

#[test]
fn a_key_in_the_clear_is_refused_where_tls_is_a_must() {
    let mut played = Played::new(gate(), Entry::StartTls);
    played.say(HEADER);
    let said = played.say(KEY);
    assert!(said.contains("type='error'") && said.contains("policy-violation"), "{said}");
}

#[test]
fn answers_that_were_not_asked_for_end_the_stream() {
    for text in [
        "<db:result from='them.example' to='us.example' type='valid'/>",
        "<db:verify from='them.example' to='us.example' id='1' type='valid'/>",
    ] {
        let mut played = Played::new(gate(), Entry::Direct(no_certificate()));
        played.say(HEADER);
        played.say(text);
        let events = played.events();
        assert!(opened(&events).is_none());
        assert!(closed(&events).is_some(), "{text}");
    }
}

#[test]
fn a_verdict_for_an_older_stream_opens_nothing() {
    let gate = TestGate::new(&["us.example"], ANYTHING);
    let mut played = Played::new(gate, Entry::StartTls);
    played.say(HEADER);
    played.say(KEY);
    let Some(S2sEvent::VerifyKey(question)) = played.events().pop() else { panic!() };
    played.say(STARTTLS);
    played.receiver.handle_tls(no_certificate(), played.now);
    played.say(HEADER);
    played.receiver.dialback_answer(&question, DialbackAnswer::Valid, played.now);
    assert!(opened(&played.events()).is_none());
    assert!(transmitted(&mut played.receiver).is_empty());
}

#[test]
fn a_verdict_is_taken_once() {
    let mut played = Played::new(gate(), Entry::Direct(no_certificate()));
    played.say(HEADER);
    played.say(KEY);
    let Some(S2sEvent::VerifyKey(question)) = played.events().pop() else { panic!() };
    played.receiver.dialback_answer(&question, DialbackAnswer::Invalid, played.now);
    played.receiver.dialback_answer(&question, DialbackAnswer::Valid, played.now);
    assert!(opened(&played.events()).is_none());
}

#[test]
fn an_initiator_believes_only_answers_to_its_own_question() {
    let response = "<stream:stream xmlns='jabber:server' \
        xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' id='1' \
        version='1.0'><stream:features/>";
    for (answer, opens) in [
        ("<db:result from='us.example' to='them.example' type='valid'/>", true),
        ("<db:result from='evil.example' to='them.example' type='valid'/>", false),
        ("<db:result from='us.example' to='other.example' type='valid'/>", false),
        ("<db:verify from='us.example' to='them.example' type='valid'/>", false),
        ("<db:result from='us.example' to='them.example'>k</db:result>", false),
    ] {
        let mut machine =
            initiator("them.example", "us.example", Purpose::Stanzas, ANYTHING, Entry::StartTls);
        machine.handle_data(response.as_bytes(), start());
        machine.handle_data(answer.as_bytes(), start());
        assert_eq!(opened(&events(&mut machine)).is_some(), opens, "{answer}");
    }
}

#[test]
fn an_initiator_sends_nothing_before_it_is_open() {
    let mut link = Link::starttls(CERTIFICATE, CERTIFICATE);
    let message = stanza("<message from='a@them.example' to='b@us.example'/>");
    link.initiator.send(&message, link.now).unwrap();
    link.run();
    assert!(!link.log.contains("<message"), "{}", link.log);
    link.initiator.send(&message, link.now).unwrap();
    link.run();
    assert!(link.log.contains("<message"));
}

#[test]
fn an_initiator_ignores_stanzas() {
    let entry = Entry::Direct(verified("us.example"));
    let mut machine = initiator("them.example", "us.example", Purpose::Stanzas, DIALBACK, entry);
    for text in [
        "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
         xmlns:db='jabber:server:dialback' id='1' version='1.0'>",
        "<stream:features/>",
        "<db:result from='us.example' to='them.example' type='valid'/>",
    ] {
        machine.handle_data(text.as_bytes(), start());
    }
    assert!(opened(&events(&mut machine)).is_some());
    machine.handle_data(b"<message from='b@us.example' to='a@them.example'/>", start());
    assert_eq!(events(&mut machine), []);
    assert!(!machine.is_closed());
}

#[test]
fn sizes_are_small_before_authentication_and_larger_after() {
    let message = |bytes: usize| MESSAGE.replace("hi", &"x".repeat(bytes));
    let mut played = Played::new(gate(), Entry::Direct(no_certificate()));
    played.say(HEADER);
    played.say(&KEY.replace("0123456789abcdef", &"0".repeat(10_001)));
    assert_eq!(played.refusal(), Some(C::PolicyViolation));

    let mut played = Played::open(DIALBACK);
    assert_eq!(played.say(&message(19_000)), "");
    assert!(matches!(played.events().as_slice(), [S2sEvent::Stanza(..)]));
    played.say(&message(20_000));
    assert_eq!(played.refusal(), Some(C::PolicyViolation));
}

#[test]
fn a_peers_stream_error_is_told_and_answered_politely() {
    let mut played = Played::open(DIALBACK);
    let said = played.say(
        "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
    );
    assert_eq!(said, "</stream:stream>");
    match closed(&played.events()) {
        Some(CloseReason::PeerRefused(error)) => assert_eq!(error.condition, C::Reset),
        other => panic!("{other:?}"),
    }
}

/// Found by fuzzing: the policy file refuses such terms, but the stream must not rely on that.
#[test]
fn a_certificate_is_not_waived_where_clear_text_is_allowed() {
    let terms = Terms { encryption: Encryption::Optional, ..CERTIFICATE };
    let old = HEADER.replace(" version='1.0'>", " id='1'>");
    let features =
        "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>";
    for said in [old, format!("{HEADER}{features}")] {
        let (us, them) = ("us.example", "them.example");
        let mut machine = initiator(us, them, Purpose::Stanzas, terms, Entry::StartTls);
        machine.handle_data(said.as_bytes(), start());
        let key = "<db:result from='them.example' to='us.example' type='valid'/>";
        machine.handle_data(key.as_bytes(), start());
        let events = events(&mut machine);
        assert_eq!(opened(&events), None, "{said}");
        assert!(matches!(closed(&events), Some(CloseReason::NoAgreement(_))), "{events:?}");
        assert!(!String::from_utf8(transmitted(&mut machine)).unwrap().contains("db:result "));
    }
}

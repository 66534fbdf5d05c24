//! What works, and what it takes.

use gatehouse_identity::Proof;

use super::world::*;
use crate::Entry;
use crate::s2s::{DialbackAnswer, Purpose, S2sEvent};
use crate::stream::CloseReason;

fn is_certificate(proof: &Proof) -> bool {
    matches!(proof, Proof::Certificate { .. })
}

/// Sends a message over an open link and checks that it comes out as it went in.
fn check_delivery(link: &mut Link) {
    let message = stanza(
        "<message from='a@them.example/x' to='b@us.example'><body>1 &lt; 2</body><x xmlns='u'/></message>",
    );
    link.initiator.send(&message, link.now).unwrap();
    link.run();
    let Some(S2sEvent::Stanza(came, _)) = link.receiver_saw.last() else { panic!("{}", link.log) };
    assert_eq!(*came, message, "{}", link.log);
}

#[test]
fn external_over_starttls_however_the_bytes_are_cut() {
    for step in [1, 2, 3, 5, 8, 13, 50, 100, 1000] {
        let mut link = Link::starttls(CERTIFICATE, CERTIFICATE);
        link.step = step;
        link.run();
        let (ours, theirs) =
            (link.opened_by_receiver().unwrap(), link.opened_by_initiator().unwrap());
        assert_eq!(ours.domain().0, domain("them.example"));
        assert_eq!(theirs.domain().0, domain("us.example"));
        assert!(is_certificate(ours.proof()) && is_certificate(theirs.proof()), "step {step}");
        assert!(!link.log.contains("<db:"), "{}", link.log);
        check_delivery(&mut link);
    }
}

#[test]
fn external_over_direct_tls() {
    let us = TestGate::new(&["us.example"], CERTIFICATE);
    let mut link = Link::new(
        initiator(
            "them.example",
            "us.example",
            Purpose::Stanzas,
            CERTIFICATE,
            Entry::Direct(verified("us.example")),
        ),
        receiver("us.example", us, Entry::Direct(verified("them.example"))),
    );
    link.run();
    assert!(is_certificate(link.opened_by_receiver().unwrap().proof()));
    assert!(!link.log.contains("starttls"));
    check_delivery(&mut link);
}

#[test]
fn dialback_where_the_certificate_proves_nothing() {
    for step in [1, 7, 1000] {
        for shown in [untrusted(), no_certificate(), verified("other.example")] {
            let mut link = Link::starttls(DIALBACK, DIALBACK);
            link.step = step;
            link.shown_to_receiver = shown;
            link.run();
            assert_eq!(
                link.opened_by_receiver().unwrap().proof(),
                &Proof::Dialback,
                "{}",
                link.log
            );
            assert!(link.opened_by_initiator().is_some());
            assert!(!link.log.contains("EXTERNAL"), "never offered where it cannot succeed");
            check_delivery(&mut link);
        }
    }
}

#[test]
fn each_side_has_its_own_terms() {
    // We are verified by dialback, the responder by its certificate.
    let mut link = Link::starttls(CERTIFICATE, DIALBACK);
    link.shown_to_receiver = no_certificate();
    link.run();
    assert_eq!(link.opened_by_receiver().unwrap().proof(), &Proof::Dialback);
    assert!(is_certificate(link.opened_by_initiator().unwrap().proof()));

    let mut link = Link::starttls(DIALBACK, CERTIFICATE);
    link.shown_to_initiator = untrusted();
    link.run();
    assert!(is_certificate(link.opened_by_receiver().unwrap().proof()));
    assert_eq!(link.opened_by_initiator().unwrap().proof(), &Proof::Dialback);
}

#[test]
fn dialback_in_the_clear_only_where_both_allow_it() {
    let mut link = Link::starttls(ANYTHING, ANYTHING);
    link.run();
    assert!(link.log.contains("<proceed"), "TLS where it is offered: {}", link.log);

    // A responder without TLS, played by hand.
    for (terms, allowed) in [(ANYTHING, true), (DIALBACK, false)] {
        let mut machine =
            initiator("them.example", "us.example", Purpose::Stanzas, terms, Entry::StartTls);
        gatehouse_types::Machine::handle_data(
            &mut machine,
            RESPONSE_WITHOUT_TLS.as_bytes(),
            start(),
        );
        let said = String::from_utf8(transmitted(&mut machine)).unwrap();
        assert_eq!(said.contains("<db:result"), allowed, "{said}");
        let want = "us.example does not offer STARTTLS".to_owned();
        let want = (!allowed).then_some(CloseReason::NoAgreement(want));
        assert_eq!(closed(&events(&mut machine)).cloned(), want);
    }
}

const RESPONSE_WITHOUT_TLS: &str = "<stream:stream xmlns='jabber:server' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' id='1' \
    version='1.0'><stream:features/>";

#[test]
fn an_impostor_is_not_spoken_to() {
    for (shown, words) in [
        (untrusted(), "self-signed"),
        (no_certificate(), "no certificate"),
        (verified("other.example"), "other.example"),
    ] {
        let mut link = Link::starttls(CERTIFICATE, CERTIFICATE);
        link.shown_to_initiator = shown.clone();
        link.run();
        match link.initiator_closed() {
            Some(CloseReason::NoAgreement(text)) => assert!(text.contains(words), "{text}"),
            other => panic!("{other:?}"),
        }
        assert!(link.opened_by_receiver().is_none() && link.opened_by_initiator().is_none());
        assert_eq!(link.log.matches("> <?xml").count(), 1, "nothing after TLS: {}", link.log);

        let mut direct = initiator(
            "them.example",
            "us.example",
            Purpose::Stanzas,
            CERTIFICATE,
            Entry::Direct(shown),
        );
        assert!(transmitted(&mut direct).is_empty());
        assert!(gatehouse_types::Machine::is_closed(&direct));
    }
}

#[test]
fn no_agreement_names_whose_fault_it_is() {
    // Our certificate is not trusted there, and they want nothing else.
    let mut link = Link::starttls(CERTIFICATE, CERTIFICATE);
    link.shown_to_receiver = untrusted();
    link.run();
    let want =
        "us.example refused our dialback key: not-authorized (the certificate is self-signed)";
    assert_eq!(link.initiator_closed(), Some(&CloseReason::NoAgreement(want.to_owned())));
    let told = link.receiver_saw.iter().any(|event| {
        matches!(event, S2sEvent::AuthenticationFailed { method: "EXTERNAL", reason }
            if reason.contains("self-signed"))
    });
    assert!(told, "{:?}", link.receiver_saw);
    assert!(link.opened_by_receiver().is_none());

    // A partner that knows no dialback.
    let mut machine = initiator(
        "them.example",
        "us.example",
        Purpose::Stanzas,
        CERTIFICATE,
        Entry::Direct(verified("us.example")),
    );
    let response = RESPONSE_WITHOUT_TLS.replace(" xmlns:db='jabber:server:dialback'", "");
    gatehouse_types::Machine::handle_data(&mut machine, response.as_bytes(), start());
    match closed(&events(&mut machine)) {
        Some(CloseReason::NoAgreement(text)) => {
            assert!(text.contains("it may not trust our certificate"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_that_is_denied_or_cannot_be_asked_about_opens_nothing() {
    for (answer, words) in [
        (DialbackAnswer::Invalid, "dialback key is wrong"),
        (DialbackAnswer::Unreachable("10.0.0.1 is silent".into()), "remote-server-not-found"),
    ] {
        let mut link = Link::starttls(DIALBACK, DIALBACK);
        link.shown_to_receiver = no_certificate();
        link.answer = Some(answer);
        link.run();
        match link.initiator_closed() {
            Some(CloseReason::NoAgreement(text)) => assert!(text.contains(words), "{text}"),
            other => panic!("{other:?}"),
        }
        assert!(link.opened_by_receiver().is_none());
        assert!(!link.log.contains("10.0.0.1"), "what we know inside stays inside");
    }
}

#[test]
fn a_key_that_we_had_no_room_for_is_no_failure() {
    let gate = TestGate::new(&["us.example"], DIALBACK);
    let mut played = Played::new(gate, Entry::Direct(no_certificate()));
    played.say(HEADER);
    let mut offer = |answer: DialbackAnswer| {
        played.say(KEY);
        let Some(S2sEvent::VerifyKey(question)) = played.events().pop() else { panic!() };
        played.receiver.dialback_answer(&question, answer, played.now);
        String::from_utf8(transmitted(&mut played.receiver)).unwrap()
    };
    for _ in 0..5 {
        let said = offer(DialbackAnswer::Busy);
        assert!(said.contains("type='wait'") && said.contains("resource-constraint"), "{said}");
    }
    assert!(offer(DialbackAnswer::Valid).contains("type='valid'"));
    assert!(opened(&played.events()).is_some());
}

#[test]
fn the_header_after_tls_is_the_one_that_counts() {
    const THEM: &str = "from='them.example' ";
    for (before, after, want) in [
        ("from='loud.example' ", THEM, "loud.example them.example"),
        (THEM, THEM, "them.example"),
        (THEM, "", "them.example -"),
    ] {
        let mut played = Played::new(TestGate::new(&["us.example"], DIALBACK), Entry::StartTls);
        played.say(&HEADER.replace(THEM, before));
        played.say(STARTTLS);
        played.receiver.handle_tls(no_certificate(), played.now);
        played.say(&HEADER.replace(THEM, after));
        let told: Vec<String> = played
            .events()
            .into_iter()
            .filter_map(|event| match event {
                S2sEvent::Header { from, .. } => Some(from),
                _ => None,
            })
            .map(|from| from.map_or_else(|| "-".to_owned(), |from| from.0.to_string()))
            .collect();
        assert_eq!(told.join(" "), want);
    }
}

#[test]
fn a_key_made_with_another_secret_is_denied() {
    let mut link = Link::starttls(DIALBACK, DIALBACK);
    link.shown_to_receiver = no_certificate();
    // The real authoritative server has the secret of `them.example`; this one has not.
    let config = crate::s2s::InitiatorConfig {
        limits: limits(),
        dialback_secret: secret("evil"),
        bidi: crate::s2s::Bidi::Wanted,
    };
    link.initiator = crate::s2s::S2sInitiator::new(
        std::sync::Arc::new(config),
        gatehouse_types::Local(domain("them.example")),
        gatehouse_types::Remote(domain("us.example")),
        Purpose::Stanzas,
        DIALBACK,
        Entry::StartTls,
        crate::Seed::new([1; 32]),
        start(),
    );
    link.run();
    assert!(link.opened_by_receiver().is_none());
    assert!(link.log.contains("type='invalid'"), "{}", link.log);
}

#[test]
fn policy_has_the_last_word() {
    for (unwanted, not_admitted) in [(true, false), (false, true)] {
        for (terms, shown) in [(CERTIFICATE, verified("them.example")), (DIALBACK, untrusted())] {
            let mut gate = TestGate::new(&["us.example"], terms);
            let them = domain("them.example");
            if unwanted {
                gate.unwanted.insert(them.clone());
            }
            if not_admitted {
                gate.not_admitted.insert(them);
            }
            let mut link = Link::starttls(CERTIFICATE, terms);
            link.shown_to_receiver = shown;
            link.receiver = receiver("us.example", gate, Entry::StartTls);
            link.run();
            assert!(link.opened_by_receiver().is_none(), "{}", link.log);
            match (link.receiver_closed(), link.initiator_closed()) {
                (Some(CloseReason::WeRefused(ours)), Some(CloseReason::PeerRefused(theirs))) => {
                    assert_eq!(ours, theirs);
                    assert_eq!(ours.condition, crate::StreamCondition::PolicyViolation);
                }
                other => panic!("{other:?}\n{}", link.log),
            }
        }
    }
}

#[test]
fn one_stream_serves_several_pairs() {
    let mut played = Played::open(DIALBACK);
    let rooms = "<message from='a@them.example' to='room@rooms.us.example'/>";
    assert_eq!(
        played.say("<db:result from='them.example' to='rooms.us.example'>k</db:result>"),
        "<db:result from='rooms.us.example' to='them.example' type='valid'/>",
        "the certificate proves it: nobody is asked"
    );
    assert!(opened(&played.events()).is_some());
    assert_eq!(played.say(rooms), "");
    assert!(matches!(played.events().as_slice(), [S2sEvent::Stanza(..)]));

    // Another domain of theirs, by dialback.
    assert_eq!(played.say("<db:result from='more.example' to='us.example'>k</db:result>"), "");
    let Some(S2sEvent::VerifyKey(question)) = played.events().pop() else { panic!() };
    played.receiver.dialback_answer(&question, DialbackAnswer::Valid, played.now);
    assert_eq!(
        String::from_utf8(transmitted(&mut played.receiver)).unwrap(),
        "<db:result from='us.example' to='more.example' type='valid'/>"
    );
    assert_eq!(opened(&played.events()).unwrap().proof(), &Proof::Dialback);
    assert_eq!(played.say("<iq type='get' id='1' from='more.example' to='us.example'/>"), "");
    assert!(matches!(played.events().as_slice(), [S2sEvent::Stanza(..)]));
}

#[test]
fn pairs_on_one_stream_are_bounded() {
    let mut played = Played::open(DIALBACK);
    let mut refused = 0;
    for n in 0..60 {
        let key = format!("<db:result from='d{n}.example' to='us.example'>k</db:result>");
        refused += usize::from(played.say(&key).contains("resource-constraint"));
        if let Some(S2sEvent::VerifyKey(question)) = played.events().pop() {
            played.receiver.dialback_answer(&question, DialbackAnswer::Valid, played.now);
            assert!(opened(&played.events()).is_some());
        }
    }
    assert_eq!(refused, 11, "fifty with the one that was open");
    assert!(!gatehouse_types::Machine::is_closed(&played.receiver));
}

#[test]
fn questions_at_once_are_bounded() {
    let mut played = Played::open(DIALBACK);
    let mut asked = 0;
    for n in 0..20 {
        played.say(&format!("<db:result from='d{n}.example' to='us.example'>k</db:result>"));
        let events = played.events();
        asked += events.iter().filter(|event| matches!(event, S2sEvent::VerifyKey(_))).count();
    }
    assert_eq!(asked, 8);
}

#[test]
fn a_refused_key_does_not_harm_the_other_pairs() {
    let mut played = Played::open(DIALBACK);
    for n in 0..5 {
        let said =
            played.say(&format!("<db:result from='them.example' to='d{n}.example'>k</db:result>"));
        assert!(said.contains("item-not-found"), "{said}");
    }
    played.say(MESSAGE);
    assert!(matches!(played.events().last(), Some(S2sEvent::Stanza(..))));
}

#[test]
fn we_vouch_for_our_own_keys_before_any_authentication() {
    let gate = TestGate::new(&["us.example"], CERTIFICATE);
    let mut played = Played::new(gate, Entry::Direct(no_certificate()));
    played.say(HEADER);
    let key = secret("us.example").key(&domain("them.example"), &domain("us.example"), "theirs");
    let verify = |id: &str, to: &str| {
        format!("<db:verify from='them.example' to='{to}' id='{id}'>{key}</db:verify>")
    };
    assert_eq!(
        played.say(&verify("theirs", "us.example")),
        "<db:verify from='us.example' id='theirs' to='them.example' type='valid'/>"
    );
    assert_eq!(
        played.say(&verify("another", "us.example")),
        "<db:verify from='us.example' id='another' to='them.example' type='invalid'/>"
    );
    let unknown = played.say(&verify("theirs", "other.example"));
    assert!(unknown.contains("type='error'") && unknown.contains("item-not-found"), "{unknown}");
}

#[test]
fn we_do_not_vouch_in_the_clear_where_tls_is_a_must() {
    for (terms, answered) in [(DIALBACK, "error"), (ANYTHING, "invalid")] {
        let mut played = Played::new(TestGate::new(&["us.example"], terms), Entry::StartTls);
        played.say(HEADER);
        let said =
            played.say("<db:verify from='them.example' to='us.example' id='1'>k</db:verify>");
        assert!(said.contains(&format!("type='{answered}'")), "{said}");
    }
}

#[test]
fn prosody_may_leave_out_from_before_tls() {
    let mut played = Played::new(TestGate::new(&["us.example"], CERTIFICATE), Entry::StartTls);
    let said = played.say(&HEADER.replace(" from='them.example'", ""));
    assert!(said.contains("<required/>"), "{said}");
    assert!(played.say(STARTTLS).contains("<proceed"));
    played.receiver.handle_tls(verified("them.example"), played.now);
    assert!(played.say(HEADER).contains("EXTERNAL"));
    assert!(played.say(AUTH).contains("<success"));
}

#[test]
fn external_takes_the_identity_of_the_header_only() {
    for (identity, want) in [
        ("=", "<success"),
        ("", "<success"),
        ("dGhlbS5leGFtcGxl", "<success"),
        ("VEhFTS5leGFtcGxlLg==", "<success"),
        ("ZXZpbC5leGFtcGxl", "<invalid-authzid"),
        ("!!!", "<incorrect-encoding"),
        ("/w==", "<invalid-authzid"),
    ] {
        let gate = TestGate::new(&["us.example"], CERTIFICATE);
        let mut played = Played::new(gate, Entry::Direct(verified("them.example")));
        played.say(HEADER);
        let auth = AUTH.replace(">=<", &format!(">{identity}<"));
        let said = played.say(&auth);
        assert!(said.contains(want), "{identity}: {auth} {said}");
    }
}

#[test]
fn after_external_fails_dialback_may_follow() {
    let gate = TestGate::new(&["us.example"], DIALBACK);
    let mut played = Played::new(gate, Entry::Direct(untrusted()));
    played.say(HEADER);
    let said = played.say(AUTH);
    assert!(said.contains("<failure") && said.contains("<not-authorized"), "{said}");
    assert!(said.contains("self-signed"), "the peer's admin learns why: {said}");
    assert_eq!(played.say(KEY), "");
    assert!(matches!(played.events().last(), Some(S2sEvent::VerifyKey(_))));
}

#[test]
fn an_old_server_gets_dialback_only_where_terms_allow_it() {
    let header = HEADER.replace(" version='1.0'>", ">");
    let mut played = Played::new(TestGate::new(&["us.example"], ANYTHING), Entry::StartTls);
    assert!(!played.say(&header).contains("features"), "it would not know them");
    assert_eq!(played.say(KEY), "");
    assert!(matches!(played.events().last(), Some(S2sEvent::VerifyKey(_))));

    for terms in [CERTIFICATE, DIALBACK] {
        let mut played = Played::new(TestGate::new(&["us.example"], terms), Entry::StartTls);
        played.say(&header);
        assert_eq!(played.refusal(), Some(crate::StreamCondition::UnsupportedVersion));
    }
}

#[test]
fn stream_ids_are_fresh_for_every_stream() {
    let mut played = Played::new(TestGate::new(&["us.example"], CERTIFICATE), Entry::StartTls);
    let mut ids = vec![played.receiver.stream_id().as_str().to_owned()];
    assert!(played.say(HEADER).contains(&format!("id='{}'", ids[0])));
    played.say(STARTTLS);
    played.receiver.handle_tls(verified("them.example"), played.now);
    ids.push(played.receiver.stream_id().as_str().to_owned());
    assert!(played.say(HEADER).contains(&format!("id='{}'", ids[1])));
    played.say(AUTH);
    ids.push(played.receiver.stream_id().as_str().to_owned());
    assert!(played.say(HEADER).contains(&format!("id='{}'", ids[2])));
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

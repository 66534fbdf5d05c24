//! Stanzas in both directions on one stream (XEP-0288).

use gatehouse_types::Machine;

use super::world::*;
use crate::s2s::{Bidi, InitiatorConfig, Purpose, ReceiverConfig, S2sEvent, S2sInitiator, Sent};
use crate::stream::CloseReason;
use crate::{Entry, S2sReceiver, Seed, StreamCondition};

const BIDI: &str = "<bidi xmlns='urn:xmpp:bidi'/>";
const FEATURE: &str = "<bidi xmlns='urn:xmpp:features:bidi'/>";
const RESPONSE: &str = "<stream:stream xmlns='jabber:server' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' id='1' \
    version='1.0'>";
const EXTERNAL: &str = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>";
const BACK: &str = "<message from='b@us.example' to='a@them.example'/>";

fn stanzas(events: &[S2sEvent]) -> Vec<Option<u64>> {
    let number = |event: &S2sEvent| match event {
        S2sEvent::Stanza(_, number) => Some(*number),
        _ => None,
    };
    events.iter().filter_map(number).collect()
}

fn acknowledged(events: &[S2sEvent]) -> usize {
    let len = |event: &S2sEvent| match event {
        S2sEvent::Acknowledged(len) => *len,
        _ => 0,
    };
    events.iter().map(len).sum()
}

/// An open stream to a responder that offers `first` before SASL and `then` after it, and what we
/// said to the first.
fn dialled(bidi: Bidi, first: &str, then: &str) -> (S2sInitiator, String) {
    let config = InitiatorConfig { limits: limits(), dialback_secret: secret("them"), bidi };
    let mut machine = S2sInitiator::new(
        std::sync::Arc::new(config),
        gatehouse_types::Local(domain("them.example")),
        gatehouse_types::Remote(domain("us.example")),
        Purpose::Stanzas,
        CERTIFICATE,
        Entry::Direct(verified("us.example")),
        Seed::new([8; 32]),
        start(),
    );
    hear(&mut machine, RESPONSE);
    let said = hear(&mut machine, &format!("<stream:features>{EXTERNAL}{first}</stream:features>"));
    hear(&mut machine, "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    hear(&mut machine, RESPONSE);
    hear(&mut machine, &format!("<stream:features>{then}</stream:features>"));
    assert!(opened(&events(&mut machine)).is_some());
    (machine, said)
}

fn hear(machine: &mut S2sInitiator, text: &str) -> String {
    machine.handle_data(text.as_bytes(), start());
    String::from_utf8(transmitted(machine)).unwrap()
}

fn refused(machine: &mut S2sInitiator) -> Option<StreamCondition> {
    match closed(&events(machine)) {
        Some(CloseReason::WeRefused(error)) => Some(error.condition),
        _ => None,
    }
}

#[test]
fn stanzas_flow_and_are_acknowledged_both_ways() {
    for (terms, shown) in [(CERTIFICATE, verified("them.example")), (DIALBACK, untrusted())] {
        for step in [1, 7, 1000] {
            let mut link = Link::starttls(terms, terms);
            link.shown_to_receiver = shown.clone();
            link.step = step;
            link.run();
            assert!(link.initiator.is_bidirectional() && link.receiver.takes_stanzas());
            let there = stanza("<message from='a@them.example' to='b@us.example'/>");
            link.initiator.send(&there, link.now).unwrap();
            let sent = link.receiver.send(&stanza(BACK), link.now);
            link.run();
            assert_eq!(stanzas(&link.receiver_saw).len(), 1, "{}", link.log);
            assert_eq!(stanzas(&link.initiator_saw).len(), 1, "{}", link.log);
            if sent == Sent::Counted {
                assert_eq!(acknowledged(&link.receiver_saw), 0, "nothing is done yet");
                link.receiver.handled(0, link.now);
                link.initiator.handled(0, link.now);
                link.run();
                assert_eq!(acknowledged(&link.initiator_saw), 1, "{}", link.log);
                assert_eq!(acknowledged(&link.receiver_saw), 1, "{}", link.log);
            }
            assert_eq!(link.receiver.excuse_silence(link.now), ());
        }
    }
}

#[test]
fn a_receiver_sends_only_where_it_was_asked_in_time() {
    let open = |bidi: Bidi, before: &str, after: &str| {
        let config = ReceiverConfig { limits: limits(), dialback_secret: secret("us"), bidi };
        let gate = TestGate::new(&["us.example"], CERTIFICATE);
        let entry = Entry::Direct(verified("them.example"));
        let seed = Seed::new([7; 32]);
        let (config, gate) = (std::sync::Arc::new(config), std::sync::Arc::new(gate));
        let mut machine = S2sReceiver::new(config, gate, entry, seed, start());
        let offer = [HEADER, before, AUTH, HEADER, after].map(|text| {
            machine.handle_data(text.as_bytes(), start());
            String::from_utf8(transmitted(&mut machine)).unwrap()
        });
        assert!(!machine.is_closed());
        assert!(!offer[3].contains("bidi"), "too late to ask: {}", offer[3]);
        (offer[0].contains(FEATURE), machine.takes_stanzas())
    };
    assert_eq!(open(Bidi::Wanted, BIDI, ""), (true, true));
    assert_eq!(open(Bidi::Wanted, "", ""), (true, false), "nobody asked");
    assert_eq!(open(Bidi::Wanted, "", BIDI), (true, false), "after the proof");
    assert_eq!(open(Bidi::Off, BIDI, ""), (false, false), "not offered");
}

#[test]
fn nothing_goes_back_before_the_proof_or_in_the_clear() {
    let mut played =
        Played::new(TestGate::new(&["us.example"], ANYTHING), Entry::Direct(no_certificate()));
    played.say(HEADER);
    played.say(BIDI);
    assert!(!played.receiver.takes_stanzas());
    played.say(KEY);
    assert!(!played.receiver.takes_stanzas(), "a key is no proof yet");

    let mut played = Played::new(TestGate::new(&["us.example"], ANYTHING), Entry::StartTls);
    assert!(!played.say(HEADER).contains("bidi"));
    played.say(BIDI);
    assert_eq!(played.refusal(), None);
    assert!(!played.receiver.takes_stanzas());
}

#[test]
fn an_initiator_asks_in_the_right_words_whatever_the_offer() {
    for (bidi, feature, asks) in [
        (Bidi::Wanted, FEATURE, true),
        // COMPAT(ejabberd, 24.12)
        (Bidi::Wanted, BIDI, true),
        (Bidi::Wanted, "", false),
        (Bidi::Off, FEATURE, false),
    ] {
        let (machine, said) = dialled(bidi, feature, "");
        assert_eq!(said.starts_with(BIDI), asks, "{said}");
        assert_eq!(machine.is_bidirectional(), asks);
        assert!(said.contains("<auth"), "before we prove ourselves: {said}");
    }
}

#[test]
fn only_the_pair_of_the_stream_comes_back() {
    let (mut machine, _) = dialled(Bidi::Wanted, FEATURE, "");
    hear(&mut machine, BACK);
    assert_eq!(stanzas(&events(&mut machine)), [None]);
    for (stanza, condition) in [
        (BACK.replace("b@us", "b@evil"), StreamCondition::InvalidFrom),
        (BACK.replace("b@us", "b@sub.us"), StreamCondition::InvalidFrom),
        (BACK.replace("a@them", "a@other"), StreamCondition::HostUnknown),
        (BACK.replace(" to='a@them.example'", ""), StreamCondition::ImproperAddressing),
        ("<nonsense/>".to_owned(), StreamCondition::UnsupportedStanzaType),
    ] {
        let (mut machine, _) = dialled(Bidi::Wanted, FEATURE, "");
        hear(&mut machine, &stanza);
        assert_eq!(refused(&mut machine), Some(condition), "{stanza}");
    }
}

#[test]
fn what_came_back_is_acknowledged_before_the_end() {
    let sm = "<sm xmlns='urn:xmpp:sm:3'/>";
    let (mut machine, _) = dialled(Bidi::Wanted, FEATURE, sm);
    hear(&mut machine, "<enabled xmlns='urn:xmpp:sm:3'/>");
    hear(&mut machine, &format!("{BACK}{BACK}</stream:stream>"));
    assert_eq!(stanzas(&events(&mut machine)), [Some(0), Some(1)]);
    assert!(machine.owes() && !machine.is_closed() && !machine.takes_stanzas());
    machine.handled(0, start());
    assert!(!machine.is_closed());
    machine.handled(1, start());
    assert!(machine.is_closed());
    let said = String::from_utf8(transmitted(&mut machine)).unwrap();
    assert!(said.ends_with("<a xmlns='urn:xmpp:sm:3' h='2'/></stream:stream>"), "{said}");
    assert_eq!(closed(&events(&mut machine)), Some(&CloseReason::PeerClosed));

    // It does not wait for ever, and does not claim what it has not done.
    let (mut machine, _) = dialled(Bidi::Wanted, FEATURE, sm);
    hear(&mut machine, "<enabled xmlns='urn:xmpp:sm:3'/>");
    hear(&mut machine, &format!("{BACK}</stream:stream>"));
    let until = machine.poll_timeout().unwrap();
    machine.handle_timeout(until);
    assert!(machine.is_closed());
    let said = String::from_utf8(transmitted(&mut machine)).unwrap();
    assert!(said.contains("h='0'"), "{said}");
}

#[test]
fn a_stream_is_idle_only_when_both_directions_are() {
    let mut link = Link::starttls(CERTIFICATE, CERTIFICATE);
    link.run();
    let idle = limits().idle_timeout;
    link.now += idle / 2;
    link.receiver.send(&stanza(BACK), link.now);
    link.run();
    link.initiator.handled(0, link.now);
    link.run();
    link.now += idle / 2 + idle / 4;
    link.initiator.handle_timeout(link.now);
    link.receiver.handle_timeout(link.now);
    link.run();
    assert!(link.initiator_closed().is_none() && link.receiver.takes_stanzas());
    link.now += idle;
    link.receiver.handle_timeout(link.now);
    assert!(!link.receiver.takes_stanzas());
    link.run();
    assert!(link.initiator_closed().is_some() && link.receiver_closed().is_some());
}

#[test]
fn a_peer_that_we_did_not_read_from_is_not_blamed() {
    let mut link = Link::starttls(CERTIFICATE, CERTIFICATE);
    link.run();
    link.receiver.send(&stanza(BACK), link.now);
    transmitted(&mut link.receiver);
    link.now += limits().write_timeout;
    link.receiver.excuse_silence(link.now);
    link.receiver.handle_timeout(link.now);
    assert!(link.receiver.takes_stanzas());
    link.now += limits().write_timeout;
    link.receiver.handle_timeout(link.now);
    assert!(!link.receiver.takes_stanzas(), "now it has had its time");
}

#[test]
fn a_key_of_ours_is_vouched_for_on_our_own_stream() {
    let key = secret("them").key(&domain("us.example"), &domain("them.example"), "their-id");
    let ask = |to: &str, key: &str| {
        let (mut machine, _) = dialled(Bidi::Wanted, FEATURE, "");
        let verify =
            format!("<db:verify from='us.example' to='{to}' id='their-id'>{key}</db:verify>");
        hear(&mut machine, &verify)
    };
    assert!(ask("them.example", &key).contains("type='valid'"));
    assert!(ask("them.example", "nonsense").contains("type='invalid'"));
    assert!(ask("other.example", &key).contains("item-not-found"));
    let (mut machine, _) = dialled(Bidi::Wanted, FEATURE, "");
    let offer = "<db:result from='more.us.example' to='them.example'>key</db:result>";
    assert!(hear(&mut machine, offer).contains("not-acceptable"));
    hear(&mut machine, &BACK.replace("b@us", "b@more.us"));
    assert_eq!(refused(&mut machine), Some(StreamCondition::InvalidFrom));
}

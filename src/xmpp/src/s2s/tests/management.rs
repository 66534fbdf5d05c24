//! Stream management between servers (XEP-0198).

use gatehouse_types::Machine;

use super::world::*;
use crate::s2s::{Purpose, S2sEvent, S2sInitiator, TooLong};
use crate::stream::CloseReason;
use crate::{Entry, StreamCondition};

const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3'/>";
const REQUEST: &str = "<r xmlns='urn:xmpp:sm:3'/>";
const RESPONSE: &str = "<stream:stream xmlns='jabber:server' \
    xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>";

/// The numbers of the stanzas that came.
fn numbers(events: &[S2sEvent]) -> Vec<Option<u64>> {
    events
        .iter()
        .filter_map(|event| match event {
            S2sEvent::Stanza(_, number) => Some(*number),
            _ => None,
        })
        .collect()
}

fn acknowledged(events: &[S2sEvent]) -> Vec<usize> {
    events
        .iter()
        .filter_map(|event| match event {
            S2sEvent::Acknowledged(len) => Some(*len),
            _ => None,
        })
        .collect()
}

/// A managed stream of a peer to us.
fn managed() -> Played {
    let mut played = Played::open(CERTIFICATE);
    assert_eq!(played.say(ENABLE), "<enabled xmlns='urn:xmpp:sm:3'/>");
    played
}

/// An open stream to a responder that offers `feature`, and what we said at last.
fn dialled(feature: &str) -> (S2sInitiator, String) {
    let entry = Entry::Direct(verified("us.example"));
    let mut machine = initiator("them.example", "us.example", Purpose::Stanzas, CERTIFICATE, entry);
    for text in [
        RESPONSE,
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms></stream:features>",
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        RESPONSE,
    ] {
        machine.handle_data(text.as_bytes(), start());
    }
    transmitted(&mut machine);
    let features = format!("<stream:features>{feature}</stream:features>");
    let said = hear(&mut machine, &features);
    (machine, said)
}

fn hear(machine: &mut S2sInitiator, text: &str) -> String {
    machine.handle_data(text.as_bytes(), start());
    said(machine)
}

fn said(machine: &mut S2sInitiator) -> String {
    String::from_utf8(transmitted(machine)).unwrap()
}

fn send(machine: &mut S2sInitiator) {
    machine.send(&stanza("<message from='a@them.example' to='b@us.example'/>"), start()).unwrap();
}

#[test]
fn both_ends_agree_and_what_is_handled_is_acknowledged() {
    for step in [1, 7, 1000] {
        let mut link = Link::starttls(CERTIFICATE, CERTIFICATE);
        link.step = step;
        link.run();
        assert!(link.initiator.is_managed());
        for _ in 0..3 {
            send(&mut link.initiator);
        }
        link.run();
        assert_eq!(numbers(&link.receiver_saw), [Some(0), Some(1), Some(2)]);
        assert_eq!(acknowledged(&link.initiator_saw), [0; 0], "nothing is done yet");
        for number in [0, 2, 1] {
            link.receiver.handled(number, link.now);
        }
        link.run();
        assert_eq!(acknowledged(&link.initiator_saw), [3], "{}", link.log);
    }
}

#[test]
fn an_answer_waits_for_what_is_open_but_not_for_long() {
    let mut played = managed();
    played.say(&format!("{MESSAGE}{MESSAGE}"));
    assert_eq!(played.say(REQUEST), "");
    played.receiver.handled(0, played.now);
    assert_eq!(played.wait(limits().write_timeout), "<a xmlns='urn:xmpp:sm:3' h='1'/>");
    // The rest is told unasked.
    played.receiver.handled(1, played.now);
    assert_eq!(played.say(" "), "<a xmlns='urn:xmpp:sm:3' h='2'/>");
    assert_eq!(played.say(REQUEST), "<a xmlns='urn:xmpp:sm:3' h='2'/>");
}

#[test]
fn what_came_before_does_not_count_and_what_is_malformed_does() {
    let mut played = Played::open(CERTIFICATE);
    played.say(MESSAGE);
    assert_eq!(numbers(&played.events()), [None]);
    played.say(ENABLE);
    played.say("<message from='a@them.example' to='a@@@'/>");
    assert_eq!(played.say(REQUEST), "<a xmlns='urn:xmpp:sm:3' h='1'/>");
}

#[test]
fn a_stream_ends_only_when_what_it_took_is_done_with() {
    let mut played = managed();
    played.say(MESSAGE);
    assert_eq!(played.say("</stream:stream>"), "");
    assert_eq!(closed(&played.events()), None);
    played.receiver.handled(0, played.now);
    assert_eq!(played.say(""), "<a xmlns='urn:xmpp:sm:3' h='1'/></stream:stream>");
    assert_eq!(closed(&played.events()), Some(&CloseReason::PeerClosed));

    // But not for ever, and then it is not acknowledged.
    let mut played = managed();
    played.say(MESSAGE);
    played.receiver.handle_shutdown(played.now);
    assert_eq!(played.say(MESSAGE), "");
    assert_eq!(numbers(&played.events()), [Some(0)], "nothing more is taken");
    let last = played.wait(limits().write_timeout);
    assert!(last.starts_with("<a xmlns='urn:xmpp:sm:3' h='0'/><stream:error>"), "{last}");
}

#[test]
fn what_crosses_our_farewell_is_left_to_the_peer() {
    let mut played = managed();
    let farewell = played.wait(limits().idle_timeout);
    assert_eq!(farewell, "<a xmlns='urn:xmpp:sm:3' h='0'/></stream:stream>");
    assert_eq!(played.say(MESSAGE), "");
    assert_eq!(numbers(&played.events()), []);
}

#[test]
fn words_out_of_place() {
    let mut played = Played::open(CERTIFICATE);
    let failed = |condition: &str| {
        format!(
            "<failed xmlns='urn:xmpp:sm:3'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
        )
    };
    assert_eq!(played.say(REQUEST), failed("unexpected-request"));
    played.say(ENABLE);
    assert_eq!(played.say(ENABLE), failed("unexpected-request"));
    let resume = "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>";
    assert_eq!(played.say(resume), failed("item-not-found"));
    for (text, condition) in [
        ("<a xmlns='urn:xmpp:sm:3' h='1'/>", StreamCondition::UndefinedCondition),
        ("<a xmlns='urn:xmpp:sm:3' h='-1'/>", StreamCondition::BadFormat),
        ("<a xmlns='urn:xmpp:sm:3'/>", StreamCondition::BadFormat),
        ("<what xmlns='urn:xmpp:sm:3'/>", StreamCondition::UnsupportedStanzaType),
    ] {
        let mut played = managed();
        played.say(text);
        assert_eq!(played.refusal(), Some(condition), "{text}");
    }
}

#[test]
fn who_acknowledges_too_much_is_told_how_much() {
    let mut played = managed();
    assert_eq!(
        played.say("<a xmlns='urn:xmpp:sm:3' h='7'/>"),
        "<a xmlns='urn:xmpp:sm:3' h='0'/><stream:error>\
         <undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         <handled-count-too-high xmlns='urn:xmpp:sm:3' h='7' send-count='0'/>\
         </stream:error></stream:stream>"
    );
}

#[test]
fn nobody_manages_a_stream_before_authentication() {
    let gate = TestGate::new(&["us.example"], DIALBACK);
    let mut played = Played::new(gate, Entry::Direct(verified("them.example")));
    let features = played.say(HEADER);
    assert!(!features.contains("urn:xmpp:sm"), "{features}");
    played.say(ENABLE);
    assert_eq!(played.refusal(), Some(StreamCondition::UnsupportedStanzaType));
}

#[test]
fn one_question_is_under_way_at_a_time() {
    let (mut machine, said_at_first) = dialled("<sm xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(said_at_first, ENABLE);
    hear(&mut machine, "<enabled xmlns='urn:xmpp:sm:3'/>");
    send(&mut machine);
    send(&mut machine);
    assert!(said(&mut machine).ends_with(REQUEST));
    send(&mut machine);
    assert!(!said(&mut machine).contains(REQUEST));
    let again = hear(&mut machine, "<a xmlns='urn:xmpp:sm:3' h='2'/>");
    assert_eq!(again, REQUEST);
    assert_eq!(hear(&mut machine, "<a xmlns='urn:xmpp:sm:3' h='3'/>"), "");
    assert_eq!(acknowledged(&events(&mut machine)), [2, 1]);
}

#[test]
fn a_responder_that_never_acknowledges_is_dead() {
    let (mut machine, _) = dialled("<sm xmlns='urn:xmpp:sm:3'/>");
    hear(&mut machine, "<enabled xmlns='urn:xmpp:sm:3'/>");
    let idle = machine.poll_timeout().unwrap();
    send(&mut machine);
    hear(&mut machine, "<a xmlns='urn:xmpp:sm:3' h='0'/>");
    let patience = start() + limits().write_timeout * 2;
    assert!(patience < idle);
    machine.handle_timeout(patience);
    let events = events(&mut machine);
    let Some(CloseReason::WeRefused(error)) = closed(&events) else { panic!("{events:?}") };
    assert_eq!(error.condition, StreamCondition::ConnectionTimeout);
}

#[test]
fn what_is_not_acknowledged_is_bounded() {
    let (mut machine, _) = dialled("<sm xmlns='urn:xmpp:sm:3'/>");
    hear(&mut machine, "<enabled xmlns='urn:xmpp:sm:3'/>");
    let mut sent = 0;
    while machine.has_room() {
        send(&mut machine);
        sent += 1;
        assert!(sent <= 512);
    }
    hear(&mut machine, "<a xmlns='urn:xmpp:sm:3' h='1'/>");
    assert!(machine.has_room());
}

#[test]
fn without_an_offer_or_after_a_refusal_the_stream_does_without() {
    let (machine, said_at_first) = dialled("");
    assert!(said_at_first.is_empty() && !machine.is_managed() && machine.has_room());
    let (mut machine, _) = dialled("<sm xmlns='urn:xmpp:sm:3'/>");
    send(&mut machine);
    let failed = "<failed xmlns='urn:xmpp:sm:3'/>";
    hear(&mut machine, failed);
    assert!(!machine.is_managed());
    send(&mut machine);
    assert!(said(&mut machine).ends_with("/>") && closed(&events(&mut machine)).is_none());
}

#[test]
fn what_the_responder_does_not_take_is_not_sent() {
    let limits = "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits>";
    let (mut machine, _) = dialled(limits);
    let message = |len| {
        let body = "x".repeat(len);
        stanza(&format!(
            "<message from='a@them.example' to='b@us.example'><body>{body}</body></message>"
        ))
    };
    let shortest = {
        machine.send(&message(1), start()).unwrap();
        said(&mut machine).len()
    };
    assert_eq!(
        machine.send(&message(10_002 - shortest), start()),
        Err(TooLong { bytes_max: 10_000 })
    );
    assert_eq!(said(&mut machine), "");
    machine.send(&message(10_001 - shortest), start()).unwrap();
    assert_eq!(said(&mut machine).len(), 10_000);
}

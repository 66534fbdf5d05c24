//! Silence, farewells, shutdown.

use std::time::Duration;

use gatehouse_types::Machine as _;

use super::world::*;
use crate::s2s::{Purpose, S2sEvent};
use crate::stream::CloseReason;
use crate::{Entry, StreamCondition, StreamError};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn setup_must_end_in_time_whatever_is_said() {
    let gate = TestGate::new(&["us.example"], DIALBACK);
    let mut played = Played::new(gate, Entry::Direct(no_certificate()));
    played.now += limits().setup_timeout - SECOND;
    played.say(HEADER);
    assert_eq!(played.wait(Duration::ZERO), "");
    assert!(!played.receiver.is_closed());
    let said = played.wait(SECOND);
    assert!(said.contains("<connection-timeout"), "{said}");
    assert_eq!(closed(&played.events()), Some(&CloseReason::SetupTimeout));
    assert_eq!(played.receiver.poll_timeout(), None);
}

#[test]
fn initiator_gives_up_in_time() {
    let mut machine =
        initiator("them.example", "us.example", Purpose::Stanzas, DIALBACK, Entry::StartTls);
    let deadline = machine.poll_timeout().unwrap();
    machine.handle_timeout(deadline - SECOND);
    assert!(!machine.is_closed());
    machine.handle_timeout(deadline);
    assert_eq!(closed(&events(&mut machine)), Some(&CloseReason::SetupTimeout));
}

#[test]
fn silent_receiver_says_farewell_and_takes_what_is_on_the_way() {
    let mut played = Played::open(CERTIFICATE);
    assert_eq!(played.wait(limits().idle_timeout - SECOND), "");
    assert_eq!(played.say(" "), "", "a keepalive is a sign of life");
    assert_eq!(played.wait(limits().idle_timeout - SECOND), "");
    assert_eq!(played.wait(SECOND), "</stream:stream>");
    assert!(!played.receiver.is_closed());
    assert_eq!(played.say(MESSAGE), "");
    assert!(matches!(played.events().as_slice(), [S2sEvent::Stanza(..)]));
    assert_eq!(played.say("</stream:stream>"), "");
    assert_eq!(closed(&played.events()), Some(&CloseReason::Idle));
    assert!(played.receiver.is_closed());
}

#[test]
fn silent_receiver_does_not_wait_for_ever() {
    let mut played = Played::open(CERTIFICATE);
    played.wait(limits().idle_timeout);
    played.wait(limits().write_timeout);
    assert_eq!(closed(&played.events()), Some(&CloseReason::Idle));
    assert!(played.receiver.is_closed());
}

#[test]
fn silent_initiator_and_receiver_part_in_peace() {
    let mut link = Link::starttls(CERTIFICATE, CERTIFICATE);
    link.run();
    link.now += limits().idle_timeout;
    link.initiator.handle_timeout(link.now);
    link.run();
    assert_eq!(link.initiator_closed(), Some(&CloseReason::Idle));
    assert_eq!(link.receiver_closed(), Some(&CloseReason::PeerClosed));
    assert!(link.initiator.is_closed() && link.receiver.is_closed());
    let told = |events: &[S2sEvent]| {
        events.iter().filter(|event| matches!(event, S2sEvent::Closed(_))).count()
    };
    assert_eq!((told(&link.initiator_saw), told(&link.receiver_saw)), (1, 1));
}

#[test]
fn sending_keeps_an_initiator_awake() {
    let mut link = Link::starttls(CERTIFICATE, CERTIFICATE);
    link.run();
    let first = link.initiator.poll_timeout().unwrap();
    link.now += SECOND;
    let message = stanza("<message from='a@them.example' to='b@us.example'/>");
    link.initiator.send(&message, link.now).unwrap();
    assert_eq!(link.initiator.poll_timeout(), Some(link.now + limits().write_timeout));
    link.run();
    link.receiver.handled(0, link.now);
    link.run();
    assert_eq!(link.initiator.poll_timeout(), Some(first + SECOND));
}

#[test]
fn shutdown_says_why() {
    let mut link = Link::starttls(CERTIFICATE, CERTIFICATE);
    link.run();
    link.receiver.handle_shutdown(link.now);
    link.run();
    assert_eq!(link.receiver_closed(), Some(&CloseReason::Shutdown));
    match link.initiator_closed() {
        Some(CloseReason::PeerRefused(error)) => {
            assert_eq!(error.condition, StreamCondition::SystemShutdown);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(link.log.matches("</stream:stream>").count(), 2, "{}", link.log);
}

#[test]
fn shutdown_before_a_header_is_still_a_stream() {
    let gate = TestGate::new(&["us.example"], DIALBACK);
    let mut played = Played::new(gate, Entry::StartTls);
    played.receiver.handle_shutdown(played.now);
    let said = String::from_utf8(transmitted(&mut played.receiver)).unwrap();
    assert!(said.starts_with("<?xml version='1.0'?><stream:stream"), "{said}");
    assert!(said.contains("<system-shutdown") && said.ends_with("</stream:stream>"));
}

#[test]
fn owner_can_end_a_stream_once() {
    let mut played = Played::open(CERTIFICATE);
    let error = StreamError::new(StreamCondition::PolicyViolation, "the policy has changed");
    played.receiver.close_with(error.clone(), played.now);
    played.receiver.close_with(error.clone(), played.now);
    played.receiver.handle_eof(played.now);
    assert_eq!(played.events(), [S2sEvent::Closed(CloseReason::WeRefused(error))]);
    let said = String::from_utf8(transmitted(&mut played.receiver)).unwrap();
    assert_eq!(said.matches("</stream:stream>").count(), 1);
}

#[test]
fn lost_connections_are_told_apart_from_farewells() {
    let mut link = Link::starttls(CERTIFICATE, CERTIFICATE);
    link.run();
    link.receiver.handle_eof(link.now);
    link.initiator.handle_eof(link.now);
    assert_eq!(closed(&events(&mut link.receiver)), Some(&CloseReason::Disconnected));
    assert_eq!(closed(&events(&mut link.initiator)), Some(&CloseReason::Disconnected));
}

#[test]
fn a_farewell_is_answered() {
    let mut played = Played::open(CERTIFICATE);
    assert_eq!(played.say("</stream:stream>"), "</stream:stream>");
    assert_eq!(closed(&played.events()), Some(&CloseReason::PeerClosed));
}

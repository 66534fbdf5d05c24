use super::world::*;
use crate::c2s::C2sEvent;
use crate::sm::HandledCountTooHigh;
use crate::stream::CloseReason;
use crate::{Stanza, StreamCondition};
use std::time::Duration;

const R: &str = "<r xmlns='urn:xmpp:sm:3'/>";

fn managed() -> World {
    let mut world = World::bound();
    world.says(ENABLE);
    world
}

#[test]
fn stanzas_are_counted_from_enable_on() {
    let mut world = World::bound();
    world.says(MESSAGE);
    assert_eq!(
        world.says(&format!("{ENABLE}{MESSAGE}{R}")),
        "<enabled xmlns='urn:xmpp:sm:3' id='name' max='60' resume='true'/>\
        <a xmlns='urn:xmpp:sm:3' h='1'/>"
    );
    assert!(world.events.contains(&C2sEvent::EnableManagement { resume: true, seconds: Some(60) }));
    // What we answer ourselves counts, too, and the answer is a stanza like any other.
    world.says("<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>");
    assert!(matches!(world.events.last(), Some(C2sEvent::Reply(_))));
    assert_eq!(world.says(R), "<a xmlns='urn:xmpp:sm:3' h='2'/>");
}

#[test]
fn what_is_not_taken_from_the_machine_is_not_handled() {
    use gatehouse_types::Machine as _;

    let mut world = managed();
    let (now, text) = (world.now, format!("{MESSAGE}{MESSAGE}{R}{MESSAGE}"));
    world.server.handle_data(text.as_bytes(), now);
    let mut handled = Vec::new();
    while world.server.poll_event().is_some() {
        handled.push(world.server.taken());
    }
    assert_eq!(handled, [1, 2, 2, 3]);
}

#[test]
fn what_the_stream_answers_itself_counts_behind_what_was_sent_before() {
    use gatehouse_types::Machine as _;

    let mut world = managed();
    let (now, session) = (
        world.now,
        "<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
    );
    world.server.handle_data(format!("{MESSAGE}{session}{MESSAGE}").as_bytes(), now);
    let mut numbers = Vec::new();
    while let Some(event) = world.server.poll_event() {
        if matches!(event, C2sEvent::Stanza(_)) {
            numbers.push(world.server.sent_by_then());
        }
    }
    assert_eq!(numbers, [1, 3]);
}

#[test]
fn who_does_not_count_is_not_told() {
    let mut world = World::bound();
    assert_eq!(world.owner(|server, now| server.acknowledge(1, now)), "");
}

#[test]
fn several_stanzas_are_taken_at_a_time_and_nothing_else_with_them() {
    use gatehouse_types::Machine as _;

    let mut world = managed();
    let (now, text) = (world.now, format!("{MESSAGE}{MESSAGE}{R}{MESSAGE}"));
    world.server.handle_data(text.as_bytes(), now);
    assert!(matches!(world.server.poll_event(), Some(C2sEvent::Stanza(_))));
    assert_eq!(world.server.poll_stanza(|_| false), None);
    assert_eq!(world.server.taken(), 1, "what was only looked at is not taken");
    assert!(world.server.poll_stanza(|_| true).is_some());
    assert_eq!(world.server.taken(), 2);
    assert_eq!(world.server.poll_stanza(|_| true), None, "the question stands between them");
    assert_eq!(world.server.taken(), 2);
    assert_eq!(world.server.poll_event(), Some(C2sEvent::AckRequested));
    assert!(world.server.poll_stanza(|_| true).is_some());
    assert_eq!(world.server.taken(), 3);
    assert_eq!(world.server.poll_stanza(|_| true), None);
}

/// Whoever stops may have given up what came last.
#[test]
fn nothing_is_acknowledged_after_the_farewell() {
    use gatehouse_types::Machine as _;

    let mut world = managed();
    let said = world.owner(|server, now| {
        server.handle_data(format!("{MESSAGE}{R}").as_bytes(), now);
        server.handle_shutdown(now);
    });
    assert!(world.events.contains(&C2sEvent::AckRequested));
    assert!(said.ends_with(FOOTER) && !said.contains("<a "), "{said}");
}

#[test]
fn enabling_twice_or_too_early_fails_and_changes_nothing() {
    const FAILED: &str = "<failed xmlns='urn:xmpp:sm:3'>\
        <unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";
    let mut world = managed();
    world.says(MESSAGE);
    assert_eq!(world.says(ENABLE), FAILED);
    assert_eq!(world.says(RESUME), FAILED);
    assert_eq!(world.says(R), "<a xmlns='urn:xmpp:sm:3' h='1'/>");
    let mut early = World::authenticated();
    assert_eq!(early.says(ENABLE), FAILED);
    assert!(early.says(BIND).contains("<jid>"));
}

#[test]
fn a_session_goes_on_or_another_is_bound() {
    let mut world = World::authenticated();
    assert_eq!(
        world.says(&format!("{RESUME}{MESSAGE}{R}")),
        "<resumed xmlns='urn:xmpp:sm:3' h='41' previd='before'/><a xmlns='urn:xmpp:sm:3' h='42'/>"
    );
    assert!(world.events.contains(&C2sEvent::Resume { id: "before".to_owned(), h: 2 }));

    let mut other = World::authenticated();
    assert_eq!(
        other.says("<resume xmlns='urn:xmpp:sm:3' previd='other' h='2'/>"),
        "<failed xmlns='urn:xmpp:sm:3' h='7'>\
        <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    );
    assert!(other.says(BIND).contains("<jid>"));
}

#[test]
fn an_address_of_another_account_is_not_resumed() {
    let mut world = World::authenticated();
    world.owner = Owner::Silent;
    world.says(RESUME);
    world.owner(|server, now| server.resume(jid("bob@ours.example/x"), "before", 0, now));
    assert_closed(&world, StreamCondition::InternalServerError);
}

fn assert_closed(world: &World, condition: StreamCondition) {
    match world.events.last() {
        Some(C2sEvent::Closed(CloseReason::WeRefused(error))) => {
            assert_eq!(error.condition, condition);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn numbers_that_are_none_end_the_stream() {
    for bad in [
        "<a xmlns='urn:xmpp:sm:3'/>",
        "<a xmlns='urn:xmpp:sm:3' h='4294967296'/>",
        "<a xmlns='urn:xmpp:sm:3' h='-1'/>",
    ] {
        let mut world = managed();
        world.says(bad);
        assert_closed(&world, StreamCondition::BadFormat);
    }
    let mut world = managed();
    world.says("<a xmlns='urn:xmpp:sm:3' h='4294967295'/>");
    assert_eq!(world.events.last(), Some(&C2sEvent::Acked { h: u32::MAX }));
}

#[test]
fn what_was_never_sent_cannot_be_acknowledged() {
    let mut world = managed();
    let error = HandledCountTooHigh { h: 9, sent: 3 };
    assert_eq!(
        world.owner(|server, now| server.close_handled_too_high(error, now)),
        "<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
        <handled-count-too-high xmlns='urn:xmpp:sm:3' h='9' send-count='3'/></stream:error>\
        </stream:stream>"
    );
    assert_closed(&world, StreamCondition::UndefinedCondition);
}

#[test]
fn an_unanswered_request_ends_the_stream() {
    let mut world = managed();
    let stanza = Stanza::from_element(
        MESSAGE.replace("<message ", "<message xmlns='jabber:client' ").parse().unwrap(),
    );
    let sent = world.owner(|server, now| {
        assert!(server.send(stanza.as_ref().unwrap(), now) > 50);
        server.request_ack(now);
    });
    assert!(sent.ends_with(R), "{sent}");
    world.waits(Duration::from_secs(59));
    world.says(" ");
    assert_eq!(world.waits(Duration::from_secs(59)), "");
    world.owner(|server, now| server.request_ack(now));
    assert!(world.waits(Duration::from_secs(60)).contains("connection-timeout"));
    assert_eq!(world.events.last(), Some(&C2sEvent::Closed(CloseReason::Idle)));
}

#[test]
fn a_silent_client_is_asked_for_an_acknowledgement() {
    let mut world = managed();
    assert_eq!(world.waits(Duration::from_secs(15 * 60)), R);
}

#[test]
fn the_client_says_whether_somebody_looks() {
    let mut world = World::bound();
    world.says("<inactive xmlns='urn:xmpp:csi:0'/>");
    assert_eq!(world.events.last(), Some(&C2sEvent::ClientState { active: false }));
    world.says("<active xmlns='urn:xmpp:csi:0'/>");
    assert_eq!(world.events.last(), Some(&C2sEvent::ClientState { active: true }));
}

#[test]
fn features_tell_the_limits() {
    let mut world = World::direct();
    let features = world.says(HEADER);
    assert!(
        features.contains(
            "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits>"
        ),
        "{features}"
    );
    let features = World::authenticated().received;
    assert!(
        features.contains(
            "<sm xmlns='urn:xmpp:sm:3'/><csi xmlns='urn:xmpp:csi:0'/>\
            <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>262144</max-bytes>\
            <idle-seconds>900</idle-seconds></limits>"
        ),
        "{features}"
    );
}

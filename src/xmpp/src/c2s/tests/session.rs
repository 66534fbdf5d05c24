use gatehouse_types::Machine as _;

use super::world::*;
use crate::c2s::C2sEvent;
use crate::stream::CloseReason;
use crate::{Stanza, StanzaCondition, StreamCondition, StreamError};

fn last_stanza(world: &World) -> &Stanza {
    match world.events.last() {
        Some(C2sEvent::Stanza(stanza)) => stanza,
        other => panic!("{other:?}"),
    }
}

fn stanza(text: &str) -> Stanza {
    Stanza::from_element(text.parse().unwrap()).unwrap()
}

#[test]
fn binding_is_answered() {
    let mut world = World::authenticated();
    assert_eq!(
        world.says(BIND),
        "<iq id='b1' type='result'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
        <jid>alice@ours.example/phone</jid></bind></iq>"
    );
}

#[test]
fn resource_may_be_left_to_us() {
    for resource in ["", "<resource/>"] {
        let mut world = World::authenticated();
        world.says(&BIND.replace("<resource>phone</resource>", resource));
        assert!(world.events.contains(&C2sEvent::Bind { resource: None }), "{resource}");
    }
}

#[test]
fn refused_resource_can_be_asked_for_again() {
    let mut world = World::authenticated();
    world.owner = Owner::Silent;
    world.says(BIND);
    let conflict = StanzaCondition::Conflict;
    let answer = world.owner(|server, now| server.refuse_bind(conflict, "taken", now));
    assert_eq!(
        answer,
        "<iq id='b1' type='error'><error type='cancel'>\
        <conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
        <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>taken</text>\
        </error></iq>"
    );
    world.owner = Owner::Answers;
    assert!(world.says(BIND).contains("<jid>"));
}

#[test]
fn nobody_gets_the_address_of_another() {
    for wrong in ["bob@ours.example/phone", "alice@theirs.example/phone", "alice@ours.example"] {
        let mut world = World::authenticated();
        world.owner = Owner::Silent;
        world.says(BIND);
        world.owner(|server, now| server.bind(jid(wrong), now));
        let error = StreamError::from(StreamCondition::InternalServerError);
        let closed = C2sEvent::Closed(CloseReason::WeRefused(error));
        assert_eq!(world.events.last(), Some(&closed), "{wrong}");
    }
}

#[test]
fn sender_is_stamped() {
    for from in ["", "from='alice@ours.example'", "from='ALICE@ours.example/phone'"] {
        let mut world = World::bound();
        world.says(&format!("<presence {from}/>"));
        assert_eq!(last_stanza(&world).from(), Some(&jid(FULL)), "{from}");
        assert_eq!(last_stanza(&world).to_element().attr("from"), Some(FULL));
        assert_eq!(last_stanza(&world).to(), None);
    }
}

#[test]
fn sender_cannot_be_forged() {
    for from in ["bob@ours.example", "alice@ours.example/desk", "ours.example", "@", ""] {
        let mut world = World::bound();
        world.says(&format!("<presence from='{from}'/>"));
        match world.events.last() {
            Some(C2sEvent::Closed(CloseReason::WeRefused(error))) => {
                assert_eq!(error.condition, StreamCondition::InvalidFrom, "{from}");
            }
            other => panic!("{from}: {other:?}"),
        }
    }
}

#[test]
fn malformed_recipient_is_answered_here() {
    let mut world = World::bound();
    let seen = world.events.len();
    assert_eq!(
        world.says("<message to='a b@c' id='m2'><body>Hi</body></message>"),
        "<message from='ours.example' id='m2' to='alice@ours.example/phone' type='error'>\
        <error type='modify'><jid-malformed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
        <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>\
        the address in `to` is malformed</text></error></message>"
    );
    // An error is not answered with an error, and goes nowhere either.
    assert_eq!(world.says("<message to='a b@c' type='error'/>"), "");
    assert_eq!(world.events.len(), seen);
    assert!(!world.server.is_closed());
}

#[test]
fn old_session_request_is_answered() {
    let session = "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>";
    let mut world = World::bound();
    let seen = world.events.len();
    for to in ["", "to='ours.example'"] {
        let answer = world.says(&format!("<iq type='set' id='s1' {to}>{session}</iq>"));
        assert!(answer.contains("type='result'") && answer.contains("id='s1'"), "{answer}");
    }
    assert_eq!(world.events.len(), seen);
    // To anyone else it is theirs to answer.
    world.says(&format!("<iq type='set' id='s1' to='bob@theirs.example'>{session}</iq>"));
    assert_eq!(last_stanza(&world).to(), Some(&jid("bob@theirs.example")));
}

#[test]
fn second_binding_is_refused() {
    let mut world = World::bound();
    let seen = world.events.len();
    let answer = world.says(BIND);
    assert!(answer.contains("<not-allowed "), "{answer}");
    assert_eq!(world.events.len(), seen);
    assert!(!world.server.is_closed());
}

#[test]
fn unknown_elements_end_it() {
    let mut world = World::bound();
    world.says("<r xmlns='urn:xmpp:sm:3'/>");
    assert!(world.received.contains("<unsupported-stanza-type "), "{}", world.received);
    assert!(world.server.is_closed());
}

#[test]
fn stanzas_reach_the_bound_client_only() {
    let hello =
        stanza("<message xmlns='jabber:client' from='b@c.example'><body>Hi</body></message>");
    let send = |world: &mut World| {
        world.owner(|server, now| {
            server.send(&hello, now);
        })
    };
    assert_eq!(send(&mut World::bound()), "<message from='b@c.example'><body>Hi</body></message>");
    assert_eq!(send(&mut World::authenticated()), "");
    let mut world = World::bound();
    world.says(FOOTER);
    assert_eq!(send(&mut world), "");
}

#[test]
fn several_stanzas_go_out_together() {
    let mut world = World::bound();
    let presence = stanza("<presence xmlns='jabber:client'/>");
    for _ in 0..3 {
        world.server.send(&presence, world.now);
    }
    let bytes = world.server.poll_transmit().unwrap();
    assert_eq!(bytes, "<presence/><presence/><presence/>".as_bytes());
    assert_eq!(world.server.poll_transmit(), None);
}

#[test]
fn ways_to_end_it() {
    let close = |act: fn(&mut World)| {
        let mut world = World::bound();
        let before = world.received.len();
        act(&mut world);
        assert!(world.server.is_closed());
        assert_eq!(world.server.poll_timeout(), None);
        let Some(C2sEvent::Closed(reason)) = world.events.last().cloned() else {
            panic!("not closed");
        };
        let closed = world.events.iter().filter(|event| matches!(event, C2sEvent::Closed(_)));
        assert_eq!(closed.count(), 1);
        // Whatever happens afterwards, it is over.
        world.says(MESSAGE);
        world.owner(C2sServer::handle_eof);
        world.owner(C2sServer::handle_shutdown);
        assert!(matches!(world.events.last(), Some(C2sEvent::Closed(_))));
        (world.received[before..].to_owned(), reason)
    };
    use crate::c2s::C2sServer;
    assert_eq!(
        close(|world| drop(world.says(FOOTER))),
        (FOOTER.to_owned(), CloseReason::PeerClosed)
    );
    let eof = close(|world| drop(world.owner(C2sServer::handle_eof)));
    assert_eq!(eof, (String::new(), CloseReason::Disconnected));
    let shutdown = close(|world| drop(world.owner(C2sServer::handle_shutdown)));
    assert_eq!(
        shutdown.0,
        "<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
        </stream:error></stream:stream>"
    );
    assert_eq!(shutdown.1, CloseReason::Shutdown);
    let error = StreamError::new(StreamCondition::Conflict, "logged in elsewhere");
    let conflict = close(|world| {
        let error = StreamError::new(StreamCondition::Conflict, "logged in elsewhere");
        world.owner(|server, now| server.close_with(error, now));
    });
    assert_eq!(conflict.1, CloseReason::WeRefused(error));
    let peer = close(|world| {
        world.says(
            "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        );
    });
    assert_eq!(peer.0, FOOTER);
    assert_eq!(peer.1, CloseReason::PeerRefused(StreamCondition::Reset.into()));
}

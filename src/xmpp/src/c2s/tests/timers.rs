use std::time::Duration;

use gatehouse_types::Machine as _;

use super::world::*;
use crate::c2s::{C2sEvent, C2sServer};
use crate::stream::CloseReason;

const SECOND: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(60);

fn closed(world: &World) -> Option<&CloseReason> {
    match world.events.last() {
        Some(C2sEvent::Closed(reason)) => Some(reason),
        _ => None,
    }
}

#[test]
fn setup_must_be_done_in_time() {
    let setup = config().limits.setup_timeout;
    let mut thinking = World::authenticated();
    thinking.owner = Owner::Silent;
    thinking.says(BIND);
    for mut world in [World::clear(), World::offered(), World::authenticated(), thinking] {
        assert_eq!(world.server.poll_timeout(), Some(world.now + setup));
        world.waits(setup - SECOND);
        world.says(" ");
        assert_eq!(closed(&world), None);
        let farewell = world.waits(SECOND);
        assert_eq!(closed(&world), Some(&CloseReason::SetupTimeout));
        assert!(farewell.contains("<connection-timeout "), "{farewell}");
        assert!(farewell.ends_with(FOOTER));
    }
}

#[test]
fn handshake_is_not_disturbed() {
    for act in [
        |world: &mut World| world.waits(config().limits.setup_timeout),
        |world: &mut World| world.owner(C2sServer::handle_shutdown),
    ] {
        let mut world = World::clear();
        world.says(HEADER);
        world.says(STARTTLS);
        assert_eq!(act(&mut world), "");
        assert!(world.server.is_closed() && !world.server.wants_upgrade());
        assert!(closed(&world).is_some());
    }
}

#[test]
fn silence_is_asked_about_and_then_ends_it() {
    let idle = config().limits.idle_timeout;
    let mut world = World::bound();
    assert_eq!(world.server.poll_timeout(), Some(world.now + idle));
    assert_eq!(world.waits(idle - SECOND), "");
    let ping = world.waits(SECOND);
    assert!(ping.contains("<ping xmlns='urn:xmpp:ping'/>"), "{ping}");
    assert!(ping.contains("from='ours.example'") && ping.contains("to='alice@ours.example/phone'"));
    assert_eq!(world.waits(PING_TIMEOUT - SECOND), "");
    let farewell = world.waits(SECOND);
    assert!(farewell.contains("<connection-timeout "), "{farewell}");
    assert_eq!(closed(&world), Some(&CloseReason::Idle));
}

#[test]
fn any_byte_is_a_sign_of_life() {
    let idle = config().limits.idle_timeout;
    for sign in [" ", "<presence/>", "<mess"] {
        let mut world = World::bound();
        world.waits(idle);
        world.waits(PING_TIMEOUT - SECOND);
        world.says(sign);
        assert_eq!(world.server.poll_timeout(), Some(world.now + idle), "{sign}");
        assert_eq!(world.waits(idle - SECOND), "", "{sign}");
        assert!(world.waits(SECOND).contains("<ping "), "{sign}");
    }
}

#[test]
fn answers_to_our_pings_go_no_further() {
    let mut world = World::bound();
    for _ in 0..2 {
        let ping = world.waits(config().limits.idle_timeout);
        let id = ping.split_once("id='").unwrap().1.split_once('\'').unwrap().0.to_owned();
        let seen = world.events.len();
        for type_ in ["result", "error"] {
            assert_eq!(
                world.says(&format!("<iq type='{type_}' id='{id}' to='ours.example'/>")),
                ""
            );
        }
        assert_eq!(world.events.len(), seen);
        // The id alone makes no answer.
        world.says(&format!("<iq type='get' id='{id}' to='ours.example'/>"));
        world.says("<iq type='result' id='x' to='ours.example'/>");
        assert_eq!(world.events.len(), seen + 2);
    }
}

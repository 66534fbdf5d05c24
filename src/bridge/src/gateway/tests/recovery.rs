//! Messages of users over the end of one gateway and the start of the next.

use super::*;
use crate::{Failure, Way};

fn message(text: &str, to: &str) -> Stanza {
    let text = format!(
        "<message xmlns='jabber:client' from='alice@ours.example/desk' to='{to}@partner.example' \
         type='chat' id='{text}'><body>{text}</body></message>"
    );
    Stanza::from_element(text.parse().unwrap()).unwrap()
}

const NEW: Duration = Duration::from_secs(1);

impl World {
    fn recover(&mut self, text: &str, to: &str, receipt: u64, age: Duration) -> Vec<String> {
        self.recover_by(Way::Outside, text, to, receipt, age)
    }

    fn recover_by(
        &mut self,
        way: Way,
        text: &str,
        to: &str,
        receipt: u64,
        age: Duration,
    ) -> Vec<String> {
        self.gateway.recover((message(text, to), Receipt(receipt)), way, age, self.now);
        self.did()
    }

    fn reachable(&mut self) -> Vec<String> {
        self.reachable_by(Way::Outside)
    }

    fn reachable_by(&mut self, way: Way) -> Vec<String> {
        self.gateway.set_reachable(way, true, self.now);
        self.pass(Duration::ZERO)
    }
}

#[test]
fn what_was_recovered_goes_first_and_in_order() {
    let mut world = World::new();
    assert!(world.recover("one", "bob", 1, NEW).is_empty(), "nobody can be reached yet");
    assert!(world.recover("two", "bob", 2, NEW).is_empty());
    assert!(world.say("three", 3).is_empty(), "it may not overtake");
    // What others say does not wait.
    let carol = "<message from='alice@ours.example/desk' to='carol@partner.example'><body>x</body></message>";
    assert_eq!(world.stanza(carol, 9), ["> INVITE"]);
    assert_eq!(world.reachable(), ["> INVITE"]);
    assert_eq!(world.answer_with("INVITE", 200), ["> ACK", "> MESSAGE"]);
    for (text, lines) in [
        ("one", ["ok 1", "> MESSAGE"].as_slice()),
        ("two", &["ok 2", "> MESSAGE"]),
        ("three", &["ok 3"]),
    ] {
        assert_eq!(&world.sent("MESSAGE").1.body[..], text.as_bytes());
        assert_eq!(world.answer_with("MESSAGE", 200), lines);
    }
}

#[test]
fn what_is_too_old_is_sent_back_at_once_or_when_its_time_is_over() {
    let mut world = World::new();
    let within = world.gateway.config.deliver_within;
    for age in [within, within * 2] {
        let lines = world.recover("old", "bob", 1, age);
        assert!(lines[0].contains("waited too long") && lines[1] == "bounced 1", "{lines:?}");
    }
    // No edge comes.
    let ten = Duration::from_secs(10);
    assert!(world.recover("one", "bob", 2, within - ten).is_empty());
    assert!(world.recover("two", "bob", 3, within - ten * 2).is_empty());
    assert!(world.pass(ten - Duration::from_millis(1)).is_empty());
    let lines = world.pass(Duration::from_millis(1));
    assert!(lines[0].contains("waited too long") && lines[1] == "bounced 2", "{lines:?}");
    let lines = world.pass(ten);
    assert_eq!(lines.last().unwrap(), "bounced 3");
    assert_eq!(world.gateway.status().sessions, 0);
    assert!(world.reachable().is_empty());
}

#[test]
fn what_waits_too_long_is_not_sent_any_more() {
    let mut world = World::with(|config| config.deliver_within = Duration::from_secs(20));
    world.say("one", 1);
    world.answer_with("INVITE", 200);
    let first = world.sent("MESSAGE");
    world.pass(Duration::from_secs(15));
    world.say("two", 2);
    world.pass(Duration::from_secs(4));
    world.say("three", 3);
    world.pass(Duration::from_secs(17));
    // The first was under way, and has its answer; the second waited too long behind it.
    let answer = reply(&first.1, 200);
    let lines = world.answer(&first, answer);
    assert_eq!(lines[0], "ok 1");
    assert!(lines[1].contains("waited too long") && lines[2] == "bounced 2", "{lines:?}");
    assert_eq!(lines[3..], ["> MESSAGE"]);
    assert_eq!(&world.sent("MESSAGE").1.body[..], b"three");
}

#[test]
fn not_everything_is_sent_again_at_once() {
    let mut world = World::new();
    for (receipt, to) in ["a", "b", "c"].into_iter().enumerate() {
        world.recover("x", to, receipt as u64, NEW);
    }
    assert_eq!(world.reachable(), ["> INVITE"]);
    assert_eq!(world.pass(Duration::from_millis(5)), ["> INVITE"]);
    // The edge goes away in the middle.
    world.gateway.set_reachable(Way::Outside, false, world.now);
    assert!(world.pass(Duration::from_secs(1)).is_empty());
    assert_eq!(world.reachable(), ["> INVITE"]);
}

/// A server of the inside is no way to a partner.
#[test]
fn each_way_waits_for_itself() {
    let mut world = World::new();
    for (receipt, to, way) in
        [(1, "a", Way::Outside), (2, "b", Way::Inside), (3, "c", Way::Outside)]
    {
        assert!(world.recover_by(way, "x", to, receipt, NEW).is_empty());
    }
    assert_eq!(world.reachable_by(Way::Inside), ["> INVITE"]);
    assert!(world.pass(Duration::from_secs(1)).is_empty());
    assert_eq!(world.reachable(), ["> INVITE"]);
    assert_eq!(world.pass(Duration::from_millis(5)), ["> INVITE"]);
}

#[test]
fn at_the_end_what_waits_is_kept_and_what_is_under_way_may_be_answered() {
    let mut world = World::new();
    world.say("one", 1);
    world.answer_with("INVITE", 200);
    world.say("two", 2);
    world.gateway.handle_shutdown(world.now);
    assert_eq!(world.did(), ["keep 2", "> BYE"]);
    assert!(world.say("too late", 3).is_empty());
    world.gateway.handle_response(
        OutgoingId(2),
        Message::response_to(&fresh("MESSAGE", "x"), Status::of(200), None),
        world.now,
    );
    assert_eq!(world.did(), ["ok 1"], "and nothing more is sent");
    world.gateway.handle_shutdown(world.now);
    assert_eq!(world.did(), ["keep 3"]);
    assert_eq!(world.gateway.status(), crate::GatewayStatus::default());
}

#[test]
fn what_is_not_answered_until_the_end_is_kept_too() {
    let mut world = World::new();
    world.say("one", 1);
    world.answer_with("INVITE", 200);
    world.gateway.handle_shutdown(world.now);
    assert_eq!(world.did(), ["> BYE"]);
    world.gateway.handle_shutdown(world.now);
    assert_eq!(world.did(), ["keep 1"]);
}

/// Nobody hears that a message did not arrive which is sent again after the next start.
#[test]
fn what_fails_because_we_stop_is_kept() {
    for failure in [Some(Failure::Unreachable), Some(Failure::TimedOut), None] {
        let mut world = World::new();
        world.say("one", 1);
        world.answer_with("INVITE", 200);
        let message = world.sent("MESSAGE");
        world.gateway.handle_shutdown(world.now);
        world.did();
        let lines = match failure {
            Some(failure) => {
                world.gateway.handle_failure(message.0, failure, world.now);
                // With its dialog gone it would be tried once more, but for the stop.
                world.gateway.handle_shutdown(world.now);
                world.did()
            }
            None => world.answer(&message, reply(&message.1, 503)),
        };
        assert!(lines.contains(&"keep 1".to_owned()), "{failure:?}: {lines:?}");
        assert!(!lines.iter().any(|line| line.contains("bounced")), "{failure:?}: {lines:?}");
    }
    // What the partner refuses is refused.
    let mut world = World::new();
    world.say("one", 1);
    world.answer_with("INVITE", 200);
    let message = world.sent("MESSAGE");
    world.gateway.handle_shutdown(world.now);
    world.did();
    let lines = world.answer(&message, reply(&message.1, 403));
    assert!(lines.contains(&"bounced 1".to_owned()), "{lines:?}");
}

#[test]
fn what_policy_forbids_is_not_sent_if_it_still_waits_for_its_turn() {
    let mut world = World::new();
    world.say("one", 1);
    world.answer_with("INVITE", 200);
    let message = world.sent("MESSAGE");
    world.gateway.enforce(|_, _| false, world.now);
    let lines = world.did();
    assert!(lines.contains(&"> CANCEL".to_owned()), "the owner is told: {lines:?}");
    world.gateway.handle_failure(message.0, Failure::Unreachable, world.now);
    assert!(world.did().is_empty(), "its author knows already");
}

#[test]
fn what_policy_forbids_meanwhile_comes_back() {
    let mut world = World::new();
    world.recover("one", "bob", 1, NEW);
    world.gateway.enforce(|_, _| false, world.now);
    let lines = world.did();
    assert!(lines[0].contains("policy-violation") && lines[1] == "bounced 1", "{lines:?}");
    assert!(world.reachable().is_empty());
}

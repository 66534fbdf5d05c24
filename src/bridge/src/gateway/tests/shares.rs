//! No partner uses up what there is for all.

use super::*;

fn of(mut request: Message, partner: &str, number: usize) -> Message {
    let from = format!("<sip:u{number}@{partner}>;tag=t{number}");
    request.headers.set(HeaderName::From, from).unwrap();
    request.headers.set(HeaderName::CallId, format!("{partner}-{number}")).unwrap();
    let contact = format!("<sip:u{number}@{partner};gr=x>");
    request.headers.set(HeaderName::Contact, contact).unwrap();
    request
}

fn subscribe() -> Message {
    let mut request = fresh("SUBSCRIBE", "x");
    request.headers.push(HeaderName::Event, "presence").unwrap();
    request.headers.push(HeaderName::Expires, "3600").unwrap();
    request
}

fn text() -> Message {
    let mut request = fresh("MESSAGE", "x");
    request.set_body("text/plain", "hi");
    request
}

impl World {
    /// How many of these a partner gets; the one that was too much is answered 480.
    fn gets(&mut self, partner: &str, request: impl Fn() -> Message) -> (usize, Vec<String>) {
        for number in 0..100 {
            let lines = self.request(of(request(), partner, number));
            if lines[0].starts_with("< 480") {
                let full =
                    self.effects.iter().filter(|effect| matches!(effect, Effect::Full { .. }));
                let full = full.map(line).collect();
                return (number, full);
            }
        }
        panic!("without end");
    }
}

#[test]
fn one_partner_gets_its_share_and_the_last_quarter_is_for_those_who_are_named() {
    let change = |config: &mut GatewayConfig| {
        config.limits.subscriptions_max = 20;
        config.limits.sessions_max = 20;
        config.limits.undelivered_max = 20;
        config.named.insert("named.example".parse().unwrap());
        config.named.insert("other.example".parse().unwrap());
    };
    for (what, request) in [
        ("subscriptions", &subscribe as &dyn Fn() -> Message),
        ("sessions", &|| invitation("x")),
        ("messages", &text),
    ] {
        let mut world = World::with(change);
        for stranger in ["a.example", "b.example", "c.example"] {
            let full = vec![format!("{what} of partner {stranger}")];
            assert_eq!(world.gets(stranger, request), (5, full), "{what}");
        }
        let full = vec![format!("{what} of strangers d.example")];
        assert_eq!(world.gets("d.example", request), (0, full), "{what}");
        let full = vec![format!("{what} of partner named.example")];
        assert_eq!(world.gets("named.example", request), (5, full), "{what}");
        let full = vec![format!("{what} of node other.example")];
        assert_eq!(world.gets("other.example", request), (0, full), "{what}");
    }
}

#[test]
fn who_is_over_its_share_is_told_when_to_come_back_and_what_ends_makes_room() {
    let mut world = World::with(|config| config.limits.subscriptions_max = 4);
    world.request(of(subscribe(), "a.example", 1));
    let first = world.answered();
    world.answer_with("NOTIFY", 200);
    assert_eq!(world.request(of(subscribe(), "a.example", 2)), ["< 480 SUBSCRIBE"]);
    assert_eq!(world.answered().headers.get(&HeaderName::RetryAfter).unwrap(), "600");
    let mut end = inside(&first, "SUBSCRIBE", 9);
    end.headers.push(HeaderName::Event, "presence").unwrap();
    end.headers.push(HeaderName::Expires, "0").unwrap();
    world.request(end);
    assert_eq!(world.request(of(subscribe(), "a.example", 2))[0], "< 200 SUBSCRIBE");
}

#[test]
fn one_contact_cannot_use_up_the_share_of_its_partner() {
    let mut world = World::with(|config| config.limits.subscriptions_per_contact_max = 2);
    let to = |number: usize| {
        let mut request = of(subscribe(), "a.example", 1);
        let to = format!("<sip:local{number}@ours.example>");
        request.headers.set(HeaderName::To, to).unwrap();
        request
    };
    assert_eq!(world.request(to(1))[0], "< 200 SUBSCRIBE");
    assert_eq!(world.request(to(2))[0], "< 200 SUBSCRIBE");
    assert_eq!(world.request(to(3)), ["< 480 SUBSCRIBE"]);
    assert_eq!(world.request(of(subscribe(), "a.example", 2))[0], "< 200 SUBSCRIBE");
}

/// A partner that answers no looks does not keep users from looking at others.
#[test]
fn a_silent_partner_takes_only_its_share_of_looks() {
    let mut world = World::with(|config| config.limits.fetches_max = 8);
    let look = |world: &mut World, partner: &str, number: usize| {
        let probe =
            format!("<presence from='alice@ours.example' to='u{number}@{partner}' type='probe'/>");
        world.stanza(&probe, 1)
    };
    let asked = |world: &mut World, partner: &str| {
        (0..10).filter(|number| look(world, partner, *number).len() == 2).count()
    };
    assert_eq!(asked(&mut world, "silent.example"), 2);
    assert_eq!(asked(&mut world, "other.example"), 2);
    world.pass(Duration::from_secs(65));
    assert_eq!(asked(&mut world, "silent.example"), 2, "what nobody answered is over");
}

#[test]
fn what_the_router_took_makes_room() {
    let mut world = World::with(|config| config.limits.undelivered_max = 4);
    for number in 0..10 {
        assert_eq!(world.request(of(text(), "a.example", number)).len(), 1);
        let key = world.key();
        world.gateway.delivered(key, Ok(()), world.now);
        assert_eq!(world.did(), ["< 200 MESSAGE"]);
    }
}

/// What no store counts, either: a partner that never answers must not fill our memory.
#[test]
fn messages_without_an_answer_are_bounded_by_their_weight() {
    let mut world = World::with(|config| {
        config.limits.queued_bytes_per_user_max = 100_000;
        config.limits.queued_bytes_max = 150_000;
    });
    // Not in the body, whose length has a bound of its own.
    let say = |world: &mut World, user: &str, to: usize, receipt: u64| {
        let stanza = format!(
            "<message from='{user}@ours.example/x' to='b{to}@partner.example' type='chat'>\
             <body>hi</body><no-store xmlns='urn:xmpp:hints'/><x xmlns='y'>{}</x></message>",
            "z".repeat(30_000)
        );
        world.stanza(&stanza, receipt)
    };
    for number in 1..=3 {
        assert_eq!(say(&mut world, "alice", number, number as u64), ["> INVITE"]);
    }
    let lines = say(&mut world, "alice", 4, 4);
    assert!(lines[0].contains("resource-constraint") && lines[0].contains("too much waits"));
    assert_eq!(lines[1], "bounced 4");
    let full = world.effects.iter().filter(|effect| matches!(effect, Effect::Full { .. }));
    assert_eq!(full.map(line).collect::<Vec<_>>(), ["bytes of user partner.example"]);
    assert_eq!(say(&mut world, "carol", 1, 5), ["> INVITE"]);
    let lines = say(&mut world, "carol", 2, 6);
    assert!(lines[0].contains("resource-constraint"), "it is the node's: {lines:?}");
    // Each way out makes room.
    let invite = world.gateway.status().sessions;
    assert_eq!(invite, 4);
    world.gateway.enforce(|local, _| local.to_string() != "alice@ours.example", world.now);
    world.did();
    for number in 1..=3 {
        say(&mut world, "alice", number, 10 + number as u64);
    }
    assert_eq!(world.gateway.status().queued, 4);
}

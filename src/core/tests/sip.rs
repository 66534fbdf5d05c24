//! The SIP gateway in a core: a client on one side, an edge with a partner behind it on the other.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed step is a failed test"
)]

mod world;

use gatehouse_sip::{HeaderName, Method, Status};
use gatehouse_types::Jid;
use gatehouse_xmpp::Stanza;
use tokio::time::timeout;
use world::PATIENCE;
use world::sip::{ANYBODY, BLOCKED, PARTNER, World, code, policy};

#[tokio::test]
async fn messages_go_both_ways_in_one_session() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.alice().await;
    alice
        .send("<message to='romeo@partner.example' type='chat' id='1'><body>one</body></message>")
        .await;
    let invite = world.request(Method::Invite).await;
    world.answer(&invite, 200);
    world.request(Method::Ack).await;
    let first = world.request(Method::Message).await;
    assert_eq!(&first.body[..], b"one");
    world.answer(&first, 200);
    let mut back = world.back(&first, Method::Message);
    back.set_body("text/plain", "two");
    world.say(back);
    assert!(alice.expect("</message>").await.contains(">two<"));
    assert_eq!(code(&world.answer_to(Method::Message).await), 200);
}

#[tokio::test]
async fn what_does_not_arrive_comes_back_with_the_reason() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.alice().await;
    alice
        .send("<message to='romeo@partner.example' type='chat' id='1'><body>one</body></message>")
        .await;
    let invite = world.request(Method::Invite).await;
    world.answer(&invite, 486);
    let error = alice.expect("</message>").await;
    assert!(error.contains("type='error'") && error.contains("Your IM could not be delivered."));
    assert!(error.contains("recipient-unavailable"), "{error}");
}

/// A stranger learns from an answer neither who has an account nor who blocks it; and no message
/// that was refused is answered 200.
#[tokio::test]
async fn nobody_and_a_user_who_blocks_answer_alike() {
    let mut world = World::start(PARTNER).await;
    let alice: Jid = "alice@ours.example".parse().unwrap();
    world.core.store.block(&alice, &["partner.example".parse().unwrap()]).await.unwrap();
    for _ in 0..20 {
        let mut answers = Vec::new();
        for to in ["nobody@ours.example", "alice@ours.example"] {
            let message = world.text(to, "hello");
            world.say(message);
            let answer = world.answer_to(Method::Message).await;
            let reason = answer.headers.get(&HeaderName::MsDiagnosticsPublic).unwrap().into_owned();
            answers.push((code(&answer), reason));
        }
        assert_eq!(answers[0].0, 403);
        assert_eq!(answers[0], answers[1]);
    }
    assert_eq!(world.core.offline_count("alice").await, 0);
    let message = world.text("bob@ours.example", "hello");
    world.say(message);
    assert_eq!(code(&world.answer_to(Method::Message).await), 200);
    assert_eq!(world.core.offline_count("bob").await, 1);
}

#[tokio::test]
async fn a_look_at_nobody_is_answered_as_a_look_at_a_stranger() {
    let mut world = World::start(PARTNER).await;
    let mut seen = Vec::new();
    for to in ["nobody@ours.example", "alice@ours.example"] {
        let look = world.subscribe(to, "0");
        world.say(look);
        assert_eq!(code(&world.answer_to(Method::Subscribe).await), 200);
        let mut states = Vec::new();
        while states.last().is_none_or(|(state, _)| state != "terminated") {
            let (state, body) = world.notified().await;
            states.push((state, body.replace(to, "whom")));
        }
        seen.push(states);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].len(), 1);
}

/// A partner that sends more than is taken: each message is answered, and each that was answered 200
/// is there.
#[tokio::test]
async fn what_is_too_much_is_refused_and_not_lost() {
    const COUNT: usize = 3000;
    let mut world = World::start(PARTNER).await;
    let (mut taken, mut refused, mut sent) = (0, 0, 0);
    while taken + refused < COUNT {
        while sent < COUNT {
            let message = world.text("bob@ours.example", &format!("number {sent}"));
            if world.edge.nodes.send("core", message).is_err() {
                break;
            }
            sent += 1;
        }
        match code(&world.answer_to(Method::Message).await) {
            200 => taken += 1,
            _ => refused += 1,
        }
    }
    assert!(taken > 0 && refused > 0, "{taken} and {refused}");
    assert_eq!(world.core.offline_count("bob").await, taken);
}

#[tokio::test]
async fn presence_is_shown_to_whom_the_user_allows_and_survives_a_restart() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.alice().await;
    world.watched(&mut alice).await;
    alice.send("<presence><show>dnd</show></presence>").await;
    while !world.notified().await.1.contains("busy") {}
    drop(alice);
    let mut world = World::start_on(world.stop().await, PARTNER).await;
    let (state, body) = world.notified().await;
    assert!(state == "active" && body.contains("closed"), "{state} {body}");
    let mut alice = world.alice().await;
    assert!(world.notified().await.1.contains("open"));
    // Taken back: she looks offline, and stays so.
    alice.send("<presence to='romeo@partner.example' type='unsubscribed'/>").await;
    let (state, body) = world.notified().await;
    assert!(state == "active" && body.contains("closed"), "{state} {body}");
}

#[tokio::test]
async fn a_user_watches_a_contact() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.alice().await;
    alice.send("<presence to='romeo@partner.example' type='subscribe'/>").await;
    let subscribe = world.request(Method::Subscribe).await;
    world.answer(&subscribe, 200);
    let mut notify = world.back(&subscribe, Method::Notify);
    notify.headers.push(HeaderName::Event, "presence").unwrap();
    notify.headers.push(HeaderName::SubscriptionState, "active;expires=3600").unwrap();
    notify.set_body(
        "application/pidf+xml",
        "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='sip:romeo@partner.example'>\
         <tuple id='a'><status><basic>open</basic></status></tuple></presence>",
    );
    world.say(notify);
    assert_eq!(code(&world.answer_to(Method::Notify).await), 200);
    alice.expect("<presence from='romeo@partner.example").await;
}

#[tokio::test]
async fn who_is_blocked_by_policy_hears_nothing_more() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.alice().await;
    world.watched(&mut alice).await;
    let session = world.invited().await;
    world.policy.send_replace(policy(BLOCKED));
    // The session is ended first of all; then the core has seen the new policy.
    world.request(Method::Bye).await;
    alice.send("<presence><show>dnd</show></presence>").await;
    alice.ping("said").await;
    let mut message = world.inside(&session, Method::Message);
    message.set_body("text/plain", "still here");
    world.say(message);
    let heard = world.heard().await;
    assert_eq!(
        (heard.status().map(Status::code), heard.cseq().unwrap().method),
        (Some(403), Method::Message)
    );
}

#[tokio::test]
async fn who_is_not_permitted_reaches_nobody() {
    let mut world = World::start("[[sip]]\nname = 'a'\nremote = ['another.example']\n").await;
    let message = world.text("alice@ours.example", "hello");
    world.say(message);
    assert_eq!(code(&world.answer_to(Method::Message).await), 403);
    let subscribe = world.subscribe("alice@ours.example", "3600");
    world.say(subscribe);
    assert_eq!(code(&world.answer_to(Method::Subscribe).await), 403);
    let mut world = World::start(PARTNER).await;
    let message = world.text("alice@elsewhere.example", "hello");
    world.say(message);
    assert_eq!(code(&world.answer_to(Method::Message).await), 403, "it is no domain of ours");
    assert_eq!(world.core.offline_count("alice").await, 0);
}

/// Nobody said what the domain speaks: XMPP first, SIP when that finds no server, and SIP at once
/// only after the domain was heard by SIP.
#[tokio::test]
async fn a_domain_that_answers_by_sip_is_written_to_by_sip() {
    let mut world = World::start(ANYBODY).await;
    let mut alice = world.alice().await;
    let said = |id: &str| {
        format!(
            "<message to='romeo@partner.example' type='chat' id='{id}'><body>{id}</body></message>"
        )
    };
    for (id, status) in [("one", 503), ("two", 200)] {
        alice.send(&said(id)).await;
        let transfer = timeout(PATIENCE, world.core.edge.incoming.recv()).await.unwrap().unwrap();
        let error = format!(
            "<message xmlns='jabber:client' from='romeo@partner.example' \
             to='alice@ours.example/a' id='{id}' type='error'><error type='cancel'>\
             <remote-server-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>\
             </message>"
        );
        drop(transfer);
        let error = Stanza::from_element(error.parse().unwrap()).unwrap();
        world.core.edge.sender.send(error).await.unwrap();
        let invite = world.request(Method::Invite).await;
        world.answer(&invite, status);
        if status != 200 {
            assert!(alice.expect("</message>").await.contains("type='error'"));
        }
    }
    let message = world.request(Method::Message).await;
    world.answer(&message, 200);
    alice.send(&said("three")).await;
    assert_eq!(&world.request(Method::Message).await.body[..], b"three");
}

/// Presence for who asked by SIP goes by SIP, though nobody said what the domain speaks; after a
/// restart, too.
#[tokio::test]
async fn a_domain_that_asks_by_sip_is_answered_by_sip() {
    let mut world = World::start(ANYBODY).await;
    let mut alice = world.alice().await;
    world.watched(&mut alice).await;
    drop(alice);
    let mut world = World::start_on(world.stop().await, ANYBODY).await;
    assert!(world.notified().await.1.contains("closed"));
    let _alice = world.alice().await;
    assert!(world.notified().await.1.contains("open"));
}

#[tokio::test]
async fn presence_for_an_account_that_is_gone_is_asked_for_no_more() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.alice().await;
    alice.send("<presence to='romeo@partner.example' type='subscribe'/>").await;
    let subscribe = world.request(Method::Subscribe).await;
    world.answer(&subscribe, 200);
    alice.ping("asked").await;
    drop(alice);
    let account: Jid = "alice@ours.example".parse().unwrap();
    world.core.store.remove_account(&account).await.unwrap();
    let mut notify = world.back(&subscribe, Method::Notify);
    notify.headers.push(HeaderName::Event, "presence").unwrap();
    notify.headers.push(HeaderName::SubscriptionState, "active;expires=3600").unwrap();
    world.say(notify);
    let last = world.request(Method::Subscribe).await;
    assert_eq!(last.expires().unwrap(), Some(0));
}

/// The core is the end of every way: what comes from outside goes to a user of ours, or nowhere.
#[tokio::test]
async fn nothing_passes_through() {
    let mut world = World::start(ANYBODY).await;
    // The domain is known to speak SIP.
    let message = world.text("alice@ours.example", "hello");
    world.say(message);
    assert_eq!(code(&world.answer_to(Method::Message).await), 200);
    for stanza in [
        "<message xmlns='jabber:client' from='x@xmpp.example' to='romeo@partner.example' id='1'>\
         <body>through</body></message>",
        "<presence xmlns='jabber:client' from='x@xmpp.example' to='romeo@partner.example' \
         type='subscribe'/>",
    ] {
        let stanza = Stanza::from_element(stanza.parse().unwrap()).unwrap();
        world.core.edge.sender.send(stanza).await.unwrap();
    }
    let message = world.text("x@xmpp.example", "through");
    world.say(message);
    // The first that is heard is the refusal, and nothing left the other way.
    assert_eq!(code(&world.heard().await), 403);
    let message = world.text("alice@ours.example", "done");
    world.say(message);
    assert_eq!(code(&world.heard().await), 200);
    assert!(world.core.edge.incoming.try_recv().is_err());
}

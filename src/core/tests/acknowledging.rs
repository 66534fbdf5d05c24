//! When a client that counts (XEP-0198) is told that we have what it sent: once it is safe.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed step is a failed test")]

mod world;

use gatehouse_trunk::Transfer;
use gatehouse_xmpp::ns;
use tokio::time::timeout;
use world::{Client, Core, PATIENCE, R, managed, resume};

/// After its presence and a ping.
const BEFORE: &str = "<a xmlns='urn:xmpp:sm:3' h='2'/>";

/// What the edge is sent next, and has not acknowledged.
async fn at_the_edge(core: &mut Core) -> Transfer {
    timeout(PATIENCE, core.edge.incoming.recv()).await.unwrap().unwrap()
}

fn text(transfer: &Transfer) -> String {
    transfer.stanza.element().get_child("body", ns::CLIENT).unwrap().text()
}

async fn say(client: &mut Client, to: &str, body: &str) {
    client.send(&format!("<message to='{to}' type='chat'><body>{body}</body></message>")).await;
}

#[tokio::test]
async fn what_no_edge_answers_for_is_not_acknowledged() {
    let mut core = Core::start().await;
    let (mut alice, _) = managed(&core, "alice", 60).await;
    say(&mut alice, "romeo@partner.example", "1").await;
    say(&mut alice, "romeo@partner.example", "2").await;
    let (first, second) = (at_the_edge(&mut core).await, at_the_edge(&mut core).await);
    alice.send(R).await;
    alice.expect(BEFORE).await;
    // What is behind one that is not safe has to wait for it; what we answer ourselves does not.
    drop(second);
    alice.send(R).await;
    alice.expect(BEFORE).await;
    drop(first);
    // It need not ask again.
    alice.expect("<a xmlns='urn:xmpp:sm:3' h='4'/>").await;
    alice.ping("counts").await;
    alice.send(R).await;
    alice.expect("<a xmlns='urn:xmpp:sm:3' h='5'/>").await;
}

#[tokio::test]
async fn what_a_user_of_ours_has_not_read_is_not_acknowledged() {
    let core = Core::start().await;
    let (mut alice, _) = managed(&core, "alice", 60).await;
    let (mut bob, _) = managed(&core, "bob", 60).await;
    say(&mut alice, "bob@ours.example", "1").await;
    alice.send(R).await;
    bob.expect(">1<").await;
    bob.send("<a xmlns='urn:xmpp:sm:3' h='3'/>").await;
    alice.expect("<a xmlns='urn:xmpp:sm:3' h='3'/>").await;
    // He says nothing more: she hears once the store has it, which a crash does not take away.
    say(&mut alice, "bob@ours.example", "2").await;
    alice.send(R).await;
    alice.expect("<a xmlns='urn:xmpp:sm:3' h='4'/>").await;
    assert_eq!(core.store.recover_held().await.unwrap(), 1);
}

#[tokio::test]
async fn a_bounce_answers_for_a_message() {
    let core = Core::start().await;
    let (mut alice, _) = managed(&core, "alice", 60).await;
    say(&mut alice, "nobody@ours.example", "1").await;
    alice.expect("service-unavailable").await;
    alice.send(&format!("<a xmlns='urn:xmpp:sm:3' h='3'/>{R}")).await;
    alice.expect("<a xmlns='urn:xmpp:sm:3' h='3'/>").await;
}

#[tokio::test]
async fn who_comes_back_is_not_asked_for_what_is_on_its_way() {
    let mut core = Core::start().await;
    let (mut alice, id) = managed(&core, "alice", 60).await;
    say(&mut alice, "romeo@partner.example", "1").await;
    let first = at_the_edge(&mut core).await;
    alice.send(R).await;
    alice.expect(BEFORE).await;
    drop(alice);
    let mut alice = resume(&core, "alice", &id, 2).await;
    let resumed = alice.expect("<resumed").await + &alice.expect("/>").await;
    assert!(resumed.contains(" h='3'"), "{resumed}");
    // A receipt of before does not count for what is sent now.
    say(&mut alice, "romeo@partner.example", "2").await;
    let second = at_the_edge(&mut core).await;
    assert_eq!((text(&first), text(&second)), ("1".to_owned(), "2".to_owned()));
    drop(first);
    alice.send(R).await;
    alice.expect("<a xmlns='urn:xmpp:sm:3' h='3'/>").await;
    drop(second);
    alice.expect("<a xmlns='urn:xmpp:sm:3' h='4'/>").await;
}

#[tokio::test]
async fn who_is_sent_away_hears_what_is_safe_first() {
    let mut core = Core::start().await;
    let (mut alice, _) = managed(&core, "alice", 60).await;
    say(&mut alice, "romeo@partner.example", "1").await;
    alice.send(R).await;
    drop(at_the_edge(&mut core).await);
    alice.expect("<a xmlns='urn:xmpp:sm:3' h='3'/>").await;
    say(&mut alice, "romeo@partner.example", "2").await;
    alice.ping("taken").await;
    // The edge stops, too, and drops what it had not sent.
    let Core { tasks, edge, .. } = core;
    let stop = tasks.stop();
    let edge_stops = async {
        stop.cancelled().await;
        drop(edge);
    };
    let farewell = alice.expect("</stream:stream>");
    let (stopped, (), farewell) = tokio::join!(tasks.shut_down(PATIENCE), edge_stops, farewell);
    stopped.unwrap();
    let (before, _) = farewell.split_once("<system-shutdown").unwrap();
    let (_, last) = before.rsplit_once("<a xmlns='urn:xmpp:sm:3'").unwrap();
    assert!(last.starts_with(" h='3'"), "{farewell}");
}

#[tokio::test]
async fn who_is_replaced_hears_what_is_safe_first() {
    let mut core = Core::start().await;
    let (mut older, _) = managed(&core, "alice", 60).await;
    say(&mut older, "romeo@partner.example", "1").await;
    older.send(R).await;
    drop(at_the_edge(&mut core).await);
    older.expect("<a xmlns='urn:xmpp:sm:3' h='3'/>").await;
    say(&mut older, "romeo@partner.example", "2").await;
    let second = at_the_edge(&mut core).await;
    let _newer = managed(&core, "alice", 60).await;
    let farewell = older.expect("</stream:stream>").await;
    let (before, _) = farewell.split_once("<conflict").unwrap();
    let (_, last) = before.rsplit_once("<a xmlns='urn:xmpp:sm:3'").unwrap();
    assert!(last.starts_with(" h='3'"), "{farewell}");
    drop(second);
}

//! Clients whose connection breaks and who come back (XEP-0198), and clients nobody looks at
//! (XEP-0352), over loopback TCP and TLS.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed step is a failed test")]

mod world;

use gatehouse_telemetry::StreamState;
use gatehouse_xmpp::Stanza;
use tokio::time::timeout;
use world::{Client, Core, HEADER, PATIENCE, R, managed, resume};

async fn say(alice: &mut Client, bodies: &[&str]) {
    for body in bodies {
        let message =
            format!("<message to='bob@ours.example' type='chat'><body>{body}</body></message>");
        alice.send(&message).await;
    }
    alice.ping(&format!("said-{}", bodies.concat())).await;
}

/// The bodies that come until the answer to a ping.
async fn bodies(client: &mut Client, ping: &str) -> Vec<String> {
    let text = client.ping(ping).await;
    let bodies = text.split("<body>").skip(1);
    bodies.map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
}

async fn wait_stored(core: &Core, count: usize) {
    let stored = async {
        while core.offline_count("bob").await != count {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, stored).await.unwrap();
}

#[tokio::test]
async fn a_client_that_was_cut_off_misses_nothing_and_gets_nothing_twice() {
    let core = Core::start().await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    let (mut bob, id) = managed(&core, "bob", 60).await;
    // Its own presence and the answer to the ping are one and two.
    say(&mut alice, &["3", "4"]).await;
    bob.expect(">4<").await;
    bob.send("<message to='alice@ours.example/a'><body>counted</body></message>").await;
    alice.expect(">counted<").await;
    drop(bob);
    say(&mut alice, &["5", "6"]).await;

    let mut bob = resume(&core, "bob", &id, 3).await;
    // It sent presence, a ping and a message.
    let resumed = bob.expect("<resumed").await + &bob.expect(">").await;
    assert!(resumed.contains(" h='3'") && resumed.contains(&id), "{resumed}");
    assert_eq!(bodies(&mut bob, "all").await, ["4", "5", "6"]);
    // All are acknowledged now; the session is lost once more.
    bob.send(&format!("{R}<a xmlns='urn:xmpp:sm:3' h='7'/>")).await;
    bob.expect("<a xmlns='urn:xmpp:sm:3' h='4'/>").await;
    drop(bob);
    say(&mut alice, &["8"]).await;
    let mut bob = resume(&core, "bob", &id, 7).await;
    bob.expect("<resumed").await;
    assert_eq!(bodies(&mut bob, "rest").await, ["8"]);
    assert_eq!(core.offline_count("bob").await, 0);
}

#[tokio::test]
async fn a_session_moves_while_its_old_connection_lives() {
    let core = Core::start().await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    let (mut older, id) = managed(&core, "bob", 60).await;
    say(&mut alice, &["1"]).await;
    older.expect(">1<").await;
    let mut newer = resume(&core, "bob", &id, 2).await;
    newer.expect("<resumed").await;
    let farewell = older.expect("</stream:stream>").await;
    assert!(farewell.contains("<conflict"), "{farewell}");
    assert_eq!(bodies(&mut newer, "all").await, ["1"]);
    drop(older);
    say(&mut alice, &["2"]).await;
    newer.expect(">2<").await;
    assert_eq!(core.streams.list().len(), 2);
}

#[tokio::test]
async fn nobody_resumes_what_is_not_theirs() {
    let core = Core::start().await;
    let (bob, id) = managed(&core, "bob", 60).await;
    drop(bob);
    for (name, id) in [("alice", id.as_str()), ("bob", "guess"), ("bob", "")] {
        let mut client = resume(&core, name, id, 0).await;
        let failed = client.expect("</failed>").await;
        assert!(failed.contains("<item-not-found"), "{failed}");
        // It can bind instead.
        client
            .send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
            .await;
        client.expect("<jid>").await;
    }
    let mut bob = resume(&core, "bob", &id, 0).await;
    bob.expect("<resumed").await;
}

#[tokio::test]
async fn a_client_that_does_not_come_back_finds_its_messages_in_the_store() {
    let core = Core::start().await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    let (mut bob, id) = managed(&core, "bob", 1).await;
    say(&mut alice, &["1", "2"]).await;
    bob.expect(">2<").await;
    // The first has arrived, says the client; about the second nobody knows.
    bob.send(&format!("<a xmlns='urn:xmpp:sm:3' h='3'/>{R}")).await;
    bob.expect("<a xmlns").await;
    drop(bob);
    say(&mut alice, &["3"]).await;
    wait_stored(&core, 2).await;
    let mut bob = resume(&core, "bob", &id, 3).await;
    bob.expect("<item-not-found").await;

    let mut bob = core.connect_direct().await.log_in("bob", "new").await;
    bob.send("<presence/>").await;
    let got = bob.ping("got").await;
    let order = ["<body>2<", "<delay", "<body>3<", "<delay"];
    let mut rest = got.as_str();
    for text in order {
        rest = rest.split_once(text).unwrap_or_else(|| panic!("{text} in {got}")).1;
    }
    assert!(!got.contains("<body>1<"), "{got}");
}

#[tokio::test]
async fn a_shutdown_stores_what_waits_for_a_client_that_is_away() {
    let core = Core::start().await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    let (bob, _) = managed(&core, "bob", 60).await;
    drop(bob);
    say(&mut alice, &["1"]).await;
    assert!(core.tasks.clone().shut_down(PATIENCE).await.is_ok());
    assert_eq!(core.offline_count("bob").await, 1);
}

#[tokio::test]
async fn an_orderly_end_is_an_end() {
    let core = Core::start().await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    let (mut bob, id) = managed(&core, "bob", 60).await;
    bob.send("</stream:stream>").await;
    bob.expect("</stream:stream>").await;
    say(&mut alice, &["1"]).await;
    wait_stored(&core, 1).await;
    resume(&core, "bob", &id, 0).await.expect("<item-not-found").await;
}

#[tokio::test]
async fn an_acknowledgement_of_what_was_not_sent_ends_the_stream() {
    let core = Core::start().await;
    let (mut bob, id) = managed(&core, "bob", 60).await;
    bob.send("<a xmlns='urn:xmpp:sm:3' h='3'/>").await;
    let farewell = bob.expect("</stream:stream>").await;
    assert!(farewell.contains("<handled-count-too-high"), "{farewell}");
    assert!(farewell.contains("send-count='2'"), "{farewell}");
    resume(&core, "bob", &id, 0).await.expect("<item-not-found").await;

    let (bob, id) = managed(&core, "bob", 60).await;
    drop(bob);
    let mut bob = resume(&core, "bob", &id, 9).await;
    bob.expect("<handled-count-too-high").await;
}

#[tokio::test]
async fn presence_stays_while_a_client_is_away() {
    let core = Core::start().await;
    let (phone, _) = managed(&core, "bob", 1).await;
    let mut desk = core.connect_direct().await.log_in("bob", "desk").await;
    desk.send("<presence/>").await;
    desk.expect("from='bob@ours.example/m'").await;
    drop(phone);
    // Until the time is over, and then it is told.
    assert!(!desk.ping("away").await.contains("unavailable"));
    desk.expect("type='unavailable'").await;
}

#[tokio::test]
async fn a_client_that_nobody_looks_at_is_left_alone() {
    let mut core = Core::start().await;
    let (mut bob, _) = managed(&core, "bob", 60).await;
    bob.send("<inactive xmlns='urn:xmpp:csi:0'/>").await;
    bob.ping("asleep").await;
    let from = |text: &str| Stanza::from_element(text.parse().unwrap()).unwrap();
    let typing = "<message xmlns='jabber:client' from='x@them.example/r' to='bob@ours.example/m'>\
        <composing xmlns='http://jabber.org/protocol/chatstates'/></message>";
    let mut chatter = Vec::new();
    for number in 0..20 {
        chatter.push(format!(
            "<presence xmlns='jabber:client' from='x@them.example/r' to='bob@ours.example'>\
             <status>s{number}</status></presence>"
        ));
        chatter.push(typing.to_owned());
        chatter.push(typing.replace("x@", "y@"));
    }
    let unfiltered: usize = chatter.iter().map(String::len).sum();
    for text in &chatter {
        core.edge.sender.send(from(text)).await.unwrap();
    }
    let wake = typing.replace("<composing", "<body>wake</body><active");
    core.edge.sender.send(from(&wake)).await.unwrap();
    let got = bob.expect(">wake<").await;
    // Only the last of each kind of that contact, in order, and nothing of the other.
    assert!(got.contains(">s19<") && !got.contains(">s18<") && !got.contains("y@"), "{got}");
    assert!(got.find(">s19<") < got.find("<composing"), "{got}");
    assert_eq!(got.matches("<message").count(), 2, "{got}");
    assert!(got.len() * 10 < unfiltered, "{} of {unfiltered} bytes", got.len());
    bob.send("<active xmlns='urn:xmpp:csi:0'/>").await;
    let rest = bob.ping("awake").await;
    assert_eq!(rest.matches("y@them.example").count(), 1, "{rest}");
    core.edge.incoming.close();
}

#[tokio::test]
async fn who_is_here_comes_before_who_may_come_back() {
    let core = Core::start().await;
    let (away, id) = managed(&core, "bob", 60).await;
    drop(away);
    let mut here = Vec::new();
    for resource in ["1", "2", "3", "4", "5"] {
        here.push(core.connect_direct().await.log_in("bob", resource).await);
    }
    resume(&core, "bob", &id, 2).await.expect("<item-not-found").await;
    // Nobody else is away: the next one is told why it has no place.
    let mut client = core.connect_direct().await;
    assert!(client.authenticate("bob", "secret").await.contains("<success"));
    client.send(HEADER).await;
    client.expect("</stream:features>").await;
    client
        .send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        .await;
    let refused = client.expect("</iq>").await;
    assert!(refused.contains("<resource-constraint") && refused.contains("at most 5"), "{refused}");
}

/// What a core that is killed now would find when it starts again.
async fn crash(core: &Core) -> u64 {
    core.store.recover_held().await.unwrap()
}

#[tokio::test]
async fn what_waits_for_a_client_that_is_away_survives_a_crash() {
    let core = Core::start().await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    let (mut bob, _) = managed(&core, "bob", 60).await;
    say(&mut alice, &["1"]).await;
    bob.expect(">1<").await;
    drop(bob);
    // Sent and not acknowledged; it is held once the connection is known to be lost.
    let held = async { while crash(&core).await == 0 {} };
    timeout(PATIENCE, held).await.unwrap();
    let listed = core.streams.list();
    let away = listed.iter().find(|row| row.info.state == StreamState::Away).unwrap();
    assert!(away.info.peer.starts_with("bob@ours.example/"), "{away:?}");
    // From here on nothing is acknowledged before it is held.
    say(&mut alice, &["2", "3"]).await;
    assert_eq!(crash(&core).await, 2);
    assert_eq!(core.offline_count("bob").await, 3);
}

#[tokio::test]
async fn what_a_client_got_in_the_end_is_not_kept() {
    let core = Core::start().await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    let (bob, id) = managed(&core, "bob", 60).await;
    drop(bob);
    say(&mut alice, &["1", "2"]).await;
    let mut bob = resume(&core, "bob", &id, 2).await;
    bob.expect("<resumed").await;
    assert_eq!(bodies(&mut bob, "all").await, ["1", "2"]);
    bob.send(&format!("<a xmlns='urn:xmpp:sm:3' h='5'/>{R}")).await;
    bob.expect("<a xmlns").await;
    // Who does not come back again: it is stored once.
    drop(bob);
    say(&mut alice, &["3"]).await;
    core.tasks.clone().shut_down(PATIENCE).await.unwrap();
    assert_eq!(crash(&core).await, 0);
    assert_eq!(core.offline_count("bob").await, 1);
}

#[tokio::test]
async fn what_a_client_does_not_acknowledge_survives_a_crash() {
    let core = Core::start().await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    let (mut bob, _) = managed(&core, "bob", 60).await;
    say(&mut alice, &["1"]).await;
    bob.expect(">1<").await;
    let held = async { while crash(&core).await == 0 {} };
    timeout(PATIENCE, held).await.unwrap();
    assert_eq!(core.offline_count("bob").await, 1);
    // It is there, and gets more; what it acknowledges in time is never stored.
    say(&mut alice, &["2"]).await;
    bob.expect(">2<").await;
    bob.send("<a xmlns='urn:xmpp:sm:3' h='4'/>").await;
    bob.ping("acknowledged").await;
    core.tasks.clone().shut_down(PATIENCE).await.unwrap();
    assert_eq!(crash(&core).await, 0);
    assert_eq!(core.offline_count("bob").await, 1);
}

#[tokio::test]
async fn what_was_sent_again_to_a_moved_session_survives_a_crash() {
    let core = Core::start().await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    let (mut older, id) = managed(&core, "bob", 60).await;
    say(&mut alice, &["1"]).await;
    older.expect(">1<").await;
    let mut newer = resume(&core, "bob", &id, 2).await;
    newer.expect(">1<").await;
    // Nothing else comes, and nothing is acknowledged.
    let held = async { while crash(&core).await == 0 {} };
    timeout(PATIENCE, held).await.unwrap();
    assert_eq!(core.offline_count("bob").await, 1);
}

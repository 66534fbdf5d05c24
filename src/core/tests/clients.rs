//! Clients over loopback TCP and TLS: log-in, messages, conflict, shutdown.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed step is a failed test"
)]

mod world;

use std::time::Duration;

use gatehouse_telemetry::{StreamKind, StreamState};
use gatehouse_types::Jid;
use gatehouse_xmpp::Stanza;
use tokio::time::timeout;
use world::{Core, PATIENCE};

#[tokio::test]
async fn two_clients_and_a_partner_talk() {
    let mut core = Core::start().await;
    let mut alice = core.connect_starttls().await.log_in("alice", "a").await;
    let mut bob = core.connect_direct().await.log_in("bob", "b").await;
    for client in [&mut alice, &mut bob] {
        client.send("<presence/>").await;
        client.ping("ready").await;
    }
    alice.send("<message to='bob@ours.example' type='chat'><body>hi</body></message>").await;
    let message = bob.expect("</message>").await;
    assert!(message.contains("alice@ours.example/a") && message.contains(">hi<"), "{message}");

    bob.send("<message to='romeo@them.example'><body>out</body></message>").await;
    let transfer = timeout(PATIENCE, core.edge.incoming.recv()).await.unwrap().unwrap();
    assert_eq!(transfer.stanza.from().unwrap().to_string(), "bob@ours.example/b");
    let reply = "<message xmlns='jabber:client' from='romeo@them.example/r' \
                 to='bob@ours.example'><body>in</body></message>";
    let reply = Stanza::from_element(reply.parse().unwrap()).unwrap();
    core.edge.sender.send(reply).await.unwrap();
    assert!(bob.expect("</message>").await.contains(">in<"));

    assert!(core.streams.list().iter().all(|status| status.info.tls == "TLSv1.3"));
    let mut listed: Vec<(StreamKind, StreamState, String)> = core
        .streams
        .list()
        .into_iter()
        .map(|status| (status.info.kind, status.info.state, status.info.peer))
        .collect();
    listed.sort_by(|one, other| one.2.cmp(&other.2));
    assert_eq!(
        listed,
        ["alice@ours.example/a", "bob@ours.example/b"].map(|peer| (
            StreamKind::C2s,
            StreamState::Open,
            peer.to_owned()
        ))
    );
}

#[tokio::test]
async fn what_was_acknowledged_waits_for_its_reader() {
    let core = Core::start().await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    for body in ["first", "second"] {
        alice.send(&format!("<message to='bob@ours.example'><body>{body}</body></message>")).await;
    }
    alice.ping("sent").await;
    assert_eq!(core.offline_count("bob").await, 2, "the ping was answered before they were safe");

    let mut bob = core.connect_direct().await.log_in("bob", "b").await;
    bob.send("<presence/>").await;
    let first = bob.expect("</message>").await;
    assert!(first.contains(">first<") && first.contains("urn:xmpp:delay"), "{first}");
    assert!(bob.expect("</message>").await.contains(">second<"));
    // Removed soon after the bytes have left.
    let removed = async {
        while core.offline_count("bob").await > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, removed).await.unwrap();
}

#[tokio::test]
async fn the_newer_client_wins_the_resource() {
    let core = Core::start().await;
    let mut older = core.connect_direct().await.log_in("alice", "a").await;
    let mut newer = core.connect_direct().await.log_in("alice", "a").await;
    let farewell = older.expect("</stream:stream>").await;
    assert!(farewell.contains("<conflict"), "{farewell}");
    newer.ping("alive").await;
}

#[tokio::test]
async fn wrong_password_and_unknown_user_look_the_same() {
    let core = Core::start().await;
    let wrong = core.connect_direct().await.authenticate("alice", "guess").await;
    let unknown = core.connect_direct().await.authenticate("nobody", "guess").await;
    assert!(wrong.contains("<not-authorized"), "{wrong}");
    assert_eq!(wrong, unknown);
    // The right one still works.
    core.connect_direct().await.log_in("alice", "a").await.ping("in").await;
}

#[tokio::test]
async fn shutdown_says_goodbye_and_keeps_messages() {
    let core = Core::start().await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    alice.ping("in").await;
    let tasks = core.tasks.clone();
    let (down, farewell) =
        tokio::join!(tasks.shut_down(PATIENCE), alice.expect("</stream:stream>"));
    assert_eq!(down, Ok(()));
    assert!(farewell.contains("<system-shutdown"), "{farewell}");
}

#[tokio::test]
async fn what_a_broken_connection_did_not_carry_is_kept_in_order() {
    const COUNT: usize = 40;
    let core = Core::start().await;
    let mut bob = core.connect_narrow().await.log_in("bob", "b").await;
    bob.send("<presence/>").await;
    bob.ping("ready").await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    // Far more than sockets hold; bob reads none of it.
    let padding = "x".repeat(200_000);
    for index in 0..COUNT {
        alice
            .send(&format!(
                "<message to='bob@ours.example'><body>{index}.{padding}</body></message>"
            ))
            .await;
    }
    alice.ping("sent").await;
    assert_eq!(core.offline_count("bob").await, 0, "bob was there");
    drop(bob);

    let account: Jid = "bob@ours.example".parse().unwrap();
    let index_of = |stanza: &str| -> usize {
        let (_, body) = stanza.split_once("<body>").unwrap();
        body.split_once('.').unwrap().0.parse().unwrap()
    };
    let kept = async {
        loop {
            let stored = core.store.offline(&account).await.unwrap();
            let kept: Vec<usize> = stored.iter().map(|one| index_of(&one.stanza)).collect();
            if kept.last() == Some(&(COUNT - 1)) {
                return kept;
            }
        }
    };
    let kept = timeout(PATIENCE, kept).await.unwrap();
    // Without a gap from the first that was not carried; earlier ones may come twice.
    assert_eq!(kept, Vec::from_iter(kept[0]..COUNT));
}

#[tokio::test]
async fn shutdown_does_not_wait_for_who_does_not_read() {
    let core = Core::start().await;
    let mut bob = core.connect_narrow().await.log_in("bob", "b").await;
    bob.send("<presence/>").await;
    bob.ping("ready").await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    let padding = "x".repeat(200_000);
    for index in 0..40 {
        alice
            .send(&format!(
                "<message to='bob@ours.example'><body>{index}.{padding}</body></message>"
            ))
            .await;
    }
    alice.ping("sent").await;
    // Less than the time that a client has to read in normal life.
    assert_eq!(core.tasks.clone().shut_down(Duration::from_secs(9)).await, Ok(()));
    assert!(core.offline_count("bob").await > 0);
}

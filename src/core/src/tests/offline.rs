use gatehouse_store::OfflineLimits;

use super::{World, address, show, with_unreadable};

const TO_BOB: &str = "<message type='chat' id='ID' to='bob@ours.example'><body>ID</body></message>";

#[tokio::test]
async fn messages_wait_in_order_and_are_stamped() {
    let mut world = World::new().await;
    let alice = world.online("alice", "a").await;
    for id in ["1", "2"] {
        alice.send(&TO_BOB.replace("ID", id)).await;
    }
    let mut bob = world.bind("bob", "b").await;
    bob.send("<presence><priority>-1</priority></presence>").await;
    assert_eq!(bob.got().len(), 1, "a negative priority gets its own presence and no message");
    bob.send("<presence/>").await;
    let got = bob.got();
    assert_eq!(
        got[..2],
        [
            "message:chat#1 alice@ours.example/a > bob@ours.example [body \"1\", delay ours.example > stamp=2023-11-14T22:13:20.000Z \"Offline storage\"]",
            "message:chat#2 alice@ours.example/a > bob@ours.example [body \"2\", delay ours.example > stamp=2023-11-14T22:13:21.000Z \"Offline storage\"]",
        ]
    );
}

#[tokio::test]
async fn messages_leave_the_store_only_once_they_are_written() {
    let mut world = World::new().await;
    let alice = world.online("alice", "a").await;
    alice.send(&TO_BOB.replace("ID", "1")).await;
    alice.send(&TO_BOB.replace("ID", "2")).await;
    let bob = address("bob@ours.example");

    // The connection breaks before anything is written.
    let broken = world.bind("bob", "b").await;
    broken.send("<presence/>").await;
    broken.leave().await;
    assert_eq!(world.router.store.offline(&bob).await.unwrap().len(), 2);

    // One is written, then the connection breaks.
    let mut half = world.bind("bob", "b").await;
    half.send("<presence/>").await;
    let first = half.next().unwrap().offline.unwrap();
    world.router.offline_written(&half.session, first).await;
    half.leave().await;
    assert_eq!(world.router.store.offline(&bob).await.unwrap().len(), 1);

    let mut whole = world.bind("bob", "b").await;
    whole.send("<presence/>").await;
    let last = whole.next().unwrap();
    assert!(show(&last.stanza).contains("body \"2\""));
    world.router.offline_written(&whole.session, last.offline.unwrap()).await;
    assert!(world.router.store.offline(&bob).await.unwrap().is_empty());
}

#[tokio::test]
async fn two_resources_do_not_get_the_same_messages() {
    let mut world = World::new().await;
    let alice = world.online("alice", "a").await;
    alice.send(&TO_BOB.replace("ID", "1")).await;
    let first = world.bind("bob", "first").await;
    first.send("<presence/>").await;
    let mut second = world.bind("bob", "second").await;
    second.send("<presence/>").await;
    let has_message = |got: Vec<String>| got.iter().any(|text| text.starts_with("message"));
    assert!(!has_message(second.got()));
    // The one that was being sent them breaks: the other takes over.
    first.leave().await;
    assert!(has_message(second.got()));
}

#[tokio::test]
async fn a_full_store_says_so_to_the_author() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    for id in ["1", "2", "3"] {
        alice.send(&TO_BOB.replace("ID", id)).await;
    }
    assert!(alice.got().is_empty());
    assert_eq!(
        alice.ask(&TO_BOB.replace("ID", "4")).await,
        "message:error#4 bob@ours.example > alice@ours.example/a [error:wait [resource-constraint]]"
    );
    // Another user's store is not full.
    alice.send("<message to='carol@ours.example'><body>x</body></message>").await;
    assert!(alice.got().is_empty());
}

#[tokio::test]
async fn what_means_nothing_later_is_not_kept() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    alice.send("<message to='bob@ours.example'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>").await;
    assert!(alice.got().is_empty());
    let answer = alice
        .ask("<message id='1' to='bob@ours.example'><body>x</body><no-store xmlns='urn:xmpp:hints'/></message>")
        .await;
    assert!(answer.contains("service-unavailable"), "{answer}");
    let bob = address("bob@ours.example");
    assert!(world.router.store.offline(&bob).await.unwrap().is_empty());
}

#[tokio::test]
async fn messages_from_outside_are_kept_too() {
    let world = World::new().await;
    world
        .receive("<message type='chat' from='romeo@them.example/r' to='bob@ours.example/gone'><body>x</body></message>")
        .await;
    let stored = world.router.store.offline(&address("bob@ours.example")).await.unwrap();
    assert_eq!(stored.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_again_is_refused_and_nothing_of_it_stays() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    let message = "<message id='1' to='bob@ours.example'><body>x</body></message>";
    alice.send_stanza(with_unreadable(message)).await;
    assert_eq!(
        alice.got(),
        ["message:error#1 bob@ours.example > alice@ours.example/a [error:modify [not-acceptable]]"]
    );
    let vcard = "<iq type='set' id='2'><vCard xmlns='vcard-temp'/></iq>";
    alice.send_stanza(with_unreadable(vcard)).await;
    assert_eq!(alice.got(), ["iq:error#2 alice@ours.example/a [error:modify [not-acceptable]]"]);

    // A request comes without it.
    let request = "<presence type='subscribe' from='x@them.example' to='bob@ours.example'/>";
    world.router.take_from_edge(with_unreadable(request), Default::default()).await;
    let mut bob = world.bind("bob", "b").await;
    bob.send("<presence/>").await;
    let got = bob.got();
    assert_eq!(
        got,
        [
            "presence bob@ours.example/b > bob@ours.example/b",
            "presence:subscribe x@them.example > bob@ours.example",
        ]
    );
}

#[tokio::test]
async fn an_unreadable_row_is_removed_and_holds_nothing_up() {
    let mut world = World::new().await;
    let alice = world.online("alice", "a").await;
    let bob = address("bob@ours.example");
    let store = world.router.store.clone();
    alice.send(&TO_BOB.replace("ID", "1")).await;
    store.push_offline(&bob, 0, "<xmlns:x/>", OfflineLimits::default()).await.unwrap();
    let mut client = world.bind("bob", "b").await;
    client.send("<presence/>").await;
    let item = client.next().unwrap();
    world.router.offline_written(&client.session, item.offline.unwrap()).await;
    assert!(store.offline(&bob).await.unwrap().is_empty());
    // Nothing is claimed any more: what comes next is delivered at once.
    client.got();
    alice.send(&TO_BOB.replace("ID", "2")).await;
    assert_eq!(client.got().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_removed_does_not_come_again_to_the_same_session() {
    let mut world = World::new().await;
    let alice = world.online("alice", "a").await;
    alice.send(&TO_BOB.replace("ID", "1")).await;
    let mut bob = world.bind("bob", "b").await;
    bob.send("<presence/>").await;
    let id = bob.next().unwrap().offline.unwrap();
    world.router.store.close().await;
    world.router.offline_written(&bob.session, id).await;
    // Nobody else is sent them either, as long as this one is there.
    assert!(bob.session.account.inbox.lock().await.claim.is_some());
}

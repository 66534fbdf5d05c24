use gatehouse_xmpp::{StanzaCondition, StreamCondition};

use super::{World, address};
use crate::outbox::Owed;

#[tokio::test]
async fn the_newer_session_wins_and_inherits_what_waits() {
    let mut world = World::new().await;
    world.befriend("bob@ours.example", "romeo@them.example").await;
    let alice = world.online("alice", "a").await;
    let mut older = world.online("bob", "b").await;
    alice.send("<message to='bob@ours.example'><body>unread</body></message>").await;

    let (mut newer, ()) = tokio::join!(world.bind("bob", "b"), async {
        let error = older.outbox.kicked.recv().await.unwrap();
        assert_eq!(error.condition, StreamCondition::Conflict);
        // It does not overtake what the older one left.
        tokio::join!(
            alice.send("<message to='bob@ours.example'><body>later</body></message>"),
            async {
                older.send("<presence><show>ghost</show></presence>").await;
                older.leave().await;
            }
        );
    });
    assert_eq!(
        world.sent(),
        ["presence:unavailable bob@ours.example/b > romeo@them.example"],
        "told once, and nothing of the older one afterwards"
    );
    newer.send("<presence/>").await;
    let got = newer.got().into_iter().filter(|text| text.starts_with("message"));
    let bodies: Vec<String> = got.map(|text| text.split('"').nth(1).unwrap().to_owned()).collect();
    assert_eq!(bodies, ["unread", "later"]);
}

#[tokio::test]
async fn another_resource_is_no_conflict_until_there_are_too_many() {
    let world = World::new().await;
    let mut clients = Vec::new();
    for resource in ["1", "2", "3"] {
        clients.push(world.bind("bob", resource).await);
    }
    let refusal = world.try_bind("bob", "4").await.err().unwrap();
    assert_eq!(refusal.condition, StanzaCondition::ResourceConstraint);
    // Taking over an address needs no further place.
    clients.push(world.bind("bob", "1").await);
    clients.remove(1).leave().await;
    assert!(world.try_bind("bob", "4").await.is_ok());
    let refusal = world.try_bind("nobody", "1").await.err().unwrap();
    assert_eq!(refusal.condition, StanzaCondition::NotAllowed);
}

#[tokio::test]
async fn what_a_broken_session_left_goes_to_the_others_or_waits() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    let broken = world.online("bob", "broken").await;
    alice.send("<message to='bob@ours.example/broken'><body>1</body></message>").await;
    alice.send("<iq type='get' id='q' to='bob@ours.example/broken'><q xmlns='x'/></iq>").await;
    alice.send("<message type='groupchat' id='g' to='bob@ours.example/broken'/>").await;
    let mut other = world.online("bob", "other").await;
    broken.leave().await;
    let got = other.got();
    assert_eq!(got[..1], ["message alice@ours.example/a > bob@ours.example [body \"1\"]"]);
    assert!(got[1].starts_with("presence:unavailable bob@ours.example/broken"), "{got:?}");
    assert_eq!(
        alice.got(),
        [
            "iq:error#q bob@ours.example/broken > alice@ours.example/a [error:cancel [service-unavailable]]",
            "message:error#g bob@ours.example > alice@ours.example/a [error:cancel [service-unavailable]]",
        ]
    );

    alice.send("<message to='bob@ours.example'><body>2</body></message>").await;
    other.leave().await;
    let stored = world.router.store.offline(&address("bob@ours.example")).await.unwrap();
    assert_eq!(stored.len(), 1);
}

#[tokio::test]
async fn a_copy_that_another_resource_read_is_not_sent_again() {
    let mut world = World::new().await;
    let alice = world.online("alice", "a").await;
    let broken = world.online("bob", "broken").await;
    let mut reading = world.online("bob", "reading").await;
    alice.send("<message to='bob@ours.example'><body>1</body></message>").await;
    assert_eq!(reading.got().len(), 1);
    broken.leave().await;
    assert!(!reading.got().iter().any(|text| text.starts_with("message")));

    // Neither read it: it waits, once.
    let second = world.online("bob", "second").await;
    alice.send("<message to='bob@ours.example'><body>2</body></message>").await;
    reading.leave().await;
    second.leave().await;
    let stored = world.router.store.offline(&address("bob@ours.example")).await.unwrap();
    assert_eq!(stored.len(), 1);
}

#[tokio::test]
async fn a_copy_that_was_lost_while_another_was_waited_for_is_stored() {
    let mut world = World::new().await;
    let alice = world.online("alice", "a").await;
    let first = world.online("bob", "first").await;
    let second = world.online("bob", "second").await;
    // The second does not read: its outbox is full.
    let bob = address("bob@ours.example");
    while second.session.outbox.room() > 0 {
        let filler = super::stanza("<presence/>");
        world.router.send(&second.session, filler).await;
    }
    let send = alice.send("<message to='bob@ours.example'><body>1</body></message>");
    let first_leaves = async {
        // By then the first has its copy, and the second is waited for.
        while first.session.outbox.room() == 256 {
            tokio::task::yield_now().await;
        }
        tokio::join!(first.leave(), second.leave());
    };
    tokio::join!(send, first_leaves);
    assert_eq!(world.router.store.offline(&bob).await.unwrap().len(), 1);
}

#[tokio::test]
async fn sessions_end_with_their_account_or_their_keys() {
    let world = World::new().await;
    let store = world.router.store.clone();
    let mut clients = Vec::new();
    for name in ["alice", "bob", "carol"] {
        clients.push(world.bind(name, "r").await);
    }
    world.router.end_stale().await.unwrap();
    assert!(clients.iter().all(|client| !client.session.outbox.is_gone()));

    store.set_keys(&address("alice@ours.example"), &[]).await.unwrap();
    let bob = address("bob@ours.example");
    store.remove_account(&bob).await.unwrap();
    store.add_account(&bob, &[]).await.unwrap();
    world.router.end_stale().await.unwrap();
    let mut carol = clients.pop().unwrap();
    assert!(!carol.session.outbox.is_gone());
    for mut client in clients {
        let error = client.outbox.kicked.try_recv().unwrap();
        assert_eq!(error.condition, StreamCondition::NotAuthorized);
    }
    store.remove_account(&address("carol@ours.example")).await.unwrap();
    world.router.end_stale().await.unwrap();
    assert!(carol.outbox.kicked.try_recv().is_ok());
}

#[tokio::test]
async fn who_logged_in_with_other_keys_is_not_bound() {
    let world = World::new().await;
    let bob = address("bob@ours.example");
    let store = &world.router.store;
    let before = store.account_versions(&[&bob]).await.unwrap()[0].1;
    store.set_keys(&bob, &[]).await.unwrap();
    let (sender, _receiver) = crate::outbox::outbox(1);
    let refusal = world.router.bind(&bob, before, "r", sender).await.err().unwrap();
    assert_eq!(refusal.condition, StanzaCondition::NotAllowed);
    store.close().await;
    let (sender, _receiver) = crate::outbox::outbox(1);
    let refusal = world.router.bind(&bob, before, "r", sender).await.err().unwrap();
    assert_eq!(refusal.condition, StanzaCondition::InternalServerError);
    assert_eq!(refusal.kind, gatehouse_xmpp::ErrorKind::Wait);
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_hold_up_the_trunk() {
    let mut world = World::new().await;
    let mut bob = world.online("bob", "b").await;
    let presence = "<presence from='romeo@them.example/r' to='bob@ours.example'/>";
    let flood = async {
        while !bob.session.outbox.is_gone() {
            assert!(bob.session.account.sessions().len() == 1);
            world.receive(presence).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(4), flood).await.unwrap();
    let error = bob.outbox.kicked.try_recv().unwrap();
    assert_eq!(error.condition, StreamCondition::ResourceConstraint);
    let message =
        "<message from='romeo@them.example/r' to='bob@ours.example'><body>x</body></message>";
    tokio::join!(world.receive(message), bob.leave());
    let stored = world.router.store.offline(&address("bob@ours.example")).await.unwrap();
    assert_eq!(stored.len(), 1);
}

#[tokio::test]
async fn the_trunk_hears_that_a_stanza_is_safe_once_it_is_written_or_stored() {
    let mut world = World::new().await;
    let message =
        "<message from='romeo@them.example/r' to='bob@ours.example'><body>x</body></message>";
    let owed = || Owed::new(gatehouse_trunk::Receipt::default());
    let mut reading = world.online("bob", "reading").await;
    let written = owed();
    world.router.take_from_edge(super::stanza(message), written.clone()).await;
    assert!(written.is_held_elsewhere(), "it is only in memory");
    assert_eq!(reading.got().len(), 1);
    assert!(!written.is_held_elsewhere());

    let stored = owed();
    world.router.take_from_edge(super::stanza(message), stored.clone()).await;
    assert!(stored.is_held_elsewhere());
    reading.leave().await;
    assert!(!stored.is_held_elsewhere());
    let kept = world.router.store.offline(&address("bob@ours.example")).await.unwrap();
    assert_eq!(kept.len(), 1);
}

#[tokio::test]
async fn who_leaves_nothing_behind_holds_nothing_up() {
    let mut world = World::new().await;
    let alice = world.online("alice", "a").await;
    let bob = world.online("bob", "b").await;
    // It is over, but its task has something else to do.
    bob.session.outbox.close();
    assert!(!bob.session.account.is_settling());
    alice.send("<message to='bob@ours.example'><body>x</body></message>").await;
    let stored = world.router.store.offline(&address("bob@ours.example")).await.unwrap();
    assert_eq!(stored.len(), 1);

    let carol = world.online("carol", "c").await;
    alice.send("<message to='carol@ours.example'><body>x</body></message>").await;
    carol.session.outbox.close();
    assert!(carol.session.account.is_settling());
    let account = carol.session.account.clone();
    carol.leave().await;
    assert!(!account.is_settling());
}

#[tokio::test]
async fn contacts_of_a_removed_user_see_it_leave() {
    let mut world = World::new().await;
    world.befriend("bob@ours.example", "romeo@them.example").await;
    world.befriend("bob@ours.example", "foe@them.example").await;
    let mut bob = world.online("bob", "b").await;
    bob.ask(
        "<iq type='set' id='1'><block xmlns='urn:xmpp:blocking'>\
         <item jid='foe@them.example'/></block></iq>",
    )
    .await;
    world.sent();
    world.router.store.remove_account(&address("bob@ours.example")).await.unwrap();
    world.router.end_stale().await.unwrap();
    assert!(bob.outbox.kicked.recv().await.is_some());
    bob.leave().await;
    assert_eq!(
        world.sent(),
        ["presence:unavailable bob@ours.example/b > romeo@them.example"],
        "who is blocked has been told before"
    );
}

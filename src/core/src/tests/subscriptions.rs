use super::{World, address};

const ROSTER: &str = "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>";

#[tokio::test]
async fn two_local_users_come_to_see_each_other() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    let mut bob = world.online("bob", "b").await;
    alice.ask(ROSTER).await;
    bob.ask(ROSTER).await;

    alice.send("<presence type='subscribe' to='bob@ours.example/x' id='1'><status>hi</status></presence>").await;
    assert_eq!(
        alice.got(),
        [
            "iq:set alice@ours.example/a [query ver=1 [item ask=subscribe jid=bob@ours.example subscription=none]]"
        ]
    );
    assert_eq!(
        bob.got(),
        ["presence:subscribe#1 alice@ours.example > bob@ours.example [status \"hi\"]"]
    );

    bob.send("<presence type='subscribed' to='alice@ours.example'/>").await;
    assert_eq!(
        bob.got(),
        ["iq:set bob@ours.example/b [query ver=1 [item jid=alice@ours.example subscription=from]]"]
    );
    assert_eq!(
        alice.got(),
        [
            "presence:subscribed bob@ours.example > alice@ours.example",
            "iq:set alice@ours.example/a [query ver=2 [item jid=bob@ours.example subscription=to]]",
            "presence bob@ours.example/b > alice@ours.example",
        ]
    );

    bob.send("<presence type='subscribe' to='alice@ours.example'/>").await;
    alice.send("<presence type='subscribed' to='bob@ours.example'/>").await;
    alice.got();
    let got = bob.got();
    assert!(got.last().unwrap().starts_with("presence alice@ours.example/a > bob"), "{got:?}");
    assert!(alice.ask(ROSTER).await.contains("subscription=both"));

    alice.got();
    bob.send("<presence type='unsubscribed' to='alice@ours.example'/>").await;
    assert_eq!(
        alice.got(),
        [
            "presence:unavailable bob@ours.example/b > alice@ours.example",
            "presence:unsubscribed bob@ours.example > alice@ours.example",
            "iq:set alice@ours.example/a [query ver=5 [item jid=bob@ours.example subscription=from]]",
        ]
    );
}

#[tokio::test]
async fn a_remote_request_waits_for_its_user_and_is_answered_over_the_trunk() {
    let mut world = World::new().await;
    world
        .receive("<presence type='subscribe' id='9' from='romeo@them.example/r' to='alice@ours.example'/>")
        .await;
    assert!(world.sent().is_empty());
    for resource in ["first", "second"] {
        let mut alice = world.bind("alice", resource).await;
        alice.send("<presence/>").await;
        assert!(
            alice.got().contains(
                &"presence:subscribe#9 romeo@them.example > alice@ours.example".to_owned()
            ),
            "asked at each log-in until answered"
        );
        alice.leave().await;
    }
    let alice = world.online("alice", "a").await;
    alice.send("<presence type='subscribed' to='romeo@them.example'/>").await;
    assert_eq!(
        world.sent(),
        [
            "presence:subscribed alice@ours.example > romeo@them.example",
            "presence alice@ours.example/a > romeo@them.example",
        ]
    );
    let mut later = world.bind("alice", "later").await;
    later.send("<presence/>").await;
    assert!(!later.got().iter().any(|text| text.contains("subscribe")));
}

#[tokio::test]
async fn a_denied_request_is_forgotten() {
    let mut world = World::new().await;
    let alice = world.online("alice", "a").await;
    world
        .receive("<presence type='subscribe' from='romeo@them.example' to='alice@ours.example'/>")
        .await;
    alice.send("<presence type='unsubscribed' to='romeo@them.example'/>").await;
    assert_eq!(world.sent(), ["presence:unsubscribed alice@ours.example > romeo@them.example"]);
    alice.send("<presence><show>away</show></presence>").await;
    assert!(world.sent().is_empty());
}

#[tokio::test]
async fn asking_a_remote_user_and_being_let_in() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    alice.ask(ROSTER).await;
    alice.send("<presence type='subscribe' to='romeo@them.example'/>").await;
    assert_eq!(world.sent(), ["presence:subscribe alice@ours.example > romeo@them.example"]);
    alice.got();
    // Nobody asked juliet: her answer is not believed.
    for name in ["juliet", "romeo"] {
        world
            .receive(&format!(
                "<presence type='subscribed' from='{name}@them.example/r' to='alice@ours.example'/>"
            ))
            .await;
    }
    assert_eq!(
        alice.got(),
        [
            "presence:subscribed romeo@them.example > alice@ours.example",
            "iq:set alice@ours.example/a [query ver=2 [item jid=romeo@them.example subscription=to]]",
        ]
    );
}

#[tokio::test]
async fn strangers_cannot_fill_the_store_with_requests() {
    let mut world = World::new().await;
    for index in 0..8 {
        world
            .receive(&format!(
                "<presence type='subscribe' from='x{index}@them.example' to='alice@ours.example'/>"
            ))
            .await;
    }
    let mut alice = world.bind("alice", "a").await;
    alice.send("<presence/>").await;
    let requests = alice.got().iter().filter(|text| text.contains("subscribe")).count();
    assert_eq!(requests, super::config().contacts_max);
    // Those who came too late were told, and may ask again.
    let denied = world.sent();
    assert_eq!(denied.len(), 8 - requests);
    assert_eq!(denied[0], "presence:unsubscribed alice@ours.example > x5@them.example");
}

#[tokio::test]
async fn watchers_are_bounded_and_everybody_is_told() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    let max = super::config().watchers_max;
    // Approved before they ask; there is room for one more contact than for watchers.
    for index in 0..=max {
        alice.send(&format!("<presence type='subscribed' to='x{index}@them.example'/>")).await;
    }
    world.sent();
    for index in 0..=max {
        let asks = format!(
            "<presence type='subscribe' from='x{index}@them.example' to='alice@ours.example'/>"
        );
        world.receive(&asks).await;
    }
    let sent = world.sent();
    let answers: Vec<_> = sent.iter().filter(|text| text.contains("subscribed")).collect();
    assert_eq!(answers.len(), max + 1);
    assert!(answers[..max].iter().all(|text| text.starts_with("presence:subscribed")));
    assert_eq!(
        *answers[max],
        format!("presence:unsubscribed alice@ours.example > x{max}@them.example")
    );

    // The same by hand: the user learns why it does not work.
    let store = &world.router.store;
    let (account, late) = (address("alice@ours.example"), address("x4@them.example"));
    let mut contact = store.contact(&account, &late).await.unwrap().unwrap();
    contact.approved = false;
    store.put_contact(&account, &contact).await.unwrap();
    world
        .receive("<presence type='subscribe' from='x4@them.example' to='alice@ours.example'/>")
        .await;
    alice.got();
    let answer = alice.ask("<presence type='subscribed' to='x4@them.example'/>").await;
    assert!(answer.contains("resource-constraint"), "{answer}");
    assert!(world.sent().is_empty(), "the contact is told nothing that is not so");
}

#[tokio::test]
async fn none_are_allowed_where_the_settings_say_so() {
    let config = crate::CoreConfig { contacts_max: 0, watchers_max: 0, ..super::config() };
    let mut world = World::with(config).await;
    let mut alice = world.online("alice", "a").await;
    let answer = alice.ask("<presence type='subscribe' to='romeo@them.example'/>").await;
    assert!(answer.contains("not-allowed"), "{answer}");
    let set = "<iq type='set' id='s'><query xmlns='jabber:iq:roster'>\
               <item jid='romeo@them.example'/></query></iq>";
    let answer = alice.ask(set).await;
    assert!(answer.contains("not-allowed"), "{answer}");
    world
        .receive("<presence type='subscribe' from='romeo@them.example' to='alice@ours.example'/>")
        .await;
    assert_eq!(world.sent(), ["presence:unsubscribed alice@ours.example > romeo@them.example"]);
    assert!(alice.got().is_empty(), "the user is not bothered with what it cannot grant");
}

use super::World;

#[tokio::test]
async fn initial_presence_goes_to_watchers_own_resources_and_probes_the_watched() {
    let mut world = World::new().await;
    world.befriend("alice@ours.example", "bob@ours.example").await;
    world.befriend("alice@ours.example", "romeo@them.example").await;
    let mut bob = world.online("bob", "b").await;
    let mut other = world.online("alice", "other").await;
    bob.got();
    let mut alice = world.bind("alice", "a").await;
    alice.send("<presence><show>away</show></presence>").await;

    assert_eq!(
        world.sent(),
        [
            "presence alice@ours.example/a > romeo@them.example [show \"away\"]",
            "presence:probe alice@ours.example > romeo@them.example",
        ]
    );
    assert_eq!(bob.got(), ["presence alice@ours.example/a > bob@ours.example [show \"away\"]"]);
    assert_eq!(
        other.got(),
        [
            "presence alice@ours.example/a > alice@ours.example/other [show \"away\"]",
            "presence bob@ours.example/b > alice@ours.example",
        ]
    );
    assert_eq!(
        alice.got(),
        [
            "presence alice@ours.example/a > alice@ours.example/a [show \"away\"]",
            "presence alice@ours.example/other > alice@ours.example/a",
            "presence bob@ours.example/b > alice@ours.example",
        ]
    );
    // An update is no reason to probe.
    alice.send("<presence/>").await;
    assert_eq!(world.sent(), ["presence alice@ours.example/a > romeo@them.example"]);
}

#[tokio::test]
async fn leaving_is_told_however_it_happens() {
    let mut world = World::new().await;
    world.befriend("alice@ours.example", "romeo@them.example").await;
    let told = ["presence:unavailable alice@ours.example/a > romeo@them.example"];

    let alice = world.online("alice", "a").await;
    alice.send("<presence type='unavailable'><status>bye</status></presence>").await;
    assert_eq!(world.sent(), [format!("{} [status \"bye\"]", told[0])]);
    alice.leave().await;
    assert!(world.sent().is_empty(), "it was told before");

    let alice = world.online("alice", "a").await;
    alice.leave().await;
    assert_eq!(world.sent(), told);
}

#[tokio::test]
async fn directed_presence_is_taken_back_at_the_end() {
    let mut world = World::new().await;
    let alice = world.online("alice", "a").await;
    alice.send("<presence to='x@them.example/r'/>").await;
    alice.send("<presence to='y@them.example'/>").await;
    alice.send("<presence type='unavailable' to='y@them.example'/>").await;
    assert_eq!(world.sent().len(), 3);
    // Who was shown presence may probe it; who was not is told that there is no subscription.
    world.receive("<presence type='probe' from='x@them.example/r' to='alice@ours.example'/>").await;
    world.receive("<presence type='probe' from='y@them.example' to='alice@ours.example'/>").await;
    assert_eq!(
        world.sent(),
        [
            "presence alice@ours.example/a > x@them.example/r",
            "presence:unsubscribed alice@ours.example > y@them.example",
        ]
    );
    alice.leave().await;
    assert_eq!(world.sent(), ["presence:unavailable alice@ours.example/a > x@them.example/r"]);
}

#[tokio::test]
async fn probes_are_answered_for_watchers() {
    let mut world = World::new().await;
    world.befriend("alice@ours.example", "romeo@them.example").await;
    let probe = "<presence type='probe' from='romeo@them.example' to='alice@ours.example'/>";
    world.receive(probe).await;
    assert_eq!(world.sent(), ["presence:unavailable alice@ours.example > romeo@them.example"]);
    let _one = world.online("alice", "1").await;
    let two = world.online("alice", "2").await;
    two.send("<presence><priority>-3</priority></presence>").await;
    world.sent();
    world.receive(probe).await;
    assert_eq!(
        world.sent(),
        [
            "presence alice@ours.example/1 > romeo@them.example",
            "presence alice@ours.example/2 > romeo@them.example [priority \"-3\"]",
        ]
    );
}

#[tokio::test]
async fn inbound_presence_reaches_available_resources_only() {
    let mut world = World::new().await;
    let mut available = world.online("alice", "available").await;
    let mut quiet = world.bind("alice", "quiet").await;
    for kind in ["", "type='unavailable' ", "type='error' "] {
        world
            .receive(&format!(
                "<presence {kind}from='romeo@them.example/r' to='alice@ours.example'/>"
            ))
            .await;
    }
    assert_eq!((available.got().len(), quiet.got().len()), (3, 0));
    world.receive("<presence from='x@them.example/r' to='alice@ours.example/quiet'/>").await;
    assert_eq!((available.got().len(), quiet.got().len()), (0, 1));
    world
        .receive("<presence type='nonsense' from='x@them.example' to='alice@ours.example'/>")
        .await;
    assert_eq!((available.got().len(), quiet.got().len()), (0, 0));
}

#[tokio::test]
async fn a_bad_priority_is_refused_and_changes_nothing() {
    let mut world = World::new().await;
    let mut alice = world.bind("alice", "a").await;
    let answer = alice.ask("<presence id='1'><priority>200</priority></presence>").await;
    assert_eq!(answer, "presence:error#1 alice@ours.example/a [error:modify [bad-request]]");
    world
        .receive("<message from='x@them.example' to='alice@ours.example'><body>x</body></message>")
        .await;
    assert!(alice.got().is_empty() && world.sent().is_empty());
}

#[tokio::test]
async fn who_was_shown_presence_once_learns_only_that_the_resource_is_there() {
    let mut world = World::new().await;
    let alice = world.online("alice", "a").await;
    alice.send("<presence to='x@them.example/r'/>").await;
    alice.send("<presence><show>away</show><status>private</status></presence>").await;
    world
        .receive("<presence type='subscribe' from='y@them.example' to='alice@ours.example'/>")
        .await;
    world.sent();
    let probe = "<presence type='probe' from='WHO' to='alice@ours.example'/>";
    let answer = ["presence alice@ours.example/a > x@them.example/r"];
    world.receive(&probe.replace("WHO", "x@them.example/r")).await;
    assert_eq!(world.sent(), answer);
    // Asking for more does not take that away, and who only asks gets no answer.
    world
        .receive("<presence type='subscribe' from='x@them.example' to='alice@ours.example'/>")
        .await;
    world.receive(&probe.replace("WHO", "x@them.example/r")).await;
    world.receive(&probe.replace("WHO", "y@them.example")).await;
    assert_eq!(world.sent(), answer);
}

#[tokio::test]
async fn an_edge_without_room_holds_up_nobodys_presence() {
    let mut world = World::new().await;
    world.befriend("alice@ours.example", "romeo@them.example").await;
    let alice = world.online("alice", "a").await;
    // The trunk is full, and nobody reads it.
    let message = "<message to='romeo@them.example'><body>x</body></message>";
    let filler = async {
        while world.edge.incoming.len() < world.edge.incoming.max_capacity() {
            alice.send(message).await;
        }
    };
    filler.await;
    let before = world.edge.incoming.len();
    // Far below the patience of the trunk.
    let soon = std::time::Duration::from_secs(10);
    let away = alice.send("<presence><show>away</show></presence>");
    tokio::time::timeout(soon, away).await.unwrap();
    assert_eq!(world.edge.incoming.len(), before, "there was no room");
    // A request waits for room, but holds up no other resource.
    let other = world.bind("alice", "other").await;
    let ask = alice.send("<presence type='subscribe' to='juliet@them.example'/>");
    let others = async {
        tokio::time::timeout(soon, other.send("<presence/>")).await.unwrap();
        world.edge.incoming.recv().await.unwrap();
    };
    tokio::join!(ask, others);
    let sent = world.sent();
    assert_eq!(sent.last().unwrap(), "presence:subscribe alice@ours.example > juliet@them.example");
    assert!(!sent.iter().any(|text| text.contains("away")));
}

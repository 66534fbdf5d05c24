use super::World;

fn set(name: &str, jids: &[&str]) -> String {
    let items: String = jids.iter().map(|jid| format!("<item jid='{jid}'/>")).collect();
    format!("<iq type='set' id='b'><{name} xmlns='urn:xmpp:blocking'>{items}</{name}></iq>")
}

const LIST: &str = "<iq type='get' id='l'><blocklist xmlns='urn:xmpp:blocking'/></iq>";

#[tokio::test]
async fn a_blocked_contact_sees_nobody_and_reaches_nobody() {
    let mut world = World::new().await;
    world.befriend("alice@ours.example", "romeo@them.example").await;
    let mut alice = world.online("alice", "a").await;
    let mut other = world.online("alice", "other").await;
    other.ask(LIST).await;
    alice.got();

    assert_eq!(
        alice.ask(&set("block", &["romeo@them.example"])).await,
        "iq:result#b alice@ours.example/a"
    );
    assert_eq!(
        other.got(),
        ["iq:set alice@ours.example/other [block [item jid=romeo@them.example]]"]
    );
    assert_eq!(
        world.sent(),
        [
            "presence:unavailable alice@ours.example/a > romeo@them.example",
            "presence:unavailable alice@ours.example/other > romeo@them.example",
        ]
    );

    for (stanza, answered) in [
        (
            "<message from='romeo@them.example/r' to='alice@ours.example'><body>x</body></message>",
            true,
        ),
        ("<message type='headline' from='romeo@them.example/r' to='alice@ours.example'/>", false),
        ("<message type='error' from='romeo@them.example/r' to='alice@ours.example'/>", false),
        (
            "<iq type='get' id='1' from='romeo@them.example/r' to='alice@ours.example/a'><q xmlns='x'/></iq>",
            true,
        ),
        ("<iq type='result' id='1' from='romeo@them.example/r' to='alice@ours.example/a'/>", false),
        ("<presence from='romeo@them.example/r' to='alice@ours.example'/>", false),
        ("<presence type='probe' from='romeo@them.example' to='alice@ours.example'/>", false),
        ("<presence type='subscribe' from='romeo@them.example' to='alice@ours.example'/>", false),
    ] {
        world.receive(stanza).await;
        let sent = world.sent();
        assert_eq!(sent.len(), usize::from(answered), "{stanza}: {sent:?}");
        assert!(sent.iter().all(|text| text.contains("service-unavailable")), "{stanza}: {sent:?}");
    }
    assert!(alice.got().is_empty() && other.got().is_empty());

    // Her presence does not go there; another contact is untouched.
    alice.send("<presence><show>away</show></presence>").await;
    alice.got();
    assert!(world.sent().is_empty());
    world
        .receive(
            "<message from='juliet@them.example' to='alice@ours.example'><body>x</body></message>",
        )
        .await;
    assert_eq!(alice.got().len(), 1);
}

#[tokio::test]
async fn writing_to_a_blocked_contact_is_refused_with_the_reason() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    alice.ask(&set("block", &["them.example"])).await;
    assert_eq!(
        alice.ask("<message id='1' to='romeo@them.example/r'><body>x</body></message>").await,
        "message:error#1 romeo@them.example/r > alice@ours.example/a [error:cancel [not-acceptable, blocked]]"
    );
    alice.send("<presence to='romeo@them.example'/>").await;
    assert!(world.sent().is_empty());
}

#[tokio::test]
async fn unblocking_brings_presence_back() {
    let mut world = World::new().await;
    world.befriend("alice@ours.example", "romeo@them.example").await;
    let mut alice = world.online("alice", "a").await;
    alice.ask(&set("block", &["romeo@them.example", "x@them.example"])).await;
    assert_eq!(
        alice.ask(LIST).await,
        "iq:result#l alice@ours.example/a [blocklist [item jid=romeo@them.example, item jid=x@them.example]]"
    );
    world.sent();
    // An empty list means everybody.
    alice.send(&set("unblock", &[])).await;
    assert_eq!(
        alice.got(),
        ["iq:result#b alice@ours.example/a", "iq:set alice@ours.example/a [unblock]"]
    );
    assert_eq!(world.sent(), ["presence alice@ours.example/a > romeo@them.example"]);
    assert_eq!(alice.ask(LIST).await, "iq:result#l alice@ours.example/a [blocklist]");
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    assert!(alice.ask(&set("block", &[])).await.contains("bad-request"));
    assert!(alice.ask(&set("block", &["@"])).await.contains("jid-malformed"));
    assert!(alice.ask(&set("blocklist", &[])).await.contains("service-unavailable"));
}

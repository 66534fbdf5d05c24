use super::World;

fn get(version: &str) -> String {
    format!("<iq type='get' id='g'><query xmlns='jabber:iq:roster'{version}/></iq>")
}

fn set(item: &str) -> String {
    format!("<iq type='set' id='s'><query xmlns='jabber:iq:roster'>{item}</query></iq>")
}

#[tokio::test]
async fn a_change_is_pushed_to_interested_resources_and_confirmed() {
    let world = World::new().await;
    let mut one = world.bind("alice", "one").await;
    let mut two = world.bind("alice", "two").await;
    let mut deaf = world.bind("alice", "deaf").await;
    for client in [&mut one, &mut two] {
        assert_eq!(client.ask(&get("")).await.split_once(" [").unwrap().1, "query ver=0]");
    }
    one.send(&set("<item jid='bob@ours.example' name='Bob'><group>Work</group></item>")).await;
    let item = "[item jid=bob@ours.example name=Bob subscription=none [group \"Work\"]]";
    assert_eq!(
        one.got(),
        [
            format!("iq:set alice@ours.example/one [query ver=1 {item}]"),
            "iq:result#s alice@ours.example/one".into()
        ]
    );
    assert_eq!(two.got(), [format!("iq:set alice@ours.example/two [query ver=1 {item}]")]);
    assert!(deaf.got().is_empty());
    assert!(deaf.ask(&get("")).await.contains(&format!("query ver=1 {item}")));
}

#[tokio::test]
async fn versions_spare_what_is_known() {
    let world = World::new().await;
    let mut alice = world.bind("alice", "a").await;
    for jid in ["x@them.example", "y@them.example"] {
        alice.send(&set(&format!("<item jid='{jid}'/>"))).await;
    }
    alice.send(&set("<item jid='x@them.example' subscription='remove'/>")).await;
    alice.got();
    let account = super::address("alice@ours.example");
    let now = world.router.store.contacts(&account).await.unwrap().version;
    // Up to date: nothing.
    assert_eq!(alice.ask(&get(&format!(" ver='{now}'"))).await, "iq:result#g alice@ours.example/a");
    // One step behind: that step alone.
    alice.send(&get(&format!(" ver='{}'", now - 1))).await;
    assert_eq!(
        alice.got(),
        [
            "iq:result#g alice@ours.example/a",
            "iq:set alice@ours.example/a [query ver=3 [item jid=x@them.example subscription=remove]]",
        ]
    );
    // A version that never was, or none yet: everything.
    for version in [" ver='77'", " ver='old'", ""] {
        let answer = alice.ask(&get(version)).await;
        assert!(answer.contains("query ver=3 [item jid=y@them.example"), "{answer}");
    }
}

#[tokio::test]
async fn removal_ends_the_subscriptions() {
    let mut world = World::new().await;
    world.befriend("alice@ours.example", "romeo@them.example").await;
    let alice = world.online("alice", "a").await;
    alice.send(&set("<item jid='romeo@them.example' subscription='remove'/>")).await;
    assert_eq!(
        world.sent(),
        [
            "presence:unavailable alice@ours.example/a > romeo@them.example",
            "presence:unsubscribe alice@ours.example > romeo@them.example",
            "presence:unsubscribed alice@ours.example > romeo@them.example",
        ]
    );
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    for (request, condition) in [
        (set(""), "bad-request"),
        (set("<item jid='a@b.example'/><item jid='c@b.example'/>"), "bad-request"),
        (set("<item jid='@@'/>"), "jid-malformed"),
        (set("<item jid='gone@b.example' subscription='remove'/>"), "item-not-found"),
        (set("<item jid='alice@ours.example'/>"), "not-allowed"),
        (set("<item jid='a@b.example'><group/></item>"), "not-acceptable"),
        (
            "<iq type='get' id='g'><query xmlns='jabber:iq:roster'><item jid='a@b.example'/></query></iq>".into(),
            "bad-request",
        ),
        (
            "<iq type='get' id='g' to='bob@ours.example'><query xmlns='jabber:iq:roster'/></iq>".into(),
            "service-unavailable",
        ),
        (
            "<iq type='get' id='g' to='ours.example'><query xmlns='jabber:iq:roster'/></iq>".into(),
            "service-unavailable",
        ),
    ] {
        let answer = alice.ask(&request).await;
        assert!(answer.starts_with("iq:error") && answer.contains(condition), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_full_roster_takes_changes_but_no_newcomers() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    for index in 0..super::config().contacts_max {
        let answer = alice.ask(&set(&format!("<item jid='x{index}@them.example'/>"))).await;
        assert_eq!(answer, "iq:result#s alice@ours.example/a");
    }
    let answer = alice.ask(&set("<item jid='new@them.example'/>")).await;
    assert!(answer.contains("resource-constraint"), "{answer}");
    let answer = alice.ask("<presence type='subscribe' to='new@them.example'/>").await;
    assert!(answer.contains("resource-constraint"), "{answer}");
    let answer = alice.ask(&set("<item jid='x0@them.example' name='X'/>")).await;
    assert_eq!(answer, "iq:result#s alice@ours.example/a");
}

use super::World;

fn get(to: &str, payload: &str) -> String {
    format!("<iq type='get' id='q'{to}>{payload}</iq>")
}

const INFO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
const PING: &str = "<ping xmlns='urn:xmpp:ping'/>";

#[tokio::test]
async fn the_domain_answers_for_itself() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    let to = " to='ours.example'";
    let info = alice.ask(&get(to, INFO)).await;
    assert!(info.contains("identity:im category=server name=Gatehouse"), "{info}");
    for feature in
        ["urn:xmpp:ping", "jabber:iq:version", "urn:xmpp:blocking", "vcard-temp", "msgoffline"]
    {
        assert!(info.contains(&format!("var={feature}")), "{feature}");
    }
    assert_eq!(alice.ask(&get(to, PING)).await, "iq:result#q ours.example > alice@ours.example/a");
    let version = alice.ask(&get(to, "<query xmlns='jabber:iq:version'/>")).await;
    assert!(version.contains("[name \"Gatehouse\", version \""), "{version}");
    assert!(!version.contains("os"), "{version}");
    for (payload, condition) in [
        ("<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>", "item-not-found"),
        ("<query xmlns='unknown'/>", "service-unavailable"),
        ("", "bad-request"),
        ("<a xmlns='x'/><b xmlns='x'/>", "bad-request"),
    ] {
        let answer = alice.ask(&get(to, payload)).await;
        assert!(answer.contains(condition), "{payload}: {answer}");
    }
    assert!(
        alice
            .ask(&format!("<iq type='get' to='ours.example'>{PING}</iq>"))
            .await
            .contains("bad-request")
    );
    assert!(
        alice
            .ask(&format!("<iq type='odd' id='1' to='ours.example'>{PING}</iq>"))
            .await
            .contains("bad-request")
    );
}

#[tokio::test]
async fn other_domains_may_ask_too() {
    let mut world = World::new().await;
    world
        .receive(&format!(
            "<iq type='get' id='1' from='them.example' to='ours.example'>{PING}</iq>"
        ))
        .await;
    assert_eq!(world.sent(), ["iq:result#1 ours.example > them.example"]);
    world.receive("<iq type='result' id='2' from='them.example' to='ours.example'/>").await;
    assert!(world.sent().is_empty());
}

#[tokio::test]
async fn an_account_answers_those_who_see_it() {
    let mut world = World::new().await;
    world.befriend("alice@ours.example", "bob@ours.example").await;
    let mut bob = world.online("bob", "b").await;
    let mut carol = world.online("carol", "c").await;
    let to = " to='alice@ours.example'";
    assert!(bob.ask(&get(to, INFO)).await.contains("identity:registered category=account"));
    assert!(carol.ask(&get(to, INFO)).await.contains("service-unavailable"));
    assert!(bob.ask(&get(to, PING)).await.starts_with("iq:result"));
    assert!(carol.ask(&get(to, PING)).await.contains("service-unavailable"));
    // About oneself.
    assert!(carol.ask(&get("", INFO)).await.contains("category=account"));
    assert!(carol.ask(&get(" to='carol@ours.example'", PING)).await.starts_with("iq:result"));
    assert!(
        carol
            .ask(&get("", "<query xmlns='jabber:iq:private'/>"))
            .await
            .contains("service-unavailable")
    );
}

#[tokio::test]
async fn everybody_reads_a_vcard_and_its_owner_writes_it() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    let mut bob = world.online("bob", "b").await;
    let set = |to: &str, content: &str| {
        format!(
            "<iq type='set' id='v'{to}><vCard xmlns='vcard-temp'><FN>{content}</FN></vCard></iq>"
        )
    };
    let read = get(" to='alice@ours.example'", "<vCard xmlns='vcard-temp'/>");
    assert!(bob.ask(&read).await.contains("service-unavailable"));
    assert_eq!(
        alice.ask(&get("", "<vCard xmlns='vcard-temp'/>")).await,
        "iq:result#q alice@ours.example/a [vCard]"
    );
    assert!(alice.ask(&set("", "Alice")).await.starts_with("iq:result"));
    assert_eq!(
        bob.ask(&read).await,
        "iq:result#q alice@ours.example > bob@ours.example/b [vCard [FN \"Alice\"]]"
    );
    assert!(
        bob.ask(&set(" to='alice@ours.example'", "Mallory")).await.contains("service-unavailable")
    );
    assert!(alice.ask(&set("", &"x".repeat(64 * 1024))).await.contains("not-acceptable"));
    assert!(bob.ask(&read).await.contains("Alice"));
}

#[tokio::test]
async fn what_is_not_supported_is_not_said_to_be_nobody() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    let mut text_of = async |to: &str| {
        let request = format!("<iq type='get' id='1'{to}><query xmlns='jabber:iq:private'/></iq>");
        alice.send(&request).await;
        String::from(&alice.next().unwrap().stanza.to_element())
    };
    for to in ["", " to='ours.example'", " to='alice@ours.example'"] {
        let answer = text_of(to).await;
        assert!(answer.contains("not supported here"), "{answer}");
        assert!(answer.contains("service-unavailable"), "{answer}");
    }
    // Of others nothing is told.
    let [bob, nobody] = [" to='bob@ours.example'", " to='nobody@ours.example'"];
    for to in [bob, nobody] {
        let answer = text_of(to).await;
        assert!(answer.contains("no such user"), "{answer}");
    }
}

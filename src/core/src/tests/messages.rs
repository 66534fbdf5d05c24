use super::World;

#[tokio::test]
async fn bare_address_reaches_every_willing_resource() {
    let mut world = World::new().await;
    let alice = world.online("alice", "a").await;
    let mut phone = world.online("bob", "phone").await;
    let mut desk = world.online("bob", "desk").await;
    let mut shy = world.online("bob", "shy").await;
    shy.send("<presence><priority>-1</priority></presence>").await;
    for client in [&mut phone, &mut desk, &mut shy] {
        client.got();
    }
    alice.send("<message type='chat' to='bob@ours.example'><body>hi</body></message>").await;
    let expected = ["message:chat alice@ours.example/a > bob@ours.example [body \"hi\"]"];
    assert_eq!(phone.got(), expected);
    assert_eq!(desk.got(), expected);
    assert!(shy.got().is_empty());
}

#[tokio::test]
async fn full_address_reaches_that_resource_or_falls_back_to_the_user() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    let mut phone = world.online("bob", "phone").await;
    let mut desk = world.online("bob", "desk").await;
    phone.got();
    alice.send("<message to='bob@ours.example/desk'><body>1</body></message>").await;
    assert_eq!((phone.got().len(), desk.got().len()), (0, 1));
    alice.send("<message type='chat' to='bob@ours.example/gone'><body>2</body></message>").await;
    assert_eq!((phone.got().len(), desk.got().len()), (1, 1));
    // RFC 6121, section 8.5.3.2.1: only a chat goes on.
    let answer =
        alice.ask("<message id='3' to='bob@ours.example/gone'><body>3</body></message>").await;
    assert!(answer.contains("service-unavailable"), "{answer}");
    assert_eq!((phone.got().len(), desk.got().len()), (0, 0));
}

#[tokio::test]
async fn what_cannot_be_delivered_is_answered_by_its_kind() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    for (sent, answer) in [
        (
            "<message to='nobody@ours.example' id='1'><body>x</body></message>",
            "message:error#1 nobody@ours.example > alice@ours.example/a [error:cancel [service-unavailable]]",
        ),
        (
            "<message type='groupchat' to='bob@ours.example' id='2'><body>x</body></message>",
            "message:error#2 bob@ours.example > alice@ours.example/a [error:cancel [service-unavailable]]",
        ),
        ("<message type='headline' to='bob@ours.example'><body>x</body></message>", ""),
        ("<message type='error' to='bob@ours.example'><body>x</body></message>", ""),
        ("<message type='headline' to='nobody@ours.example'><body>x</body></message>", ""),
        ("<presence to='nobody@ours.example'/>", ""),
        ("<presence type='subscribe' to='nobody@ours.example'/>", "push"),
        (
            "<iq type='get' id='3' to='bob@ours.example/none'><q xmlns='x'/></iq>",
            "iq:error#3 bob@ours.example/none > alice@ours.example/a [error:cancel [service-unavailable]]",
        ),
        (
            "<iq type='get' id='4' to='nobody@ours.example'><q xmlns='x'/></iq>",
            "iq:error#4 nobody@ours.example > alice@ours.example/a [error:cancel [service-unavailable]]",
        ),
        ("<iq type='result' id='5' to='bob@ours.example/none'/>", ""),
        ("<iq type='result' id='6' to='bob@ours.example'/>", ""),
        (
            "<message to='ours.example' id='7'><body>x</body></message>",
            "message:error#7 ours.example > alice@ours.example/a [error:cancel [service-unavailable]]",
        ),
    ] {
        alice.send(sent).await;
        let got = alice.got().concat();
        // Nobody asked for the roster, so nothing is pushed.
        let answer = if answer == "push" { "" } else { answer };
        assert_eq!(got, answer, "{sent}");
    }
}

#[tokio::test]
async fn other_domains_are_behind_the_trunk() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    alice.send("<message to='romeo@them.example'><body>hi</body></message>").await;
    assert_eq!(world.sent(), ["message alice@ours.example/a > romeo@them.example [body \"hi\"]"]);
    world
        .receive("<message from='romeo@them.example/r' to='alice@ours.example'><body>yo</body></message>")
        .await;
    assert_eq!(alice.got(), ["message romeo@them.example/r > alice@ours.example [body \"yo\"]"]);
}

#[tokio::test]
async fn an_edge_that_is_gone_is_told_to_the_author() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    let (other, _) = gatehouse_trunk::in_process();
    drop(std::mem::replace(&mut world.edge, other));
    let answer =
        alice.ask("<message id='1' to='romeo@them.example'><body>hi</body></message>").await;
    assert_eq!(
        answer,
        "message:error#1 romeo@them.example > alice@ours.example/a [error:wait [remote-server-timeout]]"
    );
}

#[tokio::test]
async fn the_edge_can_neither_speak_for_us_nor_relay() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    for stanza in [
        "<message from='bob@ours.example' to='alice@ours.example'><body>x</body></message>",
        "<message from='romeo@them.example' to='juliet@other.example'><body>x</body></message>",
        "<message to='alice@ours.example'><body>x</body></message>",
        "<message from='romeo@them.example'><body>x</body></message>",
    ] {
        world.receive(stanza).await;
    }
    assert!(alice.got().is_empty() && world.sent().is_empty());
}

#[tokio::test]
async fn strangers_cannot_tell_who_has_an_account() {
    let mut world = World::new().await;
    let mut answers = Vec::new();
    for name in ["bob", "nobody"] {
        for request in [
            "<iq type='get' id='1' from='x@them.example/r' to='NAME@ours.example'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
            "<iq type='get' id='2' from='x@them.example/r' to='NAME@ours.example'><ping xmlns='urn:xmpp:ping'/></iq>",
            "<iq type='get' id='3' from='x@them.example/r' to='NAME@ours.example'><vCard xmlns='vcard-temp'/></iq>",
            "<presence type='probe' from='x@them.example' to='NAME@ours.example'/>",
            "<presence type='subscribe' from='x@them.example' to='NAME@ours.example'/>",
        ] {
            world.receive(&request.replace("NAME", name)).await;
        }
        let sent: Vec<String> =
            world.sent().iter().map(|text| text.replace(name, "NAME")).collect();
        answers.push(sent);
    }
    assert_eq!(answers[0].len(), 4, "{answers:?}");
    assert_eq!(answers[0], answers[1]);
}

use super::{Client, World};

const ENABLE: &str = "<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>";

async fn with_carbons(world: &mut World, resource: &str) -> Client {
    let mut client = world.online("bob", resource).await;
    assert!(client.ask(ENABLE).await.starts_with("iq:result#c"));
    client
}

#[tokio::test]
async fn the_other_clients_see_both_sides() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    let mut phone = with_carbons(&mut world, "phone").await;
    let mut desk = with_carbons(&mut world, "desk").await;
    let mut plain = world.online("bob", "plain").await;
    for client in [&mut phone, &mut desk, &mut plain] {
        client.got();
    }
    phone.send("<message type='chat' to='alice@ours.example/a'><body>1</body></message>").await;
    assert_eq!(
        desk.got(),
        ["message:chat bob@ours.example > bob@ours.example/desk [sent [forwarded [\
             message:chat bob@ours.example/phone > alice@ours.example/a [body \"1\"]]]]"]
    );
    assert!(phone.got().is_empty() && plain.got().is_empty());
    assert_eq!(alice.got().len(), 1);

    alice.send("<message type='chat' to='bob@ours.example/phone'><body>2</body></message>").await;
    assert_eq!(phone.got().len(), 1);
    assert_eq!(
        desk.got(),
        ["message:chat bob@ours.example > bob@ours.example/desk [received [forwarded [\
             message:chat alice@ours.example/a > bob@ours.example/phone [body \"2\"]]]]"]
    );
    assert!(plain.got().is_empty());

    // To all of them: nobody gets it twice.
    alice.send("<message type='chat' to='bob@ours.example'><body>3</body></message>").await;
    assert_eq!([phone.got().len(), desk.got().len(), plain.got().len()], [1; 3]);

    desk.ask(&ENABLE.replace("enable", "disable")).await;
    phone.send("<message type='chat' to='alice@ours.example'><body>4</body></message>").await;
    assert!(desk.got().is_empty());
}

#[tokio::test]
async fn what_is_copied_and_what_is_not() {
    let mut world = World::new().await;
    let phone = with_carbons(&mut world, "phone").await;
    let mut desk = with_carbons(&mut world, "desk").await;
    for (message, copied) in [
        (
            "<message type='chat' to='x@them.example'><active xmlns='http://jabber.org/protocol/chatstates'/></message>",
            true,
        ),
        ("<message to='x@them.example'><body>b</body></message>", true),
        ("<message to='x@them.example'><event xmlns='e'/></message>", false),
        ("<message type='headline' to='x@them.example'><body>b</body></message>", false),
        ("<message type='groupchat' to='x@them.example'><body>b</body></message>", false),
        ("<message type='error' id='e' to='x@them.example'><body>b</body></message>", false),
        (
            "<message type='chat' to='x@them.example'><body>b</body><private xmlns='urn:xmpp:carbons:2'/></message>",
            false,
        ),
        (
            "<message type='chat' to='x@them.example'><body>b</body><no-copy xmlns='urn:xmpp:hints'/></message>",
            false,
        ),
        (
            "<message type='chat' to='x@them.example'><received xmlns='urn:xmpp:carbons:2'/></message>",
            false,
        ),
    ] {
        desk.got();
        phone.send(message).await;
        assert_eq!(desk.got().len(), usize::from(copied), "{message}");
    }
}

#[tokio::test]
async fn an_error_is_copied_only_if_the_message_was() {
    let mut world = World::new().await;
    let mut phone = with_carbons(&mut world, "phone").await;
    let mut desk = with_carbons(&mut world, "desk").await;
    phone.send("<message type='chat' id='m1' to='x@them.example'><body>b</body></message>").await;
    phone.got();
    desk.got();
    let error =
        "<message type='error' id='m1' from='x@them.example/r' to='bob@ours.example/phone'/>";
    world.receive(error).await;
    assert_eq!((phone.got().len(), desk.got().len()), (1, 1));
    for other in [error.replace("m1", "m2"), error.replace("x@", "y@")] {
        world.receive(&other).await;
        assert_eq!((phone.got().len(), desk.got().len()), (1, 0), "{other}");
    }
}

#[tokio::test]
async fn a_message_to_oneself_comes_once() {
    let mut world = World::new().await;
    let mut phone = with_carbons(&mut world, "phone").await;
    let mut desk = with_carbons(&mut world, "desk").await;
    let mut third = with_carbons(&mut world, "third").await;
    for client in [&mut phone, &mut desk, &mut third] {
        client.got();
    }
    phone.send("<message type='chat' to='bob@ours.example/desk'><body>b</body></message>").await;
    assert_eq!([phone.got().len(), desk.got().len(), third.got().len()], [0, 1, 1]);
}

#[tokio::test]
async fn a_copy_that_is_lost_goes_to_nobody_else() {
    let mut world = World::new().await;
    let phone = with_carbons(&mut world, "phone").await;
    let desk = with_carbons(&mut world, "desk").await;
    phone.send("<message type='chat' to='x@them.example'><body>b</body></message>").await;
    desk.leave().await;
    phone.leave().await;
    let mut bob = world.online("bob", "later").await;
    assert!(bob.got().is_empty());
}

#[tokio::test]
async fn a_message_that_only_its_copy_reached_is_not_sent_again() {
    let mut world = World::new().await;
    let alice = world.online("alice", "a").await;
    let phone = with_carbons(&mut world, "phone").await;
    let mut desk = with_carbons(&mut world, "desk").await;
    let message = "<message type='chat' to='bob@ours.example/phone'><body>b</body></message>";
    alice.send(message).await;
    let messages = |got: Vec<String>| got.iter().filter(|it| it.starts_with("message")).count();
    assert_eq!(messages(desk.got()), 1);
    phone.leave().await;
    assert_eq!(messages(desk.got()), 0);

    // Neither the message nor its copy was read, whichever is lost first: it waits, once.
    for phone_first in [true, false] {
        let phone = with_carbons(&mut world, "phone").await;
        alice.send(message).await;
        let (first, last) = if phone_first { (phone, desk) } else { (desk, phone) };
        first.leave().await;
        last.leave().await;
        let (store, bob) = (&world.router.store, super::address("bob@ours.example"));
        assert_eq!(store.offline(&bob).await.unwrap().len(), 1, "{phone_first}");
        store.remove_offline(&bob, i64::MAX).await.unwrap();
        desk = with_carbons(&mut world, "desk").await;
    }
}

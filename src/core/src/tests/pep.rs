use aws_lc_rs::digest;
use base64::Engine as _;

use super::{Client, World};

const NICK: &str = "http://jabber.org/protocol/nick";
const BOOKMARKS: &str = "urn:xmpp:bookmarks:1";

/// Presence of a client that wants to hear of `nodes`.
fn presence(attributes: &str, nodes: &[&str]) -> String {
    let features: String = nodes.iter().map(|node| format!("{node}+notify<")).collect();
    let text = format!("client/pc//<{features}");
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let ver = base64::engine::general_purpose::STANDARD.encode(hash);
    format!(
        "<presence{attributes}><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' \
         ver='{ver}'/></presence>"
    )
}

/// The answer to a question of service discovery, to `to`.
fn answer(question: &str, attributes: &str, nodes: &[&str]) -> String {
    let id = question.split(['#', ' ']).nth(1).unwrap();
    let features: String =
        nodes.iter().map(|node| format!("<feature var='{node}+notify'/>")).collect();
    format!(
        "<iq type='result' id='{id}'{attributes}>\
         <query xmlns='http://jabber.org/protocol/disco#info'>\
         <identity category='client' type='pc'/>{features}</query></iq>"
    )
}

fn publish(node: &str, item: &str, payload: &str, options: &str) -> String {
    format!(
        "<iq type='set' id='p'><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
         <publish node='{node}'><item id='{item}'>{payload}</item></publish>{options}</pubsub></iq>"
    )
}

fn nick(item: &str, name: &str) -> String {
    publish(NICK, item, &format!("<nick xmlns='{NICK}'>{name}</nick>"), "")
}

const PRIVATE: &str = "<publish-options><x xmlns='jabber:x:data' type='submit'>\
    <field var='pubsub#persist_items'><value>true</value></field>\
    <field var='pubsub#max_items'><value>max</value></field>\
    <field var='pubsub#send_last_published_item'><value>never</value></field>\
    <field var='pubsub#access_model'><value>whitelist</value></field></x></publish-options>";

fn items(from_whom: &str, node: &str) -> String {
    format!(
        "<iq type='get' id='g'{from_whom}><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
         <items node='{node}'/></pubsub></iq>"
    )
}

async fn ready(world: &mut World) -> (Client, Client) {
    for contact in ["bob@ours.example", "romeo@them.example"] {
        world.befriend("alice@ours.example", contact).await;
    }
    let mut alice = world.online("alice", "a").await;
    let mut bob = world.bind("bob", "b").await;
    bob.send(&presence("", &[NICK])).await;
    alice.got();
    bob.got();
    world.sent();
    (alice, bob)
}

fn event(to: &str, item: &str, name: &str) -> String {
    format!(
        "message:headline alice@ours.example > {to} [event [items node={NICK} \
         [item#{item} [nick \"{name}\"]]]]"
    )
}

#[tokio::test]
async fn contacts_that_want_it_are_told() {
    let mut world = World::new().await;
    let (mut alice, mut bob) = ready(&mut world).await;
    let romeo = " from='romeo@them.example/r' to='alice@ours.example'";
    world.receive(&presence(romeo, &[NICK])).await;
    // Who is no watcher learns nothing.
    let stranger = " from='tybalt@them.example/t' to='alice@ours.example'";
    world.receive(&presence(stranger, &[NICK])).await;
    alice.got();

    let done = alice.ask(&nick("1", "Al")).await;
    assert_eq!(
        done,
        format!("iq:result#p alice@ours.example/a [pubsub [publish node={NICK} [item#1]]]")
            .replace("#p ", "#p alice@ours.example > ")
            .replace("alice@ours.example > alice", "alice")
    );
    // One of them is asked what clients of this kind want.
    let mut asked: Vec<String> = bob.got();
    asked.extend(world.sent());
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].starts_with("iq:get#caps-"), "{asked:?}");
    if asked[0].contains("bob@") {
        bob.send(&answer(&asked[0], " to='alice@ours.example'", &[NICK])).await;
    } else {
        world.receive(&answer(&asked[0], romeo, &[NICK])).await;
    }
    assert_eq!(bob.got(), [event("bob@ours.example/b", "1", "Al")]);
    assert_eq!(world.sent(), [event("romeo@them.example/r", "1", "Al")]);

    // Now it is known.
    alice.ask(&nick("2", "Ali")).await;
    assert_eq!(bob.got(), [event("bob@ours.example/b", "2", "Ali")]);
    assert_eq!(world.sent(), [event("romeo@them.example/r", "2", "Ali")]);

    // Who has gone is not told, and gets the last one when it is back.
    let gone = "<presence type='unavailable' from='romeo@them.example/r' to='alice@ours.example'/>";
    world.receive(gone).await;
    alice.got();
    alice.ask(&nick("3", "Alice")).await;
    assert!(world.sent().is_empty());
    world.receive(&presence(romeo, &[NICK])).await;
    assert_eq!(world.sent(), [event("romeo@them.example/r", "3", "Alice")]);
    // Once: it says the same again.
    world.receive(&presence(romeo, &[NICK])).await;
    assert!(world.sent().is_empty());
}

#[tokio::test]
async fn who_lies_about_itself_or_wants_nothing_hears_nothing() {
    let mut world = World::new().await;
    let (mut alice, mut bob) = ready(&mut world).await;
    alice.ask(&nick("1", "Al")).await;
    let asked = bob.got();
    bob.send(&answer(&asked[0], " to='alice@ours.example'", &[NICK, "more"])).await;
    assert!(bob.got().is_empty());
    let mut carol = world.bind("carol", "c").await;
    carol.send(&presence("", &[NICK])).await;
    alice.ask(&nick("2", "Al")).await;
    assert!(carol.got().iter().all(|text| !text.contains("event")), "carol is no contact");
}

#[tokio::test]
async fn bookmarks_are_for_the_owner_alone() {
    let mut world = World::new().await;
    let (mut alice, mut bob) = ready(&mut world).await;
    let mut other = world.bind("alice", "b").await;
    other.send(&presence("", &[NICK, BOOKMARKS])).await;
    other.got();
    alice.got();
    bob.got();
    let room =
        |id: &str| publish(BOOKMARKS, id, "<conference xmlns='urn:xmpp:bookmarks:1'/>", PRIVATE);
    for id in ["a@muc.example", "b@muc.example"] {
        let done = alice.ask(&room(id)).await;
        assert!(done.starts_with("iq:result"), "{done}");
    }
    let asked = other.got();
    let question = asked.iter().find(|text| text.contains("caps-")).unwrap();
    other.send(&answer(question, "", &[BOOKMARKS, NICK])).await;
    // Both are there; none was sent by itself, for the node says so.
    assert!(other.got().is_empty());
    alice.ask(&room("c@muc.example")).await;
    assert_eq!(other.got().len(), 1, "each change is told at once");
    let shown = alice.ask(&items("", BOOKMARKS)).await;
    assert_eq!(shown.matches("conference").count(), 3, "{shown}");
    let refused = bob.ask(&items(" to='alice@ours.example'", BOOKMARKS)).await;
    assert!(refused.contains("item-not-found"), "{refused}");
    // Whoever sees no presence cannot tell that there is somebody.
    let mut carol = world.online("carol", "c").await;
    for (node, to) in [(BOOKMARKS, "alice"), (NICK, "alice"), (NICK, "nobody")] {
        let refused = carol.ask(&items(&format!(" to='{to}@ours.example'"), node)).await;
        assert!(refused.contains("service-unavailable"), "{refused}");
    }
    // A narrower circle is not widened behind the owner's back.
    let open = PRIVATE.replace("whitelist", "open");
    let refused = alice.ask(&publish(BOOKMARKS, "d", "<x xmlns='y'/>", &open)).await;
    assert!(refused.contains("conflict") && refused.contains("precondition-not-met"), "{refused}");
}

#[tokio::test]
async fn retracting_and_deleting_are_told() {
    let mut world = World::new().await;
    let (mut alice, mut bob) = ready(&mut world).await;
    alice.ask(&nick("1", "Al")).await;
    let asked = bob.got();
    bob.send(&answer(&asked[0], " to='alice@ours.example'", &[NICK])).await;
    bob.got();
    let retract = format!(
        "<iq type='set' id='r'><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
         <retract node='{NICK}' notify='true'><item id='1'/></retract></pubsub></iq>"
    );
    assert!(alice.ask(&retract).await.starts_with("iq:result"));
    assert!(bob.got()[0].contains("[retract#1]"));
    assert!(alice.ask(&retract).await.contains("item-not-found"));
    let delete = format!(
        "<iq type='set' id='d'><pubsub xmlns='http://jabber.org/protocol/pubsub#owner'>\
         <delete node='{NICK}'/></pubsub></iq>"
    );
    assert!(alice.ask(&delete).await.starts_with("iq:result"));
    assert!(bob.got()[0].contains("delete node="));
    assert!(bob.ask(&items(" to='alice@ours.example'", NICK)).await.contains("item-not-found"));
}

#[tokio::test]
async fn settings_are_shown_and_changed() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    alice.ask(&nick("1", "Al")).await;
    let ask = |inside: &str, kind: &str| {
        format!(
            "<iq type='{kind}' id='c'><pubsub xmlns='http://jabber.org/protocol/pubsub#owner'>\
             <configure node='{NICK}'>{inside}</configure></pubsub></iq>"
        )
    };
    assert!(alice.ask(&ask("", "get")).await.contains("\"presence\""));
    let open = "<x xmlns='jabber:x:data' type='submit'><field var='pubsub#access_model'>\
                <value>open</value></field></x>";
    assert!(alice.ask(&ask(open, "set")).await.starts_with("iq:result"));
    let mut carol = world.online("carol", "c").await;
    let read = carol.ask(&items(" to='alice@ours.example'", NICK)).await;
    assert!(read.contains("nick \"Al\""), "{read}");
    let roster = open.replace("open", "roster");
    assert!(alice.ask(&ask(&roster, "set")).await.contains("not-acceptable"));
}

#[tokio::test]
async fn who_is_let_in_later_is_told_at_once() {
    let mut world = World::new().await;
    let mut alice = world.online("alice", "a").await;
    // Alice sees Romeo before Romeo sees her: his client says once what it is.
    alice.send("<presence type='subscribe' to='romeo@them.example'/>").await;
    let ends = "from='romeo@them.example' to='alice@ours.example'";
    world.receive(&format!("<presence type='subscribed' {ends}/>")).await;
    let romeo = " from='romeo@them.example/r' to='alice@ours.example'";
    world.receive(&presence(romeo, &[NICK])).await;
    alice.got();
    alice.ask(&nick("1", "Al")).await;
    world.sent();
    world.receive(&format!("<presence type='subscribe' {ends}/>")).await;
    alice.got();
    alice.send("<presence type='subscribed' to='romeo@them.example'/>").await;
    let sent = world.sent();
    let question = sent.iter().find(|text| text.contains("caps-")).unwrap();
    world.receive(&answer(question, romeo, &[NICK])).await;
    assert_eq!(world.sent(), [event("romeo@them.example/r", "1", "Al")]);
}

#[tokio::test]
async fn who_was_shut_out_while_it_was_asked_is_told_nothing() {
    let block = "<iq type='set' id='x'><block xmlns='urn:xmpp:blocking'>\
                 <item jid='romeo@them.example'/></block></iq>";
    let revoke = "<presence type='unsubscribed' to='romeo@them.example'/>";
    for (end, told) in [(revoke, false), (block, false), ("", true)] {
        let mut world = World::new().await;
        let (mut alice, _bob) = ready(&mut world).await;
        alice.ask(&nick("1", "Al")).await;
        let romeo = " from='romeo@them.example/r' to='alice@ours.example'";
        // A kind of its own, so that it is asked itself.
        world.receive(&presence(romeo, &[NICK, "urn:other"])).await;
        let question = world.sent().into_iter().find(|text| text.contains("caps-")).unwrap();
        if !end.is_empty() {
            alice.send(end).await;
            world.sent();
        }
        // To somebody who has not blocked it.
        let around = romeo.replace("alice", "bob");
        world.receive(&answer(&question, &around, &[NICK, "urn:other"])).await;
        let sent = world.sent();
        assert_eq!(sent.iter().any(|text| text.contains("event")), told, "{end}: {sent:?}");
    }
}

/// A contact changes what it wants, back and forth: what it has is not sent again.
#[tokio::test]
async fn what_a_client_has_is_not_sent_again_while_it_is_there() {
    let mut world = World::new().await;
    world.befriend("alice@ours.example", "romeo@them.example").await;
    let mut alice = world.online("alice", "a").await;
    alice.ask(&nick("1", "Al")).await;
    let romeo = " from='romeo@them.example/r' to='alice@ours.example'";
    for (nodes, told) in [(&[NICK][..], true), (&[NICK, "urn:other"], false)] {
        world.receive(&presence(romeo, nodes)).await;
        let question = world.sent().into_iter().find(|text| text.contains("caps-")).unwrap();
        world.receive(&answer(&question, romeo, nodes)).await;
        assert_eq!(!world.sent().is_empty(), told, "{nodes:?}");
    }
    alice.got();
    alice.ask(&nick("2", "Ali")).await;
    assert_eq!(world.sent(), [event("romeo@them.example/r", "2", "Ali")]);
    for _ in 0..10 {
        for nodes in [&[NICK][..], &[NICK, "urn:other"]] {
            world.receive(&presence(romeo, nodes)).await;
        }
    }
    assert!(world.sent().is_empty());
    // A new session has nothing.
    let gone = "<presence type='unavailable' from='romeo@them.example/r' to='alice@ours.example'/>";
    world.receive(gone).await;
    world.receive(&presence(romeo, &[NICK])).await;
    assert_eq!(world.sent(), [event("romeo@them.example/r", "2", "Ali")]);
}

/// A contact that comes and goes is not sent an avatar each time, and nobody else has less for it.
#[tokio::test]
async fn who_comes_and_goes_is_not_sent_everything_each_time() {
    let mut world = World::new().await;
    let (mut alice, mut bob) = ready(&mut world).await;
    let face = format!("<data xmlns='{NICK}'>{}</data>", "x".repeat(90_000));
    alice.ask(&publish(NICK, "1", &face, "")).await;
    let question = bob.got().remove(0);
    bob.send(&answer(&question, " to='alice@ours.example'", &[NICK])).await;
    assert_eq!(bob.got().len(), 1);
    let mut told = 0;
    for number in 0..100 {
        let romeo = format!(" from='romeo@them.example/{number}' to='alice@ours.example'");
        world.receive(&presence(&romeo, &[NICK])).await;
        world.receive(&format!("<presence type='unavailable'{romeo}/>")).await;
        told += world.sent().iter().filter(|text| text.contains("event")).count();
        alice.got();
    }
    assert_eq!(told, 12, "as much as an account may have, once");
    for count in [1, 1] {
        bob.send("<presence type='unavailable'/>").await;
        bob.send(&presence("", &[NICK])).await;
        let got = bob.got();
        assert_eq!(got.iter().filter(|text| text.contains("event")).count(), count);
    }
}

//! What users write to a SIP partner is not lost while the partner is silent, whatever becomes of the
//! core; and what a partner was told that we have, we have.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed step is a failed test"
)]

mod world;

use std::time::Duration;

use gatehouse_sip::{Message, Method};
use gatehouse_store::{NewOutgoing, OutgoingLimits};
use gatehouse_types::Jid;
use tokio::time::timeout;
use world::sip::{PARTNER, World, code};
use world::{Client, Core, PATIENCE};

const ACK: &str = "<a xmlns='urn:xmpp:sm:3'";

impl World {
    /// Alice, online, counting.
    async fn counting_alice(&self) -> Client {
        let mut alice = self.alice().await;
        alice.send("<enable xmlns='urn:xmpp:sm:3'/>").await;
        alice.expect("<enabled").await;
        alice
    }

    /// Alice, back: what waited for her is still to be read.
    async fn alice_again(&self) -> Client {
        let mut alice = self.core.connect_direct().await.log_in("alice", "a").await;
        alice.send("<presence/>").await;
        alice
    }

    /// Nothing is stored any more.
    async fn all_done(&self) {
        let wait = async {
            while !self.core.store.outgoing(0, 1).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap();
    }

    /// The partner takes these messages, in this order; the answers are given at once.
    async fn takes(&mut self, texts: &[&str]) {
        for text in texts {
            let message = self.request(Method::Message).await;
            assert_eq!(String::from_utf8_lossy(&message.body), *text);
            self.answer(&message, 200);
        }
    }

    async fn invited_by_us(&mut self) -> Message {
        let invite = self.request(Method::Invite).await;
        self.answer(&invite, 200);
        invite
    }

    /// No request of ours goes to the partner before it asks something itself.
    async fn says_nothing(&mut self) {
        let options = self.romeo_asks(Method::Options, "alice@ours.example");
        self.say(options);
        let heard = self.heard().await;
        assert!(heard.status().is_some(), "{heard:?}");
    }
}

async fn say(alice: &mut Client, texts: &[&str]) {
    for text in texts {
        alice
            .send(&format!(
                "<message to='romeo@partner.example' type='chat' id='{text}'>\
                 <body>{text}</body></message>"
            ))
            .await;
    }
    alice.send("<r xmlns='urn:xmpp:sm:3'/>").await;
}

#[tokio::test]
async fn what_was_acknowledged_and_not_answered_is_sent_after_a_kill() {
    let files = Core::new_files().await;
    let mut world = World::start_apart(files, |_| {}).await;
    let mut alice = world.counting_alice().await;
    say(&mut alice, &["answered"]).await;
    world.invited_by_us().await;
    world.takes(&["answered"]).await;
    world.all_done().await;
    // From here on the partner is silent.
    say(&mut alice, &["one", "two", "three"]).await;
    alice.expect(&format!("{ACK} h='4'")).await;
    world.request(Method::Message).await;
    let mut world = World::start_apart(world.kill().await, |_| {}).await;
    // She is back, and says something new at once.
    let mut alice = world.counting_alice().await;
    say(&mut alice, &["four"]).await;
    world.invited_by_us().await;
    world.takes(&["one", "two", "three", "four"]).await;
    world.all_done().await;
    // And that was all of it.
    let mut world = World::start_apart(world.kill().await, |_| {}).await;
    world.says_nothing().await;
    let mut alice = world.alice_again().await;
    let heard = alice.ping("done").await;
    assert!(!heard.contains("<message"), "{heard}");
}

/// Pages that were written to the write-ahead log: each commit writes at least four for a message.
fn pages_written(world: &World) -> u64 {
    let log = std::fs::metadata(world.core.files.path().join("db.sqlite-wal")).unwrap();
    log.len() / 4096
}

/// Each commit waits for the disk, and the author with it.
#[tokio::test]
async fn what_a_client_says_at_once_is_stored_at_once() {
    let world = World::start_apart(Core::new_files().await, |_| {}).await;
    let mut alice = world.counting_alice().await;
    let texts: Vec<String> = (0..24).map(|number| format!("text{number}")).collect();
    let messages = texts.iter().map(|text| {
        format!(
            "<message to='romeo@partner.example' type='chat' id='{text}'><body>{text}</body>\
             </message>"
        )
    });
    let (all, before) = (messages.collect::<String>(), pages_written(&world));
    alice.send(&format!("{all}<r xmlns='urn:xmpp:sm:3'/>")).await;
    alice.expect(&format!("{ACK} h='24'")).await;
    let written = pages_written(&world) - before;
    assert!((1..48).contains(&written), "{written} pages for 24 messages");
    // Nothing was answered, so all of it is there after a kill, in this order.
    let mut world = World::start_apart(world.kill().await, |_| {}).await;
    world.invited_by_us().await;
    world.takes(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.all_done().await;
}

/// Who hears what became of one message knows that those before it are safe.
#[tokio::test]
async fn one_that_is_refused_stands_between_the_others() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.counting_alice().await;
    alice
        .send(
            "<iq type='set' id='block'><block xmlns='urn:xmpp:blocking'>\
             <item jid='tybalt@partner.example'/></block></iq>",
        )
        .await;
    alice.expect("'block'").await;
    let message = |to: &str, text: &str| {
        format!(
            "<message to='{to}@partner.example' type='chat' id='{text}'><body>{text}</body>\
             </message>"
        )
    };
    let texts =
        [message("romeo", "one"), message("tybalt", "refused"), message("romeo", "two")].concat();
    alice.send(&format!("{texts}<r xmlns='urn:xmpp:sm:3'/>")).await;
    let error = alice.expect("</message>").await;
    assert!(error.contains("not-acceptable") && error.contains("id='refused'"), "{error}");
    let stored = world.core.store.outgoing(0, 10).await.unwrap();
    assert!(stored.first().is_some_and(|first| first.stanza.contains(">one<")), "{stored:?}");
    alice.expect(&format!("{ACK} h=")).await;
    world.invited_by_us().await;
    world.takes(&["one", "two"]).await;
    world.all_done().await;
}

#[tokio::test]
async fn what_waited_too_long_comes_back_to_its_author() {
    let world = World::start_apart(Core::new_files().await, |_| {}).await;
    let mut alice = world.counting_alice().await;
    say(&mut alice, &["one", "two"]).await;
    alice.expect(&format!("{ACK} h='2'")).await;
    let files = world.kill().await;
    let mut world =
        World::start_apart(files, |config| config.deliver_within = Duration::ZERO).await;
    world.says_nothing().await;
    world.all_done().await;
    assert_eq!(world.core.offline_count("alice").await, 2, "she is not there yet");
    let mut alice = world.alice_again().await;
    for id in ["one", "two"] {
        let error = alice.expect("</message>").await;
        let is_it =
            error.contains(&format!("id='{id}'")) && error.contains("remote-server-timeout");
        assert!(is_it, "{error}");
    }
}

#[tokio::test]
async fn a_stop_loses_nothing_and_sends_nothing_twice() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.counting_alice().await;
    say(&mut alice, &["one", "two", "three"]).await;
    alice.expect(&format!("{ACK} h='3'")).await;
    world.invited_by_us().await;
    let first = world.request(Method::Message).await;
    let tasks = world.core.tasks.clone();
    let (stopped, ()) = tokio::join!(tasks.shut_down(PATIENCE), async {
        // The last moment: what was under way is answered while the core says farewell.
        world.request(Method::Bye).await;
        world.answer(&first, 200);
    });
    stopped.unwrap();
    world.core.store.close().await;
    let mut world = World::start_on(world.core.files, PARTNER).await;
    world.invited_by_us().await;
    world.takes(&["two", "three"]).await;
    world.all_done().await;
    let heard = world.alice_again().await.ping("done").await;
    assert!(!heard.contains("<message"), "nobody said that it was not delivered: {heard}");
}

/// The author is away, so nobody's session cleans up after the last answer.
#[tokio::test]
async fn what_an_author_hears_while_the_core_stops_is_not_sent_after_the_next_start() {
    let mut world = World::start(PARTNER).await;
    world.alice_says_and_leaves("one").await;
    world.invited_by_us().await;
    let message = world.request(Method::Message).await;
    let tasks = world.core.tasks.clone();
    let (stopped, ()) = tokio::join!(tasks.shut_down(PATIENCE), async {
        world.request(Method::Bye).await;
        world.answer(&message, 403);
    });
    stopped.unwrap();
    let left = world.core.store.outgoing(0, 1).await.unwrap();
    assert_eq!((left.len(), world.core.offline_count("alice").await), (0, 1));
}

impl World {
    /// She knows that we have it, and is away.
    async fn alice_says_and_leaves(&self, text: &str) {
        let mut alice = self.counting_alice().await;
        say(&mut alice, &[text]).await;
        alice.expect(ACK).await;
        alice.send("</stream:stream>").await;
        alice.expect("</stream:stream>").await;
    }

    /// A core with so many messages to the partner that are too old, half of each user.
    async fn with_old_messages(count: usize) -> Self {
        let world = Self::start_on(Core::new_files().await, PARTNER).await;
        for account in ["alice@ours.example", "bob@ours.example"] {
            let of = |number: usize| NewOutgoing {
                account: account.parse().unwrap(),
                domain: "partner.example".parse().unwrap(),
                received_ms: 0,
                stanza: format!(
                    "<message xmlns='jabber:client' from='{account}/x' id='{number}' \
                     to='romeo@partner.example' type='chat'><body>x</body></message>"
                ),
            };
            let stored: Vec<_> = (0..count / 2).map(of).collect();
            world.core.store.push_outgoing(&stored, &[], OutgoingLimits::default()).await.unwrap();
        }
        Self::start_on(world.stop().await, PARTNER).await
    }
}

/// What is sent back is in nobody's way.
#[tokio::test]
async fn many_messages_that_are_too_old_do_not_hold_up_what_comes_now() {
    let mut world = World::with_old_messages(6000).await;
    let message = world.text("bob@ours.example", "hello");
    world.say(message);
    assert_eq!(code(&world.answer_to(Method::Message).await), 200);
    let left = world.core.store.outgoing(0, 6000).await.unwrap().len();
    assert!(left > 4500, "only {left} are left");
    // And messages of users are taken.
    let mut alice = world.counting_alice().await;
    say(&mut alice, &["new"]).await;
    world.invited_by_us().await;
    world.takes(&["new"]).await;
}

#[tokio::test]
async fn all_messages_that_are_too_old_come_back_in_the_end() {
    let world = World::with_old_messages(700).await;
    // Asked without a pause, the store would have time for nothing else.
    let wait = async {
        while !world.core.store.outgoing(0, 1).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE * 3, wait).await.unwrap();
}

#[tokio::test]
async fn an_author_who_is_away_hears_later_that_nothing_arrived() {
    let mut world = World::start(PARTNER).await;
    world.alice_says_and_leaves("one").await;
    let invite = world.request(Method::Invite).await;
    world.answer(&invite, 486);
    world.all_done().await;
    let mut alice = world.alice_again().await;
    let error = alice.expect("</message>").await;
    assert!(error.contains("recipient-unavailable") && error.contains("id='one'"), "{error}");
    // An error that nobody of ours was promised is dropped, as the RFC has it.
    drop(alice);
    let error = "<message xmlns='jabber:client' from='x@them.example' \
                 to='bob@ours.example/gone' id='x' type='error'/>";
    let error = gatehouse_xmpp::Stanza::from_element(error.parse().unwrap()).unwrap();
    world.core.edge.sender.send(error).await.unwrap();
    let message = world.text("bob@ours.example", "hello");
    world.say(message);
    assert_eq!(code(&world.answer_to(Method::Message).await), 200);
    assert_eq!(world.core.offline_count("bob").await, 1);
}

/// A full or broken disk: the author hears it, and the partner does not get what nobody answers for.
#[tokio::test]
async fn what_cannot_be_stored_is_sent_back() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.counting_alice().await;
    let account: Jid = "alice@ours.example".parse().unwrap();
    let one = NewOutgoing {
        account,
        domain: "silent.example".parse().unwrap(),
        received_ms: 0,
        stanza: "<message/>".to_owned(),
    };
    let limit = usize::try_from(OutgoingLimits::default().per_account.0).unwrap();
    let stored = vec![one; limit];
    world.core.store.push_outgoing(&stored, &[], OutgoingLimits::default()).await.unwrap();
    say(&mut alice, &["one"]).await;
    let error = alice.expect("</message>").await;
    assert!(error.contains("resource-constraint") && error.contains("id='one'"), "{error}");
    world.says_nothing().await;
    world.core.store.close().await;
    say(&mut alice, &["two"]).await;
    let error = alice.expect("</message>").await;
    assert!(error.contains("internal-server-error") && error.contains("id='two'"), "{error}");
    world.says_nothing().await;
}

/// 200 is said once the client has the message, or the store.
#[tokio::test]
async fn a_partner_is_told_200_once_its_message_is_safe() {
    let mut world = World::start_apart(Core::new_files().await, |_| {}).await;
    // She counts, and does not say that she has it.
    let mut alice = world.counting_alice().await;
    let message = world.text("alice@ours.example", "unread");
    let call = message.call_id().unwrap();
    world.say(message);
    assert!(alice.expect("</message>").await.contains("unread"));
    // A later one of the same author to nobody is answered before it.
    let later = world.text("nobody@ours.example", "x");
    world.say(later);
    assert_eq!(code(&world.answer_to(Method::Message).await), 403);
    let answer = world.answer_to(Method::Message).await;
    assert_eq!((code(&answer), answer.call_id().unwrap()), (200, call));
    let world = World::start_apart(world.kill().await, |_| {}).await;
    let mut alice = world.alice_again().await;
    assert!(alice.expect("</message>").await.contains("unread"), "it was stored");
}

/// The same of a client that says at once what it has: it is not stored, and does not come again.
#[tokio::test]
async fn what_a_client_has_read_is_not_stored() {
    let mut world = World::start_apart(Core::new_files().await, |_| {}).await;
    let mut alice = world.counting_alice().await;
    let message = world.text("alice@ours.example", "read");
    world.say(message);
    assert!(alice.expect("</message>").await.contains("read"));
    alice.send("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
    assert_eq!(code(&world.answer_to(Method::Message).await), 200);
    let world = World::start_apart(world.kill().await, |_| {}).await;
    let mut alice = world.alice_again().await;
    let heard = alice.ping("done").await;
    assert!(!heard.contains("read<"), "{heard}");
}

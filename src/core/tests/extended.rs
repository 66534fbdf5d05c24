//! Log-ins in one round trip (XEP-0388, XEP-0386) and with tokens (XEP-0484), over loopback TCP and TLS.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed step is a failed test")]

mod world;

use aws_lc_rs::hmac;
use gatehouse_types::Jid;
use tokio::time::timeout;
use world::{Client, Core, PATIENCE, base64, keys_of};

const PHONE: &str = "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'/>";
const BIND: &str = "<bind xmlns='urn:xmpp:bind:0'><tag>Phone</tag>\
    <enable xmlns='urn:xmpp:sm:3' resume='true' max='60'/>\
    <enable xmlns='urn:xmpp:carbons:2'/></bind>";
const REQUEST: &str = "<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/>";

/// What the server says to `<authenticate/>`.
async fn authenticate(client: &mut Client, mechanism: &str, message: &[u8], more: &str) -> String {
    let message = base64(message);
    client
        .send(&format!(
            "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='{mechanism}'>\
             <initial-response>{message}</initial-response>{more}</authenticate>"
        ))
        .await;
    let mut answer = client.expect(">").await;
    while !answer.contains("</success>") && !answer.contains("</failure>") {
        answer += &client.expect(">").await;
    }
    answer
}

async fn with_password(client: &mut Client, more: &str) -> String {
    authenticate(client, "PLAIN", b"\0bob\0secret", more).await
}

async fn with_token(client: &mut Client, token: &str, more: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
    let proof = hmac::sign(&key, b"Initiator");
    let message = [b"bob\0", proof.as_ref()].concat();
    authenticate(client, "HT-SHA-256-NONE", &message, &format!("{PHONE}{more}")).await
}

fn attribute(text: &str, element: &str, name: &str) -> String {
    let element = text.split(&format!("<{element} ")).nth(1).unwrap().split('>').next().unwrap();
    let value = element.split(&format!("{name}='")).nth(1).unwrap();
    value.split('\'').next().unwrap().to_owned()
}

fn full_address(success: &str) -> String {
    let text = success.split("<authorization-identifier>").nth(1).unwrap();
    text.split('<').next().unwrap().to_owned()
}

#[tokio::test]
async fn one_round_trip_to_a_managed_session_and_back_to_it() {
    let core = Core::start().await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    let mut bob = core.connect_direct().await;
    let success = with_password(&mut bob, &format!("{PHONE}{BIND}")).await;
    let full = full_address(&success);
    assert!(full.starts_with("bob@ours.example/Phone~"), "{success}");
    let id = attribute(&success, "enabled", "id");
    bob.send("<presence/>").await;
    bob.ping("ready").await;
    // Its presence and the answer to the ping are one and two.
    alice.send("<message to='bob@ours.example' type='chat'><body>3</body></message>").await;
    bob.expect(">3<").await;
    drop(bob);
    alice.send("<message to='bob@ours.example' type='chat'><body>4</body></message>").await;
    alice.ping("said").await;

    let mut bob = core.connect_direct().await;
    let resume = format!("{PHONE}{BIND}<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='3'/>");
    let success = with_password(&mut bob, &resume).await;
    assert_eq!(full_address(&success), full);
    assert!(success.contains("<resumed ") && !success.contains("<bound"), "{success}");
    assert!(!bob.ping("all").await.contains(">3<"));
    // It goes for good; the next one finds nothing and is bound in the same breath.
    bob.send("</stream:stream>").await;
    bob.expect("</stream:stream>").await;
    let mut bob = core.connect_direct().await;
    let success = with_password(&mut bob, &resume).await;
    assert!(success.contains("<item-not-found") && success.contains("<bound"), "{success}");
    // The same installation has the same address, another one another.
    assert_eq!(full_address(&success), full);
    let mut other = core.connect_direct().await;
    let other = with_password(&mut other, &format!("<user-agent id='other'/>{BIND}")).await;
    assert_ne!(full_address(&other), full);
}

#[tokio::test]
async fn who_comes_back_too_late_hears_how_much_was_handled() {
    let core = Core::start().await;
    let mut bob = core.connect_direct().await;
    let bind = BIND.replace("'60'", "'0'");
    let success = with_password(&mut bob, &format!("{PHONE}{bind}")).await;
    let id = attribute(&success, "enabled", "id");
    bob.ping("one").await;
    bob.ping("two").await;
    drop(bob);
    let resume = format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>");
    let told = async {
        loop {
            let mut bob = core.connect_direct().await;
            let success = with_password(&mut bob, &resume).await;
            if success.contains("<failed xmlns='urn:xmpp:sm:3' h='2'>") {
                break;
            }
        }
    };
    timeout(PATIENCE, told).await.unwrap();
}

#[tokio::test]
async fn a_token_stands_for_the_password_until_it_is_taken_back() {
    let core = Core::start().await;
    let mut bob = core.connect_direct().await;
    let success = with_password(&mut bob, &format!("{PHONE}{REQUEST}{BIND}")).await;
    let one = attribute(&success, "token", "token");
    assert_eq!(one.len(), 43, "256 bits");
    assert!(attribute(&success, "token", "expiry").ends_with('Z'));

    // With it comes a new one only if it is asked for; the old one is good until the new one is used.
    let mut bob = core.connect_direct().await;
    assert!(!with_token(&mut bob, &one, BIND).await.contains("<token"));
    let mut bob = core.connect_direct().await;
    let two = attribute(&with_token(&mut bob, &one, REQUEST).await, "token", "token");
    assert_ne!(one, two);
    for (token, good) in [(&one, true), (&two, true), (&one, false), (&two, true)] {
        let mut bob = core.connect_direct().await;
        let answer = with_token(&mut bob, token, "").await;
        assert_eq!(answer.contains("<success"), good, "{answer}");
        assert_eq!(answer.contains("<not-authorized"), !good, "{answer}");
    }
    // It is good for nobody else.
    let mut bob = core.connect_direct().await;
    let key = hmac::Key::new(hmac::HMAC_SHA256, two.as_bytes());
    let proof = hmac::sign(&key, b"Initiator");
    for (name, agent) in [("alice", PHONE), ("bob", "<user-agent id='other'/>")] {
        let message = [name.as_bytes(), b"\0", proof.as_ref()].concat();
        let answer = authenticate(&mut bob, "HT-SHA-256-NONE", &message, agent).await;
        assert!(answer.contains("<not-authorized"), "{answer}");
    }
    let invalidate = "<fast xmlns='urn:xmpp:fast:0' invalidate='true'/>";
    let mut bob = core.connect_direct().await;
    assert!(with_token(&mut bob, &two, invalidate).await.contains("<success"));
    let mut bob = core.connect_direct().await;
    assert!(with_token(&mut bob, &two, "").await.contains("<not-authorized"));
}

#[tokio::test]
async fn another_password_ends_all_tokens() {
    let core = Core::start().await;
    let mut bob = core.connect_direct().await;
    let success = with_password(&mut bob, &format!("{PHONE}{REQUEST}")).await;
    let token = attribute(&success, "token", "token");
    let account: Jid = "bob@ours.example".parse().unwrap();
    core.store.set_keys(&account, &keys_of("other")).await.unwrap();
    let mut bob = core.connect_direct().await;
    assert!(with_token(&mut bob, &token, BIND).await.contains("<not-authorized"));
}

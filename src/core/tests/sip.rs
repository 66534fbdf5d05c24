//! The SIP gateway in a core: a client on one side, an edge with a partner behind it on the other.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed step is a failed test"
)]

mod world;

use std::sync::Arc;

use gatehouse_bridge::GatewayConfig;
use gatehouse_core::SipGatewayParts;
use gatehouse_policy::Policy;
use gatehouse_sip::{HeaderName, Message, Method, NameAddr, Status, Uri};
use gatehouse_trunk::sip::{SipEdgeEnd, in_process};
use gatehouse_types::Jid;
use gatehouse_xmpp::Stanza;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;
use world::{Client, Core, PATIENCE};

const PARTNER: &str = "[[sip]]\nname = 'partner'\nremote = ['partner.example']\n";
const BLOCKED: &str = "[[sip]]\nname = 'partner'\nremote = ['partner.example']\naction = 'block'\n";
const ANYBODY: &str = "[[rule]]\nname = 'xmpp'\nremote = ['*']\n\
    [[sip]]\nname = 'sip'\nremote = ['*']\n";
const SDP: &str = "v=0\r\no=- 0 0 IN IP4 198.51.100.57\r\ns=session\r\n\
    c=IN IP4 198.51.100.57\r\nt=0 0\r\nm=message 5060 sip null\r\n\
    a=accept-types:text/plain\r\n";
const CONTACT: &str = "<sip:romeo@partner.example;opaque=user:epid:x;gruu>";

/// A core, and the edge's end of its SIP trunk in the hands of the test.
struct World {
    core: Core,
    edge: SipEdgeEnd,
    policy: watch::Sender<Arc<Policy>>,
    requests: u32,
}

fn policy(text: &str) -> Arc<Policy> {
    Arc::new(toml::from_str(text).unwrap())
}

impl World {
    async fn start(rules: &str) -> Self {
        Self::start_on(Core::new_files().await, rules).await
    }

    async fn start_on(files: TempDir, rules: &str) -> Self {
        let (trunk, edge) = in_process();
        let (policy, rules) = watch::channel(policy(rules));
        let config = GatewayConfig {
            contact: "core".to_owned(),
            public_host: "sip.ours.example".to_owned(),
            revive_within: std::time::Duration::from_millis(1),
            notify_delay: std::time::Duration::from_millis(1),
            ..GatewayConfig::default()
        };
        let parts =
            SipGatewayParts { config, node: "core".to_owned(), policy: rules, trunk, inside: None };
        let core = Core::start_with(files, Some(parts)).await;
        Self { core, edge, policy, requests: 0 }
    }

    /// Stops the core as a restart does.
    async fn stop(self) -> TempDir {
        self.core.tasks.shut_down(PATIENCE).await.unwrap();
        self.core.store.close().await;
        self.core.files
    }

    async fn alice(&self) -> Client {
        let mut alice = self.core.connect_direct().await.log_in("alice", "a").await;
        alice.send("<presence/>").await;
        alice.ping("ready").await;
        alice
    }

    /// What the core sends next to the partner.
    async fn heard(&mut self) -> Message {
        timeout(PATIENCE, self.edge.incoming.recv()).await.unwrap().unwrap().message
    }

    /// The next request of this kind; what else comes is let go by.
    async fn request(&mut self, method: Method) -> Message {
        loop {
            let heard = self.heard().await;
            if heard.status().is_none() && heard.method().as_ref() == Some(&method) {
                return heard;
            }
        }
    }

    /// The next final answer to a request of this kind.
    async fn answer_to(&mut self, method: Method) -> Message {
        loop {
            let heard = self.heard().await;
            let is_final = heard.status().is_some_and(Status::is_final);
            if is_final && heard.cseq().unwrap().method == method {
                return heard;
            }
        }
    }

    fn say(&self, message: Message) {
        self.edge.nodes.send("core", message).unwrap();
    }

    fn answer(&self, request: &Message, code: u16) {
        self.say(reply(request, code));
    }

    /// A request of Romeo's, outside any dialog.
    fn romeo_asks(&mut self, method: Method, to: &str) -> Message {
        self.requests += 1;
        let number = self.requests;
        let mut request =
            Message::request(method.clone(), Uri::parse(&format!("sip:{to}")).unwrap());
        let via = format!("SIP/2.0/TLS sip.partner.example;branch=z9hG4bK{number}");
        for (name, value) in [
            (HeaderName::Via, via),
            (HeaderName::MaxForwards, "70".to_owned()),
            (HeaderName::From, format!("<sip:romeo@partner.example>;tag=r{number}")),
            (HeaderName::To, format!("<sip:{to}>")),
            (HeaderName::CallId, format!("call-{number}")),
            (HeaderName::CSeq, format!("{number} {method}")),
            (HeaderName::Contact, CONTACT.to_owned()),
        ] {
            request.headers.push(name, value).unwrap();
        }
        request
    }

    /// A request of Romeo's in the dialog that `answer` of ours began.
    fn inside(&mut self, answer: &Message, method: Method) -> Message {
        let mut request = self.romeo_asks(method, "alice@ours.example");
        for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
            let value = answer.headers.get(&name).unwrap().into_owned();
            request.headers.set(name, value).unwrap();
        }
        request
    }

    /// A request of Romeo's in the dialog that `request` of ours began.
    fn back(&mut self, request: &Message, method: Method) -> Message {
        let mut new = self.romeo_asks(method, "alice@ours.example");
        let ours = request.from().unwrap().to_string();
        let theirs = NameAddr::new(request.to().unwrap().uri).with_tag("partner").to_string();
        new.headers.set(HeaderName::To, ours).unwrap();
        new.headers.set(HeaderName::From, theirs).unwrap();
        let call = request.call_id().unwrap();
        new.headers.set(HeaderName::CallId, call).unwrap();
        new
    }

    fn text(&mut self, to: &str, text: &str) -> Message {
        let mut message = self.romeo_asks(Method::Message, to);
        message.set_body("text/plain", text.to_owned());
        message
    }

    fn subscribe(&mut self, to: &str, expires: &str) -> Message {
        let mut subscribe = self.romeo_asks(Method::Subscribe, to);
        subscribe.headers.push(HeaderName::Event, "presence").unwrap();
        subscribe.headers.push(HeaderName::Expires, expires).unwrap();
        subscribe
    }

    /// The next NOTIFY, answered: its state and its body.
    async fn notified(&mut self) -> (String, String) {
        let notify = self.request(Method::Notify).await;
        self.answer(&notify, 200);
        let state = notify.headers.get(&HeaderName::SubscriptionState).unwrap().into_owned();
        (state.split(';').next().unwrap().to_owned(), String::from_utf8_lossy(&notify.body).into())
    }

    /// Romeo watches Alice and is allowed to.
    async fn watched(&mut self, alice: &mut Client) {
        let subscribe = self.subscribe("alice@ours.example", "7200");
        self.say(subscribe);
        assert_eq!(self.answer_to(Method::Subscribe).await.status().unwrap().code(), 200);
        assert_eq!(self.notified().await.0, "pending");
        alice.expect("type='subscribe'").await;
        alice.send("<presence to='romeo@partner.example' type='subscribed'/>").await;
        while !self.notified().await.1.contains("open") {}
    }

    /// The session that Romeo began: the answer to his INVITE.
    async fn invited(&mut self) -> Message {
        let mut invite = self.romeo_asks(Method::Invite, "alice@ours.example");
        invite.set_body("application/sdp", SDP);
        self.say(invite);
        let answer = self.answer_to(Method::Invite).await;
        assert_eq!(answer.status().unwrap().code(), 200);
        answer
    }
}

fn reply(request: &Message, code: u16) -> Message {
    let mut response = Message::response_to(request, Status::of(code), Some("partner"));
    if (200..300).contains(&code) {
        response.headers.push(HeaderName::Contact, CONTACT).unwrap();
        if request.method() == Some(Method::Invite) {
            response.set_body("application/sdp", SDP);
        }
    }
    response
}

fn code(message: &Message) -> u16 {
    message.status().unwrap().code()
}

#[tokio::test]
async fn messages_go_both_ways_in_one_session() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.alice().await;
    alice
        .send("<message to='romeo@partner.example' type='chat' id='1'><body>one</body></message>")
        .await;
    let invite = world.request(Method::Invite).await;
    world.answer(&invite, 200);
    world.request(Method::Ack).await;
    let first = world.request(Method::Message).await;
    assert_eq!(&first.body[..], b"one");
    world.answer(&first, 200);
    let mut back = world.back(&first, Method::Message);
    back.set_body("text/plain", "two");
    world.say(back);
    assert!(alice.expect("</message>").await.contains(">two<"));
    assert_eq!(code(&world.answer_to(Method::Message).await), 200);
}

#[tokio::test]
async fn what_does_not_arrive_comes_back_with_the_reason() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.alice().await;
    alice
        .send("<message to='romeo@partner.example' type='chat' id='1'><body>one</body></message>")
        .await;
    let invite = world.request(Method::Invite).await;
    world.answer(&invite, 486);
    let error = alice.expect("</message>").await;
    assert!(error.contains("type='error'") && error.contains("Your IM could not be delivered."));
    assert!(error.contains("recipient-unavailable"), "{error}");
}

/// A stranger learns from an answer neither who has an account nor who blocks it; and no message
/// that was refused is answered 200.
#[tokio::test]
async fn nobody_and_a_user_who_blocks_answer_alike() {
    let mut world = World::start(PARTNER).await;
    let alice: Jid = "alice@ours.example".parse().unwrap();
    world.core.store.block(&alice, &["partner.example".parse().unwrap()]).await.unwrap();
    for _ in 0..20 {
        let mut answers = Vec::new();
        for to in ["nobody@ours.example", "alice@ours.example"] {
            let message = world.text(to, "hello");
            world.say(message);
            let answer = world.answer_to(Method::Message).await;
            let reason = answer.headers.get(&HeaderName::MsDiagnosticsPublic).unwrap().into_owned();
            answers.push((code(&answer), reason));
        }
        assert_eq!(answers[0].0, 403);
        assert_eq!(answers[0], answers[1]);
    }
    assert_eq!(world.core.offline_count("alice").await, 0);
    let message = world.text("bob@ours.example", "hello");
    world.say(message);
    assert_eq!(code(&world.answer_to(Method::Message).await), 200);
    assert_eq!(world.core.offline_count("bob").await, 1);
}

#[tokio::test]
async fn a_look_at_nobody_is_answered_as_a_look_at_a_stranger() {
    let mut world = World::start(PARTNER).await;
    let mut seen = Vec::new();
    for to in ["nobody@ours.example", "alice@ours.example"] {
        let look = world.subscribe(to, "0");
        world.say(look);
        assert_eq!(code(&world.answer_to(Method::Subscribe).await), 200);
        let mut states = Vec::new();
        while states.last().is_none_or(|(state, _)| state != "terminated") {
            let (state, body) = world.notified().await;
            states.push((state, body.replace(to, "whom")));
        }
        seen.push(states);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].len(), 1);
}

/// A partner that sends more than is taken: each message is answered, and each that was answered 200
/// is there.
#[tokio::test]
async fn what_is_too_much_is_refused_and_not_lost() {
    const COUNT: usize = 3000;
    let mut world = World::start(PARTNER).await;
    let (mut taken, mut refused, mut sent) = (0, 0, 0);
    while taken + refused < COUNT {
        while sent < COUNT {
            let message = world.text("bob@ours.example", &format!("number {sent}"));
            if world.edge.nodes.send("core", message).is_err() {
                break;
            }
            sent += 1;
        }
        match code(&world.answer_to(Method::Message).await) {
            200 => taken += 1,
            _ => refused += 1,
        }
    }
    assert!(taken > 0 && refused > 0, "{taken} and {refused}");
    assert_eq!(world.core.offline_count("bob").await, taken);
}

#[tokio::test]
async fn presence_is_shown_to_whom_the_user_allows_and_survives_a_restart() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.alice().await;
    world.watched(&mut alice).await;
    alice.send("<presence><show>dnd</show></presence>").await;
    while !world.notified().await.1.contains("busy") {}
    drop(alice);
    let mut world = World::start_on(world.stop().await, PARTNER).await;
    let (state, body) = world.notified().await;
    assert!(state == "active" && body.contains("closed"), "{state} {body}");
    let mut alice = world.alice().await;
    assert!(world.notified().await.1.contains("open"));
    // Taken back: she looks offline, and stays so.
    alice.send("<presence to='romeo@partner.example' type='unsubscribed'/>").await;
    let (state, body) = world.notified().await;
    assert!(state == "active" && body.contains("closed"), "{state} {body}");
}

#[tokio::test]
async fn a_user_watches_a_contact() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.alice().await;
    alice.send("<presence to='romeo@partner.example' type='subscribe'/>").await;
    let subscribe = world.request(Method::Subscribe).await;
    world.answer(&subscribe, 200);
    let mut notify = world.back(&subscribe, Method::Notify);
    notify.headers.push(HeaderName::Event, "presence").unwrap();
    notify.headers.push(HeaderName::SubscriptionState, "active;expires=3600").unwrap();
    notify.set_body(
        "application/pidf+xml",
        "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='sip:romeo@partner.example'>\
         <tuple id='a'><status><basic>open</basic></status></tuple></presence>",
    );
    world.say(notify);
    assert_eq!(code(&world.answer_to(Method::Notify).await), 200);
    alice.expect("<presence from='romeo@partner.example").await;
}

#[tokio::test]
async fn who_is_blocked_by_policy_hears_nothing_more() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.alice().await;
    world.watched(&mut alice).await;
    let session = world.invited().await;
    world.policy.send_replace(policy(BLOCKED));
    // The session is ended first of all; then the core has seen the new policy.
    world.request(Method::Bye).await;
    alice.send("<presence><show>dnd</show></presence>").await;
    alice.ping("said").await;
    let mut message = world.inside(&session, Method::Message);
    message.set_body("text/plain", "still here");
    world.say(message);
    let heard = world.heard().await;
    assert_eq!(
        (heard.status().map(Status::code), heard.cseq().unwrap().method),
        (Some(403), Method::Message)
    );
}

#[tokio::test]
async fn who_is_not_permitted_reaches_nobody() {
    let mut world = World::start("[[sip]]\nname = 'a'\nremote = ['another.example']\n").await;
    let message = world.text("alice@ours.example", "hello");
    world.say(message);
    assert_eq!(code(&world.answer_to(Method::Message).await), 403);
    let subscribe = world.subscribe("alice@ours.example", "3600");
    world.say(subscribe);
    assert_eq!(code(&world.answer_to(Method::Subscribe).await), 403);
    let mut world = World::start(PARTNER).await;
    let message = world.text("alice@elsewhere.example", "hello");
    world.say(message);
    assert_eq!(code(&world.answer_to(Method::Message).await), 403, "it is no domain of ours");
    assert_eq!(world.core.offline_count("alice").await, 0);
}

/// Nobody said what the domain speaks: XMPP first, SIP when that finds no server, and SIP at once
/// only after the domain was heard by SIP.
#[tokio::test]
async fn a_domain_that_answers_by_sip_is_written_to_by_sip() {
    let mut world = World::start(ANYBODY).await;
    let mut alice = world.alice().await;
    let said = |id: &str| {
        format!(
            "<message to='romeo@partner.example' type='chat' id='{id}'><body>{id}</body></message>"
        )
    };
    for (id, status) in [("one", 503), ("two", 200)] {
        alice.send(&said(id)).await;
        let transfer = timeout(PATIENCE, world.core.edge.incoming.recv()).await.unwrap().unwrap();
        let error = format!(
            "<message xmlns='jabber:client' from='romeo@partner.example' \
             to='alice@ours.example/a' id='{id}' type='error'><error type='cancel'>\
             <remote-server-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>\
             </message>"
        );
        drop(transfer);
        let error = Stanza::from_element(error.parse().unwrap()).unwrap();
        world.core.edge.sender.send(error).await.unwrap();
        let invite = world.request(Method::Invite).await;
        world.answer(&invite, status);
        if status != 200 {
            assert!(alice.expect("</message>").await.contains("type='error'"));
        }
    }
    let message = world.request(Method::Message).await;
    world.answer(&message, 200);
    alice.send(&said("three")).await;
    assert_eq!(&world.request(Method::Message).await.body[..], b"three");
}

/// Presence for who asked by SIP goes by SIP, though nobody said what the domain speaks; after a
/// restart, too.
#[tokio::test]
async fn a_domain_that_asks_by_sip_is_answered_by_sip() {
    let mut world = World::start(ANYBODY).await;
    let mut alice = world.alice().await;
    world.watched(&mut alice).await;
    drop(alice);
    let mut world = World::start_on(world.stop().await, ANYBODY).await;
    assert!(world.notified().await.1.contains("closed"));
    let _alice = world.alice().await;
    assert!(world.notified().await.1.contains("open"));
}

#[tokio::test]
async fn presence_for_an_account_that_is_gone_is_asked_for_no_more() {
    let mut world = World::start(PARTNER).await;
    let mut alice = world.alice().await;
    alice.send("<presence to='romeo@partner.example' type='subscribe'/>").await;
    let subscribe = world.request(Method::Subscribe).await;
    world.answer(&subscribe, 200);
    alice.ping("asked").await;
    drop(alice);
    let account: Jid = "alice@ours.example".parse().unwrap();
    world.core.store.remove_account(&account).await.unwrap();
    let mut notify = world.back(&subscribe, Method::Notify);
    notify.headers.push(HeaderName::Event, "presence").unwrap();
    notify.headers.push(HeaderName::SubscriptionState, "active;expires=3600").unwrap();
    world.say(notify);
    let last = world.request(Method::Subscribe).await;
    assert_eq!(last.expires().unwrap(), Some(0));
}

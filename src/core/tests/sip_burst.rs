//! One step that brings about more than any queue holds: a core starts, and thousands watch its users
//! by SIP.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed step is a failed test"
)]

mod world;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use gatehouse_bridge::{GatewayConfig, Limits};
use gatehouse_core::SipGatewayParts;
use gatehouse_policy::Policy;
use gatehouse_sip::{HeaderName, Message, Method, Status, Uri};
use gatehouse_store::{Contact, Store, Subscription};
use gatehouse_trunk::sip::{SipEdgeEnd, in_process};
use gatehouse_types::Jid;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use world::{Core, PATIENCE};

const PARTNERS: usize = 10;
const PEOPLE: usize = 20;
const DEVICES: usize = 10;
/// A NOTIFY that could not be sent is sent again after this.
const RETRY: Duration = Duration::from_secs(30);
const WATCHERS: usize = PARTNERS * PEOPLE * DEVICES;

/// The edge's end of the trunk, with the partners behind it.
struct Partners {
    edge: SipEdgeEnd,
}

impl Partners {
    async fn heard(&mut self) -> Message {
        timeout(PATIENCE, self.edge.incoming.recv()).await.unwrap().unwrap().message
    }

    async fn answer(&self, request: &Message) {
        let mut response = Message::response_to(request, Status::of(200), Some("partner"));
        response.headers.push(HeaderName::Contact, "<sip:them@partner.example;gruu>").unwrap();
        // The core reads as fast as it can.
        while let Err(back) = self.edge.nodes.send("core", response.clone()) {
            assert!(back.is_full(), "{back}");
            tokio::task::yield_now().await;
        }
    }
}

fn subscribe(partner: usize, person: usize, device: usize) -> Message {
    let who = format!("w{person}@p{partner}.example");
    let call = format!("{partner}-{person}-{device}");
    let mut request =
        Message::request(Method::Subscribe, Uri::parse("sip:alice@ours.example").unwrap());
    for (name, value) in [
        (HeaderName::Via, format!("SIP/2.0/TLS sip.p{partner}.example;branch=z9hG4bK{call}")),
        (HeaderName::MaxForwards, "70".to_owned()),
        (HeaderName::From, format!("<sip:{who}>;tag=t{call}")),
        (HeaderName::To, "<sip:alice@ours.example>".to_owned()),
        (HeaderName::CallId, call),
        (HeaderName::CSeq, "1 SUBSCRIBE".to_owned()),
        (HeaderName::Contact, format!("<sip:{who};opaque=user:epid:{device};gruu>")),
        (HeaderName::Event, "presence".to_owned()),
        (HeaderName::Expires, "7200".to_owned()),
    ] {
        request.headers.push(name, value).unwrap();
    }
    request
}

fn is_active(notify: &Message) -> bool {
    notify.headers.get(&HeaderName::SubscriptionState).unwrap().starts_with("active")
}

async fn everybody_may_watch(store: &Store) {
    let alice: Jid = "alice@ours.example".parse().unwrap();
    for partner in 0..PARTNERS {
        for person in 0..PEOPLE {
            let contact = Contact {
                jid: format!("w{person}@p{partner}.example").parse().unwrap(),
                in_roster: true,
                name: None,
                subscription: Subscription::From,
                pending_out: false,
                pending_in: None,
                approved: false,
                groups: Vec::new(),
            };
            store.put_contact(&alice, &contact).await.unwrap();
        }
    }
}

/// A core and the partners behind its edge.
async fn start(files: TempDir) -> (Core, Partners) {
    let (trunk, edge) = in_process();
    let policy: Policy = toml::from_str("[[sip]]\nname = 'partners'\nremote = ['*']\n").unwrap();
    let policy = watch::Sender::new(Arc::new(policy)).subscribe();
    let config = GatewayConfig {
        contact: "core".to_owned(),
        public_host: "sip.ours.example".to_owned(),
        notify_delay: Duration::from_millis(1),
        revive_within: Duration::from_millis(1),
        limits: Limits {
            subscriptions_per_user_max: WATCHERS,
            subscriptions_per_pair_max: DEVICES,
            ..Limits::default()
        },
        ..GatewayConfig::default()
    };
    let parts = SipGatewayParts { config, node: "core".to_owned(), policy, trunk, inside: None };
    (Core::start_with(files, Some(parts)).await, Partners { edge })
}

#[tokio::test]
async fn two_thousand_watchers_hear_in_time_and_nobody_else_waits() {
    let files = Core::new_files().await;
    let store = Store::open(&files.path().join("db.sqlite")).await.unwrap();
    everybody_may_watch(&store).await;
    store.close().await;
    let (core, mut partners) = start(files).await;

    // All begin to watch, a few at a time.
    let mut to_come = Vec::new();
    for partner in 0..PARTNERS {
        for person in 0..PEOPLE {
            to_come.extend((0..DEVICES).map(|device| subscribe(partner, person, device)));
        }
    }
    let (mut accepted, mut allowed) = (0, HashSet::new());
    while accepted < WATCHERS || allowed.len() < WATCHERS {
        for request in to_come.split_off(to_come.len().saturating_sub(20)) {
            partners.edge.nodes.send("core", request).unwrap();
        }
        let want = WATCHERS - to_come.len();
        while accepted < want || allowed.len() < want {
            let heard = partners.heard().await;
            match heard.method() {
                Some(Method::Notify) => {
                    // Who is told `pending` first is told again once alice's server has allowed it.
                    if is_active(&heard) {
                        allowed.insert(heard.call_id().unwrap());
                    }
                    partners.answer(&heard).await;
                }
                _ => {
                    assert_eq!(heard.status().unwrap().code(), 200, "{heard:?}");
                    accepted += 1;
                }
            }
        }
    }

    // The core is started anew: all are told at once, and nobody outside reads for a while. She writes
    // to somebody else.
    // What the router was given before is still worked on.
    core.tasks.shut_down(Duration::from_secs(120)).await.unwrap();
    core.store.close().await;
    drop(partners);
    let begun = Instant::now();
    let (core, mut partners) = start(core.files).await;
    let mut alice = core.connect_direct().await.log_in("alice", "a").await;
    alice
        .send("<message to='bob@other.example' type='chat' id='im'><body>hello</body></message>")
        .await;
    alice.ping("said").await;
    let (mut notified, mut invited) = (HashMap::<String, usize>::new(), None);
    let mut under_way: HashMap<String, Vec<Message>> = HashMap::new();
    let mut most = 0;
    while notified.len() < WATCHERS || invited.is_none() {
        let heard = match timeout(Duration::from_millis(20), partners.edge.incoming.recv()).await {
            Ok(heard) => heard.unwrap().message,
            // All that may be under way is: now the partners answer.
            Err(_) => {
                most = most.max(under_way.values().map(Vec::len).max().unwrap_or_default());
                for request in under_way.drain().flat_map(|(_, requests)| requests) {
                    partners.answer(&request).await;
                }
                assert!(begun.elapsed() < RETRY, "{} of {WATCHERS}", notified.len());
                continue;
            }
        };
        match heard.method() {
            Some(Method::Notify) => {
                assert!(is_active(&heard), "{heard:?}");
                *notified.entry(heard.call_id().unwrap()).or_default() += 1;
                let partner = heard.to().unwrap().uri.domain().unwrap().to_string();
                under_way.entry(partner).or_default().push(heard);
            }
            Some(Method::Invite) => invited = Some(notified.len()),
            other => panic!("{other:?}: {heard:?}"),
        }
    }
    assert!(notified.values().all(|count| *count == 1), "somebody heard again");
    assert!(begun.elapsed() < RETRY, "some may have been sent again");
    assert!(most <= 128, "{most} of one partner under way");
    let waited_for = invited.unwrap();
    assert!(waited_for < WATCHERS, "the message to another came after {waited_for} presences");
}

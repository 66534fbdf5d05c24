//! The way back to the node that started, through any edge, whatever was restarted.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

mod world;

use std::collections::HashMap;

use gatehouse_policy::SipMode;
use gatehouse_sip::{HeaderName, Message, Status, Uri};
use gatehouse_testkit::TestCa;
use tokio::net::TcpListener;
use world::sip::{
    Heard, Inside, NODES, Phone, SipPeer, Wire, policy, request_from, request_inside, row, told,
    with_uri,
};
use world::{Zone, port};

const DIALOGS: usize = 1000;
const BATCH: usize = 50;

/// Draws that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from((self.0 >> 33) % sides as u64).unwrap()
    }
}

/// What the partner knows of a dialog, and which node began it.
struct Known {
    node: &'static str,
    request: Message,
    contact: Uri,
}

fn id(number: usize) -> String {
    format!("dialog{number:05}")
}

fn owner(call_id: &str, owners: &HashMap<String, &'static str>) -> &'static str {
    owners[call_id]
}

/// The partner's answer.
fn answer(request: &Message) -> Message {
    let mut answer = Message::response_to(request, Status::of(200), Some("theirs"));
    let route = "<sip:sip.them.example:5061;transport=tls;lr;opaque=state:T>";
    answer.headers.push(HeaderName::RecordRoute, route).unwrap();
    let contact = "<sip:bob@them.example;opaque=user:epid:x;gruu>";
    answer.headers.push(HeaderName::Contact, contact).unwrap();
    answer
}

/// A request of the partner in a dialog that a node began.
fn in_dialog(known: &Known, method: &str, number: usize) -> Message {
    let tag = known.request.from().unwrap().tag().unwrap().to_owned();
    let call_id = known.request.call_id().unwrap();
    let mut request = request_from("them.example", method, &known.contact.to_string(), &id(number));
    request.headers.set(HeaderName::To, format!("<sip:alice@ours.example>;tag={tag}")).unwrap();
    request.headers.set(HeaderName::CallId, call_id).unwrap();
    request
}

/// Both edges call the partner when they first send.
async fn calls(peer: &SipPeer, listener: &TcpListener, inside: &Inside) -> Vec<(Phone, Message)> {
    let mut phones = Vec::new();
    for edge in 0..inside.edges.len() {
        inside.send(0, edge, request_inside(0, "MESSAGE", BOB, &format!("first{edge}")));
        let mut phone = peer.accept(listener).await;
        let first = phone.next().await;
        phones.push((phone, first));
    }
    phones
}

const BOB: &str = "sip:bob@them.example";

/// What must have come: to the right node, as that node knows its dialog.
fn check(heard: &Heard, owners: &HashMap<String, &'static str>) {
    let call_id = heard.message.call_id().unwrap();
    assert_eq!(heard.node, owner(&call_id, owners), "mis-delivered: {call_id}");
    if let Some(uri) = heard.message.uri() {
        let own = format!("sip:{call_id}@{}.inside.example:15061", heard.node);
        assert!(uri.to_string().starts_with(&own), "{uri}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dialog_finds_its_node_although_both_edges_were_restarted() {
    let ca = TestCa::new();
    let listener = port().await;
    let theirs = listener.local_addr().unwrap().port();
    let zone = Zone::new().sip_federation("them.example", "sip.them.example", theirs);
    let (resolver, _dns) = zone.serve().await;
    let rows = || policy(vec![row(&["them.example"], SipMode::Enhanced)]);
    let wire = Wire::default();
    let peer = SipPeer::new(Some(&ca.issue().dns("sip.them.example").make()), &ca, &wire);
    let mut inside = Inside::start(&ca, &resolver, rows()).await;
    let mut phones = calls(&peer, &listener, &inside).await;
    for (phone, first) in &mut phones {
        phone.send(&answer(first)).await;
        assert_eq!(inside.hear().await.node, "core-1");
    }

    // A thousand dialogs of each kind begin at random nodes, through random edges. Half of the
    // requests are answered before the restart.
    let mut dice = Dice(7);
    let (mut dialogs, mut owners, mut unanswered) = (Vec::new(), HashMap::new(), Vec::new());
    for start in (0..2 * DIALOGS).step_by(BATCH) {
        let mut through = [0, 0];
        for number in start..start + BATCH {
            let (node, edge) = (dice.roll(3), dice.roll(2));
            let method = if number % 2 == 0 { "INVITE" } else { "SUBSCRIBE" };
            owners.insert(id(number), NODES[node]);
            through[edge] += 1;
            inside.send(node, edge, request_inside(node, method, BOB, &id(number)));
        }
        let mut answered = 0;
        for (edge, (phone, _)) in phones.iter_mut().enumerate() {
            for _ in 0..through[edge] {
                let request = phone.next().await;
                let contact = request.contacts().unwrap().remove(0).uri;
                let node = owner(&request.call_id().unwrap(), &owners);
                if dice.roll(2) == 0 {
                    phone.send(&answer(&request)).await;
                    answered += 1;
                } else {
                    unanswered.push(answer(&request));
                }
                dialogs.push(Known { node, request, contact });
            }
        }
        for _ in 0..answered {
            check(&inside.hear().await, &owners);
        }
    }
    assert_eq!(dialogs.len(), 2 * DIALOGS);
    assert!(unanswered.len() > DIALOGS / 2);

    // Nobody is told that those have failed: their answers may still come, and do.
    inside.stop().await;
    drop(phones);
    let mut inside = Inside::start(&ca, &resolver, rows()).await;
    inside.ready().await;
    let mut lines =
        [peer.dial(inside.edges[0].address).await, peer.dial(inside.edges[1].address).await];
    for batch in unanswered.chunks(BATCH) {
        for answer in batch {
            lines[dice.roll(2)].send(answer).await;
        }
        for _ in batch {
            let heard = inside.hear().await;
            check(&heard, &owners);
            // It finds its transaction: the Via is the node's own, and the only one.
            let vias = heard.message.vias().unwrap();
            assert_eq!(vias.len(), 1);
            let call_id = heard.message.call_id().unwrap();
            assert_eq!(vias[0].branch(), Some(format!("z9hG4bK{call_id}").as_str()));
        }
    }

    // Every dialog goes on, through an edge that never saw it.
    for (start, batch) in dialogs.chunks(BATCH).enumerate() {
        let mut asked = [0, 0];
        for (number, known) in batch.iter().enumerate() {
            let method =
                if known.request.method().unwrap().as_str() == "INVITE" { "BYE" } else { "NOTIFY" };
            let line = dice.roll(2);
            asked[line] += 1;
            lines[line].send(&in_dialog(known, method, start * BATCH + number)).await;
        }
        for _ in batch {
            let heard = inside.hear().await;
            check(&heard, &owners);
            inside.answer(&heard, 200);
        }
        for (line, count) in lines.iter_mut().zip(asked) {
            for _ in 0..count {
                assert_eq!(told(&line.next().await), "200");
            }
        }
    }
    let by_node = |node| dialogs.iter().filter(|known| known.node == node).count();
    assert!(NODES.iter().all(|node| by_node(*node) > DIALOGS / 2), "all nodes took part");
    inside.assert_silence();
    wire.assert_clean();
}

#[tokio::test]
async fn a_token_that_is_not_ours_is_no_dialog() {
    let ca = TestCa::new();
    let listener = port().await;
    let theirs = listener.local_addr().unwrap().port();
    let zone = Zone::new()
        .sip_federation("them.example", "sip.them.example", theirs)
        .sip_federation("other.example", "sip.other.example", theirs);
    let (resolver, _dns) = zone.serve().await;
    let rows = policy(vec![row(&["them.example", "other.example"], SipMode::Enhanced)]);
    let wire = Wire::default();
    let peer = SipPeer::new(Some(&ca.issue().dns("sip.them.example").make()), &ca, &wire);
    let other = SipPeer::new(Some(&ca.issue().dns("sip.other.example").make()), &ca, &wire);
    let mut inside = Inside::start(&ca, &resolver, rows).await;
    inside.ready().await;
    inside.send(1, 0, request_inside(1, "SUBSCRIBE", BOB, &id(1)));
    let mut called = peer.accept(&listener).await;
    let request = called.next().await;
    let contact = request.contacts().unwrap().remove(0).uri;
    let known = Known { node: NODES[1], request, contact };
    let mut line = peer.dial(inside.edges[1].address).await;
    let gone = "481 1004;reason=\"The dialog does not exist\"";

    let good = in_dialog(&known, "NOTIFY", 1);
    let token = known.contact.user.clone().unwrap();
    for at in 0..token.len() {
        // A bit of each character, so that it stays one of the alphabet.
        let flipped: String = token
            .char_indices()
            .map(|(i, c)| {
                if i != at {
                    c
                } else if c == 'A' {
                    'B'
                } else {
                    'A'
                }
            })
            .collect();
        let uri = format!("sip:{flipped}@sip.ours.example:5061;transport=tls");
        assert_eq!(line.ask(&with_uri(good.clone(), &uri)).await, gone, "character {at}");
    }
    for forged in ["AAAA", "alice", &"A".repeat(200), &token[1..], &format!("{token}A")] {
        let uri = format!("sip:{forged}@sip.ours.example:5061;transport=tls");
        assert_eq!(line.ask(&with_uri(good.clone(), &uri)).await, gone, "{forged}");
    }
    for uri in ["sip:sip.ours.example:5061;transport=tls", "sip:alice@ours.example"] {
        assert_eq!(line.ask(&with_uri(good.clone(), uri)).await, gone, "{uri}");
    }
    // What one partner saw is worth nothing to another.
    let mut stolen = in_dialog(&known, "NOTIFY", 1);
    stolen.headers.set(HeaderName::From, "<sip:bob@other.example>;tag=x").unwrap();
    let mut foreign = other.dial(inside.edges[1].address).await;
    assert_eq!(foreign.ask(&stolen).await, gone);
    // Nor is the way of a response the way into a dialog.
    let branch = known.request.vias().unwrap()[0].branch().unwrap().to_owned();
    let uri = format!("sip:{}@sip.ours.example:5061", &branch["z9hG4bK".len()..]);
    assert_eq!(line.ask(&with_uri(good.clone(), &uri)).await, gone);
    // What is never answered is not answered, and nothing was guessed.
    for method in ["ACK", "BENOTIFY"] {
        let silent = in_dialog(&known, method, 2);
        line.send(&with_uri(silent, "sip:AAAA@sip.ours.example:5061")).await;
    }
    inside.assert_silence();
    line.send(&good).await;
    let heard = inside.hear().await;
    assert_eq!((heard.node, &*heard.edge), ("core-2", "edge-2"));
    assert_eq!(heard.message.method().unwrap().as_str(), "NOTIFY");
    inside.answer(&heard, 200);
    assert_eq!(told(&line.next().await), "200");
    // A forged response goes nowhere; the real one does.
    let real = answer(&known.request);
    let mut forged = real.clone();
    let via = known.request.headers.get(&HeaderName::Via).unwrap().into_owned();
    let changed = via.replace(&branch[20..30], "AAAAAAAAAA");
    forged.headers.set(HeaderName::Via, changed).unwrap();
    called.send(&forged).await;
    called.send(&real).await;
    let heard = inside.hear().await;
    assert_eq!((heard.node, heard.message.status()), ("core-2", Some(Status::of(200))));
    inside.assert_silence();
    wire.assert_clean();
}

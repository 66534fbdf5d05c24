//! Several core nodes with domains of their own: none speaks, answers or listens for another.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

mod world;

use gatehouse_policy::SipMode;
use gatehouse_sip::{HeaderName, Message, Status};
use gatehouse_testkit::TestCa;
use gatehouse_trunk::sip::Edge;
use tokio::net::TcpListener;
use world::sip::{
    Inside, SipPeer, Wire, answer_inside, policy, request, request_inside, row, set, told, with_uri,
};
use world::{Zone, port};

const ALICE: &str = "sip:alice@ours.example";
const BOB: &str = "sip:bob@them.example";
/// The first and the third share a domain.
const RIGHTS: [&[&str]; 3] = [&["ours.example"], &["second.example"], &["ours.example"]];

struct World {
    ca: TestCa,
    resolver: gatehouse_resolve::Resolver,
    listener: TcpListener,
    inside: Inside,
    peer: SipPeer,
    wire: Wire,
}

async fn world() -> World {
    let ca = TestCa::new();
    let listener = port().await;
    let theirs = listener.local_addr().unwrap().port();
    let zone = Zone::new().sip_federation("them.example", "sip.them.example", theirs);
    let (resolver, dns) = zone.serve().await;
    // It answers as long as the test runs.
    std::mem::forget(dns);
    let inside = Inside::start_apart(&ca, &resolver, rows(), &RIGHTS).await;
    inside.ready().await;
    let wire = Wire::default();
    let peer = SipPeer::new(Some(&ca.issue().dns("sip.them.example").make()), &ca, &wire);
    World { ca, resolver, listener, inside, peer, wire }
}

fn rows() -> gatehouse_policy::Policy {
    policy(vec![row(&["them.example"], SipMode::Enhanced)])
}

#[tokio::test]
async fn a_node_sends_for_its_own_domains_only() {
    let World { mut inside, peer, listener, wire, .. } = world().await;
    for method in ["MESSAGE", "INVITE", "SUBSCRIBE"] {
        inside.send(1, 0, request_inside(1, method, BOB, &format!("forged{method}")));
        let heard = inside.hear().await;
        assert_eq!((heard.node, told(&heard.message).as_str()), ("core-2", "403"), "{method}");
    }
    // What is not answered is dropped without a word.
    inside.send(1, 0, request_inside(1, "ACK", BOB, "forgedACK"));
    let second = set(
        request_inside(1, "MESSAGE", BOB, "own"),
        HeaderName::From,
        "<sip:paris@second.example>;tag=p",
    );
    inside.send(1, 0, second);
    inside.send(0, 0, request_inside(0, "MESSAGE", BOB, "alice"));
    // The first that the partner hears is true.
    for _ in 0..2 {
        let mut phone = peer.accept(&listener).await;
        let first = phone.next().await;
        let node = match first.call_id().unwrap().as_str() {
            "own" => "core-2",
            "alice" => "core-1",
            other => panic!("{other} came through"),
        };
        phone.send(&Message::response_to(&first, Status::of(200), Some("t"))).await;
        let heard = inside.hear().await;
        assert_eq!((heard.node, told(&heard.message).as_str()), (node, "200"));
    }
    inside.assert_silence();
    wire.assert_clean();
}

#[tokio::test]
async fn a_node_answers_what_it_was_given_and_nothing_else() {
    let World { mut inside, peer, wire, .. } = world().await;
    let mut phone = peer.dial(inside.edges[0].address).await;
    phone.send(&request("MESSAGE", ALICE, "a1")).await;
    let heard = inside.hear().await;
    assert_eq!(heard.node, "core-1");
    // One of another domain, and one that may serve this one, too, but was not asked.
    for thief in [1, 2] {
        let stolen = answer_inside(&heard.message, 200, thief);
        inside.nodes[thief].edges.send(Edge::Named(&heard.edge), stolen).unwrap();
    }
    // An answer to its own request, in the name of another domain of the partner's side.
    let other = set(
        answer_inside(&heard.message, 200, 0),
        HeaderName::From,
        "<sip:bob@other.example>;tag=fa1",
    );
    inside.nodes[0].edges.send(Edge::Named(&heard.edge), other).unwrap();
    inside.answer(&heard, 486);
    assert_eq!(told(&phone.next().await), "486", "the first answer is of who was asked");

    // Any edge brings it home.
    phone.send(&request("MESSAGE", ALICE, "a2")).await;
    let heard = inside.hear().await;
    let through = if &*heard.edge == "edge-1" { "edge-2" } else { "edge-1" };
    let answer = answer_inside(&heard.message, 200, 2);
    inside.nodes[2].edges.send(Edge::Named(through), answer).unwrap();
    inside.answer(&heard, 200);
    assert_eq!(told(&phone.next().await), "200");
    inside.assert_silence();
    wire.assert_clean();
}

#[tokio::test]
async fn a_dialog_ends_with_the_right_to_the_domain() {
    let World { ca, resolver, mut inside, peer, listener, wire } = world().await;
    inside.send(2, 0, request_inside(2, "SUBSCRIBE", BOB, "dialog"));
    let mut called = peer.accept(&listener).await;
    let began = called.next().await;
    let contact = began.contacts().unwrap().remove(0).uri.to_string();
    let tag = began.from().unwrap().tag().unwrap().to_owned();
    let in_dialog = |id: &str| {
        let request = with_uri(request("NOTIFY", ALICE, id), &contact);
        let to = format!("<{ALICE}>;tag={tag}");
        set(set(request, HeaderName::To, &to), HeaderName::CallId, "dialog")
    };
    let mut line = peer.dial(inside.edges[1].address).await;
    line.send(&in_dialog("n1")).await;
    let heard = inside.hear().await;
    assert_eq!(heard.node, "core-3");
    inside.answer(&heard, 200);
    assert_eq!(told(&line.next().await), "200");
    inside.stop().await;
    drop(called);

    // The third was broken into; its domain is the first one's alone from now on.
    let rights: [&[&str]; 3] = [&["ours.example"], &["second.example"], &["second.example"]];
    let mut inside = Inside::start_apart(&ca, &resolver, rows(), &rights).await;
    inside.ready().await;
    let mut line = peer.dial(inside.edges[1].address).await;
    let gone = "481 1004;reason=\"The dialog does not exist\"";
    assert_eq!(line.ask(&in_dialog("n2")).await, gone);
    // Nor does it hear the answer that was under way.
    line.send(&Message::response_to(&began, Status::of(200), Some("theirs"))).await;
    line.send(&request("MESSAGE", ALICE, "a1")).await;
    let heard = inside.hear().await;
    assert_eq!((heard.node, heard.message.call_id().unwrap().as_str()), ("core-1", "a1"));
    inside.assert_silence();
    wire.assert_clean();
}

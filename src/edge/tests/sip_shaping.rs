//! A partner that sees us as a stranger is sent no more than it takes, and nobody else waits for it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

mod world;

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use gatehouse_net::now;
use gatehouse_policy::{SendRate, SipMode, SipPartner};
use gatehouse_sip::{HeaderName, Message, Status};
use gatehouse_testkit::TestCa;
use tokio::net::TcpListener;
use world::sip::{Inside, Phone, SipPeer, Wire, policy, request, request_inside, row, set, told};
use world::{Zone, port};

const BOB: &str = "sip:bob@them.example";
const ALICE: &str = "sip:alice@ours.example";

struct World {
    inside: Inside,
    peer: SipPeer,
    listener: TcpListener,
}

fn at(rate: u32, row: SipPartner) -> SipPartner {
    SipPartner { send_per_second: NonZeroU32::new(rate).map(SendRate::PerSecond), ..row }
}

async fn world(rows: Vec<SipPartner>) -> World {
    let ca = TestCa::new();
    let listener = port().await;
    let theirs = listener.local_addr().unwrap().port();
    let zone = Zone::new()
        .sip_federation("them.example", "sip.them.example", theirs)
        .sip_federation("other.example", "sip.other.example", theirs);
    let (resolver, dns) = zone.serve().await;
    let inside = Inside::start(&ca, &resolver, policy(rows)).await;
    inside.ready().await;
    let certificate = ca.issue().dns("sip.them.example").dns("sip.other.example").make();
    let peer = SipPeer::new(Some(&certificate), &ca, &Wire::default());
    // It answers as long as the test runs.
    std::mem::forget(dns);
    World { inside, peer, listener }
}

/// Takes requests until so many came, and answers each: when each came.
async fn take(phone: &mut Phone, count: usize) -> Vec<(String, Instant)> {
    let mut came = Vec::new();
    while came.len() < count {
        let request = phone.next().await;
        came.push((request.call_id().unwrap(), now()));
        phone.send(&Message::response_to(&request, Status::of(200), Some("t"))).await;
    }
    came
}

#[tokio::test]
async fn a_burst_leaves_at_the_pace_of_the_row_and_in_order() {
    let them = at(40, row(&["them.example"], SipMode::Enhanced));
    let World { mut inside, peer, listener } = world(vec![
        them,
        SipPartner { name: "other".to_owned(), ..row(&["other.example"], SipMode::Enhanced) },
    ])
    .await;
    let started = now();
    for number in 0..120 {
        inside.send(0, 0, request_inside(0, "MESSAGE", BOB, &format!("m{number:03}")));
    }
    // An answer to the partner, an ACK and somebody else's request wait for none of them.
    let mut line = peer.dial(inside.edges[0].address).await;
    line.send(&request("MESSAGE", ALICE, "in")).await;
    let heard = inside.hear().await;
    inside.answer(&heard, 200);
    assert_eq!(told(&line.next().await), "200");
    inside.send(0, 0, request_inside(0, "ACK", BOB, "ack"));
    let other = set(
        request_inside(0, "MESSAGE", "sip:bob@other.example", "other"),
        HeaderName::To,
        "<sip:bob@other.example>",
    );
    inside.send(0, 0, other);

    let mut phone = peer.accept(&listener).await;
    let mut elsewhere = peer.accept(&listener).await;
    assert_eq!(take(&mut elsewhere, 1).await[0].0, "other");
    assert!(started.elapsed() < Duration::from_millis(1500), "another partner waited");
    let came = take(&mut phone, 121).await;
    let ack = came.iter().position(|(call, _)| call == "ack").unwrap();
    assert!(ack <= 60, "the ACK was number {ack}");
    let messages: Vec<_> = came.iter().filter(|(call, _)| call != "ack").collect();
    for (number, (call, _)) in messages.iter().enumerate() {
        assert_eq!(*call, format!("m{number:03}"));
    }
    // Forty at once, and forty more in each second.
    let took = messages[119].1 - started;
    assert!(took >= Duration::from_millis(1900), "120 in {took:?}");
    for _ in 0..121 {
        assert_eq!(told(&inside.hear().await.message), "200");
    }
    inside.assert_silence();
}

#[tokio::test]
async fn what_would_wait_too_long_is_refused_and_a_message_goes_before_presences() {
    let World { mut inside, peer, listener } =
        world(vec![at(4, row(&["them.example"], SipMode::Enhanced))]).await;
    for number in 0..80 {
        inside.send(0, 0, request_inside(0, "NOTIFY", BOB, &format!("n{number:03}")));
    }
    inside.send(0, 0, request_inside(0, "MESSAGE", BOB, "message"));
    // Four go, sixty-four wait, and the rest hears when to come back.
    for number in 68..80 {
        let heard = inside.hear().await;
        assert_eq!(told(&heard.message), "503 16");
        assert_eq!(heard.message.call_id().unwrap(), format!("n{number:03}"));
    }
    // Whoever asks sees how many wait, and for how long.
    let paces = inside.edges[0].reach.paces();
    let [pace] = paces.as_slice() else { panic!("{paces:?}") };
    assert_eq!(pace.peer, "them.example");
    assert!((pace.per_second - 4.0).abs() < 1e-9, "{pace:?}");
    assert!(
        (55..=65).contains(&pace.waiting) && (14..=17).contains(&pace.clear_in_secs),
        "{pace:?}"
    );
    assert!(inside.edges[1].reach.paces().is_empty());
    let mut phone = peer.accept(&listener).await;
    let came = take(&mut phone, 6).await;
    let calls: Vec<_> = came.iter().map(|(call, _)| call.as_str()).collect();
    assert_eq!(calls, ["n000", "n001", "n002", "n003", "message", "n004"]);
    // Who stops tells the nodes what was not sent.
    for _ in 0..6 {
        assert_eq!(told(&inside.hear().await.message), "200");
    }
    let edge = inside.edges.remove(0);
    edge.stop().await;
    let mut told_of = 0;
    while let Ok(heard) = inside.heard.try_recv() {
        assert!(heard.message.status().is_some());
        told_of += 1;
    }
    assert!((55..=63).contains(&told_of), "{told_of}");
}

#[tokio::test]
async fn strangers_are_spared_and_those_of_the_list_are_not() {
    for (mode, rate, is_spared) in [
        (SipMode::Open, None, true),
        (SipMode::Open, Some(SendRate::Off), false),
        (SipMode::Enhanced, None, false),
    ] {
        let them = SipPartner { send_per_second: rate, ..row(&["them.example"], mode) };
        let World { inside, peer, listener } = world(vec![them]).await;
        let started = now();
        for number in 0..27 {
            inside.send(0, 0, request_inside(0, "MESSAGE", BOB, &format!("m{number:03}")));
        }
        let mut phone = peer.accept(&listener).await;
        let came = take(&mut phone, 27).await;
        let took = came[26].1 - started;
        // Nine at once, nine in each of two seconds.
        assert_eq!(took >= Duration::from_millis(1900), is_spared, "{mode:?} {rate:?}: {took:?}");
    }
}

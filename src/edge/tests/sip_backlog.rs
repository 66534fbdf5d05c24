//! A core node that does not keep up with what its edge has for it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

mod world;

use std::time::Duration;

use gatehouse_policy::SipMode;
use gatehouse_sip::{HeaderName, Message, Status};
use gatehouse_testkit::TestCa;
use tokio::time;
use world::sip::{Inside, SipPeer, Wire, policy, request, request_inside, row, set, told};
use world::{Zone, port};

const BOB: &str = "sip:bob@them.example";
const ALICE: &str = "sip:alice@ours.example";

#[tokio::test]
async fn a_node_that_does_not_keep_up_loses_no_answer() {
    let ca = TestCa::new();
    let listener = port().await;
    let theirs = listener.local_addr().unwrap().port();
    let zone = Zone::new().sip_federation("them.example", "sip.them.example", theirs);
    let (resolver, _dns) = zone.serve().await;
    let rows = policy(vec![row(&["them.example"], SipMode::Enhanced)]);
    let mut inside = Inside::start(&ca, &resolver, rows).await;
    inside.ready().await;
    let certificate = ca.issue().dns("sip.them.example").make();
    let peer = SipPeer::new(Some(&certificate), &ca, &Wire::default());
    for number in 0..300 {
        inside.send(0, 0, request_inside(0, "MESSAGE", BOB, &format!("m{number:03}")));
    }
    let mut asked = Vec::new();
    let mut phone = peer.accept(&listener).await;
    while asked.len() < 300 {
        asked.push(phone.next().await);
    }

    let reads = std::sync::Arc::clone(&inside.nodes[0].reads);
    let stuck = reads.acquire().await.unwrap();
    // More requests than there is room for: those over it hear at once.
    let mut line = peer.dial(inside.edges[0].address).await;
    for number in 0..1100 {
        line.send(&request("MESSAGE", ALICE, &format!("in{number:04}"))).await;
    }
    for _ in 0..300 {
        assert_eq!(told(&line.next().await), "503 5");
    }
    // They leave room for answers, and those that find none wait in the partner's connection.
    for request in &asked {
        phone.send(&Message::response_to(request, Status::of(200), Some("t"))).await;
    }
    phone.send(&request("OPTIONS", ALICE, "after")).await;
    let read_on = time::timeout(Duration::from_millis(500), phone.next()).await;
    assert!(read_on.is_err(), "it reads on, so an answer was dropped: {read_on:?}");
    // A request that can go nowhere is answered by the edge itself: that waits as well.
    let nobody = "sip:bob@nobody.example";
    let own = request_inside(0, "MESSAGE", nobody, "own");
    inside.send(0, 0, set(own, HeaderName::To, &format!("<{nobody}>")));
    drop(stuck);
    assert_eq!(phone.next().await.call_id().unwrap(), "after");

    let mut answered = Vec::new();
    while answered.len() < 301 {
        let heard = inside.hear().await.message;
        if heard.status().is_some() {
            answered.push(heard.call_id().unwrap());
        }
    }
    answered.retain(|call| call != "own");
    assert!(answered.iter().cloned().eq((0..300).map(|number| format!("m{number:03}"))));
}

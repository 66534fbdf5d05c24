//! Which node takes new sessions.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

mod world;

use std::sync::atomic::Ordering;
use std::time::Duration;

use gatehouse_policy::SipMode;
use gatehouse_sip::HeaderName;
use gatehouse_testkit::TestCa;
use tokio::time;
use world::Zone;
use world::sip::{Heard, Inside, Phone, SipPeer, Wire, policy, request, row, set, told, with_uri};

const ALICE: &str = "sip:alice@ours.example";
const NOBODY: &str = "503 1007;reason=\"The service is temporarily not available\" 10";

/// Lets the clock of all run on, and everybody do what is due.
async fn pass(seconds: u64) {
    time::pause();
    for _ in 0..seconds * 4 {
        time::advance(Duration::from_millis(250)).await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    time::resume();
}

/// The node that a new session reaches.
async fn taken_by(inside: &mut Inside, phone: &mut Phone, id: &str) -> &'static str {
    phone.send(&request("MESSAGE", ALICE, id)).await;
    let heard = inside.hear().await;
    inside.answer(&heard, 200);
    assert_eq!(told(&phone.next().await), "200");
    heard.node
}

async fn world() -> (Inside, SipPeer, Wire) {
    let ca = TestCa::new();
    let zone = Zone::new().sip_federation("them.example", "sip.them.example", 5061);
    let (resolver, dns) = zone.serve().await;
    let rows = policy(vec![row(&["them.example"], SipMode::Enhanced)]);
    let inside = Inside::start(&ca, &resolver, rows).await;
    inside.ready().await;
    let wire = Wire::default();
    let peer = SipPeer::new(Some(&ca.issue().dns("sip.them.example").make()), &ca, &wire);
    // It answers as long as the test runs.
    std::mem::forget(dns);
    (inside, peer, wire)
}

#[tokio::test]
async fn new_sessions_move_within_five_seconds_and_dialogs_stay() {
    let (mut inside, peer, wire) = world().await;
    let mut phone = peer.dial(inside.edges[0].address).await;
    assert_eq!(taken_by(&mut inside, &mut phone, "a1").await, "core-1");
    // A dialog of a node that stays, begun where its own port leads.
    let mut own = peer.dial(inside.edges[0].node_addresses[0]).await;
    own.send(&request("INVITE", ALICE, "call")).await;
    let heard = inside.hear().await;
    assert_eq!(heard.node, "core-3");
    inside.answer(&heard, 200);
    let accepted = own.next().await;
    let contact = accepted.contacts().unwrap().remove(0).uri.to_string();
    let to = accepted.headers.get(&HeaderName::To).unwrap().into_owned();
    let in_dialog = |method, id| {
        let request = set(with_uri(request(method, ALICE, id), &contact), HeaderName::To, &to);
        set(request, HeaderName::CallId, "call")
    };

    inside.nodes[0].is_silent.store(true, Ordering::Relaxed);
    pass(4).await;
    assert_eq!(taken_by(&mut inside, &mut phone, "a2").await, "core-2", "five seconds are enough");
    for id in ["b1", "b2"] {
        phone.send(&in_dialog("MESSAGE", id)).await;
        let heard = inside.hear().await;
        assert_eq!(heard.node, "core-3");
        inside.answer(&heard, 200);
        assert_eq!(told(&phone.next().await), "200");
    }
    // The CANCEL of an invitation in a dialog goes where that went.
    phone.send(&in_dialog("INVITE", "b3")).await;
    phone.send(&in_dialog("CANCEL", "b3")).await;
    let (invite, cancel) = (inside.hear().await, inside.hear().await);
    let branch = |heard: &Heard| heard.message.vias().unwrap()[0].to_string();
    assert_eq!((invite.node, cancel.node), ("core-3", "core-3"));
    assert_eq!(branch(&invite), branch(&cancel));
    for (heard, code) in [(&cancel, 200), (&invite, 487)] {
        inside.answer(heard, code);
        assert_eq!(told(&phone.next().await), code.to_string());
    }
    // It comes back, and is trusted again only after a while.
    inside.nodes[0].is_silent.store(false, Ordering::Relaxed);
    pass(5).await;
    assert_eq!(taken_by(&mut inside, &mut phone, "a3").await, "core-2", "no flapping");
    pass(32).await;
    assert_eq!(taken_by(&mut inside, &mut phone, "a4").await, "core-1");
    // Nobody is there.
    for node in &inside.nodes {
        node.is_silent.store(true, Ordering::Relaxed);
    }
    pass(4).await;
    assert_eq!(phone.ask(&request("MESSAGE", ALICE, "a5")).await, NOBODY);
    wire.assert_clean();
}

#[tokio::test]
async fn the_port_of_one_node_leads_to_no_other() {
    let (mut inside, peer, wire) = world().await;
    let mut own = peer.dial(inside.edges[1].node_addresses[0]).await;
    assert_eq!(taken_by(&mut inside, &mut own, "a1").await, "core-3");
    inside.nodes[2].is_silent.store(true, Ordering::Relaxed);
    pass(4).await;
    assert_eq!(own.ask(&request("MESSAGE", ALICE, "a2")).await, NOBODY);
    let mut phone = peer.dial(inside.edges[1].address).await;
    assert_eq!(taken_by(&mut inside, &mut phone, "a3").await, "core-1");
    inside.assert_silence();
    wire.assert_clean();
}

//! One stream carries stanzas in both directions (XEP-0288).
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

mod world;

use std::sync::Arc;
use std::time::Duration;

use gatehouse_policy::Policy;
use gatehouse_telemetry::StreamKind;
use gatehouse_testkit::TestCa;
use gatehouse_xmpp::s2s::Bidi;

use crate::world::{
    Manners, Peer, Ports, Receiver, Side, SideConfig, Zone, assert_nothing, blocks, message,
    receive, told,
};

const OURS: &str = "ours.example";
const THEM: &str = "them.example";

fn side(domain: &'static str, ca: &TestCa, bidi: Bidi) -> SideConfig {
    SideConfig { bidi, ..SideConfig::new(domain, ca) }
}

async fn pair(ca: &TestCa, ours: Bidi, them: Bidi) -> (Side, Side, impl Sized) {
    let (our_ports, their_ports) = (Ports::both().await, Ports::both().await);
    let zone = Zone::new().ports(OURS, &our_ports).ports(THEM, &their_ports);
    let (resolver, dns) = zone.serve().await;
    let ours = Side::start(side(OURS, ca, ours), our_ports, ca, &resolver);
    let them = Side::start(side(THEM, ca, them), their_ports, ca, &resolver);
    (ours, them, dns)
}

fn there(id: usize) -> gatehouse_xmpp::Stanza {
    message("alice@ours.example/a", "bob@them.example", &id.to_string())
}

fn back(id: usize) -> gatehouse_xmpp::Stanza {
    message("bob@them.example/b", "alice@ours.example/a", &id.to_string())
}

#[tokio::test]
async fn both_directions_take_one_stream_in_order() {
    let ca = TestCa::new();
    let (mut ours, mut them, _dns) = pair(&ca, Bidi::Wanted, Bidi::Wanted).await;
    ours.core.sender.send(there(0)).await.unwrap();
    assert_eq!(receive(&mut them.core).await, there(0));
    for id in 0..300 {
        them.core.sender.send(back(id)).await.unwrap();
        ours.core.sender.send(there(id)).await.unwrap();
        // No faster than they are taken: queues are bounded.
        assert_eq!(receive(&mut ours.core).await, back(id));
        assert_eq!(receive(&mut them.core).await, there(id));
    }
    for (side, kind) in [(&ours, StreamKind::S2sOut), (&them, StreamKind::S2sIn)] {
        let status = side.stream(kind).await;
        assert!(status.info.authentication.ends_with(", bidi"), "{status:?}");
        assert_eq!(side.streams.list().len(), 1, "one stream is enough");
    }
}

#[tokio::test]
async fn where_one_side_does_not_want_it_there_are_two() {
    for (one, other) in [(Bidi::Off, Bidi::Wanted), (Bidi::Wanted, Bidi::Off)] {
        let ca = TestCa::new();
        let (mut ours, mut them, _dns) = pair(&ca, one, other).await;
        ours.core.sender.send(there(0)).await.unwrap();
        assert_eq!(receive(&mut them.core).await, there(0));
        them.core.sender.send(back(0)).await.unwrap();
        assert_eq!(receive(&mut ours.core).await, back(0));
        for kind in [StreamKind::S2sIn, StreamKind::S2sOut] {
            let status = ours.stream(kind).await;
            assert!(!status.info.authentication.contains("bidi"), "{status:?}");
        }
    }
}

#[tokio::test]
async fn a_new_policy_ends_both_directions() {
    for their_policy in [false, true] {
        let ca = TestCa::new();
        let (mut ours, mut them, _dns) = pair(&ca, Bidi::Wanted, Bidi::Wanted).await;
        ours.core.sender.send(there(0)).await.unwrap();
        receive(&mut them.core).await;
        them.core.sender.send(back(0)).await.unwrap();
        receive(&mut ours.core).await;
        let (blocker, kind) =
            if their_policy { (&them, StreamKind::S2sIn) } else { (&ours, StreamKind::S2sOut) };
        let blocked = if their_policy { OURS } else { THEM };
        blocker.policy.send_replace(Arc::new(blocks(blocked)));
        blocker.no_stream(kind).await;
        let (blocked_side, stanza) =
            if their_policy { (&mut them, back(1)) } else { (&mut ours, there(1)) };
        blocked_side.core.sender.send(stanza).await.unwrap();
        let bounce = told(&receive(&mut blocked_side.core).await);
        assert!(bounce.starts_with("cancel not-allowed"), "{bounce}");
        assert_nothing(&mut ours.core);
        assert_nothing(&mut them.core);
    }
}

/// A partner that opened a stream to us and takes stanzas on it, and its server.
async fn partner(ca: &TestCa) -> (Side, Peer, Receiver, impl Sized) {
    let (ports, listener) = (Ports::only_starttls().await, world::port().await);
    let address = ports.starttls().unwrap();
    let zone = Zone::new().direct(THEM, 1, listener.local_addr().unwrap().port());
    let (resolver, dns) = zone.serve().await;
    let mut ours = Side::start(
        SideConfig { policy: world::dialback_allowed(), ..side(OURS, ca, Bidi::Wanted) },
        ports,
        ca,
        &resolver,
    );
    let peer = Peer::connect_both_ways(address, (THEM, OURS), &ca.issue_for(THEM), ca).await;
    let mut peer = peer.unwrap();
    // Behind its request for stream management.
    peer.send(&back(0));
    peer.flush().await;
    receive(&mut ours.core).await;
    (ours, peer, Receiver::new(listener, THEM, ca), dns)
}

#[tokio::test]
async fn what_a_lost_stream_did_not_acknowledge_goes_over_another() {
    let ca = TestCa::new();
    let (mut ours, mut peer, server, _dns) = partner(&ca).await;
    for id in [1, 2] {
        ours.core.sender.send(there(id)).await.unwrap();
        let (stanza, number) = peer.stanza().await;
        assert_eq!(stanza.id(), Some(id.to_string().as_str()));
        if id == 1 {
            peer.handled(number);
            peer.flush().await;
            while ours.stream(StreamKind::S2sIn).await.stanzas_out == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    // The second is read and not acknowledged; nobody knows what became of it.
    drop(peer);
    let again = server.serve(Manners::Takes).await.expect("it was lost");
    assert_eq!(again.id(), Some("2"));
    assert_nothing(&mut ours.core);
}

#[tokio::test]
async fn what_goes_back_is_sent_before_we_stop() {
    let ca = TestCa::new();
    let (ours, mut peer, _server, _dns) = partner(&ca).await;
    ours.core.sender.send(there(1)).await.unwrap();
    peer.stanza().await;
    ours.core.sender.send(there(2)).await.unwrap();
    let stopped = ours.tasks.shut_down(Duration::from_secs(20));
    let taken = async {
        let (stanza, number) = peer.stanza().await;
        peer.handled(number);
        (stanza.id().map(ToOwned::to_owned), peer.closed().await)
    };
    let (_, (id, _)) = tokio::join!(stopped, taken);
    assert_eq!(id.as_deref(), Some("2"));
}

#[tokio::test]
async fn what_comes_back_is_slowed_like_any_other() {
    let ca = TestCa::new();
    let (mut ours, mut them, _dns) = pair(&ca, Bidi::Wanted, Bidi::Wanted).await;
    let mut policy = Policy::open_with_certificate();
    policy.rules[0].stanzas_per_second = std::num::NonZeroU32::new(20);
    ours.policy.send_replace(Arc::new(policy));
    ours.core.sender.send(there(0)).await.unwrap();
    receive(&mut them.core).await;
    let began = gatehouse_net::now();
    for id in 0..60 {
        them.core.sender.send(back(id)).await.unwrap();
    }
    for id in 0..60 {
        assert_eq!(receive(&mut ours.core).await, back(id));
    }
    assert!(began.elapsed() > Duration::from_millis(1500), "{:?}", began.elapsed());
}

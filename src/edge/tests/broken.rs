//! Partners whose streams break at a bad moment.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

mod world;

use gatehouse_testkit::{Issue, TestCa, TestCertificate};

use crate::world::{
    Manners, Ports, Receiver, Side, SideConfig, Zone, assert_nothing, dialback_allowed, message,
    receive, told,
};

const OURS: &str = "ours.example";
const THEM: &str = "them.example";

/// Our edge, and a server that does as it is told.
async fn world(ca: &TestCa) -> (Side, Receiver, impl Sized) {
    // Self-signed, so that both sides fall back to dialback.
    start(ca, Issue::self_signed().dns(OURS).make()).await
}

/// The same, where our certificate is good for EXTERNAL and so for stream management.
async fn managed_world(ca: &TestCa) -> (Side, Receiver, impl Sized) {
    start(ca, ca.issue_for(OURS)).await
}

async fn start(ca: &TestCa, certificate: TestCertificate) -> (Side, Receiver, impl Sized) {
    let listener = world::port().await;
    let zone = Zone::new().direct(THEM, 1, listener.local_addr().unwrap().port());
    let (resolver, dns) = zone.serve().await;
    let config = SideConfig::with_certificate(OURS, certificate).policy(dialback_allowed());
    let ours = Side::start(config, Ports::only_starttls().await, ca, &resolver);
    (ours, Receiver::new(listener, THEM, ca), dns)
}

#[tokio::test]
async fn a_stanza_outlives_a_stream_that_takes_nothing() {
    let ca = TestCa::new();
    let (mut ours, them, _dns) = world(&ca).await;
    ours.core.sender.send(message("alice@ours.example", "bob@them.example", "1")).await.unwrap();
    assert_eq!(them.serve(Manners::Leaves).await, None);
    let stanza = them.serve(Manners::Takes).await.expect("it was lost");
    assert_eq!(stanza.id(), Some("1"));
    assert_nothing(&mut ours.core);
}

#[tokio::test]
async fn a_partner_that_always_leaves_is_not_dialled_for_ever() {
    let ca = TestCa::new();
    let (mut ours, them, _dns) = world(&ca).await;
    ours.core.sender.send(message("alice@ours.example", "bob@them.example", "1")).await.unwrap();
    let always = async {
        loop {
            them.serve(Manners::Leaves).await;
        }
    };
    let bounce = tokio::select! {
        bounce = receive(&mut ours.core) => bounce,
        () = always => unreachable!(),
    };
    assert_eq!(
        told(&bounce),
        "wait remote-server-timeout: the server of them.example closes every connection at once; \
         try again later"
    );
    assert_nothing(&mut ours.core);
}

#[tokio::test]
async fn a_partner_that_acknowledges_nothing_loses_nothing() {
    let ca = TestCa::new();
    let (mut ours, them, _dns) = managed_world(&ca).await;
    for id in ["1", "2"] {
        let message = message("alice@ours.example", "bob@them.example", id);
        ours.core.sender.send(message).await.unwrap();
    }
    let id = |stanza: Option<gatehouse_xmpp::Stanza>| {
        stanza.expect("it was lost").id().map(ToOwned::to_owned)
    };
    assert_eq!(id(them.serve(Manners::Dies).await).as_deref(), Some("1"));
    // It may have it already; but nobody knows.
    assert_eq!(id(them.serve(Manners::Takes).await).as_deref(), Some("1"));
    // What was acknowledged does not come again.
    ours.core.sender.send(message("alice@ours.example", "bob@them.example", "3")).await.unwrap();
    let next = id(them.serve(Manners::Takes).await);
    assert_ne!(next.as_deref(), Some("1"));
    let told: Vec<_> = std::iter::from_fn(|| ours.core.incoming.try_recv().ok())
        .map(|transfer| transfer.stanza.id().map(ToOwned::to_owned))
        .collect();
    match next.as_deref() {
        Some("2") => assert_eq!(told, [] as [Option<String>; 0]),
        // Twice under way and twice lost: its author knows.
        other => assert_eq!((other, told), (Some("3"), vec![Some("2".to_owned())])),
    }
}

#[tokio::test]
async fn what_two_streams_lost_is_bounced_once() {
    let ca = TestCa::new();
    let (mut ours, them, _dns) = managed_world(&ca).await;
    ours.core.sender.send(message("alice@ours.example", "bob@them.example", "1")).await.unwrap();
    for _ in 0..2 {
        assert!(them.serve(Manners::Dies).await.is_some());
    }
    let bounce = receive(&mut ours.core).await;
    assert_eq!((bounce.id(), bounce.type_()), (Some("1"), Some("error")));
    assert_nothing(&mut ours.core);
}

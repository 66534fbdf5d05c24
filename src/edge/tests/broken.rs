//! Partners whose streams break at a bad moment.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

mod world;

use gatehouse_testkit::{Issue, TestCa};

use crate::world::{
    Manners, Ports, Receiver, Side, SideConfig, Zone, assert_nothing, dialback_allowed, message,
    receive, told,
};

const OURS: &str = "ours.example";
const THEM: &str = "them.example";

/// Our edge, and a server that does as it is told.
async fn world(ca: &TestCa) -> (Side, Receiver, impl Sized) {
    let listener = world::port().await;
    let zone = Zone::new().direct(THEM, 1, listener.local_addr().unwrap().port());
    let (resolver, dns) = zone.serve().await;
    // Self-signed, so that both sides fall back to dialback.
    let certificate = Issue::self_signed().dns(OURS).make();
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

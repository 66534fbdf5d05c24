//! Partners that do what they may not.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

mod world;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_policy::Policy;
use gatehouse_testkit::{Issue, TestCa};
use gatehouse_xmpp::StreamCondition;
use gatehouse_xmpp::stream::CloseReason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{self, Instant};

use crate::world::{
    Peer, Ports, Side, SideConfig, Zone, assert_nothing, blocks, dialback_allowed, message,
    receive, told,
};

const OURS: &str = "ours.example";
const THEM: &str = "them.example";

/// Our edge with `policy`, and where it listens.
async fn ours(ca: &TestCa, policy: Policy) -> (Side, SocketAddr, impl Sized) {
    let ports = Ports::only_starttls().await;
    let address = ports.starttls().unwrap();
    let (resolver, dns) = Zone::new().ports(OURS, &ports).serve().await;
    (Side::start(SideConfig::new(OURS, ca).policy(policy), ports, ca, &resolver), address, dns)
}

fn condition(reason: &CloseReason) -> StreamCondition {
    match reason {
        CloseReason::PeerRefused(error) => error.condition,
        other => panic!("closed without an error: {other:?}"),
    }
}

#[tokio::test]
async fn a_forged_sender_ends_the_stream() {
    let ca = TestCa::new();
    let (mut side, address, _dns) = ours(&ca, Policy::open_with_certificate()).await;
    for from in ["alice@third.example", "alice@ours.example", "alice@sub.them.example"] {
        let certificate = ca.issue_for(THEM);
        let mut peer = Peer::connect(address, (THEM, OURS), &certificate, &ca).await.unwrap();
        peer.send(&message(from, "bob@ours.example", "1"));
        assert_eq!(condition(&peer.closed().await), StreamCondition::InvalidFrom, "{from}");
    }
    assert_nothing(&mut side.core);
}

#[tokio::test]
async fn we_are_no_relay() {
    let ca = TestCa::new();
    let (mut side, address, _dns) = ours(&ca, Policy::open_with_certificate()).await;
    for to in ["bob@third.example", "bob@them.example", "bob@sub.ours.example"] {
        let certificate = ca.issue_for(THEM);
        let mut peer = Peer::connect(address, (THEM, OURS), &certificate, &ca).await.unwrap();
        peer.send(&message("mallory@them.example", to, "1"));
        let reason = peer.closed().await;
        assert!(
            matches!(
                condition(&reason),
                StreamCondition::HostUnknown | StreamCondition::ImproperAddressing
            ),
            "{to}: {reason:?}"
        );
    }
    assert_nothing(&mut side.core);
}

#[tokio::test]
async fn nobody_comes_in_under_a_name_that_it_does_not_prove() {
    let ca = TestCa::new();
    let (mut side, address, _dns) = ours(&ca, Policy::open_with_certificate()).await;
    for (from, certificate) in [
        (THEM, ca.issue_for("other.example")),
        (THEM, ca.issue().dns(THEM).expired().make()),
        (THEM, Issue::self_signed().dns(THEM).make()),
        // Our own name from outside, even with a certificate for it.
        (OURS, ca.issue_for(OURS)),
    ] {
        let outcome = Peer::connect(address, (from, OURS), &certificate, &ca).await;
        assert!(outcome.is_err(), "let in as {from}");
    }
    assert_nothing(&mut side.core);
}

#[tokio::test]
async fn a_domain_that_we_do_not_serve_is_unknown() {
    let ca = TestCa::new();
    let (_side, address, _dns) = ours(&ca, Policy::open_with_certificate()).await;
    let certificate = ca.issue_for(THEM);
    let outcome = Peer::connect(address, (THEM, "third.example"), &certificate, &ca).await;
    assert_eq!(condition(&outcome.err().unwrap()), StreamCondition::HostUnknown);
}

#[tokio::test]
async fn a_blocked_domain_stays_out_with_the_best_certificate() {
    let ca = TestCa::new();
    let (_side, address, _dns) = ours(&ca, blocks(THEM)).await;
    let outcome = Peer::connect(address, (THEM, OURS), &ca.issue_for(THEM), &ca).await;
    assert_eq!(condition(&outcome.err().unwrap()), StreamCondition::PolicyViolation);
}

#[tokio::test]
async fn a_dialback_key_that_its_domain_does_not_know_is_no_proof() {
    let ca = TestCa::new();
    // The real them.example is there and will deny the key, which another server made.
    let (our_ports, their_ports) = (Ports::only_starttls().await, Ports::only_starttls().await);
    let address = our_ports.starttls().unwrap();
    let zone = Zone::new().ports(OURS, &our_ports).ports(THEM, &their_ports);
    let (resolver, _dns) = zone.serve().await;
    let config = |domain| SideConfig::new(domain, &ca).policy(dialback_allowed());
    let mut side = Side::start(config(OURS), our_ports, &ca, &resolver);
    let _them = Side::start(config(THEM), their_ports, &ca, &resolver);
    let thief = Issue::self_signed().dns(THEM).make();
    let outcome = Peer::connect(address, (THEM, OURS), &thief, &ca).await;
    assert!(outcome.is_err(), "let in with a stranger's key");
    assert_nothing(&mut side.core);
}

#[tokio::test]
async fn a_domain_has_so_many_streams_and_no_more() {
    let ca = TestCa::new();
    let ports = Ports::only_starttls().await;
    let address = ports.starttls().unwrap();
    let (resolver, _dns) = Zone::new().ports(OURS, &ports).serve().await;
    let config = SideConfig { connections_max: 200, ..SideConfig::new(OURS, &ca) };
    let mut side = Side::start(config, ports, &ca, &resolver);
    let certificate = ca.issue_for(THEM);
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(Peer::connect(address, (THEM, OURS), &certificate, &ca).await.unwrap());
    }
    let one_more = Peer::connect(address, (THEM, OURS), &certificate, &ca).await;
    let reason = match one_more {
        Ok(peer) => peer.closed().await,
        Err(reason) => reason,
    };
    assert_eq!(condition(&reason), StreamCondition::ResourceConstraint);
    let other = ca.issue_for("other.example");
    let mut other = Peer::connect(address, ("other.example", OURS), &other, &ca).await.unwrap();
    other.send(&message("bob@other.example", "alice@ours.example", "1"));
    other.flush().await;
    assert_eq!(receive(&mut side.core).await.id(), Some("1"), "another domain has its own");
}

#[tokio::test]
async fn one_deadline_holds_from_accept_to_open() {
    let ca = TestCa::new();
    let ports = Ports::only_starttls().await;
    let address = ports.starttls().unwrap();
    let (resolver, _dns) = Zone::new().serve().await;
    let mut config = SideConfig::new(OURS, &ca);
    config.limits.setup_timeout = Duration::from_secs(3);
    let _side = Side::start(config, ports, &ca, &resolver);
    let (mut peer, start) = (TcpStream::connect(address).await.unwrap(), Instant::now());
    // Time itself is what is tested, over a real socket: half of it is used up in silence. The margins
    // are wide, so that a busy machine fails nothing.
    time::sleep(Duration::from_millis(1500)).await;
    peer.write_all(
        b"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
          from='them.example' to='ours.example' version='1.0'>\
          <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    )
    .await
    .unwrap();
    // The handshake that is asked for now never comes, and its time is not counted from here.
    let mut said = Vec::new();
    peer.read_to_end(&mut said).await.unwrap();
    assert!(String::from_utf8_lossy(&said).contains("<proceed"), "{said:?}");
    assert!(start.elapsed() < Duration::from_millis(4200), "{:?}", start.elapsed());
}

#[tokio::test]
async fn who_is_too_fast_is_slowed_and_loses_nothing() {
    let ca = TestCa::new();
    let mut policy = Policy::open_with_certificate();
    policy.rules[0].stanzas_per_second = NonZeroU32::new(20);
    let (mut side, address, _dns) = ours(&ca, policy).await;
    let mut peer = Peer::connect(address, (THEM, OURS), &ca.issue_for(THEM), &ca).await.unwrap();
    let start = Instant::now();
    for id in 0..30 {
        peer.send(&message("bob@them.example", "alice@ours.example", &id.to_string()));
    }
    peer.flush().await;
    for id in 0..30 {
        assert_eq!(receive(&mut side.core).await.id(), Some(id.to_string().as_str()));
    }
    // 20 at once, the other 10 at 20 a second.
    assert!(start.elapsed() >= Duration::from_millis(450), "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_author_outside_learns_that_the_core_is_away() {
    let ca = TestCa::new();
    let (our_ports, their_ports) = (Ports::only_starttls().await, Ports::only_starttls().await);
    let zone = Zone::new().ports(OURS, &our_ports).ports(THEM, &their_ports);
    let (resolver, _dns) = zone.serve().await;
    let ours = Side::start(SideConfig::new(OURS, &ca), our_ports, &ca, &resolver);
    let mut them = Side::start(SideConfig::new(THEM, &ca), their_ports, &ca, &resolver);
    drop(ours.core);
    them.core.sender.send(message("bob@them.example", "alice@ours.example", "1")).await.unwrap();
    let answer = receive(&mut them.core).await;
    assert_eq!(
        told(&answer),
        "wait recipient-unavailable: ours.example cannot take messages right now; try again later"
    );
    assert_eq!(answer.from().unwrap().to_string(), "alice@ours.example");
}

#[tokio::test]
async fn who_writes_to_a_domain_of_ours_that_its_core_does_not_serve_is_told() {
    let ca = TestCa::new();
    let (mut side, _address, _dns) = ours(&ca, Policy::open_with_certificate()).await;
    side.core.sender.send(message("alice@ours.example", "bob@ours.example", "1")).await.unwrap();
    let answer = receive(&mut side.core).await;
    assert_eq!(
        told(&answer),
        "wait recipient-unavailable: ours.example cannot take messages right now; try again later"
    );
    assert_eq!(answer.id(), Some("1"));
    // Policy has its say about our own domains, too.
    side.policy.send_replace(Arc::new(blocks(OURS)));
    side.core.sender.send(message("alice@ours.example", "bob@ours.example", "4")).await.unwrap();
    assert_eq!(
        told(&receive(&mut side.core).await),
        "cancel not-allowed: ours.example does not allow its users to exchange messages with \
         ours.example"
    );
    // In nobody's name is anything said.
    side.core.sender.send(message("alice@third.example", "bob@ours.example", "2")).await.unwrap();
    side.core.sender.send(message("alice@ours.example", "bob@ours.example", "3")).await.unwrap();
    assert_eq!(receive(&mut side.core).await.id(), Some("3"));
}

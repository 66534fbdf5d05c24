//! How a partner is reached and judged: static routes, pinned keys.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

mod world;

use std::sync::Arc;

use gatehouse_edge::PrivateTargets;
use gatehouse_identity::KeyPin;
use gatehouse_policy::Policy;
use gatehouse_telemetry::StreamKind;
use gatehouse_testkit::{Issue, TestCa, TestCertificate};
use gatehouse_tls::SystemRoots;
use tokio::net::TcpListener;

use crate::world::{Ports, Side, SideConfig, Zone, assert_nothing, message, receive, told};

const OURS: &str = "ours.example";
const THEM: &str = "them.example";

/// One rule, for `remote`.
fn rule(remote: &str, pins: &[&TestCertificate], route: &[&str]) -> Policy {
    let mut policy = Policy::open_with_certificate();
    policy.rules[0].remote = vec![remote.parse().unwrap()];
    policy.rules[0].pin = pins.iter().flat_map(|one| KeyPin::of_certificate(&one.der)).collect();
    policy.rules[0].route = route.iter().map(|one| one.parse().unwrap()).collect();
    assert_eq!(policy.check(), []);
    policy
}

async fn send(from: &Side, id: &str, sender: &str, to: &str) {
    from.core.sender.send(message(sender, to, id)).await.unwrap();
}

#[tokio::test]
async fn a_pinned_key_is_enough_in_both_directions() {
    let ca = TestCa::new();
    let certificate = Issue::self_signed().dns("localhost").make();
    let policy = rule(THEM, &[&certificate], &[]);
    for ports in [Ports::only_starttls().await, Ports::only_direct().await] {
        let our_ports = Ports::both().await;
        let zone = Zone::new().ports(OURS, &our_ports).ports(THEM, &ports);
        let (resolver, _dns) = zone.serve().await;
        let config = SideConfig::new(OURS, &ca).policy(policy.clone());
        let mut ours = Side::start(config, our_ports, &ca, &resolver);
        let theirs = SideConfig::with_certificate(THEM, certificate.clone());
        let mut them = Side::start(theirs, ports, &ca, &resolver);

        send(&ours, "1", "alice@ours.example", "bob@them.example").await;
        assert_eq!(receive(&mut them.core).await.id(), Some("1"));
        send(&them, "2", "bob@them.example", "alice@ours.example").await;
        assert_eq!(receive(&mut ours.core).await.id(), Some("2"));
        for kind in [StreamKind::S2sIn, StreamKind::S2sOut] {
            let shown = ours.stream(kind).await.info.authentication;
            assert!(shown.starts_with("EXTERNAL (pinned key sha256:"), "{shown}");
        }
    }
}

#[tokio::test]
async fn another_key_is_refused_in_both_directions_however_good_its_chain() {
    let ca = TestCa::new();
    let (our_ports, their_ports) = (Ports::both().await, Ports::both().await);
    let zone = Zone::new().ports(OURS, &our_ports).ports(THEM, &their_ports);
    let (resolver, _dns) = zone.serve().await;
    let other = Issue::self_signed().dns(THEM).make();
    let config = SideConfig::new(OURS, &ca).policy(rule(THEM, &[&other], &[]));
    let mut ours = Side::start(config, our_ports, &ca, &resolver);
    let mut them = Side::start(SideConfig::new(THEM, &ca), their_ports, &ca, &resolver);

    send(&ours, "1", "alice@ours.example", "bob@them.example").await;
    assert_eq!(
        told(&receive(&mut ours.core).await),
        "cancel remote-server-timeout: them.example showed a certificate whose key is not the one \
         that was agreed on; its administrator and yours must compare them"
    );
    send(&them, "2", "bob@them.example", "alice@ours.example").await;
    let bounce = told(&receive(&mut them.core).await);
    assert!(bounce.contains("ours.example"), "{bounce}");
    assert_nothing(&mut ours.core);
}

#[tokio::test]
async fn a_pin_for_one_partner_is_nothing_to_another() {
    let ca = TestCa::new();
    let (our_ports, their_ports) = (Ports::both().await, Ports::both().await);
    let zone = Zone::new().ports(OURS, &our_ports).ports(THEM, &their_ports);
    let (resolver, _dns) = zone.serve().await;
    let certificate = Issue::self_signed().dns(THEM).make();
    let mut policy = rule("friends.example", &[&certificate], &[]);
    policy.rules.extend(Policy::open_with_certificate().rules);
    let config = SideConfig::new(OURS, &ca).policy(policy);
    let mut ours = Side::start(config, our_ports, &ca, &resolver);
    let theirs = SideConfig::with_certificate(THEM, certificate);
    let _them = Side::start(theirs, their_ports, &ca, &resolver);
    send(&ours, "1", "alice@ours.example", "bob@them.example").await;
    let bounce = told(&receive(&mut ours.core).await);
    assert!(bounce.contains("self-signed"), "{bounce}");
}

#[tokio::test]
async fn a_pin_that_is_changed_closes_open_streams() {
    let ca = TestCa::new();
    let certificate = Issue::self_signed().dns(THEM).make();
    let (our_ports, their_ports) = (Ports::both().await, Ports::both().await);
    let zone = Zone::new().ports(OURS, &our_ports).ports(THEM, &their_ports);
    let (resolver, _dns) = zone.serve().await;
    let config = SideConfig::new(OURS, &ca).policy(rule(THEM, &[&certificate], &[]));
    let mut ours = Side::start(config, our_ports, &ca, &resolver);
    let theirs = SideConfig::with_certificate(THEM, certificate.clone());
    let mut them = Side::start(theirs, their_ports, &ca, &resolver);
    send(&ours, "1", "alice@ours.example", "bob@them.example").await;
    receive(&mut them.core).await;
    send(&them, "2", "bob@them.example", "alice@ours.example").await;
    receive(&mut ours.core).await;

    let other = Issue::self_signed().dns(THEM).make();
    ours.policy.send_replace(Arc::new(rule(THEM, &[&other, &certificate], &[])));
    send(&ours, "3", "alice@ours.example", "bob@them.example").await;
    assert_eq!(receive(&mut them.core).await.id(), Some("3"));
    ours.stream(StreamKind::S2sIn).await;

    ours.policy.send_replace(Arc::new(rule(THEM, &[&other], &[])));
    ours.no_stream(StreamKind::S2sIn).await;
    ours.no_stream(StreamKind::S2sOut).await;
}

/// DNS leads nowhere, the policy knows the way, and may even lead to a network of our own.
#[tokio::test]
async fn a_route_replaces_what_dns_says() {
    let ca = TestCa::new();
    for (scheme, their_ports) in
        [("", Ports::only_starttls().await), ("direct-tls:", Ports::only_direct().await)]
    {
        let (resolver, _dns) = Zone::new().starttls(THEM, 1, 1).serve().await;
        let port = their_ports.direct().or_else(|| their_ports.starttls()).unwrap().port();
        let mut them = Side::start(SideConfig::new(THEM, &ca), their_ports, &ca, &resolver);
        for host in ["127.0.0.1", "host.example"] {
            let policy = rule(THEM, &[], &["127.0.0.1:1", &format!("{scheme}{host}:{port}")]);
            let mut config = SideConfig::new(OURS, &ca).policy(policy);
            config.private_targets = PrivateTargets::Refuse;
            let ours = Side::start(config, Ports::both().await, &ca, &resolver);
            send(&ours, host, "alice@ours.example", "bob@them.example").await;
            assert_eq!(receive(&mut them.core).await.id(), Some(host));
        }
    }
}

#[tokio::test]
async fn a_route_that_leads_nowhere_is_not_mended_by_dns() {
    let ca = TestCa::new();
    let their_ports = Ports::both().await;
    let (resolver, _dns) = Zone::new().ports(THEM, &their_ports).serve().await;
    let mut them = Side::start(SideConfig::new(THEM, &ca), their_ports, &ca, &resolver);
    for (route, want) in [
        ("127.0.0.1:1", "wait remote-server-timeout: the server of them.example cannot be reached"),
        ("no.example", "cancel remote-server-not-found: the way to them.example that is set up"),
    ] {
        let config = SideConfig::new(OURS, &ca).policy(rule(THEM, &[], &[route]));
        let mut ours = Side::start(config, Ports::both().await, &ca, &resolver);
        send(&ours, "1", "alice@ours.example", "bob@them.example").await;
        let bounce = told(&receive(&mut ours.core).await);
        assert!(bounce.starts_with(want), "{bounce}");
    }
    assert_nothing(&mut them.core);
}

#[tokio::test]
async fn an_authority_that_is_no_longer_trusted_closes_the_streams_it_vouched_for() {
    let (ca, other) = (TestCa::new(), TestCa::named("another authority"));
    let (our_ports, their_ports) = (Ports::both().await, Ports::both().await);
    let zone = Zone::new().ports(OURS, &our_ports).ports(THEM, &their_ports);
    let (resolver, _dns) = zone.serve().await;
    let mut ours = Side::start(SideConfig::new(OURS, &ca), our_ports, &ca, &resolver);
    let mut them = Side::start(SideConfig::new(THEM, &ca), their_ports, &ca, &resolver);
    send(&ours, "1", "alice@ours.example", "bob@them.example").await;
    receive(&mut them.core).await;
    send(&them, "2", "bob@them.example", "alice@ours.example").await;
    receive(&mut ours.core).await;

    // A reload replaces trust first and tells the policy after it.
    let trust = |pems: &[&TestCa]| {
        let pems: Vec<String> = pems.iter().map(|ca| ca.root_pem().to_owned()).collect();
        ours.roots.replace(&pems, SystemRoots::Ignore).unwrap();
        ours.policy.send_replace(Arc::new(Policy::open_with_certificate()));
    };
    trust(&[&ca, &other]);
    send(&ours, "3", "alice@ours.example", "bob@them.example").await;
    assert_eq!(receive(&mut them.core).await.id(), Some("3"));
    ours.stream(StreamKind::S2sIn).await;

    trust(&[&other]);
    ours.no_stream(StreamKind::S2sIn).await;
    ours.no_stream(StreamKind::S2sOut).await;
}

/// The first address of the host takes connections and drops them, or is not there at all.
#[tokio::test]
async fn one_good_address_of_a_host_is_enough() {
    let ca = TestCa::new();
    for there in [true, false] {
        let their_ports = Ports::only_starttls().await;
        let port = their_ports.starttls().unwrap().port();
        let rude = match there {
            true => Some(TcpListener::bind(("127.0.0.2", port)).await.unwrap()),
            false => None,
        };
        let zone = Zone::new().at_two_addresses(THEM, port);
        let (resolver, _dns) = zone.serve().await;
        let ours = SideConfig::new(OURS, &ca);
        let ours = Side::start(ours, Ports::both().await, &ca, &resolver);
        let mut them = Side::start(SideConfig::new(THEM, &ca), their_ports, &ca, &resolver);
        let mut dropped = 0;
        let hang_up = async {
            let Some(rude) = rude else { return std::future::pending().await };
            loop {
                drop(rude.accept().await);
                dropped += 1;
            }
        };
        let play = async {
            send(&ours, "1", "alice@ours.example", "bob@them.example").await;
            assert_eq!(receive(&mut them.core).await.id(), Some("1"));
            assert!(ours.reach.list().is_empty());
        };
        tokio::select! {
            () = play => {}
            () = hang_up => {}
        }
        assert_eq!(dropped, u32::from(there));
    }
}

#[tokio::test]
async fn why_a_partner_is_not_reached_is_known_and_can_be_forgotten() {
    let ca = TestCa::new();
    let dead = world::port().await;
    let port = dead.local_addr().unwrap().port();
    drop(dead);
    let (resolver, _dns) = Zone::new().direct(THEM, 1, port).serve().await;
    let mut ours = Side::start(SideConfig::new(OURS, &ca), Ports::both().await, &ca, &resolver);
    send(&ours, "1", "alice@ours.example", "bob@them.example").await;
    let bounce = told(&receive(&mut ours.core).await);
    let [known] = ours.reach.list().try_into().unwrap();
    assert_eq!((known.local.as_str(), known.peer.as_str(), known.failures), (OURS, THEM, 1));
    let attempt = &known.attempt;
    assert_eq!((attempt.stage.as_str(), attempt.fault.as_str()), ("tcp", "network"));
    let target = format!("host.example at 127.0.0.1:{port} by direct TLS: TCP connection failed");
    assert!(attempt.targets[0].starts_with(&target), "{attempt:?}");
    assert!(known.next_try_secs > 0 && bounce.contains(&known.told), "{known:?}");

    // Until the pause is over nobody is dialled; once it is forgotten, somebody is.
    send(&ours, "2", "alice@ours.example", "bob@them.example").await;
    receive(&mut ours.core).await;
    assert_eq!(ours.reach.list()[0].failures, 1);
    assert_eq!((ours.reach.forget("x"), ours.reach.forget("THEM.example.")), (0, 1));
    assert!(ours.reach.list().is_empty());
    send(&ours, "3", "alice@ours.example", "bob@them.example").await;
    receive(&mut ours.core).await;
    assert_eq!(ours.reach.list()[0].failures, 1);
}

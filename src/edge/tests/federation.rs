//! Two edges exchange stanzas over real sockets, in every way they may.
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

use gatehouse_edge::PrivateTargets;
use gatehouse_policy::{Policy, Tls};
use gatehouse_telemetry::StreamKind;
use gatehouse_testkit::{Issue, TestCa};
use tokio::time;

use crate::world::{
    Old, Ports, Side, SideConfig, Zone, assert_nothing, blocks, dialback_allowed, message, receive,
    stanza, told,
};

const OURS: &str = "ours.example";
const THEM: &str = "them.example";

/// Both sides as configured, each knowing the other by DNS.
async fn pair(
    ca: &TestCa,
    ours: SideConfig,
    them: SideConfig,
    our_ports: Ports,
    their_ports: Ports,
) -> (Side, Side, impl Sized) {
    let zone = Zone::new().ports(OURS, &our_ports).ports(THEM, &their_ports);
    let (resolver, dns) = zone.serve().await;
    let ours = Side::start(ours, our_ports, ca, &resolver);
    let them = Side::start(them, their_ports, ca, &resolver);
    (ours, them, dns)
}

/// One message each way.
async fn exchange(ours: &mut Side, them: &mut Side) {
    let ask = message("alice@ours.example/a", "bob@them.example", "1");
    ours.core.sender.send(ask.clone()).await.unwrap();
    let got = receive(&mut them.core).await;
    assert_eq!(got, ask);
    let answer = message("bob@them.example/b", "alice@ours.example/a", "2");
    them.core.sender.send(answer.clone()).await.unwrap();
    assert_eq!(receive(&mut ours.core).await, answer);
}

#[tokio::test]
async fn external_over_starttls_both_ways() {
    let ca = TestCa::new();
    let (mut ours, mut them, _dns) = pair(
        &ca,
        SideConfig::new(OURS, &ca),
        SideConfig::new(THEM, &ca),
        Ports::only_starttls().await,
        Ports::only_starttls().await,
    )
    .await;
    exchange(&mut ours, &mut them).await;
    for kind in [StreamKind::S2sIn, StreamKind::S2sOut] {
        let status = ours.stream(kind).await;
        assert_eq!((status.info.local.as_str(), status.info.peer.as_str()), (OURS, THEM));
        assert_eq!(status.info.authentication, "EXTERNAL (SRVName _xmpp-server.them.example)");
        assert_eq!(
            (status.info.tls.as_str(), status.stanzas_in + status.stanzas_out),
            ("TLSv1.3", 1)
        );
    }
}

#[tokio::test]
async fn external_over_direct_tls_both_ways() {
    let ca = TestCa::new();
    let (mut ours, mut them, _dns) = pair(
        &ca,
        SideConfig::new(OURS, &ca),
        SideConfig::new(THEM, &ca),
        Ports::only_direct().await,
        Ports::only_direct().await,
    )
    .await;
    exchange(&mut ours, &mut them).await;
    let status = ours.stream(StreamKind::S2sOut).await;
    assert_eq!(status.info.authentication, "EXTERNAL (SRVName _xmpp-server.them.example)");
}

#[tokio::test]
async fn dialback_where_certificates_prove_nothing() {
    let ca = TestCa::new();
    let side = |domain| {
        let certificate = Issue::self_signed().dns(domain).make();
        SideConfig::with_certificate(domain, certificate).policy(dialback_allowed())
    };
    let (mut ours, mut them, _dns) =
        pair(&ca, side(OURS), side(THEM), Ports::both().await, Ports::both().await).await;
    exchange(&mut ours, &mut them).await;
    assert_eq!(ours.stream(StreamKind::S2sIn).await.info.authentication, "dialback");
}

#[tokio::test]
async fn dialback_is_not_enough_where_policy_wants_a_certificate() {
    let ca = TestCa::new();
    let self_signed = Issue::self_signed().dns(OURS).make();
    let (mut ours, mut them, _dns) = pair(
        &ca,
        SideConfig::with_certificate(OURS, self_signed).policy(dialback_allowed()),
        SideConfig::new(THEM, &ca),
        Ports::both().await,
        Ports::both().await,
    )
    .await;
    ours.core.sender.send(message("alice@ours.example", "bob@them.example", "1")).await.unwrap();
    let bounce = told(&receive(&mut ours.core).await);
    assert!(bounce.starts_with("cancel remote-server-timeout: "), "{bounce}");
    assert_nothing(&mut them.core);
}

#[tokio::test]
async fn one_stream_carries_many_stanzas_in_order() {
    let ca = TestCa::new();
    let (ours, mut them, _dns) = pair(
        &ca,
        SideConfig::new(OURS, &ca),
        SideConfig::new(THEM, &ca),
        Ports::both().await,
        Ports::both().await,
    )
    .await;
    for id in 0..200 {
        let one = message("alice@ours.example", "bob@them.example", &id.to_string());
        ours.core.sender.send(one).await.unwrap();
    }
    for id in 0..200 {
        assert_eq!(receive(&mut them.core).await.id(), Some(id.to_string().as_str()));
    }
    let status = them.stream(StreamKind::S2sIn).await;
    assert_eq!(status.stanzas_in, 200);
    assert_eq!(them.streams.list().len(), 1, "one dial for one pair");
}

/// The bounce that alice gets when the partner shows `certificate`.
async fn bounce_for(ca: &TestCa, certificate: gatehouse_testkit::TestCertificate) -> String {
    let (mut ours, mut them, _dns) = pair(
        ca,
        SideConfig::new(OURS, ca),
        SideConfig::with_certificate(THEM, certificate),
        Ports::both().await,
        Ports::both().await,
    )
    .await;
    ours.core.sender.send(message("alice@ours.example", "bob@them.example", "1")).await.unwrap();
    let bounce = receive(&mut ours.core).await;
    assert_eq!(bounce.id(), Some("1"));
    assert_nothing(&mut them.core);
    told(&bounce)
}

#[tokio::test]
async fn a_bad_certificate_is_refused_and_the_author_learns_why() {
    let ca = TestCa::new();
    for (certificate, want) in [
        (
            ca.issue().dns(THEM).expired().make(),
            "a certificate that has expired; its administrator must renew it",
        ),
        (ca.issue().dns(THEM).not_yet_valid().make(), "a certificate that is not valid yet"),
        (ca.issue().dns("other.example").make(), "a certificate for another domain"),
        (Issue::self_signed().dns(THEM).make(), "a certificate that is self-signed"),
        (
            TestCa::named("another").issue_for(THEM),
            "a certificate from an authority that is not trusted here",
        ),
    ] {
        let bounce = bounce_for(&ca, certificate).await;
        let want = format!("cancel remote-server-timeout: them.example showed {want}");
        assert!(bounce.starts_with(&want), "{bounce}");
    }
}

/// An edge alone in a world of which `zone` tells.
async fn alone(ca: &TestCa, config: SideConfig, zone: Zone) -> (Side, impl Sized) {
    let (resolver, dns) = zone.serve().await;
    (Side::start(config, Ports::both().await, ca, &resolver), dns)
}

#[tokio::test]
async fn an_unknown_domain_is_bounced() {
    let ca = TestCa::new();
    let zone = Zone::new().no_service("none.example");
    let (mut ours, _dns) = alone(&ca, SideConfig::new(OURS, &ca), zone).await;
    for (to, want) in [
        (
            "bob@nobody.example",
            "cancel remote-server-not-found: DNS has no XMPP server for nobody.example; check the \
             spelling of the address",
        ),
        (
            "bob@none.example",
            "cancel remote-server-not-found: none.example says in DNS that it offers no XMPP \
             service",
        ),
    ] {
        ours.core.sender.send(message("alice@ours.example/a", to, "7")).await.unwrap();
        let bounce = receive(&mut ours.core).await;
        assert_eq!(told(&bounce), want);
        assert_eq!(bounce.id(), Some("7"));
        assert_eq!(bounce.to().unwrap().to_string(), "alice@ours.example/a");
        assert_eq!(bounce.from().unwrap().to_string(), to);
    }
}

#[tokio::test]
async fn dns_cannot_send_us_inside() {
    let ca = TestCa::new();
    let inside = world::port().await;
    let zone = Zone::new().starttls(THEM, 10, inside.local_addr().unwrap().port());
    let mut config = SideConfig::new(OURS, &ca);
    config.private_targets = PrivateTargets::Refuse;
    let (mut ours, _dns) = alone(&ca, config, zone).await;
    ours.core.sender.send(message("alice@ours.example", "bob@them.example", "1")).await.unwrap();
    let bounce = tokio::select! {
        bounce = receive(&mut ours.core) => bounce,
        _ = inside.accept() => panic!("the edge dialled this machine"),
    };
    assert_eq!(
        told(&bounce),
        "cancel remote-server-not-found: DNS has no public address for the XMPP server of \
         them.example; ask your administrator if that server is on a network of your own"
    );
}

#[tokio::test]
async fn a_refused_connection_is_bounced_and_remembered() {
    let ca = TestCa::new();
    // A port that was free a moment ago: nobody listens there.
    let closed = world::port().await.local_addr().unwrap().port();
    let zone = Zone::new().starttls(THEM, 10, closed);
    let (mut ours, _dns) = alone(&ca, SideConfig::new(OURS, &ca), zone).await;
    for id in ["1", "2"] {
        ours.core.sender.send(message("alice@ours.example", "bob@them.example", id)).await.unwrap();
        let bounce = receive(&mut ours.core).await;
        assert_eq!(
            told(&bounce),
            "wait remote-server-timeout: the server of them.example cannot be reached; try again \
             later"
        );
    }
}

#[tokio::test]
async fn errors_and_results_are_never_bounced() {
    let ca = TestCa::new();
    let (mut ours, _dns) = alone(&ca, SideConfig::new(OURS, &ca), Zone::new()).await;
    for xml in [
        "<message xmlns='jabber:client' from='a@ours.example' to='b@nobody.example' type='error'/>",
        "<iq xmlns='jabber:client' from='a@ours.example' to='b@nobody.example' type='result' id='1'/>",
        "<iq xmlns='jabber:client' from='a@ours.example' to='b@nobody.example' type='error' id='1'/>",
    ] {
        ours.core.sender.send(stanza(xml)).await.unwrap();
    }
    ours.core.sender.send(message("a@ours.example", "b@nobody.example", "last")).await.unwrap();
    assert_eq!(receive(&mut ours.core).await.id(), Some("last"));
    assert_nothing(&mut ours.core);
}

#[tokio::test]
async fn what_is_not_from_us_or_not_for_others_does_not_leave() {
    let ca = TestCa::new();
    let (mut ours, _dns) = alone(&ca, SideConfig::new(OURS, &ca), Zone::new()).await;
    for (from, to) in [
        ("a@third.example", "b@nobody.example"),
        ("a@ours.example", "b@ours.example"),
        ("a@sub.ours.example", "b@nobody.example"),
    ] {
        ours.core.sender.send(message(from, to, "x")).await.unwrap();
    }
    // No core takes the second, and its author is one of ours.
    let answer = receive(&mut ours.core).await;
    assert_eq!(answer.from().unwrap().to_string(), "b@ours.example");
    assert!(told(&answer).starts_with("wait recipient-unavailable"), "{answer:?}");
    ours.core.sender.send(message("a@ours.example", "b@nobody.example", "last")).await.unwrap();
    assert_eq!(receive(&mut ours.core).await.id(), Some("last"));
}

#[tokio::test]
async fn a_blocked_partner_is_neither_dialled_nor_let_in() {
    let ca = TestCa::new();
    let (mut ours, mut them, _dns) = pair(
        &ca,
        SideConfig::new(OURS, &ca).policy(blocks(THEM)),
        SideConfig::new(THEM, &ca),
        Ports::both().await,
        Ports::both().await,
    )
    .await;
    ours.core.sender.send(message("alice@ours.example", "bob@them.example", "1")).await.unwrap();
    assert_eq!(
        told(&receive(&mut ours.core).await),
        "cancel not-allowed: ours.example does not allow its users to exchange messages with \
         them.example"
    );
    them.core.sender.send(message("bob@them.example", "alice@ours.example", "2")).await.unwrap();
    let bounce = told(&receive(&mut them.core).await);
    assert_eq!(
        bounce,
        "cancel remote-server-timeout: ours.example refuses to exchange messages with them.example"
    );
    assert_nothing(&mut ours.core);
}

#[tokio::test]
async fn a_new_policy_closes_open_streams() {
    let ca = TestCa::new();
    let (mut ours, mut them, _dns) = pair(
        &ca,
        SideConfig::new(OURS, &ca),
        SideConfig::new(THEM, &ca),
        Ports::both().await,
        Ports::both().await,
    )
    .await;
    exchange(&mut ours, &mut them).await;
    ours.policy.send_replace(Arc::new(Policy::default()));
    ours.no_stream(StreamKind::S2sIn).await;
    ours.no_stream(StreamKind::S2sOut).await;
    ours.core.sender.send(message("alice@ours.example", "bob@them.example", "3")).await.unwrap();
    assert!(told(&receive(&mut ours.core).await).starts_with("cancel not-allowed"));
}

#[tokio::test]
async fn a_policy_that_asks_for_tls_closes_what_is_not_encrypted() {
    let ca = TestCa::new();
    let with_tls = |tls| {
        let mut policy = dialback_allowed();
        policy.rules[0].tls = tls;
        policy
    };
    // A server from before RFC 3920: no TLS, and dialback for proof.
    let (our_ports, listener) = (Ports::only_starttls().await, world::port().await);
    let address = our_ports.starttls().unwrap();
    let zone = Zone::new().ports(OURS, &our_ports).starttls(
        THEM,
        1,
        listener.local_addr().unwrap().port(),
    );
    let (resolver, _dns) = zone.serve().await;
    let config = SideConfig::new(OURS, &ca).policy(with_tls(Tls::Optional));
    let ours = Side::start(config, our_ports, &ca, &resolver);
    let mut old = Old::connect(address, (THEM, OURS)).await;
    old.vouch(&listener).await;
    ours.stream(StreamKind::S2sIn).await;
    ours.policy.send_replace(Arc::new(with_tls(Tls::Optional)));
    old.is_open().await;
    ours.policy.send_replace(Arc::new(with_tls(Tls::Required)));
    assert!(old.rest().await.contains("policy-violation"));
}

#[tokio::test]
async fn a_silent_target_is_passed_over() {
    let ca = TestCa::new();
    let (silent, ports) = (world::port().await, Ports::both().await);
    let zone = Zone::new()
        .starttls(THEM, 1, silent.local_addr().unwrap().port())
        .direct(THEM, 2, silent.local_addr().unwrap().port())
        .ports(THEM, &ports);
    let (resolver, _dns) = zone.serve().await;
    let mut config = SideConfig::new(OURS, &ca);
    config.target_timeout = Duration::from_millis(300);
    let ours = Side::start(config, Ports::both().await, &ca, &resolver);
    let mut them = Side::start(SideConfig::new(THEM, &ca), ports, &ca, &resolver);
    ours.core.sender.send(message("alice@ours.example", "bob@them.example", "1")).await.unwrap();
    assert_eq!(receive(&mut them.core).await.id(), Some("1"));
}

#[tokio::test]
async fn silence_everywhere_is_bounced_in_time_and_a_full_queue_at_once() {
    let ca = TestCa::new();
    let silent = world::port().await;
    let zone = Zone::new().direct(THEM, 1, silent.local_addr().unwrap().port());
    let mut config = SideConfig::new(OURS, &ca);
    config.target_timeout = Duration::from_secs(2);
    config.queue_len_max = 2;
    let (mut ours, _dns) = alone(&ca, config, zone).await;
    for id in ["1", "2", "3"] {
        ours.core.sender.send(message("alice@ours.example", "bob@them.example", id)).await.unwrap();
    }
    let full = receive(&mut ours.core).await;
    assert_eq!(full.id(), Some("3"));
    assert_eq!(
        told(&full),
        "wait resource-constraint: too many messages for them.example are waiting to be sent; try \
         again later"
    );
    for id in ["1", "2"] {
        let bounce = receive(&mut ours.core).await;
        assert_eq!(bounce.id(), Some(id));
        assert_eq!(
            told(&bounce),
            "wait remote-server-timeout: the server of them.example does not answer; try again later"
        );
    }
}

#[tokio::test]
async fn an_idle_link_closes_and_the_next_stanza_opens_another() {
    let ca = TestCa::new();
    let mut config = SideConfig::new(OURS, &ca);
    config.limits.idle_timeout = Duration::from_millis(200);
    let (ours, mut them, _dns) =
        pair(&ca, config, SideConfig::new(THEM, &ca), Ports::both().await, Ports::both().await)
            .await;
    for id in ["1", "2"] {
        ours.core.sender.send(message("alice@ours.example", "bob@them.example", id)).await.unwrap();
        assert_eq!(receive(&mut them.core).await.id(), Some(id));
        ours.no_stream(StreamKind::S2sOut).await;
    }
}

#[tokio::test]
async fn shutdown_says_goodbye_and_ends() {
    let ca = TestCa::new();
    let (mut ours, mut them, _dns) = pair(
        &ca,
        SideConfig::new(OURS, &ca),
        SideConfig::new(THEM, &ca),
        Ports::both().await,
        Ports::both().await,
    )
    .await;
    exchange(&mut ours, &mut them).await;
    // A farewell that is sent while stopping still goes out.
    let leave = stanza(
        "<presence xmlns='jabber:client' from='alice@ours.example/a' to='bob@them.example' \
         type='unavailable'/>",
    );
    ours.core.sender.send(leave.clone()).await.unwrap();
    assert_eq!(ours.tasks.shut_down(Duration::from_secs(8)).await, Ok(()));
    assert_eq!(receive(&mut them.core).await, leave);
    them.no_stream(StreamKind::S2sIn).await;
}

#[tokio::test]
async fn a_core_that_takes_nothing_can_still_send() {
    let ca = TestCa::new();
    let config = SideConfig::new(OURS, &ca).policy(blocks(THEM));
    let (mut ours, _dns) = alone(&ca, config, Zone::new()).await;
    // More than all queues hold, while nobody reads what comes back.
    let flood = async {
        for id in 0..6000 {
            let xml = match id % 2 {
                0 => "<presence xmlns='jabber:client' from='a@ours.example' to='b@them.example'/>",
                _ => "<message xmlns='jabber:client' from='a@ours.example' to='b@them.example'/>",
            };
            ours.core.sender.send(stanza(xml)).await.unwrap();
        }
    };
    time::timeout(Duration::from_secs(20), flood).await.expect("the edge waits for the core");
    // What was kept comes, and so does what follows.
    let last = message("a@ours.example", "b@them.example", "last");
    while receive(&mut ours.core).await.id() != Some("last") {
        if ours.core.incoming.is_empty() {
            ours.core.sender.send(last.clone()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_core_that_takes_nothing_does_not_hold_up_shutdown() {
    let ca = TestCa::new();
    let config = SideConfig::new(OURS, &ca).policy(blocks(THEM));
    let (ours, _dns) = alone(&ca, config, Zone::new()).await;
    for id in 0..3000 {
        let one = message("a@ours.example", "b@them.example", &id.to_string());
        ours.core.sender.send(one).await.unwrap();
    }
    assert_eq!(ours.tasks.shut_down(Duration::from_secs(8)).await, Ok(()));
}

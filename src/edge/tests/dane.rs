//! Certificates that DNSSEC vouches for, and those that it does not.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

mod world;

use gatehouse_identity::KeyPin;
use gatehouse_policy::Policy;
use gatehouse_telemetry::StreamKind;
use gatehouse_testkit::{Issue, TestCa, TestCertificate};

use crate::world::{
    Ports, Side, SideConfig, Zone, assert_nothing, dialback_allowed, message, receive, told,
};

const OURS: &str = "ours.example";
const THEM: &str = "them.example";
const EE: u8 = 3;
const PKIX_EE: u8 = 1;

/// What came of a message to a partner.
#[derive(Debug)]
enum Fate {
    /// It arrived over a stream that was proved so.
    Arrived(String),
    /// Its author was told this.
    Bounced(String),
}

/// One message from us to a partner with this certificate, whose port has this TLSA record.
async fn play(
    ports: Ports,
    certificate: TestCertificate,
    (usage, recorded): (u8, &TestCertificate),
    secure: bool,
    policy: Policy,
) -> Fate {
    let ca = TestCa::new();
    play_with(&ca, ports, certificate, (usage, recorded), secure, policy).await
}

async fn play_with(
    ca: &TestCa,
    ports: Ports,
    certificate: TestCertificate,
    (usage, recorded): (u8, &TestCertificate),
    secure: bool,
    policy: Policy,
) -> Fate {
    let port = ports.direct().or_else(|| ports.starttls()).unwrap().port();
    let zone = Zone::new().ports(THEM, &ports).tlsa(port, usage, &recorded.der);
    let (resolver, validator) = zone.serve_validated(secure).await;
    let config = SideConfig::new(OURS, ca).policy(policy);
    let mut ours = Side::start(config, Ports::both().await, ca, &resolver);
    let theirs = SideConfig::with_certificate(THEM, certificate);
    let mut them = Side::start(theirs, ports, ca, &resolver);
    let play = async {
        let hello = message("alice@ours.example", "bob@them.example", "1");
        ours.core.sender.send(hello).await.unwrap();
        tokio::select! {
            bounce = receive(&mut ours.core) => {
                assert_nothing(&mut them.core);
                Fate::Bounced(told(&bounce))
            }
            arrived = receive(&mut them.core) => {
                assert_eq!(arrived.id(), Some("1"));
                Fate::Arrived(String::new())
            }
        }
    };
    let fate = tokio::select! {
        fate = play => fate,
        () = validator.run() => unreachable!(),
    };
    match fate {
        Fate::Arrived(_) => {
            Fate::Arrived(ours.stream(StreamKind::S2sOut).await.info.authentication)
        }
        Fate::Bounced(text) => Fate::Bounced(text),
    }
}

#[tokio::test]
async fn a_signed_record_vouches_for_a_self_signed_partner() {
    for secure in [true, false] {
        for ports in [Ports::only_starttls().await, Ports::only_direct().await] {
            let own = Issue::self_signed().dns("localhost").make();
            let record = (EE, &own);
            let policy = Policy::open_with_certificate();
            match play(ports, own.clone(), record, secure, policy).await {
                Fate::Arrived(proof) => {
                    assert!(secure, "without the AD bit a record is nothing");
                    assert_eq!(proof, "EXTERNAL (DANE-EE 3 1 1)");
                }
                Fate::Bounced(text) => {
                    assert!(!secure && text.contains("self-signed"), "{text}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_signed_record_for_another_key_refuses_a_good_chain() {
    let ca = TestCa::new();
    for (secure, policy) in [
        (true, Policy::open_with_certificate()),
        (true, dialback_allowed()),
        (false, Policy::open_with_certificate()),
    ] {
        let (good, other) = (ca.issue_for(THEM), ca.issue_for(THEM));
        for usage in [PKIX_EE, EE] {
            let ports = Ports::only_starttls().await;
            let fate =
                play_with(&ca, ports, good.clone(), (usage, &other), secure, policy.clone()).await;
            match fate {
                Fate::Arrived(proof) => {
                    assert!(!secure && proof.contains("them.example"), "{proof}");
                }
                Fate::Bounced(text) => {
                    assert!(secure, "{text}");
                    let want = "cancel remote-server-timeout: them.example showed a certificate \
                                for which its signed DNS records do not speak; its administrator \
                                must correct one or the other";
                    assert_eq!(text, want);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_pin_counts_for_more_than_a_record() {
    let (own, other) =
        (Issue::self_signed().dns(THEM).make(), Issue::self_signed().dns(THEM).make());
    let pinned = |certificate: &TestCertificate| {
        let mut policy = Policy::open_with_certificate();
        policy.rules[0].remote = vec![THEM.parse().unwrap()];
        policy.rules[0].pin = KeyPin::of_certificate(&certificate.der).into_iter().collect();
        policy
    };
    let ports = Ports::only_starttls().await;
    let fate = play(ports, own.clone(), (EE, &other), true, pinned(&own)).await;
    assert!(matches!(&fate, Fate::Arrived(proof) if proof.contains("pinned key")), "{fate:?}");
    let ports = Ports::only_starttls().await;
    let fate = play(ports, own.clone(), (EE, &own), true, pinned(&other)).await;
    assert!(matches!(&fate, Fate::Bounced(text) if text.contains("agreed on")), "{fate:?}");
}

//! Who a SIP partner is, asked for each request.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

mod world;

use gatehouse_policy::{Action, SipMode, SipPartner, SipProof};
use gatehouse_sip::{HeaderName, Message};
use gatehouse_testkit::{Issue, TestCa, TestCertificate};
use gatehouse_tls::SystemRoots;
use world::Zone;
use world::sip::{Inside, SipPeer, Wire, policy, request_from, row, say_all, set, told};

const PROVED: &str = "200";
const NOT_PROVED: &str = "403 1010;reason=\"The certificate does not prove the sender's domain\"";
const NOT_ALLOWED: &str =
    "403 1012;reason=\"This domain is not allowed to communicate with the recipient\"";

fn rows() -> Vec<SipPartner> {
    let blocked = SipPartner { action: Action::Block, ..row(&["blocked.example"], SipMode::Open) };
    let direct = SipPartner {
        host: Some("edge.elsewhere.example".parse().unwrap()),
        ..row(&["direct.example"], SipMode::Direct)
    };
    let provider = SipPartner {
        host: Some("sipfed.online.example".parse().unwrap()),
        ..row(&["tenant.example", "victim.example"], SipMode::Provider)
    };
    let strict = SipPartner {
        proof: Some(vec![SipProof::Microsoft]),
        ..row(&["strict.example"], SipMode::Enhanced)
    };
    let known = row(&["them.example", "rfc.example", "far.example"], SipMode::Enhanced);
    vec![blocked, direct, provider, strict, known]
}

fn zone() -> Zone {
    Zone::new()
        .sip_federation("them.example", "sip.them.example", 5061)
        .sip_federation("far.example", "sip.elsewhere.example", 5061)
        .sip_federation("tenant.example", "sipfed.online.example", 5061)
        .sip_federation("strict.example", "sip.strict.example", 5061)
}

fn options(from: &str) -> Message {
    request_from(from, "OPTIONS", "sip:ours.example", "question")
}

#[tokio::test]
async fn what_a_certificate_proves_is_asked_of_each_request() {
    let ca = TestCa::new();
    let (resolver, _dns) = zone().serve().await;
    let mut inside = Inside::start(&ca, &resolver, policy(rows())).await;
    let named = |name: &str| Some(ca.issue().dns(name).make());
    let matrix: Vec<(&str, Option<TestCertificate>, &str, &str)> = vec![
        ("no certificate", None, "them.example", NOT_PROVED),
        (
            "self-signed",
            Some(Issue::self_signed().dns("them.example").make()),
            "them.example",
            NOT_PROVED,
        ),
        (
            "expired",
            Some(ca.issue().dns("rfc.example").expired().make()),
            "rfc.example",
            NOT_PROVED,
        ),
        ("of another domain", named("other.example"), "them.example", NOT_PROVED),
        ("RFC 5922", named("rfc.example"), "rfc.example", PROVED),
        ("RFC 5922, URI", Some(ca.issue().uri("sip:rfc.example").make()), "rfc.example", PROVED),
        ("a wildcard", named("*.rfc.example"), "rfc.example", NOT_PROVED),
        ("SRV directly in the domain", named("sip.them.example"), "them.example", PROVED),
        ("SRV outside the domain", named("sip.elsewhere.example"), "far.example", NOT_PROVED),
        ("strict: names the domain only", named("strict.example"), "strict.example", NOT_PROVED),
        ("strict: names the host", named("sip.strict.example"), "strict.example", PROVED),
        ("the host of a direct row", named("edge.elsewhere.example"), "direct.example", PROVED),
        ("the domain of a direct row", named("direct.example"), "direct.example", NOT_PROVED),
        ("the provider", named("sipfed.online.example"), "tenant.example", PROVED),
        ("the provider, not hosted", named("sipfed.online.example"), "victim.example", NOT_PROVED),
        ("the tenant itself", named("tenant.example"), "tenant.example", NOT_PROVED),
        ("blocked", named("blocked.example"), "blocked.example", NOT_ALLOWED),
        ("no row", named("unknown.example"), "unknown.example", NOT_ALLOWED),
        ("a domain of ours", named("sip.them.example"), "ours.example", NOT_PROVED),
        ("our own certificate", named("ours.example"), "ours.example", NOT_PROVED),
    ];
    let wire = Wire::default();
    for (case, certificate, from, expected) in matrix {
        let peer = SipPeer::new(certificate.as_ref(), &ca, &wire);
        let mut phone = peer.dial(inside.edges[0].address).await;
        assert_eq!(phone.ask(&options(from)).await, expected, "{case}");
    }
    inside.assert_silence();
    wire.assert_clean();
}

#[tokio::test]
async fn one_connection_speaks_for_many_and_for_no_more() {
    let ca = TestCa::new();
    let (resolver, _dns) = zone().serve().await;
    let inside = Inside::start(&ca, &resolver, policy(rows())).await;
    let certificate = ca.issue().dns("sip.them.example").dns("rfc.example").make();
    let peer = SipPeer::new(Some(&certificate), &ca, &Wire::default());
    let mut phone = peer.dial(inside.edges[0].address).await;
    for (from, expected) in [
        ("rfc.example", PROVED),
        ("them.example", PROVED),
        ("far.example", NOT_PROVED),
        ("ours.example", NOT_PROVED),
        ("rfc.example", PROVED),
    ] {
        assert_eq!(phone.ask(&options(from)).await, expected, "{from}");
    }
    // The policy of now counts, not that of when the connection began.
    let mut blocks = rows();
    blocks.insert(
        0,
        SipPartner { action: Action::Block, ..row(&["rfc.example"], SipMode::Enhanced) },
    );
    inside.policy.send_replace(policy(blocks).into());
    assert_eq!(phone.ask(&options("rfc.example")).await, NOT_ALLOWED);
    assert_eq!(phone.ask(&options("them.example")).await, PROVED);
}

#[tokio::test]
async fn an_authority_that_is_trusted_no_longer_proves_nothing_on_open_connections() {
    let ca = TestCa::new();
    let (resolver, _dns) = zone().serve().await;
    let inside = Inside::start(&ca, &resolver, policy(rows())).await;
    let peer = SipPeer::new(Some(&ca.issue().dns("rfc.example").make()), &ca, &Wire::default());
    let mut phone = peer.dial(inside.edges[0].address).await;
    assert_eq!(phone.ask(&options("rfc.example")).await, PROVED);
    // As SIGHUP does: authorities and policy are read again.
    let other = TestCa::new();
    inside.roots[0].replace(&[other.root_pem().to_owned()], SystemRoots::Ignore).unwrap();
    inside.policy.send_replace(policy(rows()).into());
    assert_eq!(phone.ask(&options("rfc.example")).await, NOT_PROVED);
}

#[tokio::test]
async fn who_proves_nothing_is_not_listened_to_for_long() {
    let ca = TestCa::new();
    let (resolver, _dns) = zone().serve().await;
    let inside = Inside::start(&ca, &resolver, policy(rows())).await;
    let peer = SipPeer::new(None, &ca, &Wire::default());
    let io = peer.dial_raw(inside.edges[0].address).await;
    let heard = say_all(io, &options("them.example").to_bytes().repeat(100)).await;
    assert_eq!(heard.matches("SIP/2.0 403").count(), 16);
}

#[tokio::test]
async fn other_identities_stay_outside() {
    let ca = TestCa::new();
    let (resolver, _dns) = zone().serve().await;
    let mut inside = Inside::start(&ca, &resolver, policy(rows())).await;
    inside.ready().await;
    let certificate = ca.issue().dns("sip.them.example").make();
    let peer = SipPeer::new(Some(&certificate), &ca, &Wire::default());
    let mut phone = peer.dial(inside.edges[0].address).await;
    let message = request_from("them.example", "MESSAGE", "sip:alice@ours.example", "claims");
    let message = set(message, HeaderName::PAssertedIdentity, "<sip:boss@ours.example>");
    phone.send(&message).await;
    let heard = inside.hear().await;
    assert!(heard.message.headers.get(&HeaderName::PAssertedIdentity).is_none());
    inside.answer(&heard, 200);
    assert_eq!(told(&phone.next().await), "200");
}

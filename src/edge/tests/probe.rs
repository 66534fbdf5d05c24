//! What `partner check` finds out, against partners that are good and bad in one way at a time.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

mod probe_world;

use std::time::Duration;

use gatehouse_edge::PrivateTargets;
use gatehouse_edge::probe::{AddressReport, ProbeReport, ProtocolReport, Severity, Stage, Turn};
use gatehouse_policy::{Action, Policy, Require};
use gatehouse_testkit::{Issue, TestCertificate};
use tokio::time::Instant;

use self::probe_world::{
    DIALBACK, EXTERNAL, Manners, Partner, SUCCESS, World, closed_port, is_loopback,
};

const WELCOMING: Manners = Manners { features: EXTERNAL, answer: SUCCESS };
const SRV: &str = "_xmpp-server._tcp.them.example";
const SIP_SRV: &str = "_sipfederationtls._tcp.them.example";
const ROW: &str = "[[sip]]\nname = \"them\"\nremote = [\"them.example\"]\n";
const LYNC: &str = "Server: RTC/6.0\r\n";

fn xmpp(report: &ProbeReport) -> &ProtocolReport {
    report.xmpp.as_ref().unwrap()
}

fn sip(report: &ProbeReport) -> &ProtocolReport {
    report.sip.as_ref().unwrap()
}

fn address(report: &ProtocolReport) -> &AddressReport {
    &report.targets[0].addresses[0]
}

/// The first thing that stops it.
fn worst(report: &ProtocolReport) -> (Turn, &str) {
    let worst = report.findings.iter().find(|one| one.severity == Severity::Fail);
    let worst = worst.unwrap_or_else(|| panic!("nothing fails: {report:#?}"));
    (worst.turn, &worst.text)
}

fn failing(report: &ProtocolReport) -> Vec<&str> {
    let bad = report.own.iter().filter(|check| !check.pass && check.required);
    bad.map(|check| check.what).collect()
}

async fn meet(world: World, certificate: &TestCertificate, manners: Manners) -> ProbeReport {
    let partner = Partner::xmpp(certificate, &world.ca, manners).await;
    world.zone(|zone| zone.srv(SRV, partner.port, "host.example")).probe().await
}

async fn good_certificate(world: &World) -> TestCertificate {
    world.ca.issue_for("them.example")
}

#[tokio::test]
async fn a_good_partner_would_work() {
    let world = World::new();
    let certificate = good_certificate(&world).await;
    let report = meet(world, &certificate, WELCOMING).await;
    assert!(report.verdict.works, "{report:#?}");
    assert_eq!((report.verdict.protocol, report.policy_protocol), (Some("xmpp"), "xmpp"));
    let xmpp = xmpp(&report);
    assert!(xmpp.outbound && xmpp.inbound && xmpp.findings.is_empty(), "{xmpp:#?}");
    let one = address(xmpp);
    assert!(is_loopback(&one.address) && one.private && one.usable && one.proved);
    assert_eq!(one.stage, Stage::Done);
    let tls = one.tls.as_ref().unwrap();
    assert_eq!((tls.version, tls.chain_len), ("TLSv1.3", 1));
    assert!(tls.cipher_suite.starts_with("TLS13_"), "{}", tls.cipher_suite);
    let shown = one.certificate.as_ref().unwrap();
    assert_eq!(shown.chain, "good");
    assert!(shown.names.contains(&"DNS them.example".to_owned()), "{:?}", shown.names);
    assert!((28..=30).contains(&shown.days_left), "{}", shown.days_left);
    assert_eq!(one.rules[0].text, "SRVName _xmpp-server.them.example");
    let answer = one.xmpp.as_ref().unwrap();
    assert_eq!(answer.features_before_tls, ["starttls"]);
    assert_eq!(answer.features, ["mechanisms (EXTERNAL)"]);
    assert_eq!((answer.external, answer.dialback), ("accepted", "not offered"));
}

#[tokio::test]
async fn a_bad_certificate_does_not_work_and_says_why() {
    let world = World::new();
    let cases = [
        (world.ca.issue().dns("them.example").expired().make(), "expired", Turn::Partner),
        (world.ca.issue().dns("other.example").make(), "not for them.example", Turn::Partner),
        (Issue::self_signed().dns("them.example").make(), "self-signed", Turn::Both),
        (world.ca.issue().dns("them.example").not_yet_valid().make(), "not valid yet", Turn::Both),
    ];
    let ca = world.ca;
    for (certificate, why, turn) in cases {
        let partner = Partner::xmpp(&certificate, &ca, WELCOMING).await;
        let mut world = World::new();
        world.ours = ca.issue_for("ours.example");
        let root = ca.root_pem().to_owned();
        let report = world
            .zone(|zone| zone.srv(SRV, partner.port, "host.example"))
            .probe_trusting(root)
            .await;
        assert!(!report.verdict.works, "{why}");
        let found = worst(xmpp(&report));
        assert!(found.0 == turn && found.1.contains(why), "{why}: {found:?}");
        assert_eq!(report.verdict.turn, Some(turn));
        let one = address(xmpp(&report));
        assert!(!one.proved && !one.rules[0].pass && one.rules[0].counts);
        // It goes on all the same, to see how far it would go.
        assert!(one.xmpp.as_ref().unwrap().opened && !one.usable, "{why}");
    }
}

#[tokio::test]
async fn a_pinned_key_stands_in_for_an_authority() {
    let certificate = Issue::self_signed().dns("them.example").make();
    let world = World::new();
    let first = meet(world, &certificate, WELCOMING).await;
    let pin = address(xmpp(&first)).certificate.as_ref().unwrap().key_pin.clone();
    let policy = |pin: &str| -> Policy {
        let rule = "[[rule]]\nname = \"them\"\nremote = [\"them.example\"]\n";
        toml::from_str(&format!("{rule}pin = [\"{pin}\"]\n")).unwrap()
    };
    let pinned = World::new().with(|world| world.policy = policy(&pin));
    let report = meet(pinned, &certificate, WELCOMING).await;
    assert!(report.verdict.works, "{report:#?}");
    let rules = &address(xmpp(&report)).rules;
    let rules: Vec<_> = rules.iter().map(|one| (one.rule, one.counts, one.pass)).collect();
    assert_eq!(rules, [("RFC 6120 names", false, false), ("pinned key", true, true)]);
    let other = format!("sha256:{}", "0".repeat(64));
    let wrong = World::new().with(|world| world.policy = policy(&other));
    assert!(!meet(wrong, &certificate, WELCOMING).await.verdict.works);
}

#[tokio::test]
async fn whether_the_partner_takes_us_is_told() {
    let refused = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/>\
        <text>your \u{202e}certificate</text></failure>";
    let valid = "<db:result xmlns:db='jabber:server:dialback' from='them.example' to='ours.example' type='valid'/>";
    let invalid = "<db:result xmlns:db='jabber:server:dialback' from='them.example' to='ours.example' type='invalid'/>";
    for (features, answer, external, dialback, works, turn) in [
        (EXTERNAL, SUCCESS, "accepted", "not offered", true, None),
        (EXTERNAL, refused, "refused", "not offered", false, Some(Turn::Both)),
        (DIALBACK, valid, "not offered", "accepted", true, None),
        (DIALBACK, invalid, "not offered", "refused", false, Some(Turn::Us)),
        ("", "", "not offered", "not offered", false, Some(Turn::Both)),
    ] {
        let world = World::new();
        let certificate = good_certificate(&world).await;
        let report = meet(world, &certificate, Manners { features, answer }).await;
        let one = address(xmpp(&report));
        let said = one.xmpp.as_ref().unwrap();
        assert_eq!((said.external, said.dialback), (external, dialback), "{features} {answer}");
        assert_eq!((report.verdict.works, report.verdict.turn), (works, turn), "{report:#?}");
        let text = format!("{report:?}");
        assert!(!text.contains("202e") && !text.contains('\u{202e}'), "{text}");
    }
}

#[tokio::test]
async fn dialback_alone_counts_where_the_policy_says_so() {
    let certificate = Issue::self_signed().dns("them.example").make();
    let mut policy = Policy::open_with_certificate();
    policy.rules[0].require = Require::CertificateOrDialback;
    let lax = World::new().with(|world| world.policy = policy);
    assert!(meet(lax, &certificate, WELCOMING).await.verdict.works);
    assert!(!meet(World::new(), &certificate, WELCOMING).await.verdict.works);
}

#[tokio::test]
async fn a_blocked_partner_is_looked_at_and_does_not_work() {
    let mut policy = Policy::open_with_certificate();
    policy.rules[0].action = Action::Block;
    let world = World::new().with(|world| world.policy = policy);
    let certificate = good_certificate(&world).await;
    let report = meet(world, &certificate, WELCOMING).await;
    assert_eq!((report.verdict.works, report.verdict.turn), (false, Some(Turn::Us)));
    let xmpp = xmpp(&report);
    assert!(!xmpp.policy.allowed && !xmpp.outbound && !xmpp.inbound);
    assert!(address(xmpp).proved && worst(xmpp).1.contains("blocks it"));
}

#[tokio::test]
async fn dns_that_leads_nowhere_is_told() {
    let nothing = World::new().probe().await;
    assert_eq!(xmpp(&nothing).dns.source, "fallback");
    assert!(worst(xmpp(&nothing)).1.contains("names no XMPP server"), "{nothing:#?}");
    assert_eq!(nothing.verdict.turn, Some(Turn::Partner));

    let refused = World::new().zone(|zone| zone.srv(SRV, 0, ".")).probe().await;
    assert_eq!(xmpp(&refused).dns.srv[1].state, "refused");
    assert!(worst(xmpp(&refused)).1.contains("has no XMPP service"), "{refused:#?}");

    let no_address = World::new().zone(|zone| zone.srv(SRV, 5269, "gone.example")).probe().await;
    assert!(worst(xmpp(&no_address)).1.contains("gone.example has no address"));

    let closed = closed_port().await;
    let closed = World::new().zone(|zone| zone.srv(SRV, closed, "host.example")).probe().await;
    assert_eq!(address(xmpp(&closed)).stage, Stage::Tcp);
    assert!(worst(xmpp(&closed)).1.contains("no TCP connection"));

    let private = World::new()
        .with(|world| world.private = PrivateTargets::Refuse)
        .zone(|zone| zone.srv(SRV, 5269, "host.example"))
        .probe()
        .await;
    assert_eq!(address(xmpp(&private)).stage, Stage::NotDialled);
    let finding = &xmpp(&private).findings[0];
    assert!(finding.remedy.contains("private-targets"), "{finding:?}");
}

#[tokio::test]
async fn one_good_target_among_bad_ones_is_enough() {
    let world = World::new();
    let certificate = good_certificate(&world).await;
    let partner = Partner::xmpp(&certificate, &world.ca, WELCOMING).await;
    let closed = closed_port().await;
    let report = world
        .zone(|zone| zone.srv(SRV, closed, "host.example").srv(SRV, partner.port, "host.example"))
        .probe()
        .await;
    assert!(report.verdict.works);
    let findings = &xmpp(&report).findings;
    assert!(findings.len() == 1 && findings[0].severity == Severity::Warn, "{findings:#?}");
}

#[tokio::test]
async fn our_own_records_are_looked_at() {
    let world = World::new();
    let certificate = good_certificate(&world).await;
    let partner = Partner::xmpp(&certificate, &world.ca, WELCOMING).await;
    let report = world
        .only(|zone| {
            zone.srv(SRV, partner.port, "host.example")
                .host("host.example", std::net::Ipv4Addr::LOCALHOST)
        })
        .probe()
        .await;
    assert!(xmpp(&report).outbound && !xmpp(&report).inbound, "{report:#?}");
    assert_eq!((report.verdict.works, report.verdict.turn), (false, Some(Turn::Us)));
    assert_eq!(failing(xmpp(&report)), ["SRV"]);
}

#[tokio::test]
async fn a_silent_partner_does_not_hold_us_up() {
    let partner = Partner::silent().await;
    let world = World::new().with(|world| world.total = Duration::from_millis(700));
    let begun = Instant::now();
    let report = world.zone(|zone| zone.srv(SRV, partner.port, "host.example")).probe().await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert!(address(xmpp(&report)).error.as_ref().unwrap().contains("no answer in time"));
    assert!(!report.verdict.works);
}

/// A Lync-shaped partner: the certificate names the host of its SRV record, not the domain.
async fn lync(world: World, status: &'static str, headers: &'static str) -> ProbeReport {
    let certificate = world.ca.issue().dns("sip.them.example").make();
    let partner = Partner::sip(&certificate, &world.ca, status, headers).await;
    world.zone(|zone| zone.srv(SIP_SRV, partner.port, "sip.them.example")).probe().await
}

#[tokio::test]
async fn a_lync_partner_would_work() {
    let report = lync(World::new().sip(ROW), "200 OK", LYNC).await;
    assert!(report.verdict.works, "{report:#?}");
    let one = address(sip(&report));
    let rules: Vec<_> = one.rules.iter().map(|one| (one.rule, one.pass)).collect();
    assert_eq!(rules, [("RFC 5922", false), ("Microsoft", true)]);
    let answer = one.sip.as_ref().unwrap();
    assert_eq!((answer.status, answer.server.as_deref()), (200, Some("RTC/6.0")));
    assert_eq!(sip(&report).policy.mode, Some("enhanced"));
}

#[tokio::test]
async fn every_rule_of_sip_has_its_no() {
    let only = |proof: &str| format!("{ROW}proof = [\"{proof}\"]\n");
    // The certificate names the SRV host alone, which RFC 5922 does not take.
    let report = lync(World::new().sip(&only("rfc5922")), "200 OK", LYNC).await;
    assert!(!report.verdict.works && !address(sip(&report)).rules[1].counts);
    assert!(lync(World::new().sip(&only("microsoft")), "200 OK", LYNC).await.verdict.works);
    // The SRV record names a host outside of the domain.
    let world = World::new().sip(ROW);
    let certificate = world.ca.issue().dns("host.example").make();
    let partner = Partner::sip(&certificate, &world.ca, "200 OK", LYNC).await;
    let outside = world.zone(|zone| zone.srv(SIP_SRV, partner.port, "host.example"));
    let report = outside.probe().await;
    assert!(worst(sip(&report)).1.contains("host.example"), "{report:#?}");
    assert!(!report.verdict.works);
    // No row, no partner; what is there is looked at all the same.
    let report = lync(World::new().sip(""), "200 OK", LYNC).await;
    assert_eq!((report.verdict.works, report.policy_protocol), (false, "none"));
    assert!(address(sip(&report)).proved && worst(sip(&report)).1.contains("policy"));
}

#[tokio::test]
async fn a_504_leads_to_our_own_side() {
    let headers = "ms-diagnostics-public: 1009;reason=\"SRV \u{7}mismatch\"\r\n";
    let report = lync(World::new().sip(ROW), "504 Server time-out", headers).await;
    let found = worst(sip(&report));
    assert!(found.0 == Turn::Us && found.1.contains("504 Server time-out"), "{found:?}");
    assert!(!found.1.contains('\u{7}'), "{found:?}");
    let alive = lync(World::new().sip(ROW), "405 Method Not Allowed", LYNC).await;
    assert!(alive.verdict.works, "it answers, and that is what counts");
}

#[tokio::test]
async fn lync_would_refuse_our_own_mistakes() {
    let them = |zone: probe_world::Zone| {
        let localhost = std::net::Ipv4Addr::LOCALHOST;
        zone.host("sip.them.example", localhost)
            .host("sip.ours.example", localhost)
            .host("host.example", localhost)
    };
    // No SRV record of ours.
    let none = lync(World::new().sip(ROW).only(them), "200 OK", LYNC).await;
    assert_eq!(failing(sip(&none)), ["SRV"]);
    // One that leads out of our domain, which our certificate does not name either.
    let own = "_sipfederationtls._tcp.ours.example";
    let outside = World::new().sip(ROW).only(them).zone(|zone| zone.srv(own, 5061, "host.example"));
    let outside = lync(outside, "200 OK", LYNC).await;
    assert_eq!(failing(sip(&outside)), ["SRV host", "names"]);
    // A certificate for servers only, one without the name, one that has expired.
    let ours = |make: fn(&gatehouse_testkit::TestCa) -> TestCertificate| {
        World::new().sip(ROW).with(|world| world.ours = make(&world.ca))
    };
    let server = ours(|ca| ca.issue().dns("sip.ours.example").server_only().make());
    assert_eq!(failing(sip(&lync(server, "200 OK", LYNC).await)), ["purposes"]);
    let unnamed = ours(|ca| ca.issue().dns("ours.example").make());
    assert_eq!(failing(sip(&lync(unnamed, "200 OK", LYNC).await)), ["names"]);
    let expired = ours(|ca| ca.issue().dns("sip.ours.example").expired().make());
    assert_eq!(failing(sip(&lync(expired, "200 OK", LYNC).await)), ["validity", "chain"]);
    let closed = World::new().sip(ROW).with(|world| world.sip_listens = false);
    let closed = lync(closed, "200 OK", LYNC).await;
    assert_eq!(failing(sip(&closed)), ["listener"]);
    for report in [none, outside, closed] {
        assert!(sip(&report).outbound && !sip(&report).inbound && !report.verdict.works);
        assert_eq!(report.verdict.turn, Some(Turn::Us));
    }
    // Another make has let us in: what it wants of us it has seen.
    let kamailio = lync(World::new().sip(ROW).only(them), "200 OK", "Server: kamailio\r\n").await;
    assert!(kamailio.verdict.works, "{kamailio:#?}");
}

#[tokio::test]
async fn clocks_that_differ_are_told() {
    let headers = "Server: RTC/6.0\r\nDate: Sat, 13 Nov 2010 23:29:00 GMT\r\n";
    let report = lync(World::new().sip(ROW), "200 OK", headers).await;
    let findings = &sip(&report).findings;
    assert!(findings.iter().any(|one| one.text.contains("clock")), "{findings:#?}");
    let none = lync(World::new().sip(ROW), "200 OK", LYNC).await;
    assert!(sip(&none).findings.is_empty(), "{none:#?}");
}

/// What DNS says about the certificate of the first target: state, whether it decides, and the
/// records.
fn dane(report: &ProbeReport) -> (&'static str, bool, Vec<(u8, bool)>) {
    let dane = xmpp(report).targets[0].dane.as_ref().unwrap();
    assert!(dane.name.ends_with("._tcp.host.example") && dane.name.starts_with('_'));
    let records = dane.records.iter().map(|one| (one.usage, one.usable)).collect();
    (dane.state, dane.decides, records)
}

fn dane_rule(report: &ProbeReport) -> Option<(bool, bool)> {
    let rules = &address(xmpp(report)).rules;
    let rule = rules.iter().find(|one| one.rule.starts_with("DANE"));
    rule.map(|one| (one.counts, one.pass))
}

#[tokio::test]
async fn signed_records_decide_and_unsigned_ones_are_only_shown() {
    let own = Issue::self_signed().dns("them.example").make();
    let other = Issue::self_signed().dns("them.example").make();
    for (validated, recorded, state, decides, works) in [
        (Some(true), &own, "secure", true, true),
        (Some(true), &other, "secure", true, false),
        (Some(false), &own, "insecure", false, false),
        (None, &own, "insecure", false, false),
    ] {
        let world = World::new().with(|world| world.validated = validated);
        let partner = Partner::xmpp(&own, &world.ca, WELCOMING).await;
        let report = world
            .zone(|zone| {
                zone.srv(SRV, partner.port, "host.example").tlsa(partner.port, 3, &recorded.der)
            })
            .probe()
            .await;
        assert_eq!(dane(&report), (state, decides, vec![(3, true)]));
        assert_eq!(report.verdict.works, works, "{validated:?}: {report:#?}");
        assert_eq!(dane_rule(&report), decides.then_some((true, works)));
        if decides && !works {
            let (turn, text) = worst(xmpp(&report));
            assert!(turn == Turn::Partner && text.contains("DANE"), "{text}");
            assert!(text.contains("signed TLSA records"), "{text}");
        }
        let reason = xmpp(&report).targets[0].dane.as_ref().unwrap().reason.clone();
        assert_eq!(reason.is_none(), decides);
        let fields = toml::Value::try_from(&report).unwrap();
        let told = &fields["xmpp"]["targets"][0]["dane"];
        assert_eq!(
            (told["state"].as_str(), told["decides"].as_bool()),
            (Some(state), Some(decides))
        );
        assert_eq!(told["records"][0]["data"].as_str().unwrap().len(), 64);
    }
}

#[tokio::test]
async fn signed_records_refuse_a_good_chain_and_dialback_and_a_pin_goes_before_them() {
    let other = Issue::self_signed().dns("them.example").make();
    let valid = "<db:result xmlns:db='jabber:server:dialback' from='them.example' to='ours.example' type='valid'/>";
    let dialback = Manners { features: DIALBACK, answer: valid };
    for (manners, secure) in
        [(WELCOMING, true), (WELCOMING, false), (dialback, true), (dialback, false)]
    {
        let world = World::new().with(|world| {
            world.validated = Some(secure);
            world.policy.rules[0].require = Require::CertificateOrDialback;
        });
        let good = good_certificate(&world).await;
        let partner = Partner::xmpp(&good, &world.ca, manners).await;
        let zone = |zone: probe_world::Zone| {
            zone.srv(SRV, partner.port, "host.example").tlsa(partner.port, 1, &other.der)
        };
        let report = world.zone(zone).probe().await;
        assert_eq!(report.verdict.works, !secure, "{report:#?}");
        assert_eq!(
            dane(&report),
            (if secure { "secure" } else { "insecure" }, secure, vec![(1, true)])
        );
    }

    let world = World::new();
    let good = good_certificate(&world).await;
    let pin = gatehouse_identity::KeyPin::of_certificate(&good.der).unwrap();
    let rule =
        format!("[[rule]]\nname = \"them\"\nremote = [\"them.example\"]\npin = [\"{pin}\"]\n");
    let partner = Partner::xmpp(&good, &world.ca, WELCOMING).await;
    let report = world
        .with(|world| {
            world.validated = Some(true);
            world.policy = toml::from_str(&rule).unwrap();
        })
        .zone(|zone| zone.srv(SRV, partner.port, "host.example").tlsa(partner.port, 3, &other.der))
        .probe()
        .await;
    assert!(report.verdict.works, "{report:#?}");
    assert_eq!((dane(&report).1, dane_rule(&report)), (false, None));
    let reason = xmpp(&report).targets[0].dane.as_ref().unwrap().reason.clone().unwrap();
    assert!(reason.contains("pinned key"), "{reason}");
}

#[tokio::test]
async fn records_that_cannot_be_used_and_none_at_all_change_nothing() {
    for broken in [true, false] {
        let world = World::new().with(|world| world.validated = Some(true));
        let good = good_certificate(&world).await;
        let partner = Partner::xmpp(&good, &world.ca, WELCOMING).await;
        let zone = |zone: probe_world::Zone| {
            let zone = zone.srv(SRV, partner.port, "host.example");
            if broken { zone.tlsa_of(partner.port, 3, vec![1, 2, 3]) } else { zone }
        };
        let report = world.zone(zone).probe().await;
        assert!(report.verdict.works, "{report:#?}");
        let (state, decides, records) = dane(&report);
        assert!(!decides && dane_rule(&report).is_none());
        if broken {
            assert_eq!((state, records), ("secure", vec![(3, false)]));
        } else {
            assert_eq!((state, records), ("absent", vec![]));
        }
    }
}

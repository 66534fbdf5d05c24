use std::time::Duration;

use gatehouse_identity::TlsVersion;
use gatehouse_testkit::Issue;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::*;
use crate::chains_to;
use crate::judgement::judge;

/// What the acceptor, then the connector, makes of one certificate shown by the other side.
async fn judged(
    certificate: &TestCertificate,
    roots: &Roots,
    versions: &[&'static SupportedProtocolVersion],
) -> (Presented, Presented) {
    let both = keys(vec![entry(&["them.example"], certificate)]);
    let acceptor = Acceptor::with_versions(&both, roots, &[], versions).unwrap();
    let connector = Connector::with_versions(&both, roots, &[], versions).unwrap();
    let (accepted, connected) =
        meet(&acceptor, None, &connector, "them.example", "them.example").await.unwrap();
    (accepted.presented, connected.presented)
}

#[tokio::test]
async fn a_good_chain_is_verified_at_both_ends_in_both_versions() {
    let ca = TestCa::new();
    for versions in EACH_VERSION {
        for certificate in [
            ca.issue_for("them.example"),
            ca.issue().dns("them.example").server_only().make(),
            ca.issue().dns("them.example").client_only().make(),
            ca.issue().srv("_xmpp-server.them.example").xmpp("them.example").make(),
        ] {
            let (accepted, connected) = judged(&certificate, &trust(&ca), versions).await;
            for presented in [accepted, connected] {
                match presented {
                    Presented::Verified(leaf) => assert_eq!(leaf.der(), certificate.der),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_name_is_not_decided_here() {
    let ca = TestCa::new();
    let certificate = ca.issue_for("other.example");
    let (accepted, connected) = judged(&certificate, &trust(&ca), EACH_VERSION[1]).await;
    assert!(matches!(accepted, Presented::Verified(_)));
    assert!(matches!(connected, Presented::Verified(_)));
}

#[tokio::test]
async fn every_fault_is_told_at_both_ends_in_both_versions() {
    let ca = TestCa::new();
    let stranger = TestCa::named("Another authority");
    let namesake = TestCa::new();
    let them = || ca.issue().dns("them.example");
    let cases = [
        (them().expired().make(), ChainFault::Expired),
        (them().not_yet_valid().make(), ChainFault::NotYetValid),
        (them().for_code().make(), ChainFault::WrongPurpose),
        (them().authority().make(), ChainFault::IsAuthority),
        (stranger.issue_for("them.example"), ChainFault::UnknownIssuer),
        (namesake.issue_for("them.example"), ChainFault::UnknownIssuer),
        (Issue::self_signed().dns("them.example").make(), ChainFault::SelfSigned),
        (Issue::self_signed().dns("them.example").authority().make(), ChainFault::SelfSigned),
        (
            Issue::self_signed().common_name("Gatehouse test authority").dns("a.example").make(),
            ChainFault::SelfSigned,
        ),
        (Issue::self_signed().dns("them.example").expired().make(), ChainFault::Expired),
    ];
    for versions in EACH_VERSION {
        for (certificate, expected) in &cases {
            let (accepted, connected) = judged(certificate, &trust(&ca), versions).await;
            assert_eq!((fault(&accepted), fault(&connected)), (expected, expected));
        }
    }
}

#[tokio::test]
async fn a_self_signed_certificate_among_our_roots_is_trusted() {
    let certificate = Issue::self_signed().dns("them.example").make();
    let pinned = Roots::new(std::slice::from_ref(&certificate.chain_pem), SystemRoots::Ignore);
    let (accepted, _) = judged(&certificate, &pinned.unwrap(), EACH_VERSION[1]).await;
    assert!(matches!(accepted, Presented::Verified(_)), "{accepted:?}");

    let authority = Issue::self_signed().dns("them.example").authority().make();
    let pinned = Roots::new(std::slice::from_ref(&authority.chain_pem), SystemRoots::Ignore);
    let (accepted, _) = judged(&authority, &pinned.unwrap(), EACH_VERSION[1]).await;
    assert_eq!(fault(&accepted), &ChainFault::IsAuthority);
}

#[tokio::test]
async fn nobody_is_trusted_without_roots() {
    let certificate = TestCa::new().issue_for("them.example");
    let nobody = Roots::new(&[], SystemRoots::Ignore).unwrap();
    let (accepted, _) = judged(&certificate, &nobody, EACH_VERSION[1]).await;
    assert_eq!(fault(&accepted), &ChainFault::UnknownIssuer);
}

#[tokio::test]
async fn a_client_may_show_nothing() {
    let ca = TestCa::new();
    let ours = keys(vec![entry(&["us.example"], &ca.issue_for("us.example"))]);
    for versions in EACH_VERSION {
        let acceptor = Acceptor::with_versions(&ours, &trust(&ca), &[], versions).unwrap();
        let connector =
            Connector::with_versions(&Keys::empty(), &trust(&ca), &[], versions).unwrap();
        let (accepted, connected) =
            meet(&acceptor, None, &connector, "us.example", "them.example").await.unwrap();
        assert!(matches!(accepted.presented, Presented::Nothing));
        assert!(matches!(connected.presented, Presented::Verified(_)));
    }
}

#[tokio::test]
async fn a_stolen_certificate_without_its_key_ends_the_handshake() {
    let ca = TestCa::new();
    let ours = keys(vec![entry(&["us.example"], &ca.issue_for("us.example"))]);
    for versions in EACH_VERSION {
        let acceptor = Acceptor::with_versions(&ours, &trust(&ca), &[], versions).unwrap();
        let thief = ca.issue_for("thief.example");
        let victim = ca.issue_for("them.example");
        let config = session::client_config(versions, Some((&victim, &thief.key_pem)));
        let (accepted, _) = session::dial(&acceptor, &config, "us.example").await;
        let refused = accepted.map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("BadSignature"), "{refused}");
    }
}

#[tokio::test]
async fn the_exporter_is_the_same_at_both_ends_and_only_in_tls13() {
    let ca = TestCa::new();
    let ours = keys(vec![entry(&["us.example"], &ca.issue_for("us.example"))]);
    let mut seen = Vec::new();
    for versions in [EACH_VERSION[0], EACH_VERSION[1], EACH_VERSION[1]] {
        let acceptor = Acceptor::with_versions(&ours, &trust(&ca), &[], versions).unwrap();
        let connector = Connector::with_versions(&ours, &trust(&ca), &[], versions).unwrap();
        let (accepted, connected) =
            meet(&acceptor, None, &connector, "us.example", "us.example").await.unwrap();
        assert_eq!(accepted.exporter, connected.exporter);
        assert_eq!(accepted.version, connected.version);
        seen.push((accepted.version, accepted.exporter));
    }
    assert_eq!(seen[0], (TlsVersion::Tls12, None));
    assert_eq!((seen[1].0, seen[2].0), (TlsVersion::Tls13, TlsVersion::Tls13));
    assert!(seen[1].1.is_some() && seen[1].1 != seen[2].1);
}

#[tokio::test]
async fn the_best_common_version_is_agreed() {
    let ca = TestCa::new();
    let ours = keys(vec![entry(&["us.example"], &ca.issue_for("us.example"))]);
    let acceptor = Acceptor::new(&ours, &trust(&ca), &[]).unwrap();
    let modern = Connector::new(&ours, &trust(&ca), &[]).unwrap();
    let older = Connector::with_versions(&ours, &trust(&ca), &[], EACH_VERSION[0]).unwrap();
    for (connector, version) in [(modern, TlsVersion::Tls13), (older, TlsVersion::Tls12)] {
        let (accepted, _) =
            meet(&acceptor, None, &connector, "us.example", "us.example").await.unwrap();
        assert_eq!(accepted.version, version);
    }
}

#[tokio::test]
async fn a_chain_is_judged_again_when_trust_changes() {
    let (ca, other) = (TestCa::new(), TestCa::named("Another authority"));
    let roots = trust(&ca);
    let certificate = ca.issue_for("them.example");
    let (accepted, connected) = judged(&certificate, &roots, EACH_VERSION[1]).await;
    let replace = |roots: &Roots, ca: &TestCa| {
        roots.replace(&[ca.root_pem().to_owned()], SystemRoots::Ignore).unwrap();
    };
    for presented in [&accepted, &connected] {
        assert!(matches!(roots.judge_again(presented), Presented::Verified(_)));
    }
    replace(&roots, &other);
    for presented in [&accepted, &connected] {
        assert_eq!(fault(&roots.judge_again(presented)), &ChainFault::UnknownIssuer);
    }
    // What never was verified is not judged better than the handshake did.
    let (refused, _) = judged(&certificate, &roots, EACH_VERSION[1]).await;
    replace(&roots, &ca);
    assert!(matches!(roots.judge_again(&accepted), Presented::Verified(_)));
    assert!(matches!(roots.judge_again(&refused), Presented::Untrusted { .. }));
}

/// That a signature is known makes nothing else of a chain better.
#[test]
fn a_known_signature_is_all_that_is_known() {
    let (ca, stranger) = (TestCa::new(), TestCa::named("Another authority"));
    let roots = trust(&ca);
    let known = || roots.current().signatures().len();
    let now = UnixTime::now().as_secs();
    let judged = |der: &[u8], seconds: u64| {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        judge(&[CertificateDer::from(der)], &roots.current(), at)
    };
    let is_verified = |presented: &Presented| matches!(presented, Presented::Verified(_));

    let them = ca.issue_for("them.example").der;
    for _ in 0..3 {
        assert!(is_verified(&judged(&them, now)));
        assert_eq!(known(), 1);
    }
    // Its time is looked at each time.
    const YEAR: u64 = 366 * 86_400;
    assert_eq!(fault(&judged(&them, now + YEAR)), &ChainFault::Expired);
    assert_eq!(fault(&judged(&them, now - YEAR)), &ChainFault::NotYetValid);
    assert!(is_verified(&judged(&them, now)));

    // Nothing that was changed anywhere is taken for it: neither what is signed nor the signature.
    for at in 0..them.len() {
        let mut bent = them.clone();
        bent[at] ^= 0x01;
        assert!(!is_verified(&judged(&bent, now)), "byte {at}");
    }
    // What is refused is not remembered, whether for its signature or for its purpose.
    assert_eq!(
        fault(&judged(&stranger.issue_for("a.example").der, now)),
        &ChainFault::UnknownIssuer
    );
    let for_code = ca.issue().dns("a.example").for_code().make().der;
    assert_eq!(fault(&judged(&for_code, now)), &ChainFault::WrongPurpose);
    assert_eq!(known(), 1);

    // Nor does it outlive the trust that it was found under.
    let replace = |ca: &TestCa| {
        roots.replace(&[ca.root_pem().to_owned()], SystemRoots::Ignore).unwrap();
        assert_eq!(known(), 0);
    };
    replace(&stranger);
    assert_eq!(fault(&judged(&them, now)), &ChainFault::UnknownIssuer);
    replace(&ca);
    assert!(is_verified(&judged(&them, now)));
    assert_eq!(known(), 1);
}

#[test]
fn an_authority_that_dns_names_anchors_its_chain_and_no_other() {
    let ca = TestCa::new();
    let (stranger, namesake) = (TestCa::named("Another authority"), TestCa::new());
    let leaf = ca.issue_for("them.example").der;
    let root = ca.root_der();
    // The others that are shown make no difference: only the anchor is trusted.
    for others in [vec![], vec![root.to_vec()], vec![stranger.root_der().to_vec()]] {
        assert!(chains_to(&leaf, &others, root));
        assert!(!chains_to(&leaf, &others, stranger.root_der()));
        assert!(!chains_to(&leaf, &others, namesake.root_der()));
    }
    let them = || ca.issue().dns("them.example");
    for bad in [them().expired(), them().not_yet_valid(), them().for_code(), them().authority()] {
        assert!(!chains_to(&bad.make().der, &[], root));
    }
    assert!(!chains_to(b"junk", &[], root));
    assert!(!chains_to(&leaf, &[b"junk".to_vec()], b"junk"));
}

#[tokio::test]
async fn what_an_untrusted_peer_shows_beside_its_leaf_is_kept() {
    let ca = TestCa::new();
    let mut certificate = ca.issue_for("them.example");
    certificate.chain_pem.push_str(ca.root_pem());
    let nobody = Roots::new(&[], SystemRoots::Ignore).unwrap();
    let (accepted, connected) = judged(&certificate, &nobody, EACH_VERSION[1]).await;
    for presented in [accepted, connected] {
        assert_eq!(fault(&presented), &ChainFault::UnknownIssuer);
        assert_eq!(presented.issuers(), [ca.root_der().to_vec()]);
    }
}

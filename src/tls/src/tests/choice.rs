use super::*;

/// Two domains of ours, and an acceptor and a connector that both have them.
struct Ours {
    ca: TestCa,
    keys: Keys,
    acceptor: Acceptor,
    connector: Connector,
}

fn ours() -> Ours {
    let ca = TestCa::new();
    let keys = keys(vec![
        entry(&["one.example", "alias.example"], &ca.issue_for("one.example")),
        entry(&["two.example"], &ca.issue_for("two.example")),
    ]);
    let acceptor = Acceptor::new(&keys, &trust(&ca), &[]).unwrap();
    let connector = Connector::new(&keys, &trust(&ca), &[]).unwrap();
    Ours { ca, keys, acceptor, connector }
}

#[tokio::test]
async fn sni_then_fallback_then_the_first_choose_our_certificate() {
    let ours = ours();
    for (sni, fallback, expected) in [
        ("one.example", None, "one.example"),
        ("two.example", None, "two.example"),
        ("alias.example", None, "one.example"),
        ("two.example", Some("one.example"), "two.example"),
        ("unknown.example", Some("two.example"), "two.example"),
        ("unknown.example", Some("unknown.example"), "one.example"),
        ("unknown.example", None, "one.example"),
    ] {
        let (_, connected) =
            meet(&ours.acceptor, fallback, &ours.connector, sni, "one.example").await.unwrap();
        assert_eq!(shown(&connected.presented), expected, "SNI {sni}, fallback {fallback:?}");
    }
}

#[tokio::test]
async fn without_sni_the_fallback_chooses() {
    let ours = ours();
    for (fallback, expected) in [(Some("two.example"), "two.example"), (None, "one.example")] {
        let mut config = session::client_config(EACH_VERSION[1], None);
        config.enable_sni = false;
        let (near, far) = tokio::io::duplex(64 * 1024);
        let fallback = fallback.map(domain);
        let dialler = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let (accepted, connected) = tokio::join!(
            ours.acceptor.accept(near, fallback.as_ref()),
            dialler.connect("x.example".try_into().unwrap(), far)
        );
        accepted.unwrap();
        let der = connected.unwrap().get_ref().1.peer_certificates().unwrap()[0].to_vec();
        assert_eq!(CertificateSummary::from_der(&der).unwrap().names.dns, [expected]);
    }
}

#[tokio::test]
async fn a_client_speaks_as_the_domain_it_was_told_or_as_nobody() {
    let ours = ours();
    for own in ["one.example", "two.example"] {
        let (accepted, _) =
            meet(&ours.acceptor, None, &ours.connector, "one.example", own).await.unwrap();
        assert_eq!(shown(&accepted.presented), own);
    }
    let (accepted, _) =
        meet(&ours.acceptor, None, &ours.connector, "one.example", "three.example").await.unwrap();
    assert!(matches!(accepted.presented, Presented::Nothing));
}

#[tokio::test]
async fn new_keys_and_roots_count_from_the_next_handshake() {
    let ours = ours();
    let next = TestCa::named("Next authority");
    let roots = trust(&ours.ca);
    let connector = Connector::new(&ours.keys, &roots, &[]).unwrap();
    let leaf = |met: Met| match met.unwrap().1.presented {
        Presented::Verified(leaf) => Ok(leaf.der().to_vec()),
        Presented::Untrusted { fault, .. } => Err(fault),
        other => panic!("{other:?}"),
    };
    let again = || meet(&ours.acceptor, None, &connector, "one.example", "one.example");

    assert!(leaf(again().await).is_ok());
    let renewed = next.issue_for("one.example");
    ours.keys.replace(vec![entry(&["one.example"], &renewed)]).unwrap();
    assert_eq!(leaf(again().await), Err(ChainFault::UnknownIssuer));
    roots.replace(&[next.root_pem().to_owned()], SystemRoots::Ignore).unwrap();
    assert_eq!(leaf(again().await), Ok(renewed.der));
}

#[tokio::test]
async fn without_any_certificate_a_handshake_fails_and_does_not_hang() {
    let ca = TestCa::new();
    let acceptor = Acceptor::new(&Keys::empty(), &trust(&ca), &[]).unwrap();
    let connector = Connector::new(&Keys::empty(), &trust(&ca), &[]).unwrap();
    assert!(meet(&acceptor, None, &connector, "us.example", "us.example").await.is_err());
}

#[tokio::test]
async fn alpn_must_overlap_only_if_both_sides_have_an_opinion() {
    let ours = ours();
    let roots = trust(&ours.ca);
    for (answered, offered, agreed) in [
        (&["xmpp-server"][..], &["xmpp-server"][..], true),
        (&["xmpp-server"], &[], true),
        (&["xmpp-server"], &["http/1.1"], false),
        (&["xmpp-server"], &["http/1.1", "xmpp-server"], true),
        (&[], &["http/1.1"], true),
    ] {
        let acceptor = Acceptor::new(&ours.keys, &roots, answered).unwrap();
        let connector = Connector::new(&ours.keys, &roots, offered).unwrap();
        let met = meet(&acceptor, None, &connector, "one.example", "one.example").await;
        assert_eq!(met.is_ok(), agreed, "{answered:?} {offered:?}");
    }
}

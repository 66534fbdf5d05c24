use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsConnector;

use super::*;
use crate::provider::provider;
use crate::verifier::PossessionOnly;

/// A client that is not ours: it resumes, and may show a certificate with any key.
pub(super) fn client_config(
    versions: &[&'static SupportedProtocolVersion],
    shows: Option<(&TestCertificate, &str)>,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PossessionOnly::new()));
    let mut config = match shows {
        None => builder.with_no_client_auth(),
        Some((certificate, key_pem)) => {
            let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
            let signer = provider().key_provider.load_private_key(key).unwrap();
            let chain = vec![CertificateDer::from(certificate.der.clone())];
            let shown = rustls::sign::CertifiedKey::new(chain, signer);
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)))
        }
    };
    config.resumption = Resumption::in_memory_sessions(8);
    config
}

/// Dials `acceptor` once; reads a byte, so that session tickets have arrived.
pub(super) async fn dial(
    acceptor: &Acceptor,
    config: &ClientConfig,
    server_name: &str,
) -> (io::Result<TlsFacts>, io::Result<HandshakeKind>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(server_name.to_owned()).unwrap();
    let dialler = TlsConnector::from(Arc::new(config.clone()));
    tokio::join!(
        async {
            let (mut io, facts) = acceptor.accept(near, None).await?;
            io.write_all(b"x").await?;
            io.flush().await?;
            Ok(facts)
        },
        async {
            let mut io = dialler.connect(name, far).await?;
            let mut byte = [0];
            io.read_exact(&mut byte).await?;
            Ok(io.get_ref().1.handshake_kind().unwrap())
        }
    )
}

#[tokio::test]
async fn a_resumed_session_is_judged_again() {
    for versions in EACH_VERSION {
        let ca = TestCa::new();
        let ours = keys(vec![entry(&["us.example"], &ca.issue_for("us.example"))]);
        let roots = trust(&ca);
        let acceptor = Acceptor::with_versions(&ours, &roots, &[], versions).unwrap();
        let acceptor = acceptor.with_resumption().unwrap();
        let them = ca.issue_for("them.example");
        let config = client_config(versions, Some((&them, &them.key_pem)));

        let (first, kind) = dial(&acceptor, &config, "us.example").await;
        assert_eq!(kind.unwrap(), HandshakeKind::Full);
        assert!(matches!(first.unwrap().presented, Presented::Verified(_)));

        let (second, kind) = dial(&acceptor, &config, "us.example").await;
        assert_eq!(kind.unwrap(), HandshakeKind::Resumed);
        match second.unwrap().presented {
            Presented::Verified(leaf) => assert_eq!(leaf.der(), them.der),
            other => panic!("{other:?}"),
        }

        roots.replace(&[], SystemRoots::Ignore).unwrap();
        let (third, kind) = dial(&acceptor, &config, "us.example").await;
        assert_eq!(kind.unwrap(), HandshakeKind::Resumed);
        assert_eq!(fault(&third.unwrap().presented), &ChainFault::UnknownIssuer);
    }
}

#[tokio::test]
async fn a_session_does_not_cross_to_another_of_our_services() {
    let ca = TestCa::new();
    let ours = keys(vec![entry(&["us.example"], &ca.issue_for("us.example"))]);
    let resuming =
        || Acceptor::new(&ours, &trust(&ca), &[]).and_then(Acceptor::with_resumption).unwrap();
    let (one, other) = (resuming(), resuming());
    let config = client_config(EACH_VERSION[1], None);
    for (acceptor, expected) in
        [(&one, HandshakeKind::Full), (&one, HandshakeKind::Resumed), (&other, HandshakeKind::Full)]
    {
        let (_, kind) = dial(acceptor, &config, "us.example").await;
        assert_eq!(kind.unwrap(), expected);
    }
}

/// A peer that would resume finds nothing to resume, whether it brings a ticket of its own or not.
#[tokio::test]
async fn nobody_resumes_where_it_was_not_asked_for() {
    for versions in EACH_VERSION {
        let ca = TestCa::new();
        let ours = keys(vec![entry(&["us.example"], &ca.issue_for("us.example"))]);
        let full = Acceptor::with_versions(&ours, &trust(&ca), &[], versions).unwrap();
        let resuming = full.clone().with_resumption().unwrap();
        let them = ca.issue_for("them.example");
        let config = client_config(versions, Some((&them, &them.key_pem)));
        for (acceptor, expected) in [
            (&full, HandshakeKind::Full),
            (&full, HandshakeKind::Full),
            (&resuming, HandshakeKind::Full),
            (&full, HandshakeKind::Full),
        ] {
            let (facts, kind) = dial(acceptor, &config, "us.example").await;
            assert_eq!(kind.unwrap(), expected);
            assert!(matches!(facts.unwrap().presented, Presented::Verified(_)));
        }
    }
}

/// What the acceptor writes once it is through, before it has anything to say.
#[tokio::test]
async fn no_ticket_is_written_where_nobody_resumes() {
    let ca = TestCa::new();
    let ours = keys(vec![entry(&["us.example"], &ca.issue_for("us.example"))]);
    let full = Acceptor::new(&ours, &trust(&ca), &[]).unwrap();
    let resuming = full.clone().with_resumption().unwrap();
    for (acceptor, has_tickets) in [(full, false), (resuming, true)] {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let mut config = client_config(EACH_VERSION[1], None);
        config.resumption = Resumption::disabled();
        let dialler = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("us.example").unwrap();
        let (accepted, connected) =
            tokio::join!(acceptor.accept(near, None), dialler.connect(name, &mut far));
        let _kept = (accepted.unwrap(), connected.unwrap().get_ref().1.protocol_version());
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::ZERO, far.read_exact(&mut byte)).await;
        assert_eq!(read.is_ok(), has_tickets);
    }
}

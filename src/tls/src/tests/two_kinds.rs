//! One domain with an ECDSA and an RSA certificate: who gets which.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use rustls_pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::provider::provider;
use crate::verifier::PossessionOnly;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Ecdsa,
    Rsa,
}
use Kind::{Ecdsa, Rsa};

/// What the other end can check.
#[derive(Clone, Copy, Debug)]
enum Checks {
    Both,
    Only(Kind),
    /// RSA with PKCS#1 padding alone, as old peers do (TLS 1.2 only).
    RsaPkcs1,
}

impl Checks {
    fn takes(self, scheme: SignatureScheme) -> bool {
        let name = format!("{scheme:?}");
        match self {
            Self::Both => true,
            Self::Only(Ecdsa) => name.starts_with("ECDSA"),
            Self::Only(Rsa) => name.starts_with("RSA"),
            Self::RsaPkcs1 => name.starts_with("RSA_PKCS1"),
        }
    }

    fn verifier(self) -> Arc<PossessionOnly> {
        let all = provider().signature_verification_algorithms;
        let mapping: Vec<_> =
            all.mapping.iter().copied().filter(|(scheme, _)| self.takes(*scheme)).collect();
        let algorithms = WebPkiSupportedAlgorithms { all: all.all, mapping: mapping.leak() };
        Arc::new(PossessionOnly { algorithms })
    }
}

struct World {
    ca: TestCa,
    ecdsa: TestCertificate,
    rsa: TestCertificate,
}

impl World {
    fn new() -> Self {
        let ca = TestCa::new();
        let ecdsa = ca.issue().dns("us.example").dns("sip.us.example").make();
        let rsa = ca.issue().dns("us.example").dns("sip.us.example").rsa().make();
        Self { ca, ecdsa, rsa }
    }

    fn entry(&self, kind: Kind) -> KeyEntry {
        let certificate = match kind {
            Ecdsa => &self.ecdsa,
            Rsa => &self.rsa,
        };
        entry(&["us.example", "sip.us.example"], certificate)
    }

    fn acceptor(&self, kinds: &[Kind]) -> Acceptor {
        let keys = keys(kinds.iter().map(|kind| self.entry(*kind)).collect());
        Acceptor::new(&keys, &trust(&self.ca), &[]).unwrap()
    }

    fn connector(&self, kinds: &[Kind]) -> Connector {
        let keys = keys(kinds.iter().map(|kind| self.entry(*kind)).collect());
        Connector::new(&keys, &trust(&self.ca), &[]).unwrap()
    }

    fn kind_of(&self, der: &[u8]) -> Kind {
        if der == self.ecdsa.der {
            return Ecdsa;
        }
        assert_eq!(der, self.rsa.der);
        Rsa
    }

    /// What a client with these limits is shown; `None` if there is no handshake.
    async fn shown_to(
        &self,
        acceptor: &Acceptor,
        config: ClientConfig,
        sni: &str,
        fallback: Option<&str>,
    ) -> Option<Kind> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from(sni.to_owned()).unwrap();
        let fallback = fallback.map(domain);
        let dialler = TlsConnector::from(Arc::new(config));
        let (_, connected) =
            tokio::join!(acceptor.accept(near, fallback.as_ref()), dialler.connect(name, far));
        let connected = connected.ok()?;
        Some(self.kind_of(&connected.get_ref().1.peer_certificates().unwrap()[0]))
    }
}

fn client(versions: &[&'static SupportedProtocolVersion], checks: Checks) -> ClientConfig {
    client_with(Arc::clone(provider()), versions, checks)
}

fn client_with(
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    checks: Checks,
) -> ClientConfig {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(checks.verifier())
        .with_no_client_auth()
}

#[tokio::test]
async fn a_client_gets_the_certificate_that_it_can_check_and_ecdsa_if_both() {
    let world = World::new();
    for versions in EACH_VERSION {
        // The order in which they were given does not matter.
        for order in [[Ecdsa, Rsa], [Rsa, Ecdsa]] {
            let acceptor = world.acceptor(&order);
            for (checks, expected) in
                [(Checks::Both, Ecdsa), (Checks::Only(Ecdsa), Ecdsa), (Checks::Only(Rsa), Rsa)]
            {
                // By SNI, by the fallback, and as the first of ours.
                for (sni, fallback) in [
                    ("us.example", None),
                    ("sip.us.example", None),
                    ("other.example", Some("sip.us.example")),
                    ("other.example", None),
                ] {
                    let config = client(versions, checks);
                    let shown = world.shown_to(&acceptor, config, sni, fallback).await;
                    assert_eq!(shown, Some(expected), "{versions:?} {checks:?} {sni} {order:?}");
                }
            }
        }
    }
    let acceptor = world.acceptor(&[Ecdsa, Rsa]);
    let config = client(EACH_VERSION[0], Checks::RsaPkcs1);
    assert_eq!(world.shown_to(&acceptor, config, "sip.us.example", None).await, Some(Rsa));
}

#[tokio::test]
async fn with_one_certificate_nothing_is_chosen() {
    let world = World::new();
    for versions in EACH_VERSION {
        for only in [Ecdsa, Rsa] {
            let acceptor = world.acceptor(&[only]);
            for (checks, expected) in [
                (Checks::Both, Some(only)),
                (Checks::Only(Ecdsa), (only == Ecdsa).then_some(Ecdsa)),
                (Checks::Only(Rsa), (only == Rsa).then_some(Rsa)),
            ] {
                let config = client(versions, checks);
                let shown = world.shown_to(&acceptor, config, "us.example", None).await;
                assert_eq!(shown, expected, "{versions:?} {only:?} {checks:?}");
            }
        }
    }
}

/// In TLS 1.2 the cipher suite names the kind of key. A peer may list schemes that none of its
/// suites can use.
#[tokio::test]
async fn in_tls_1_2_the_cipher_suites_count_too() {
    let world = World::new();
    let acceptor = world.acceptor(&[Ecdsa, Rsa]);
    for (part, expected) in [("ECDHE_ECDSA", Ecdsa), ("ECDHE_RSA", Rsa)] {
        let mut limited = CryptoProvider::clone(provider());
        limited.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains(part));
        assert!(!limited.cipher_suites.is_empty());
        let config = client_with(Arc::new(limited), EACH_VERSION[0], Checks::Both);
        let shown = world.shown_to(&acceptor, config, "us.example", None).await;
        assert_eq!(shown, Some(expected), "{part}");
    }
}

#[tokio::test]
async fn dialling_we_show_what_the_servers_request_allows() {
    let world = World::new();
    let server = world.ca.issue_for("them.example");
    for versions in EACH_VERSION {
        for (kinds, checks, expected) in [
            (&[Ecdsa, Rsa][..], Checks::Both, Some(Ecdsa)),
            (&[Ecdsa, Rsa], Checks::Only(Ecdsa), Some(Ecdsa)),
            (&[Ecdsa, Rsa], Checks::Only(Rsa), Some(Rsa)),
            (&[Ecdsa], Checks::Both, Some(Ecdsa)),
            (&[Rsa], Checks::Both, Some(Rsa)),
            // Nothing fits: nothing is shown, and the handshake goes on where that is allowed.
            (&[Ecdsa], Checks::Only(Rsa), None),
            (&[], Checks::Both, None),
        ] {
            let config = ServerConfig::builder_with_provider(Arc::clone(provider()))
                .with_protocol_versions(versions)
                .unwrap()
                .with_client_cert_verifier(checks.verifier())
                .with_cert_resolver(keys(vec![entry(&["them.example"], &server)]).for_server(None));
            let (near, far) = tokio::io::duplex(64 * 1024);
            let listener = TlsAcceptor::from(Arc::new(config));
            let connector = world.connector(kinds);
            let (name, own) = (domain("them.example"), domain("us.example"));
            let (accepted, connected) =
                tokio::join!(listener.accept(near), connector.connect(far, &name, &own));
            connected.unwrap();
            let accepted = accepted.unwrap();
            let shown = accepted.get_ref().1.peer_certificates();
            let shown = shown.map(|chain| world.kind_of(&chain[0]));
            assert_eq!(shown, expected, "{versions:?} {kinds:?} {checks:?}");
        }
    }
}

#[test]
fn two_of_one_kind_are_refused_and_a_domain_is_told_once() {
    let world = World::new();
    let both = keys(vec![world.entry(Ecdsa), world.entry(Rsa)]);
    assert_eq!(both.domains(), [domain("us.example"), domain("sip.us.example")]);
    let refused = both.replace(vec![world.entry(Rsa), world.entry(Rsa)]).unwrap_err();
    assert!(refused.to_string().contains("a key of its kind"), "{refused}");
}

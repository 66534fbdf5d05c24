//! Handshakes in memory, each with authorities and certificates of its own.

mod choice;
mod keys_and_roots;
mod session;
mod stream;
mod two_kinds;
mod verdict;

use std::io;

use gatehouse_identity::{CertificateSummary, ChainFault, Presented, TlsFacts};
use gatehouse_testkit::{TestCa, TestCertificate};
use gatehouse_types::Domain;
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{Acceptor, Connector, Io, KeyEntry, Keys, Roots, SystemRoots};

const EACH_VERSION: [&[&SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

fn entry(domains: &[&str], certificate: &TestCertificate) -> KeyEntry {
    KeyEntry {
        domains: domains.iter().map(|name| domain(name)).collect(),
        chain_pem: certificate.chain_pem.clone(),
        key_pem: certificate.key_pem.clone(),
    }
}

fn keys(entries: Vec<KeyEntry>) -> Keys {
    let keys = Keys::empty();
    keys.replace(entries).unwrap();
    keys
}

fn trust(ca: &TestCa) -> Roots {
    Roots::new(&[ca.root_pem().to_owned()], SystemRoots::Ignore).unwrap()
}

/// What each end learned: first the acceptor, then the connector.
type Met = io::Result<(TlsFacts, TlsFacts)>;

/// Shakes hands, and lets a byte pass each way.
async fn meet(
    acceptor: &Acceptor,
    fallback: Option<&str>,
    connector: &Connector,
    server_name: &str,
    own: &str,
) -> Met {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let fallback = fallback.map(domain);
    let (server_name, own) = (domain(server_name), domain(own));
    let (accepted, connected) = tokio::join!(
        acceptor.accept(near, fallback.as_ref()),
        connector.connect(far, &server_name, &own)
    );
    let ((mut near, accepted), (mut far, connected)) = (accepted?, connected?);
    pass(&mut near, &mut far).await?;
    pass(&mut far, &mut near).await?;
    Ok((accepted, connected))
}

async fn pass(from: &mut Box<dyn Io>, to: &mut Box<dyn Io>) -> io::Result<()> {
    from.write_all(b"x").await?;
    from.flush().await?;
    let mut byte = [0];
    to.read_exact(&mut byte).await?;
    assert_eq!(&byte, b"x");
    Ok(())
}

fn fault(presented: &Presented) -> &ChainFault {
    match presented {
        Presented::Untrusted { fault, .. } => fault,
        other => panic!("expected a fault, got {other:?}"),
    }
}

/// The first dNSName that was shown, trusted or not.
fn shown(presented: &Presented) -> String {
    let der = presented.leaf().expect("a certificate was shown");
    CertificateSummary::from_der(der).unwrap().names.dns[0].clone()
}

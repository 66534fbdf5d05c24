//! What our streams do after the handshake, against ourselves and against another driver of TLS.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, CipherSuite, ClientConfig, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex, split};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::session::client_config;
use super::*;
use crate::exporter::LABEL;
use crate::provider::provider;
use crate::stream::TlsStream;

const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// Ours, ready for either side.
struct Ours {
    acceptor: Acceptor,
    connector: Connector,
    certificate: TestCertificate,
}

impl Ours {
    fn new(versions: &[&'static SupportedProtocolVersion]) -> Self {
        let ca = TestCa::new();
        let certificate = ca.issue_for("us.example");
        let (keys, roots) = (keys(vec![entry(&["us.example"], &certificate)]), trust(&ca));
        Self {
            acceptor: Acceptor::with_versions(&keys, &roots, &[], versions).unwrap(),
            connector: Connector::with_versions(&keys, &roots, &[], versions).unwrap(),
            certificate,
        }
    }

    /// A server that is not driven by us, with the same certificate.
    fn other_server(&self, suite: Option<CipherSuite>) -> TlsAcceptor {
        let chain = vec![CertificateDer::from(self.certificate.der.clone())];
        let key = PrivateKeyDer::from_pem_slice(self.certificate.key_pem.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(only(suite)))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    async fn meet<S: Io + 'static>(&self, (near, far): (S, S)) -> (Box<dyn Io>, Box<dyn Io>) {
        let us = domain("us.example");
        let (accepted, connected) =
            tokio::join!(self.acceptor.accept(near, None), self.connector.connect(far, &us, &us));
        (accepted.unwrap().0, connected.unwrap().0)
    }
}

fn only(suite: Option<CipherSuite>) -> rustls::crypto::CryptoProvider {
    let mut provider = rustls::crypto::CryptoProvider::clone(provider());
    provider.cipher_suites.retain(|it| suite.is_none_or(|suite| it.suite() == suite));
    provider
}

/// A client that is not driven by us.
fn other_client(
    versions: &[&'static SupportedProtocolVersion],
    suite: Option<CipherSuite>,
) -> TlsConnector {
    let mut config: ClientConfig = client_config(versions, None);
    if suite.is_some() {
        config = ClientConfig::builder_with_provider(Arc::new(only(suite)))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(crate::verifier::PossessionOnly::new()))
            .with_no_client_auth();
    }
    TlsConnector::from(Arc::new(config))
}

/// Reads and writes so many bytes at a time at most.
struct Crumbs(DuplexStream, usize);

impl AsyncRead for Crumbs {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = vec![0; self.1.min(into.remaining())];
        let mut crumb = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut crumb))?;
        into.put_slice(crumb.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Crumbs {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let crumb = data.len().min(self.1);
        Pin::new(&mut self.0).poll_write(cx, &data[..crumb])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("us.example").unwrap()
}

/// Sends `len` bytes both ways at the same time and compares them.
async fn exchange(near: impl Io, far: impl Io, len: usize) {
    let bytes = |seed: usize| -> Vec<u8> {
        (0..len).map(|at| u8::try_from((at * 31 + at / 251 + seed) % 256).unwrap()).collect()
    };
    let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
        (split(near), split(far));
    let (from_near, from_far) = (bytes(1), bytes(2));
    let write_near = async {
        near_write.write_all(&from_near).await.unwrap();
        near_write.flush().await.unwrap();
    };
    let write_far = async {
        far_write.write_all(&from_far).await.unwrap();
        far_write.flush().await.unwrap();
    };
    let (mut at_near, mut at_far) = (vec![0; len], vec![0; len]);
    let (_, _, near, far) = tokio::join!(
        write_near,
        write_far,
        near_read.read_exact(&mut at_near),
        far_read.read_exact(&mut at_far)
    );
    assert_eq!((near.unwrap(), far.unwrap()), (len, len));
    assert!(at_near == from_far && at_far == from_near, "bytes were changed");
}

#[tokio::test]
async fn any_amount_passes_however_it_is_cut() {
    for versions in EACH_VERSION {
        let ours = Ours::new(versions);
        for (crumb, len) in [(1, 700), (7, 20_000), (1_000, 200_000), (usize::MAX, 300_000)] {
            let crumbs = || {
                let (near, far) = duplex(1 << 16);
                (Crumbs(near, crumb), Crumbs(far, crumb))
            };
            let (near, far) = ours.meet(crumbs()).await;
            exchange(near, far, len).await;

            let (near, far) = crumbs();
            let client = other_client(versions, None);
            let (near, far) =
                tokio::join!(ours.acceptor.accept(near, None), client.connect(name(), far));
            exchange(near.unwrap().0, far.unwrap(), len).await;

            let (near, far) = crumbs();
            let (server, us) = (ours.other_server(None), domain("us.example"));
            let (near, far) =
                tokio::join!(server.accept(near), ours.connector.connect(far, &us, &us));
            exchange(near.unwrap(), far.unwrap().0, len).await;
        }
    }
}

#[tokio::test]
async fn the_channel_binding_is_what_another_implementation_exports() {
    let ours = Ours::new(EACH_VERSION[1]);
    let mut seen = Vec::new();
    for suite in SUITES {
        let (near, far) = duplex(1 << 16);
        let client = other_client(EACH_VERSION[1], Some(suite));
        let (near, far) =
            tokio::join!(ours.acceptor.accept(near, None), client.connect(name(), far));
        let (facts, far) = (near.unwrap().1, far.unwrap());
        let (_, session) = far.get_ref();
        assert_eq!(session.negotiated_cipher_suite().unwrap().suite(), suite);
        let theirs = session.export_keying_material([0; 32], LABEL, Some(&[])).unwrap();
        assert_eq!(facts.exporter, Some(theirs));
        seen.push(theirs);

        let (near, far) = duplex(1 << 16);
        let (server, us) = (ours.other_server(Some(suite)), domain("us.example"));
        let (near, far) = tokio::join!(server.accept(near), ours.connector.connect(far, &us, &us));
        let (near, facts) = (near.unwrap(), far.unwrap().1);
        let theirs = near.get_ref().1.export_keying_material([0; 32], LABEL, Some(&[])).unwrap();
        assert_eq!(facts.exporter, Some(theirs));
        seen.push(theirs);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 2 * SUITES.len(), "each connection has a value of its own");
}

#[tokio::test]
async fn before_1_3_there_is_no_channel_binding() {
    let ours = Ours::new(EACH_VERSION[0]);
    let (near, far) = duplex(1 << 16);
    let us = domain("us.example");
    let (accepted, connected) =
        tokio::join!(ours.acceptor.accept(near, None), ours.connector.connect(far, &us, &us));
    assert_eq!((accepted.unwrap().1.exporter, connected.unwrap().1.exporter), (None, None));
}

#[tokio::test]
async fn an_end_is_told_from_a_cut() {
    for versions in EACH_VERSION {
        let ours = Ours::new(versions);
        let (mut near, mut far) = ours.meet(duplex(1 << 16)).await;
        far.write_all(b"last").await.unwrap();
        far.shutdown().await.unwrap();
        let mut read = Vec::new();
        near.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"last");
        assert_eq!(near.read(&mut [0]).await.unwrap(), 0, "the end stays the end");
        // The other direction is open still.
        pass(&mut near, &mut far).await.unwrap();
        let refused = far.write_all(b"more").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);

        let (mut near, mut far) = ours.meet(duplex(1 << 16)).await;
        far.write_all(b"last").await.unwrap();
        far.flush().await.unwrap();
        drop(far);
        let mut read = Vec::new();
        let cut = near.read_to_end(&mut read).await.unwrap_err();
        assert_eq!((&read[..], cut.kind()), (&b"last"[..], io::ErrorKind::UnexpectedEof));
    }
}

#[tokio::test]
async fn a_changed_byte_ends_the_stream_and_the_peer_is_told() {
    let ours = Ours::new(EACH_VERSION[1]);
    let client = other_client(EACH_VERSION[1], None);
    let (near, mut near_end) = duplex(1 << 16);
    let (mut far_end, far) = duplex(1 << 16);
    let (mut near, mut far) = {
        let shaken =
            async { tokio::join!(ours.acceptor.accept(near, None), client.connect(name(), far)) };
        let wire = tokio::io::copy_bidirectional(&mut near_end, &mut far_end);
        let (near, far) = tokio::select! {
            shaken = shaken => shaken,
            _ = wire => panic!("cut"),
        };
        (near.unwrap().0, far.unwrap())
    };
    far.write_all(b"good").await.unwrap();
    far.flush().await.unwrap();
    let mut record = vec![0; 4096];
    let count = far_end.read(&mut record).await.unwrap();
    near_end.write_all(&record[..count]).await.unwrap();
    far.write_all(b"bad").await.unwrap();
    far.flush().await.unwrap();
    let count = far_end.read(&mut record).await.unwrap();
    record[count - 1] ^= 1;
    near_end.write_all(&record[..count]).await.unwrap();

    // What came before is read first.
    let mut read = [0; 64];
    assert_eq!(near.read(&mut read).await.unwrap(), 4);
    let failed = near.read(&mut read).await.unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::InvalidData);
    assert!(near.write_all(b"x").await.is_err(), "nothing is said after that");
    // The alert has left by itself; before it came the session tickets.
    drop(near);
    tokio::io::copy(&mut near_end, &mut far_end).await.unwrap();
    let told = far.read(&mut read).await.unwrap_err();
    let told = told.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    assert_eq!(told, Some(&rustls::Error::AlertReceived(AlertDescription::BadRecordMac)));
}

#[tokio::test]
async fn a_handshake_that_cannot_be_ends_with_an_alert_or_the_end() {
    let ours = Ours::new(EACH_VERSION[1]);
    let (near, mut far) = duplex(1 << 16);
    far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let failed = ours.acceptor.accept(near, None).await.err().unwrap();
    assert_eq!(failed.kind(), io::ErrorKind::InvalidData);
    let mut alert = Vec::new();
    far.read_to_end(&mut alert).await.unwrap();
    assert_eq!(alert.first(), Some(&21), "an alert, in a record of its own: {alert:?}");

    // Half a hello, and no more.
    let (near, mut far) = duplex(1 << 16);
    far.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
    drop(far);
    let failed = ours.acceptor.accept(near, None).await.err().unwrap();
    assert_eq!(failed.kind(), io::ErrorKind::UnexpectedEof);
    let (near, far) = duplex(1 << 16);
    drop(near);
    let us = domain("us.example");
    assert!(ours.connector.connect(far, &us, &us).await.is_err());
}

#[tokio::test]
async fn long_chains_are_taken_in_any_number_of_pieces_and_too_long_ones_are_not() {
    let ca = TestCa::new();
    let roots = trust(&ca);
    for (copies, crumb, fits) in [(40, usize::MAX, true), (40, 100, true), (400, usize::MAX, false)]
    {
        let mut them = ca.issue_for("them.example");
        for _ in 0..copies {
            them.chain_pem.push_str(ca.root_pem());
        }
        let ours = keys(vec![entry(&["us.example"], &ca.issue_for("us.example"))]);
        let theirs = keys(vec![entry(&["them.example"], &them)]);
        for versions in EACH_VERSION {
            let acceptor = Acceptor::with_versions(&ours, &roots, &[], versions).unwrap();
            let connector = Connector::with_versions(&theirs, &roots, &[], versions).unwrap();
            let (near, far) = duplex(1 << 16);
            let (near, far) = (Crumbs(near, crumb), Crumbs(far, crumb));
            let (us, them) = (domain("us.example"), domain("them.example"));
            let accepting = async { acceptor.accept(near, None).await.map(|(_, facts)| facts) };
            let connecting = async {
                if let Ok((mut io, _)) = connector.connect(far, &us, &them).await {
                    let _ = io.read(&mut [0]).await;
                }
            };
            let (accepted, ()) = tokio::join!(accepting, connecting);
            assert_eq!(accepted.is_ok(), fits, "{copies} {crumb}");
            if let Ok(facts) = accepted {
                assert_eq!(facts.presented.issuers().len(), copies);
            }
        }
    }
}

#[tokio::test]
async fn new_keys_are_taken_and_answered() {
    let ours = Ours::new(EACH_VERSION[1]);
    let (near, far) = duplex(1 << 16);
    let client = other_client(EACH_VERSION[1], None);
    let (near, far) = tokio::join!(ours.acceptor.accept(near, None), client.connect(name(), far));
    let (mut near, mut far): (Box<dyn Io>, _) = (near.unwrap().0, far.unwrap());
    for _ in 0..3 {
        far.get_mut().1.refresh_traffic_keys().unwrap();
        far.write_all(b"x").await.unwrap();
        far.flush().await.unwrap();
        let mut byte = [0];
        near.read_exact(&mut byte).await.unwrap();
        near.write_all(b"y").await.unwrap();
        near.flush().await.unwrap();
        far.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"y");
    }
}

/// The last of the handshake, data and the farewell, all in one read.
#[tokio::test]
async fn who_says_farewell_with_its_last_word_of_the_handshake_is_heard() {
    let ours = Ours::new(EACH_VERSION[1]);
    let (near, mut far) = duplex(1 << 16);
    let end = UnbufferedServerConnection::new(ours.acceptor.config()).unwrap();
    let config = Arc::new(client_config(&[&TLS13], None));
    let mut client = rustls::ClientConnection::new(config, name()).unwrap();
    let talk = async {
        let mut said = Vec::new();
        client.write_tls(&mut said).unwrap();
        far.write_all(&said).await.unwrap();
        while client.is_handshaking() {
            let mut heard = vec![0; 1 << 14];
            let count = far.read(&mut heard).await.unwrap();
            client.read_tls(&mut &heard[..count]).unwrap();
            client.process_new_packets().unwrap();
        }
        io::Write::write_all(&mut client.writer(), b"all I had to say").unwrap();
        client.send_close_notify();
        let mut said = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut said).unwrap();
        }
        far.write_all(&said).await.unwrap();
    };
    let (near, ()) = tokio::join!(TlsStream::shake(near, end), talk);
    let mut heard = String::new();
    near.unwrap().read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "all I had to say");
}

#[tokio::test]
async fn an_idle_stream_keeps_no_buffers() {
    let ours = Ours::new(EACH_VERSION[1]);
    let (near, far) = duplex(1 << 16);
    let end = UnbufferedServerConnection::new(ours.acceptor.config()).unwrap();
    let client = UnbufferedClientConnection::new(Arc::new(client_config(&[&TLS13], None)), name());
    let (near, far) =
        tokio::join!(TlsStream::shake(near, end), TlsStream::shake(far, client.unwrap()));
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    assert_eq!((near.kept_bytes(), far.kept_bytes()), (0, 0));

    near.write_all(&[1; 40_000]).await.unwrap();
    near.flush().await.unwrap();
    far.read_exact(&mut [0; 1]).await.unwrap();
    assert!(far.kept_bytes() > 0, "the record was longer than what was read of it");
    far.read_exact(&mut [0; 39_999]).await.unwrap();
    assert_eq!((near.kept_bytes(), far.kept_bytes()), (0, 0));
}

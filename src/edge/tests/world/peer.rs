use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::{Connection, Step, connect, now};
use gatehouse_testkit::{TestCa, TestCertificate};
use gatehouse_tls::Connector;
use gatehouse_types::{Domain, Local, Remote, StreamLimits};
use gatehouse_xmpp::dialback::DialbackSecret;
use gatehouse_xmpp::s2s::{
    Authentication, Bidi, Encryption, InitiatorConfig, Purpose, S2sEvent, S2sInitiator, Terms,
};
use gatehouse_xmpp::stream::CloseReason;
use gatehouse_xmpp::{Entry, Seed, Stanza};
use tokio::time;

use super::side::keys;

/// A server that says what it likes once it is in.
pub(crate) struct Peer {
    connection: Connection<S2sInitiator>,
}

impl Peer {
    /// Connects to an edge as `from` with `certificate`, by STARTTLS; the reason if it is not let in.
    pub(crate) async fn connect(
        address: SocketAddr,
        domains: (&'static str, &str),
        certificate: &TestCertificate,
        ca: &TestCa,
    ) -> Result<Self, CloseReason> {
        Self::connect_with(Bidi::Off, address, domains, certificate, ca).await
    }

    /// The same, asking for stanzas on its stream (XEP-0288).
    pub(crate) async fn connect_both_ways(
        address: SocketAddr,
        domains: (&'static str, &str),
        certificate: &TestCertificate,
        ca: &TestCa,
    ) -> Result<Self, CloseReason> {
        Self::connect_with(Bidi::Wanted, address, domains, certificate, ca).await
    }

    async fn connect_with(
        bidi: Bidi,
        address: SocketAddr,
        (from, to): (&'static str, &str),
        certificate: &TestCertificate,
        ca: &TestCa,
    ) -> Result<Self, CloseReason> {
        let (keys, roots) = keys(from, certificate, ca);
        let connector = Connector::new(&keys, &roots, &[]).unwrap();
        let (own, server): (Domain, Domain) = (from.parse().unwrap(), to.parse().unwrap());
        let config = InitiatorConfig {
            limits: StreamLimits::default(),
            dialback_secret: DialbackSecret::new(b"a secret of thirty-two bytes....".to_vec()),
            bidi,
        };
        let terms = Terms {
            authentication: Authentication::CertificateOrDialback,
            encryption: Encryption::Required,
        };
        let machine = S2sInitiator::new(
            Arc::new(config),
            Local(own.clone()),
            Remote(server.clone()),
            Purpose::Stanzas,
            terms,
            Entry::StartTls,
            Seed::new([9; 32]),
            now(),
        );
        let tcp = connect(address, Duration::from_secs(5)).await.unwrap();
        let connection = Connection::new(machine, Box::new(tcp), Duration::from_secs(5));
        let mut peer = Self { connection };
        loop {
            match peer.next().await {
                Step::Event(S2sEvent::Opened { .. }) => return Ok(peer),
                Step::Event(S2sEvent::Closed(reason)) => return Err(reason),
                Step::Event(_) => {}
                Step::Upgrade => {
                    let io = peer.connection.take_io().unwrap();
                    let (io, facts) = connector.connect(io, &server, &own).await.unwrap();
                    peer.connection.put_io(Box::new(io));
                    peer.connection.machine_mut().handle_tls(facts, now());
                }
                Step::Closed => return Err(CloseReason::Disconnected),
            }
        }
    }

    pub(crate) fn send(&mut self, stanza: &Stanza) {
        self.connection.machine_mut().send(stanza, now()).unwrap();
    }

    /// The next stanza that comes back, and its number, if it is counted.
    pub(crate) async fn stanza(&mut self) -> (Stanza, Option<u64>) {
        loop {
            match self.next().await {
                Step::Event(S2sEvent::Stanza(stanza, number)) => return (stanza, number),
                Step::Event(_) | Step::Upgrade => {}
                Step::Closed => panic!("closed before a stanza came"),
            }
        }
    }

    /// Acknowledges a stanza that came back.
    pub(crate) fn handled(&mut self, number: Option<u64>) {
        let number = number.expect("stream management");
        self.connection.machine_mut().handled(number, now());
    }

    /// How the other side ends the stream.
    pub(crate) async fn closed(mut self) -> CloseReason {
        loop {
            match self.next().await {
                Step::Event(S2sEvent::Closed(reason)) => return reason,
                Step::Closed => return CloseReason::Disconnected,
                Step::Event(_) | Step::Upgrade => {}
            }
        }
    }

    /// Writes what was sent.
    pub(crate) async fn flush(&mut self) {
        self.connection.flush().await.unwrap();
    }

    async fn next(&mut self) -> Step<S2sEvent> {
        let step = time::timeout(Duration::from_secs(10), self.connection.next()).await;
        step.expect("the edge does not answer").unwrap_or(Step::Closed)
    }
}

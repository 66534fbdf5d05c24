//! A core with two accounts, and clients of it, over loopback TCP and TLS.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed step is a failed test, and not every test needs everything"
)]

pub mod sip;

use std::time::Duration;

use gatehouse_core::{CoreConfig, CoreParts, SipGatewayParts, start};
use gatehouse_net::{Tasks, bind};
use gatehouse_store::{OfflineLimits, Store, StoredKeys};
use gatehouse_telemetry::Streams;
use gatehouse_testkit::TestCa;
use gatehouse_tls::{Acceptor, Connector, Io, KeyEntry, Keys, Roots, SystemRoots};
use gatehouse_trunk::{Trunk, in_process};
use gatehouse_types::{Domain, Jid, Local, Secret, StreamLimits};
use gatehouse_xmpp::sasl::{ScramHash, ScramKeys};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const HEADER: &str = "<?xml version='1.0'?><stream:stream to='ours.example' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
/// A client asks how much we have.
pub const R: &str = "<r xmlns='urn:xmpp:sm:3'/>";

pub struct Core {
    pub store: Store,
    pub streams: Streams,
    pub edge: Trunk,
    pub tasks: Tasks,
    pub starttls_port: u16,
    pub direct_port: u16,
    pub connector: Connector,
    pub files: TempDir,
}

pub fn ours() -> Domain {
    "ours.example".parse().unwrap()
}

pub fn keys_of(password: &str) -> Vec<StoredKeys> {
    let hashes = [(ScramHash::Sha1, "SCRAM-SHA-1"), (ScramHash::Sha256, "SCRAM-SHA-256")];
    let derive = |(hash, mechanism): (ScramHash, &str)| {
        let keys = ScramKeys::derive(hash, password, b"0123456789abcdef", 4096).unwrap();
        StoredKeys {
            mechanism: mechanism.to_owned(),
            salt: keys.salt.clone(),
            iterations: keys.iterations,
            stored_key: keys.stored_key.clone(),
            server_key: keys.server_key.clone(),
        }
    };
    hashes.into_iter().map(derive).collect()
}

impl Core {
    pub async fn start() -> Self {
        Self::start_with(Self::new_files().await, None).await
    }

    /// A place for what is stored, with the accounts in it.
    pub async fn new_files() -> TempDir {
        let files = tempfile::tempdir().unwrap();
        let store = Store::open(&files.path().join("db.sqlite")).await.unwrap();
        for name in ["alice", "bob"] {
            let account: Jid = format!("{name}@ours.example").parse().unwrap();
            store.add_account(&account, &keys_of("secret")).await.unwrap();
        }
        files
    }

    /// On what was stored before, with a SIP gateway or without.
    pub async fn start_with(files: TempDir, sip: Option<SipGatewayParts>) -> Self {
        let store = Store::open(&files.path().join("db.sqlite")).await.unwrap();
        let ca = TestCa::new();
        let certificate = ca.issue_for("ours.example");
        let keys = Keys::empty();
        let entry = KeyEntry {
            domains: vec![ours()],
            chain_pem: certificate.chain_pem,
            key_pem: certificate.key_pem,
        };
        keys.replace(vec![entry]).unwrap();
        let roots = Roots::new(&[ca.root_pem().to_owned()], SystemRoots::Ignore).unwrap();
        let listeners =
            ["127.0.0.1:0", "127.0.0.1:0"].map(|address| bind(address.parse().unwrap()).unwrap());
        let [starttls_port, direct_port] =
            listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
        let [starttls, direct] = listeners;
        let (trunk, edge) = in_process();
        let (tasks, streams) = (Tasks::default(), Streams::default());
        let parts = CoreParts {
            config: CoreConfig {
                domains: vec![Local(ours())],
                limits: StreamLimits::client(),
                connections_max: 20,
                sessions_per_account_max: 5,
                contacts_max: 100,
                watchers_max: 100,
                offline: OfflineLimits::default(),
                decoy_secret: Secret::new(vec![3; 32]),
            },
            starttls_listeners: vec![starttls],
            direct_tls_listeners: vec![direct],
            starttls_acceptor: Acceptor::new(&keys, &roots, &[]).unwrap(),
            direct_acceptor: Acceptor::new(&keys, &roots, &["xmpp-client"]).unwrap(),
            store: store.clone(),
            streams: streams.clone(),
            trunk,
            sip,
        };
        start(parts, &tasks);
        let connector = Connector::new(&Keys::empty(), &roots, &["xmpp-client"]).unwrap();
        Self { store, streams, edge, tasks, starttls_port, direct_port, connector, files }
    }

    /// TLS from the first byte, up to the features.
    pub async fn connect_direct(&self) -> Client {
        let tcp = TcpStream::connect(("127.0.0.1", self.direct_port)).await.unwrap();
        let (io, _) = self.connector.connect(tcp, &ours(), &ours()).await.unwrap();
        let mut client = Client { io, seen: String::new() };
        client.send(HEADER).await;
        client.expect("</stream:features>").await;
        client
    }

    /// The same with a receive buffer that is soon full.
    pub async fn connect_narrow(&self) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let address = ([127, 0, 0, 1], self.direct_port).into();
        let tcp = socket.connect(address).await.unwrap();
        let (io, _) = self.connector.connect(tcp, &ours(), &ours()).await.unwrap();
        let mut client = Client { io, seen: String::new() };
        client.send(HEADER).await;
        client.expect("</stream:features>").await;
        client
    }

    /// STARTTLS, up to the features after it.
    pub async fn connect_starttls(&self) -> Client {
        let tcp = TcpStream::connect(("127.0.0.1", self.starttls_port)).await.unwrap();
        let mut plain = Client { io: Box::new(tcp), seen: String::new() };
        plain.send(HEADER).await;
        let features = plain.expect("</stream:features>").await;
        assert!(features.contains("<required"), "no password without TLS: {features}");
        assert!(!features.contains("mechanism"), "no password without TLS: {features}");
        plain.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        plain.expect("<proceed").await;
        plain.expect(">").await;
        let connector =
            Connector::new(&Keys::empty(), &Roots::new(&[], SystemRoots::Ignore).unwrap(), &[])
                .unwrap();
        let (io, _) = connector.connect(plain.io, &ours(), &ours()).await.unwrap();
        let mut client = Client { io, seen: String::new() };
        client.send(HEADER).await;
        client.expect("</stream:features>").await;
        client
    }

    pub async fn offline_count(&self, name: &str) -> usize {
        let account = format!("{name}@ours.example").parse().unwrap();
        self.store.offline(&account).await.unwrap().len()
    }
}

pub struct Client {
    pub io: Box<dyn Io>,
    pub seen: String,
}

impl Client {
    pub async fn send(&mut self, xml: &str) {
        self.io.write_all(xml.as_bytes()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    /// Reads until `text` has come; gives everything up to its end.
    pub async fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some(index) = self.seen.find(text) {
                let rest = self.seen.split_off(index + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let mut bytes = [0; 4096];
            let read = timeout(PATIENCE, self.io.read(&mut bytes)).await;
            let count = read
                .unwrap_or_else(|_| panic!("waiting for {text}, got {}", self.seen))
                .unwrap_or_else(|error| panic!("waiting for {text}, {error}: {}", self.seen));
            assert_ne!(count, 0, "the stream ended while waiting for {text}: {}", self.seen);
            self.seen += std::str::from_utf8(&bytes[..count]).unwrap();
        }
    }

    pub async fn authenticate(&mut self, name: &str, password: &str) -> String {
        let message = base64(format!("\0{name}\0{password}").as_bytes());
        self.send(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{message}</auth>"
        ))
        .await;
        let mut answer = self.expect(">").await;
        while !answer.contains("<success") && !answer.contains("</failure>") {
            answer += &self.expect(">").await;
        }
        answer
    }

    /// Logs in and binds `resource`.
    pub async fn log_in(mut self, name: &str, resource: &str) -> Self {
        let answer = self.authenticate(name, "secret").await;
        assert!(answer.contains("<success"), "{answer}");
        self.send(HEADER).await;
        self.expect("</stream:features>").await;
        self.send(&format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{resource}</resource></bind></iq>"
        ))
        .await;
        self.expect(&format!("{name}@ours.example/{resource}</jid>")).await;
        self.expect("</iq>").await;
        self
    }

    /// Everything sent before this has been dealt with once it returns.
    pub async fn ping(&mut self, id: &str) -> String {
        self.send(&format!(
            "<iq type='get' id='{id}' to='ours.example'><ping xmlns='urn:xmpp:ping'/></iq>"
        ))
        .await;
        self.expect(id).await
    }
}

/// Online, with a session that can be resumed; gives its name, too.
pub async fn managed(core: &Core, name: &str, max: u64) -> (Client, String) {
    let mut client = core.connect_direct().await.log_in(name, "m").await;
    client.send(&format!("<enable xmlns='urn:xmpp:sm:3' resume='true' max='{max}'/>")).await;
    let enabled =
        client.expect("<enabled xmlns='urn:xmpp:sm:3'").await + &client.expect("/>").await;
    let (_, id) = enabled.split_once(" id='").unwrap();
    let id = id.split_once('\'').unwrap().0.to_owned();
    client.send("<presence/>").await;
    client.ping("ready").await;
    (client, id)
}

/// A new connection, which asks for a session.
pub async fn resume(core: &Core, name: &str, id: &str, h: u32) -> Client {
    let mut client = core.connect_direct().await;
    assert!(client.authenticate(name, "secret").await.contains("<success"));
    client.send(HEADER).await;
    client.expect("</stream:features>").await;
    client.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>")).await;
    client
}

pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = usize::try_from(word >> (18 - 6 * digit) & 63).unwrap();
            text.push(if digit <= chunk.len() { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}

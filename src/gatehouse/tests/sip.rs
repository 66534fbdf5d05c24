//! SIP through the whole appliance, as one process and as two: a partner over TLS, the edge, the SIP
//! trunk, the gateway, an account that is not there, and the answer all the way back.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use gatehouse_testkit::TestCa;
use gatehouse_tls::{Connector, KeyEntry, Keys, Roots, SystemRoots};
use gatehouse_types::Domain;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Long enough for anything that will ever happen on a busy machine.
const SOON: Duration = Duration::from_secs(60);

const POLICY: &str = "[[sip]]\nname = \"them\"\nremote = [\"them.example\"]\nproof = [\"rfc5922\"]\n\
                      [[sip]]\nname = \"no\"\nremote = [\"blocked.example\"]\naction = \"block\"\n";

/// A running appliance; ended by its id when dropped.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Running {
    fn start(place: &Path) -> Self {
        let mut child = gatehouse(place)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, log }
    }

    /// Reads the log up to a line with `text`; the log's end is a failure.
    fn hear(&mut self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            let read = self.log.read_line(&mut line).expect("log");
            seen.push_str(&line);
            if line.contains(text) {
                return line;
            }
            assert!(read > 0, "the log ended without `{text}`:\n{seen}");
        }
    }

    /// Where it listens for SIP partners.
    fn sip_address(&mut self) -> SocketAddr {
        let line = self.hear("listening for SIP partners");
        let (_, address) = line.trim_end().rsplit_once("listen.addr=").expect("an address");
        address.split_whitespace().next().unwrap().parse().expect("an address")
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill");
        assert!(sent.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gatehouse(place: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.current_dir(place);
    command
}

fn write(place: &Path, name: &str, text: &str) {
    fs::write(place.join(name), text).expect("write");
}

/// Everything besides SIP is closed or at an address of its own.
fn settings(lines: &str) -> String {
    format!(
        "{lines}\n[tls]\ntrust = [\"partner-ca.pem\"]\nsystem-roots = false\n\
         [policy]\nfile = \"policy.toml\"\n[log]\nfilter = \"info\"\n"
    )
}

/// The partner's connection: `them.example`, by a certificate of its own.
struct Partner {
    io: Box<dyn gatehouse_tls::Io>,
    read: Vec<u8>,
}

impl Partner {
    /// Trusts the appliance's own authority, whose certificate stands below `data`.
    async fn connect(ca: &TestCa, data: &Path, address: SocketAddr) -> Self {
        let certificate = ca.issue().dns("them.example").make();
        let keys = Keys::empty();
        let own: Domain = "them.example".parse().unwrap();
        keys.replace(vec![KeyEntry {
            domains: vec![own.clone()],
            chain_pem: certificate.chain_pem,
            key_pem: certificate.key_pem,
        }])
        .expect("keys");
        let ours = fs::read_to_string(data.join("certs/local-ca.crt")).expect("authority");
        let roots = Roots::new(&[ours], SystemRoots::Ignore).expect("roots");
        let connector = Connector::new(&keys, &roots, &[]).expect("TLS");
        let tcp = TcpStream::connect(address).await.expect("connect");
        let host: Domain = "sip.ours.example".parse().unwrap();
        let (io, facts) = connector.connect(tcp, &host, &own).await.expect("handshake");
        let shown = gatehouse_identity::SipCertificate::read(&facts.presented);
        assert!(shown.names_host(&host), "the certificate that SNI asked for: {:?}", shown.names());
        Self { io, read: Vec::new() }
    }

    /// Sends a request of `from` and gives the final answer's status line and its head.
    async fn ask(&mut self, method: &str, from: &str, to: &str, branch: &str) -> String {
        let body = if method == "MESSAGE" { "hello" } else { "" };
        let content = if body.is_empty() { "" } else { "Content-Type: text/plain\r\n" };
        let request = format!(
            "{method} sip:{to} SIP/2.0\r\n\
             Via: SIP/2.0/TLS sip.them.example:5061;branch=z9hG4bK{branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{from}>;tag=t{branch}\r\nTo: <sip:{to}>\r\n\
             Call-ID: {branch}@them.example\r\nCSeq: 1 {method}\r\n{content}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.io.write_all(request.as_bytes()).await.expect("write");
        self.io.flush().await.expect("flush");
        loop {
            let head = timeout(SOON, self.head()).await.expect("an answer in time");
            if !head.starts_with("SIP/2.0 1") {
                return head;
            }
        }
    }

    async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..end + 4).collect();
                let head = String::from_utf8(head).expect("text");
                assert!(head.contains("Content-Length: 0"), "{head}");
                return head;
            }
            let mut bytes = [0; 4096];
            let read = self.io.read(&mut bytes).await.expect("read");
            assert!(read > 0, "the connection ended");
            self.read.extend_from_slice(&bytes[..read]);
        }
    }
}

fn status(head: &str) -> &str {
    head.get(8..11).unwrap_or_default()
}

/// What a partner sees of the whole way there and back.
async fn talk(ca: &TestCa, data: &Path, address: SocketAddr) {
    let mut partner = Partner::connect(ca, data, address).await;
    let head = partner.ask("OPTIONS", "bob@them.example", "ours.example", "o1").await;
    assert_eq!(status(&head), "200", "{head}");
    // The core may need a moment to be asked whether it lives: until then it is 503.
    let mut number = 0;
    let head = loop {
        number += 1;
        let branch = format!("m{number}");
        let head = partner.ask("MESSAGE", "bob@them.example", "nobody@ours.example", &branch).await;
        if status(&head) != "503" {
            break head;
        }
        assert!(head.contains("Retry-After:"), "{head}");
        assert!(number < 1000, "no node took the message");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // Nobody has such an account; the core says so, and nothing of the inside is in its answer.
    assert_eq!(status(&head), "403", "{head}");
    assert!(head.contains(&format!("branch=z9hG4bKm{number}")), "{head}");
    for inside in ["core", "127.0.0.", "invalid", "Gatehouse"] {
        assert!(!head.contains(inside), "`{inside}` left:\n{head}");
    }
    // What the certificate does not prove, and what is no domain of ours, goes no further.
    let head = partner.ask("MESSAGE", "eve@other.example", "alice@ours.example", "x1").await;
    assert_eq!(status(&head), "403", "{head}");
    let head = partner.ask("MESSAGE", "bob@them.example", "bob@third.example", "x2").await;
    assert_eq!(status(&head), "404", "{head}");
    let head = partner.ask("BYE", "bob@them.example", "alice@ours.example;tag=1", "x3").await;
    assert_eq!(status(&head), "481", "{head}");
}

#[tokio::test]
async fn a_partner_is_answered_by_the_core_in_one_process() {
    let (place, ca) = (TempDir::new().expect("directory"), TestCa::new());
    let at = place.path();
    write(at, "partner-ca.pem", ca.root_pem());
    write(at, "policy.toml", POLICY);
    let listen = "[listen]\nc2s = [\"127.0.0.11:0\"]\nc2s-direct-tls = []\ns2s = []\n\
                  s2s-direct-tls = []\nsip = [\"127.0.0.12:0\"]\nadmin = \"127.0.0.13:0\"\n";
    write(at, "gatehouse.toml", &settings(listen));
    let mut running = Running::start(at);
    let address = running.sip_address();
    running.hear("started");
    let data = at.join("gatehouse-data");
    talk(&ca, &data, address).await;
    // A reload reaches SIP: the same partner, now blocked.
    let blocked = POLICY.replace("proof = [\"rfc5922\"]", "action = \"block\"");
    write(at, "policy.toml", &blocked);
    running.signal("HUP");
    running.hear("reloaded");
    let mut partner = Partner::connect(&ca, &data, address).await;
    let head = partner.ask("MESSAGE", "bob@them.example", "nobody@ours.example", "b1").await;
    assert_eq!(status(&head), "403", "{head}");
}

#[tokio::test]
async fn a_partner_is_answered_by_a_core_in_another_process() {
    let (place, ca) = (TempDir::new().expect("directory"), TestCa::new());
    let (core, edge) = (place.path().join("core"), place.path().join("edge"));
    for at in [&core, &edge] {
        fs::create_dir(at).expect("directory");
        write(at, "partner-ca.pem", ca.root_pem());
        write(at, "policy.toml", POLICY);
    }
    // Free at an address that nobody else uses.
    let trunk = {
        let listener = TcpListener::bind("127.0.0.14:0").expect("bind");
        listener.local_addr().expect("address")
    };
    let listen =
        "[listen]\nc2s = [\"127.0.0.15:0\"]\nc2s-direct-tls = []\nadmin = \"127.0.0.16:0\"\n";
    let dial = format!("[trunk]\nedges = [{{ name = \"edge\", address = \"{trunk}\" }}]\n");
    write(&core, "gatehouse.toml", &settings(&format!("roles = [\"core\"]\n{listen}{dial}")));
    let export = gatehouse(&core)
        .args(["trunk", "export", "--out", "../edge/gatehouse-data"])
        .stdout(Stdio::null())
        .status()
        .expect("export");
    assert!(export.success());
    let same = |name: &str| {
        let read = |at: &Path| fs::read(at.join("gatehouse-data").join(name)).expect("read");
        assert_eq!(read(&core).trim_ascii(), read(&edge).trim_ascii(), "{name}");
    };
    same("dialback.secret");
    same("sip-tokens.secret");
    let listen = format!(
        "roles = [\"edge\"]\n[listen]\ns2s = []\ns2s-direct-tls = []\nsip = [\"127.0.0.17:0\"]\n\
         trunk = [\"{trunk}\"]\nadmin = \"127.0.0.18:0\"\n[sip]\nrouting-nodes = [\"core\"]\n"
    );
    write(&edge, "gatehouse.toml", &settings(&listen));
    let mut at_edge = Running::start(&edge);
    let address = at_edge.sip_address();
    let mut at_core = Running::start(&core);
    at_core.hear("SIP link to the edge is up");
    at_edge.hear("SIP link of a core is up");
    talk(&ca, &core.join("gatehouse-data"), address).await;
}

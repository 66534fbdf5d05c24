//! `gatehouse partner check` as a person uses it, against another appliance and against nobody.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

const A: u16 = 1;
const SRV: u16 = 33;

/// A name server that knows these records, and of nothing else; it ends with the test.
fn name_server(records: Vec<(&'static str, u16, Vec<u8>)>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("address");
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((count, asker)) = socket.recv_from(&mut question) {
            let answer = answer(&question[..count], &records);
            let _ = socket.send_to(&answer, asker);
        }
    });
    address
}

fn answer(question: &[u8], records: &[(&str, u16, Vec<u8>)]) -> Vec<u8> {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    let name = labels.join(".");
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let known = records.iter().any(|(known, _, _)| *known == name);
    let found: Vec<_> =
        records.iter().filter(|(known, its, _)| *known == name && *its == kind).collect();
    let mut answer = question[..2].to_vec();
    // A response, recursion available; NXDOMAIN for a name that nobody knows.
    answer.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0]);
    answer.push(u8::try_from(found.len()).expect("few"));
    answer.extend([0, 0, 0, 0]);
    answer.extend(&question[12..at + 5]);
    for (_, kind, data) in found {
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        answer.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
        answer.extend(data);
    }
    answer
}

fn srv(port: u16, host: &str) -> Vec<u8> {
    let mut data = vec![0, 10, 0, 0];
    data.extend(port.to_be_bytes());
    for label in host.split('.') {
        data.push(u8::try_from(label.len()).expect("short"));
        data.extend(label.bytes());
    }
    data.push(0);
    data
}

/// Runs the program in `place` to its end.
fn run(place: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gatehouse"))
        .current_dir(place)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Settings of one side, which trusts the authority of the other.
fn settings(domain: &str, servers: &str, trust: &str) -> String {
    format!(
        r#"domains = ["{domain}"]
[dns]
servers = [{servers}]
[listen]
c2s = ["127.0.0.1:0"]
c2s-direct-tls = ["127.0.0.2:0"]
s2s = ["127.0.0.3:0"]
s2s-direct-tls = ["127.0.0.4:0"]
admin = "127.0.0.5:0"
[tls]
system-roots = false
trust = [{trust}]
[s2s]
private-targets = true
"#
    )
}

/// The partner; ended by its id when dropped.
struct Running {
    child: Child,
    port: u16,
}

impl Running {
    fn start(place: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gatehouse"))
            .current_dir(place)
            .args(["run"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let (mut seen, mut port) = (String::new(), None);
        while !seen.ends_with("started") {
            let mut line = String::new();
            assert!(log.read_line(&mut line).expect("log") > 0, "it ended:\n{seen}");
            if let Some((_, rest)) = line.split_once("127.0.0.3:") {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                port = digits.parse().ok().or(port);
            }
            let started = line.contains("started");
            seen.push_str(&line);
            if started {
                seen.push_str("started");
            }
        }
        // Whoever writes a log must be read.
        thread::spawn(move || log.lines().for_each(drop));
        Self { child, port: port.unwrap_or_else(|| panic!("no port in\n{seen}")) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn another_appliance_would_work_until_it_is_trusted_no_longer() {
    let place = TempDir::new().expect("directory");
    let (us, them) = (place.path().join("us"), place.path().join("them"));
    for (at, domain) in [(&us, "ours.example"), (&them, "them.example")] {
        fs::create_dir(at).expect("directory");
        fs::write(at.join("gatehouse.toml"), settings(domain, "\"127.0.0.1:9\"", ""))
            .expect("write");
        assert_eq!(run(at, &["cert", "issue"]).0, 0, "{domain}");
    }
    let ca = |of: &Path| format!("{:?}", of.join("gatehouse-data/certs/local-ca.crt"));
    let write =
        |at: &Path, text: String| fs::write(at.join("gatehouse.toml"), text).expect("write");
    write(&them, settings("them.example", "\"127.0.0.1:9\"", &ca(&us)));
    let running = Running::start(&them);
    let servers = name_server(vec![
        ("_xmpp-server._tcp.them.example", SRV, srv(running.port, "xmpp.them.example")),
        ("xmpp.them.example", A, vec![127, 0, 0, 3]),
        ("_xmpp-server._tcp.ours.example", SRV, srv(5269, "xmpp.ours.example")),
        ("xmpp.ours.example", A, vec![127, 0, 0, 1]),
    ]);
    let servers = format!("\"{servers}\"");

    write(&us, settings("ours.example", &servers, &ca(&them)));
    let (code, said, error) = run(&us, &["partner", "check", "them.example"]);
    assert_eq!(code, 0, "{said}\n{error}");
    assert!(said.starts_with("them.example as seen from ours.example: WORKS\n"), "{said}");
    assert!(said.ends_with("its DNS speaks of it\n") && !said.contains("listen.sip"), "{said}");
    for text in ["TLSv1.3", "RFC 6120 names", "EXTERNAL     accepted", "127.0.0.3"] {
        assert!(said.contains(text), "{text} in\n{said}");
    }
    assert!(error.is_empty(), "{error}");

    let (code, said, _) = run(&us, &["partner", "check", "them.example", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &report["verdict"]["works"]), (0, &true.into()), "{said}");
    assert_eq!(report["xmpp"]["targets"][0]["addresses"][0]["xmpp"]["external"], "accepted");
    assert_eq!(report["sip"]["policy"]["allowed"], false);

    // The same, but their authority is a stranger to us.
    write(&us, settings("ours.example", &servers, ""));
    let (code, said, error) = run(&us, &["partner", "check", "them.example", "--protocol", "xmpp"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("DOES NOT WORK") && said.contains("Turn: both"), "{said}");
    assert!(said.contains("pin = [\"sha256:") && !said.contains("SIP:"), "{said}");
    assert!(error.contains("would not work"), "{error}");
    for text in [&said, &error] {
        assert!(!text.contains("PRIVATE") && !text.contains("secret ="), "{text}");
    }
}

#[test]
fn a_look_changes_nothing_and_a_wrong_call_is_told() {
    let place = TempDir::new().expect("directory");
    let servers = format!("\"{}\"", name_server(Vec::new()));
    let text = settings("ours.example", &servers, "");
    fs::write(place.path().join("gatehouse.toml"), text).expect("write");
    let (code, said, _) = run(place.path(), &["partner", "check", "them.example"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("names no XMPP server"), "{said}");
    assert!(said.contains("there is no certificate yet"), "{said}");
    assert!(!place.path().join("gatehouse-data").exists(), "it made something");

    for (arguments, why) in [
        (&["partner", "check", "ours.example"][..], "one of our own domains"),
        (&["partner", "check", "them.example", "--as", "x.example"], "not one of our domains"),
    ] {
        let (code, _, error) = run(place.path(), arguments);
        assert_eq!(code, 64, "{error}");
        assert!(error.contains(why), "{error}");
    }
}

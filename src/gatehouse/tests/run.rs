//! The appliance as a process: it starts on any ports, reloads at SIGHUP, stops at SIGTERM.

#![allow(clippy::expect_used, clippy::panic, reason = "a test")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use tempfile::TempDir;

/// A running appliance; ended by its id when dropped.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Running {
    fn start(place: &TempDir) -> Self {
        let settings = r#"
[listen]
c2s = ["127.0.0.1:0"]
c2s-direct-tls = ["127.0.0.2:0"]
s2s = ["127.0.0.3:0"]
s2s-direct-tls = ["127.0.0.4:0"]
admin = "127.0.0.5:0"
[tls]
system-roots = false
[policy]
file = "policy.toml"
"#;
        fs::write(place.path().join("gatehouse.toml"), settings).expect("write");
        fs::write(place.path().join("policy.toml"), GOOD).expect("write");
        let mut child = Command::new(env!("CARGO_BIN_EXE_gatehouse"))
            .current_dir(place.path())
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let mut running = Self { child, log };
        running.hear("started");
        running
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

const GOOD: &str = "[[rule]]\nname = \"them\"\nremote = [\"them.example\"]\n";

#[test]
fn sighup_takes_a_good_policy_and_leaves_a_bad_one() {
    let place = TempDir::new().expect("directory");
    let mut running = Running::start(&place);
    fs::write(place.path().join("policy.toml"), GOOD.replace("remote", "remot")).expect("write");
    running.signal("HUP");
    let line = running.hear("nothing reloaded");
    assert!(line.contains("policy.toml:"), "{line}");
    fs::write(place.path().join("policy.toml"), GOOD.replace("them.example", "*")).expect("write");
    running.signal("HUP");
    running.hear("reloaded");
}

#[test]
fn sighup_issues_an_rsa_certificate_that_the_settings_newly_ask_for() {
    let place = TempDir::new().expect("directory");
    let mut running = Running::start(&place);
    let file = place.path().join("gatehouse.toml");
    let settings = fs::read_to_string(&file).expect("read");
    fs::write(&file, format!("{settings}[certificates]\nrsa = true\n")).expect("write");
    running.signal("HUP");
    let line = running.hear("issued a certificate");
    assert!(line.contains("Rsa"), "{line}");
    running.hear("reloaded");
    assert!(place.path().join("gatehouse-data/certs/ours.example+rsa.crt").exists());
    // What is in use next is checked first: a damaged one changes nothing.
    fs::write(place.path().join("gatehouse-data/certs/ours.example+rsa.crt"), "x").expect("write");
    running.signal("HUP");
    let line = running.hear("nothing reloaded");
    assert!(line.contains("ours.example+rsa.crt"), "{line}");
}

#[test]
fn sigterm_ends_it_cleanly() {
    let place = TempDir::new().expect("directory");
    let mut running = Running::start(&place);
    running.signal("TERM");
    running.hear("stopped");
    let status = running.child.wait().expect("wait");
    assert!(status.success(), "{status}");
}

//! Several processes on one file, some of which die.
//!
//! The tests start this very program again as their children.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows only the bodies of tests, not what they call"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use gatehouse_store::{OfflineLimits, Store};
use gatehouse_types::Jid;

/// Where the children find the database.
const DATABASE: &str = "GATEHOUSE_STORE_CRASH_TEST";
/// Which child it is.
const NUMBER: &str = "GATEHOUSE_STORE_CRASH_TEST_CHILD";
const WIDE: OfflineLimits = OfflineLimits { per_account: u64::MAX, per_node: u64::MAX };

fn alice() -> Jid {
    "alice@ours.example".parse().unwrap()
}

/// The child stores messages and says so on its standard output after each `Ok`; it is killed in the
/// middle of its work, and every message it spoke of must be there.
#[tokio::test]
async fn acknowledged_messages_survive_sigkill() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gatehouse.sqlite");
    let store = Store::open(&path).await.unwrap();
    store.add_account(&alice(), &[]).await.unwrap();
    store.close().await;

    let mut acknowledged = Vec::new();
    // Several lives on one file, so that a recovered log is written on too.
    for (life, kill_after) in [1, 7, 60, 150].into_iter().enumerate() {
        acknowledged.extend(run_and_kill(&path, life, kill_after));

        let store = Store::open(&path).await.unwrap();
        let stored: Vec<String> =
            store.offline(&alice()).await.unwrap().into_iter().map(|m| m.stanza).collect();
        // In order, each once. Between two acknowledged ones may be one that was stored when the
        // child died before it could say so.
        let mut rest = stored.iter();
        for message in &acknowledged {
            assert!(rest.any(|stored| stored == message), "lost {message} in life {life}");
        }
        let mut once = stored.clone();
        once.dedup();
        assert_eq!(once, stored);
        store.close().await;
    }
    assert!(acknowledged.len() >= 1 + 7 + 60 + 150);
}

/// The messages that the child acknowledged before it died.
fn run_and_kill(path: &Path, life: usize, kill_after: usize) -> Vec<String> {
    let mut child = start("child_that_stores", path, life);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut acknowledged = Vec::new();
    let mut take = |line: String| {
        if let Some(message) = line.strip_prefix("stored ") {
            acknowledged.push(message.to_owned());
        }
        acknowledged.len()
    };
    for line in lines.by_ref() {
        if take(line) == kill_after {
            break;
        }
    }
    // SIGKILL; the child had no end of its own.
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    for line in lines {
        take(line);
    }
    assert!(acknowledged.len() >= kill_after);
    acknowledged
}

/// Nobody is turned away because the others are at it too.
#[tokio::test]
async fn the_file_may_be_made_by_several_at_once() {
    for _ in 0..4 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gatehouse.sqlite");
        let children: Vec<_> =
            (0..5).map(|number| start("child_that_adds_an_account", &path, number)).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.accounts(None).await.unwrap().len(), 5);
    }
}

fn start(child: &str, path: &Path, number: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child, "--ignored", "--nocapture"])
        .env(DATABASE, path)
        .env(NUMBER, number.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the parent told this child; nothing if there is no parent.
fn orders() -> Option<(PathBuf, usize)> {
    Some((std::env::var_os(DATABASE)?.into(), std::env::var(NUMBER).ok()?.parse().ok()?))
}

// Started by the tests above as a process of its own, which is what they are about; by itself it has
// no orders and does nothing.
#[tokio::test]
#[ignore = "not a test: a child of the tests above"]
async fn child_that_adds_an_account() {
    let Some((path, number)) = orders() else {
        return;
    };
    let store = Store::open(&path).await.unwrap();
    let account = format!("u{number}@ours.example").parse().unwrap();
    store.add_account(&account, &[]).await.unwrap();
    store.close().await;
}

// Started by the tests above as a process of its own, which is what they are about; by itself it has
// no orders and does nothing.
#[tokio::test]
#[ignore = "not a test: a child of the tests above"]
async fn child_that_stores() {
    let Some((path, life)) = orders() else {
        return;
    };
    let store = Store::open(&path).await.unwrap();
    let mut out = std::io::stdout();
    // The test harness has written half a line.
    writeln!(out).unwrap();
    for number in 0_u64.. {
        let message = format!("<message id='{life}-{number}'/>");
        store.push_offline(&alice(), 0, &message, WIDE).await.unwrap();
        writeln!(out, "stored {message}").unwrap();
        out.flush().unwrap();
    }
}

//! What was acknowledged is there after `kill -9`.
//!
//! The test starts itself again as a child that stores messages and says so on its standard output
//! after each `Ok`; the parent kills it in the middle of its work and looks for every message it was
//! told of.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use gatehouse_store::{OfflineLimits, Store};
use gatehouse_types::Jid;

const DATABASE: &str = "GATEHOUSE_STORE_CRASH_TEST";
const WIDE: OfflineLimits = OfflineLimits { per_account: u64::MAX, per_node: u64::MAX };

fn alice() -> Jid {
    "alice@ours.example".parse().unwrap()
}

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
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(DATABASE, path)
        .env("LIFE", life.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
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

/// Not a test: the child of the test above.
#[tokio::test]
#[ignore = "started by the test above"]
async fn child() {
    let Ok(path) = std::env::var(DATABASE) else {
        return;
    };
    let life = std::env::var("LIFE").unwrap();
    let store = Store::open(Path::new(&path)).await.unwrap();
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

//! Every method with its yes and its no, on a database file of its own.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows only the bodies of tests, not what they call"
)]

mod accounts;
mod contacts;
mod files;
mod held;
mod offline;
mod small_things;
mod two_handles;

use std::path::{Path, PathBuf};

use gatehouse_store::{
    Contact, ContactCount, ContactLimits, OfflineLimits, RosterChange, Store, StoreError,
    StoredKeys, Subscription,
};
use gatehouse_types::{Domain, Jid};
use tempfile::TempDir;

/// A store in a directory that goes away with it.
struct World {
    directory: TempDir,
    store: Store,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("gatehouse.sqlite")).await.unwrap();
        Self { directory, store }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("gatehouse.sqlite")
    }

    /// With alice and bob.
    async fn with_accounts() -> Self {
        let world = Self::new().await;
        world.store.add_account(&alice(), &[keys("SCRAM-SHA-256", 1)]).await.unwrap();
        world.store.add_account(&bob(), &[keys("SCRAM-SHA-256", 2)]).await.unwrap();
        world
    }
}

fn jid(text: &str) -> Jid {
    text.parse().unwrap()
}

fn alice() -> Jid {
    jid("alice@ours.example")
}

fn bob() -> Jid {
    jid("bob@ours.example")
}

fn nobody() -> Jid {
    jid("nobody@ours.example")
}

fn keys(mechanism: &str, seed: u8) -> StoredKeys {
    StoredKeys {
        mechanism: mechanism.to_owned(),
        salt: vec![seed; 16],
        iterations: 10_000,
        stored_key: vec![seed; 32],
        server_key: vec![seed.wrapping_add(1); 32],
    }
}

fn contact(address: &str) -> Contact {
    Contact {
        jid: jid(address),
        in_roster: true,
        name: None,
        subscription: Subscription::None,
        pending_out: false,
        pending_in: None,
        approved: false,
        groups: Vec::new(),
    }
}

fn request(address: &str) -> Contact {
    Contact {
        in_roster: false,
        pending_in: Some(format!("<presence from='{address}' type='subscribe'/>")),
        ..contact(address)
    }
}

const WIDE: OfflineLimits = OfflineLimits { per_account: 100, per_node: 30_000 };

fn is_no_account<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::NoAccount(account)) if account == nobody())
}

async fn connect(path: &Path) -> sqlx::SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&options).await.unwrap()
}

async fn execute(path: &Path, statement: &'static str) {
    let mut connection = connect(path).await;
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
}

async fn rows(path: &Path, table: &str) -> i64 {
    let mut connection = connect(path).await;
    let statement = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    sqlx::query_scalar(statement).fetch_one(&mut connection).await.unwrap()
}

/// Runs all of them at the same time.
async fn all_at_once<T: Send + 'static>(
    work: impl IntoIterator<Item: Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    work.into_iter().collect::<tokio::task::JoinSet<T>>().join_all().await
}

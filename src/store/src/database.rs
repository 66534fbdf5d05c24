use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_types::Jid;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, Transaction};
use tokio::sync::{Mutex, MutexGuard};

use crate::StoreError;
use crate::error::failed;
use crate::writer::{BEGIN_WRITE, Writer};

/// The store; cheap to clone, shared by all tasks.
///
/// Several processes may have the same file open: the command line adds a user while the server
/// runs.
#[derive(Clone, Debug)]
pub struct Store {
    /// One connection: SQLite has one writer at a time, and here it waits in order.
    writer: Arc<Mutex<Writer>>,
    readers: SqlitePool,
}

impl Store {
    /// Opens (and makes, and migrates) the database file, mode 0600. Missing directories above it
    /// are made with mode 0700.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`] if a later version of Gatehouse wrote the file, else
    /// [`StoreError::Open`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let _alone = OPENING.lock().await;
        prepare_file(path).await.map_err(|error| open_error(path, error))?;
        // A commit is on the disk before it is acknowledged. NORMAL would lose the last ones in a
        // power cut.
        let writer = options(path).synchronous(SqliteSynchronous::Full);
        let mut connection = writer.connect().await.map_err(|error| open_error(path, error))?;
        prepare_schema(&mut connection, path).await?;
        let writer = Arc::new(Mutex::new(Writer::new(connection, writer)));
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .connect_lazy_with(options(path).pragma("query_only", "ON"));
        Ok(Self { writer, readers })
    }

    /// Finishes what is under way, folds the write-ahead log into the file and closes it. Later
    /// calls, also on clones, fail.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer().await.close().await;
    }

    /// The connection that may write. It is waited for here, not in the middle of a transaction.
    pub(crate) async fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().await
    }

    /// Begins a transaction that sees one state of the database throughout.
    pub(crate) async fn read(
        &self,
        action: &'static str,
    ) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.readers.begin().await.map_err(failed(action))
    }
}

/// Commits; only after this has it happened.
pub(crate) async fn commit(
    transaction: Transaction<'_, Sqlite>,
    action: &'static str,
) -> Result<(), StoreError> {
    transaction.commit().await.map_err(failed(action))
}

/// The key of `account`, if there is such an account.
pub(crate) async fn find_account(
    connection: &mut SqliteConnection,
    account: &Jid,
    action: &'static str,
) -> Result<Option<i64>, StoreError> {
    sqlx::query_scalar("SELECT id FROM accounts WHERE jid = $1")
        .bind(key(account))
        .fetch_optional(connection)
        .await
        .map_err(failed(action))
}

/// The key of `account`, which must exist.
pub(crate) async fn account_id(
    connection: &mut SqliteConnection,
    account: &Jid,
    action: &'static str,
) -> Result<i64, StoreError> {
    find_account(connection, account, action)
        .await?
        .ok_or_else(|| StoreError::NoAccount(account.to_bare()))
}

/// The form that bare addresses are stored in.
pub(crate) fn key(account: &Jid) -> String {
    account.to_bare().to_string()
}

/// Reads an address that we wrote.
pub(crate) fn stored_jid(text: &str, action: &'static str) -> Result<Jid, StoreError> {
    text.parse().map_err(failed::<gatehouse_types::InvalidJid>(action))
}

/// A limit as SQLite counts.
pub(crate) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count or version of SQLite, which are never negative.
pub(crate) fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

/// Makes the file before SQLite does, so that it is never readable by others, not even for a
/// moment. SQLite gives `-wal` and `-shm` the mode of the database file.
async fn prepare_file(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    if let Some(directory) = directory {
        tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).await?;
    }
    match tokio::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).await {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    // Never opened here: closing it would drop the locks that SQLite holds in this process.
    let mut permissions = tokio::fs::metadata(path).await?.permissions();
    // A copy from a backup may have been made with a common umask.
    if permissions.mode() & 0o077 != 0 {
        permissions.set_mode(0o600);
        tokio::fs::set_permissions(path, permissions).await?;
        tracing::warn!(path = %path.display(), "the database was open to other users: now mode 0600");
    }
    Ok(())
}

/// Makes sure that the file is ours, then brings its schema up to date.
async fn prepare_schema(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let foreign: bool = sqlx::query_scalar(
        "SELECT application_id <> $1 AND EXISTS (SELECT 1 FROM sqlite_schema)
         FROM pragma_application_id",
    )
    .bind(APPLICATION_ID)
    .fetch_one(&mut *connection)
    .await
    .map_err(|error| open_error(path, error))?;
    if foreign {
        return Err(open_error(path, "it is the database of another program"));
    }
    use_wal(&mut *connection).await.map_err(|error| open_error(path, error))?;

    // Under the write lock, because another process may be at it too.
    let mut transaction =
        connection.begin_with(BEGIN_WRITE).await.map_err(|error| open_error(path, error))?;
    let known = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0);
    match MIGRATOR.run_direct(None, &mut *transaction, false).await {
        Ok(()) => transaction.commit().await.map_err(|error| open_error(path, error)),
        Err(MigrateError::VersionMissing(found)) if found > known => {
            Err(StoreError::Newer { path: path.display().to_string(), found, known })
        }
        Err(error) => Err(open_error(path, error)),
    }
}

/// Switches the file to the write-ahead log; the mode stays with the file.
///
/// While another process does the same, SQLite says that the file is locked, without the wait that
/// it grants to any other statement.
async fn use_wal(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mut patience = BUSY_TIMEOUT;
    loop {
        let mode: Result<String, _> =
            sqlx::query_scalar("PRAGMA journal_mode = WAL").fetch_one(&mut *connection).await;
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            // It says so where the file system has no shared memory.
            Ok(mode) => {
                return Err(sqlx::Error::Protocol(format!(
                    "the write-ahead log cannot be used here (journal mode `{mode}`); \
                 is this a network file system?"
                )));
            }
            Err(error) if !is_busy(&error) => return Err(error),
            Err(error) => {
                patience = patience.checked_sub(BUSY_RETRY).ok_or(error)?;
                tokio::time::sleep(BUSY_RETRY).await;
            }
        }
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    /// `SQLITE_BUSY`, below the extended code.
    const BUSY: u32 = 5;
    let code = error.as_database_error().and_then(|error| error.code());
    code.and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| code & 0xff == BUSY)
}

fn open_error(
    path: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::Open { path: path.display().to_string(), source: error.into() }
}

/// One at a time in this process, see [`prepare_file`].
static OPENING: Mutex<()> = Mutex::const_new(());

static MIGRATOR: Migrator = sqlx::migrate!();

/// Marks the file as ours (`Gate`): `PRAGMA application_id`, set by the first migration.
const APPLICATION_ID: i64 = 0x4761_7465;

/// How long a statement waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long until a switch to the write-ahead log is tried again.
const BUSY_RETRY: Duration = Duration::from_millis(20);

/// Connections that only read; each is a thread.
const READERS_MAX: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    async fn pragma(connection: &mut SqliteConnection, statement: &'static str) -> String {
        let row = sqlx::query(statement).fetch_one(connection).await.unwrap();
        let value = sqlx::Row::try_get_raw(&row, 0).unwrap();
        let text = <String as sqlx::Decode<'_, Sqlite>>::decode(value);
        text.unwrap()
    }

    async fn store(directory: &tempfile::TempDir) -> Store {
        Store::open(&directory.path().join("new.sqlite")).await.unwrap()
    }

    /// Writes one value that was not there.
    async fn insert(store: &Store, name: &str) -> Result<(), StoreError> {
        let mut writer = store.writer().await;
        let statement = sqlx::query("INSERT INTO secrets (name, value) VALUES ($1, x'00')");
        writer.execute(statement.bind(name), "a test").await
    }

    /// No test can cut the power; this one sees that nobody has made commits cheaper, also on a
    /// connection that had to be opened anew.
    #[tokio::test]
    async fn a_commit_is_on_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory).await;
        for _ in 0..2 {
            for (statement, want) in [
                ("PRAGMA synchronous", "2"),
                ("PRAGMA journal_mode", "wal"),
                ("PRAGMA foreign_keys", "1"),
            ] {
                let mut writer = store.writer().await;
                let mut transaction = writer.begin("a test").await.unwrap();
                assert_eq!(pragma(&mut transaction, statement).await, want, "{statement}");
            }
            store.writer().await.lose();
        }
    }

    /// SQLite rolls back by itself when the disk is full, or fails otherwise; whoever comes after that
    /// must not find the connection in the middle of a transaction for ever.
    #[tokio::test]
    async fn a_transaction_that_broke_off_is_the_last_that_fails() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory).await;
        for name in ["one", "two"] {
            let mut writer = store.writer().await;
            let mut transaction = writer.begin("a test").await.unwrap();
            sqlx::raw_sql("ROLLBACK").execute(&mut *transaction).await.unwrap();
            assert!(commit(transaction, "a test").await.is_err());
            drop(writer);
            insert(&store, name).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_not_committed_did_not_happen() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory).await;
        for _ in 0..2 {
            let mut writer = store.writer().await;
            let mut transaction = writer.begin("a test").await.unwrap();
            sqlx::query("INSERT INTO secrets (name, value) VALUES ('a', x'00')")
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        insert(&store, "a").await.unwrap();
        assert!(insert(&store, "a").await.is_err(), "it is there");
        store.close().await;
        assert!(insert(&store, "b").await.is_err(), "it is closed");
        assert!(store.writer().await.begin("a test").await.is_err(), "it is closed");
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory).await;
        const STATEMENT: &str = "INSERT INTO secrets (name, value) VALUES ('a', x'00')";
        assert!(sqlx::query(STATEMENT).execute(&store.readers).await.is_err());
        assert!(insert(&store, "a").await.is_ok());
    }
}

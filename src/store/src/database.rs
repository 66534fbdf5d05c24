use std::path::Path;
use std::time::Duration;

use gatehouse_types::Jid;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, Transaction};

use crate::StoreError;
use crate::error::failed;

/// The store; cheap to clone, shared by all tasks.
///
/// Several processes may have the same file open: the command line adds a user while the server
/// runs.
#[derive(Clone, Debug)]
pub struct Store {
    /// One connection: SQLite has one writer at a time, and here it waits in order.
    writer: SqlitePool,
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
        prepare_file(path).await.map_err(|error| open_error(path, error))?;
        // A commit is on the disk before it is acknowledged. NORMAL would lose the last ones in a
        // power cut.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options(path).synchronous(SqliteSynchronous::Full))
            .await
            .map_err(|error| open_error(path, error))?;
        prepare_schema(&writer, path).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .connect_lazy_with(options(path).pragma("query_only", "ON"));
        Ok(Self { writer, readers })
    }

    /// Finishes what is under way, folds the write-ahead log into the file and closes it. Later
    /// calls, also on clones, fail.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Begins a transaction that may write. It waits for its turn now, not in the middle.
    pub(crate) async fn write(
        &self,
        action: &'static str,
    ) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with(BEGIN_WRITE).await.map_err(failed(action))
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
    transaction: Transaction<'static, Sqlite>,
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
async fn prepare_file(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    if let Some(directory) = directory {
        tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).await?;
    }
    let file =
        tokio::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).await?;
    let mut permissions = file.metadata().await?.permissions();
    // A copy from a backup may have been made with a common umask.
    if std::os::unix::fs::PermissionsExt::mode(&permissions) & 0o077 != 0 {
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        file.set_permissions(permissions).await?;
    }
    Ok(())
}

/// Makes sure that the file is ours, then brings its schema up to date.
async fn prepare_schema(writer: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    let mut connection = writer.acquire().await.map_err(|error| open_error(path, error))?;
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
    // Stays with the file.
    sqlx::query("PRAGMA journal_mode = WAL")
        .execute(&mut *connection)
        .await
        .map_err(|error| open_error(path, error))?;

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

fn open_error(
    path: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::Open { path: path.display().to_string(), source: error.into() }
}

static MIGRATOR: Migrator = sqlx::migrate!();

/// Takes the write lock at once. A transaction that begins by reading could be refused when it
/// wants to write, however long it waits.
const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";

/// Marks the file as ours (`Gate`): `PRAGMA application_id`, set by the first migration.
const APPLICATION_ID: i64 = 0x4761_7465;

/// How long a statement waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that only read; each is a thread.
const READERS_MAX: u32 = 4;

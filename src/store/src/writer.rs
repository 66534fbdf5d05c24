//! The one connection that writes.
//!
//! A pool asks a connection whether it lives each time before it is used and after that, the second time
//! from a task of its own: as many wake-ups of threads as two statements take. Here it is asked only after
//! something has failed on it.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions};
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, Transaction};

use crate::StoreError;
use crate::error::failed;

/// Takes the write lock at once. A transaction that begins by reading could be refused when it
/// wants to write, however long it waits.
pub(crate) const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";

/// The connection that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Nothing once it is closed, or of no use any more.
    connection: Option<SqliteConnection>,
    /// How to open another one; nothing once it is closed.
    options: Option<SqliteConnectOptions>,
    /// What was done last on the connection has failed, or was given up in the middle.
    is_suspect: bool,
}

impl Writer {
    /// Around an open connection, and how it was opened.
    pub(crate) fn new(connection: SqliteConnection, options: SqliteConnectOptions) -> Self {
        Self { connection: Some(connection), options: Some(options), is_suspect: false }
    }

    /// Begins a transaction. Dropped before it is committed, it did not happen.
    pub(crate) async fn begin(
        &mut self,
        action: &'static str,
    ) -> Result<Transaction<'_, Sqlite>, StoreError> {
        self.mend().await.map_err(failed(action))?;
        let Self { connection, is_suspect, .. } = self;
        let connection =
            connection.as_mut().ok_or(sqlx::Error::PoolClosed).map_err(failed(action))?;
        *is_suspect = true;
        let begun = connection.begin_with(BEGIN_WRITE).await;
        *is_suspect = begun.is_err();
        begun.map_err(failed(action))
    }

    /// Does one statement, which is a transaction of its own: one turn of SQLite's thread instead of
    /// three. Once this returns it is on the disk.
    pub(crate) async fn execute(
        &mut self,
        statement: Query<'_, Sqlite, SqliteArguments>,
        action: &'static str,
    ) -> Result<(), StoreError> {
        self.mend().await.map_err(failed(action))?;
        let connection = self.connection.as_mut();
        let connection = connection.ok_or(sqlx::Error::PoolClosed).map_err(failed(action))?;
        self.is_suspect = true;
        let done = statement.execute(connection).await;
        self.is_suspect = done.is_err();
        done.map(drop).map_err(failed(action))
    }

    /// Closes it for good.
    pub(crate) async fn close(&mut self) {
        self.options = None;
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            // All is committed; the next start folds the write-ahead log into the file.
            tracing::warn!(%error, "closing the database failed");
        }
    }

    /// Sees that there is a connection, and that it is good for a transaction. It is not if its thread has
    /// ended, or if SQLite has rolled back by itself what the connection is still thought to be in.
    async fn mend(&mut self) -> Result<(), sqlx::Error> {
        let options = self.options.as_ref().ok_or(sqlx::Error::PoolClosed)?;
        if let Some(connection) = &mut self.connection {
            if !self.is_suspect && !connection.is_in_transaction() {
                return Ok(());
            }
            // What was given up is rolled back before the answer comes.
            match connection.ping().await {
                Ok(()) if !connection.is_in_transaction() => {
                    self.is_suspect = false;
                    return Ok(());
                }
                outcome => {
                    let error = outcome.err().map(tracing::field::display);
                    tracing::warn!(error, "the connection to the database is opened anew");
                }
            }
        }
        self.connection = None;
        self.connection = Some(options.connect().await?);
        self.is_suspect = false;
        Ok(())
    }

    /// As if the connection had broken.
    #[cfg(test)]
    pub(crate) fn lose(&mut self) {
        self.connection = None;
    }
}

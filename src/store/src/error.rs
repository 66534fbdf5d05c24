use gatehouse_types::Jid;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be opened.
    #[error("cannot open the database {path}")]
    Open {
        /// Where.
        path: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database was written by a later version of Gatehouse, which may keep things that this
    /// one would lose.
    #[error(
        "the database {path} belongs to a newer Gatehouse (its schema is {found}, this one knows \
         up to {known}): install that version again, or restore the backup made before the upgrade"
    )]
    Newer {
        /// Where.
        path: String,
        /// The schema version of the file.
        found: i64,
        /// The last one we know.
        known: i64,
    },
    /// A statement failed.
    #[error("the database failed while {action}")]
    Database {
        /// What was being done, such as `storing an offline message`.
        action: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is one already.
    #[error("account {0} exists already")]
    AccountExists(Jid),
    /// There is none.
    #[error("there is no account {0}")]
    NoAccount(Jid),
    /// A cap was reached.
    #[error("{what} is full: {limit} at most")]
    Full {
        /// What.
        what: &'static str,
        /// The cap.
        limit: u64,
    },
}

/// Turns the error of a statement into ours; `action` says what was being done.
pub(crate) fn failed<E>(action: &'static str) -> impl Fn(E) -> StoreError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |error| StoreError::Database { action, source: error.into() }
}

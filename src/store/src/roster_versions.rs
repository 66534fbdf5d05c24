use gatehouse_types::Jid;
use sqlx::{Row, SqliteConnection};

use crate::contacts::from_row;
use crate::database::{find_account, from_sql, key, stored_jid, to_sql};
use crate::error::failed;
use crate::{Contact, Store, StoreError};

/// What has become of one roster item since a version (RFC 6121, section 2.6.3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RosterChange {
    /// It was added or changed.
    Changed {
        /// The roster version that this made.
        version: u64,
        /// As it is now.
        contact: Contact,
    },
    /// It is gone.
    Removed {
        /// The roster version that this made.
        version: u64,
        /// Its address.
        jid: Jid,
    },
}

impl RosterChange {
    /// The roster version that this change made: the `ver` of its push.
    pub fn version(&self) -> u64 {
        match self {
            Self::Changed { version, .. } | Self::Removed { version, .. } => *version,
        }
    }
}

impl Store {
    /// What changed in the roster of `account` after `version`, oldest change first, each item once.
    ///
    /// `None` if that cannot be told, because the version is too old or not one of ours: then the
    /// whole roster must be sent.
    pub async fn contacts_since(
        &self,
        account: &Jid,
        version: u64,
    ) -> Result<Option<Vec<RosterChange>>, StoreError> {
        const ACTION: &str = "reading roster changes";
        let mut transaction = self.read(ACTION).await?;
        let Some(id) = find_account(&mut transaction, account, ACTION).await? else {
            return Ok(None);
        };
        let known: bool = sqlx::query_scalar(
            "SELECT $2 BETWEEN roster_floor AND roster_version FROM accounts WHERE id = $1",
        )
        .bind(id)
        .bind(to_sql(version))
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        if !known {
            return Ok(None);
        }

        let changed = sqlx::query(
            "SELECT * FROM contacts WHERE account_id = $1 AND in_roster AND version > $2",
        )
        .bind(id)
        .bind(to_sql(version))
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        let removed = sqlx::query(
            "SELECT jid, version FROM roster_removals WHERE account_id = $1 AND version > $2",
        )
        .bind(id)
        .bind(to_sql(version))
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;

        let mut changes = Vec::with_capacity(changed.len() + removed.len());
        for row in &changed {
            let version = from_sql(row.try_get("version").map_err(failed(ACTION))?);
            changes.push(RosterChange::Changed { version, contact: from_row(row, ACTION)? });
        }
        for row in &removed {
            let version = from_sql(row.try_get("version").map_err(failed(ACTION))?);
            let jid = stored_jid(row.try_get("jid").map_err(failed(ACTION))?, ACTION)?;
            changes.push(RosterChange::Removed { version, jid });
        }
        changes.sort_by_key(RosterChange::version);
        Ok(Some(changes))
    }
}

/// The version of the roster as it is.
pub(crate) async fn roster_version(
    connection: &mut SqliteConnection,
    account: i64,
    action: &'static str,
) -> Result<u64, StoreError> {
    sqlx::query_scalar("SELECT roster_version FROM accounts WHERE id = $1")
        .bind(account)
        .fetch_one(connection)
        .await
        .map(from_sql)
        .map_err(failed(action))
}

/// Makes the next version.
pub(crate) async fn next_version(
    connection: &mut SqliteConnection,
    account: i64,
    action: &'static str,
) -> Result<u64, StoreError> {
    sqlx::query_scalar(
        "UPDATE accounts SET roster_version = roster_version + 1 WHERE id = $1
         RETURNING roster_version",
    )
    .bind(account)
    .fetch_one(connection)
    .await
    .map(from_sql)
    .map_err(failed(action))
}

/// Remembers that `contact` left the roster; forgets the oldest such memory when there are too many.
pub(crate) async fn note_removal(
    connection: &mut SqliteConnection,
    account: i64,
    contact: &Jid,
    version: u64,
    action: &'static str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO roster_removals (account_id, jid, version) VALUES ($1, $2, $3)
         ON CONFLICT (account_id, jid) DO UPDATE SET version = excluded.version",
    )
    .bind(account)
    .bind(key(contact))
    .bind(to_sql(version))
    .execute(&mut *connection)
    .await
    .map_err(failed(action))?;

    let forget: Option<i64> = sqlx::query_scalar(
        "SELECT version FROM roster_removals WHERE account_id = $1
         ORDER BY version DESC LIMIT 1 OFFSET $2",
    )
    .bind(account)
    .bind(REMOVALS_MAX)
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed(action))?;
    let Some(forget) = forget else {
        return Ok(());
    };
    sqlx::query("DELETE FROM roster_removals WHERE account_id = $1 AND version <= $2")
        .bind(account)
        .bind(forget)
        .execute(&mut *connection)
        .await
        .map_err(failed(action))?;
    sqlx::query("UPDATE accounts SET roster_floor = $2 WHERE id = $1")
        .bind(account)
        .bind(forget)
        .execute(connection)
        .await
        .map_err(failed(action))?;
    Ok(())
}

/// `contact` is in the roster again.
pub(crate) async fn unnote_removal(
    connection: &mut SqliteConnection,
    account: i64,
    contact: &Jid,
    action: &'static str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM roster_removals WHERE account_id = $1 AND jid = $2")
        .bind(account)
        .bind(key(contact))
        .execute(connection)
        .await
        .map_err(failed(action))?;
    Ok(())
}

/// Removals remembered for one account. A client that has missed more gets the whole roster.
const REMOVALS_MAX: i64 = 200;

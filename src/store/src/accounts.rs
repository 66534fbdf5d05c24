use std::fmt;

use gatehouse_types::{Domain, Jid};
use sqlx::{Row, SqliteConnection};

use crate::database::{account_id, commit, key, stored_jid};
use crate::error::failed;
use crate::{Store, StoreError};

/// The keys of one account for one SCRAM hash.
#[derive(Clone, Eq, PartialEq)]
pub struct StoredKeys {
    /// `SCRAM-SHA-1` or `SCRAM-SHA-256`.
    pub mechanism: String,
    /// Salt.
    pub salt: Vec<u8>,
    /// PBKDF2 iterations.
    pub iterations: u32,
    /// H(ClientKey).
    pub stored_key: Vec<u8>,
    /// HMAC(SaltedPassword, "Server Key").
    pub server_key: Vec<u8>,
}

impl fmt::Debug for StoredKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredKeys({}, [redacted])", self.mechanism)
    }
}

/// Which account of a name, and which keys of it. It changes when the keys do, and when the account
/// is removed and made anew; who logged in under another one must log in again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AccountVersion {
    pub(crate) id: i64,
    pub(crate) generation: i64,
}

/// What a log-in is checked against, all of one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials {
    /// Whose keys these are.
    pub version: AccountVersion,
    /// Sorted by mechanism.
    pub keys: Vec<StoredKeys>,
}

impl Store {
    /// Adds an account.
    ///
    /// # Errors
    ///
    /// [`StoreError::AccountExists`].
    pub async fn add_account(&self, account: &Jid, keys: &[StoredKeys]) -> Result<(), StoreError> {
        const ACTION: &str = "adding an account";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let id: Option<i64> = sqlx::query_scalar(
            "INSERT INTO accounts (jid, domain) VALUES ($1, $2)
             ON CONFLICT (jid) DO NOTHING RETURNING id",
        )
        .bind(key(account))
        .bind(account.domain().as_str())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        let Some(id) = id else {
            return Err(StoreError::AccountExists(account.to_bare()));
        };
        // Versions of an earlier account of this name lie below: see the schema.
        sqlx::query(
            "UPDATE accounts SET roster_version = id << 32, roster_floor = id << 32 WHERE id = $1",
        )
        .bind(id)
        .execute(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        insert_keys(&mut transaction, id, keys, ACTION).await?;
        commit(transaction, ACTION).await
    }

    /// Replaces the keys of an account.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoAccount`].
    pub async fn set_keys(&self, account: &Jid, keys: &[StoredKeys]) -> Result<(), StoreError> {
        const ACTION: &str = "replacing the keys of an account";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let id = account_id(&mut transaction, account, ACTION).await?;
        sqlx::query("UPDATE accounts SET generation = generation + 1 WHERE id = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await
            .map_err(failed(ACTION))?;
        sqlx::query("DELETE FROM scram_keys WHERE account_id = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await
            .map_err(failed(ACTION))?;
        insert_keys(&mut transaction, id, keys, ACTION).await?;
        commit(transaction, ACTION).await
    }

    /// Removes an account and all that belongs to it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoAccount`].
    pub async fn remove_account(&self, account: &Jid) -> Result<(), StoreError> {
        const ACTION: &str = "removing an account";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let removed = sqlx::query("DELETE FROM accounts WHERE jid = $1")
            .bind(key(account))
            .execute(&mut *transaction)
            .await
            .map_err(failed(ACTION))?;
        if removed.rows_affected() == 0 {
            return Err(StoreError::NoAccount(account.to_bare()));
        }
        commit(transaction, ACTION).await
    }

    /// All accounts, of one domain or all, sorted.
    pub async fn accounts(&self, domain: Option<&Domain>) -> Result<Vec<Jid>, StoreError> {
        const ACTION: &str = "listing accounts";
        let mut transaction = self.read(ACTION).await?;
        let rows: Vec<String> =
            sqlx::query_scalar("SELECT jid FROM accounts WHERE $1 IS NULL OR domain = $1")
                .bind(domain.map(Domain::as_str))
                .fetch_all(&mut *transaction)
                .await
                .map_err(failed(ACTION))?;
        let mut accounts =
            rows.iter().map(|text| stored_jid(text, ACTION)).collect::<Result<Vec<_>, _>>()?;
        accounts.sort();
        Ok(accounts)
    }

    /// True if there is such an account.
    pub async fn has_account(&self, account: &Jid) -> Result<bool, StoreError> {
        const ACTION: &str = "looking for an account";
        let mut transaction = self.read(ACTION).await?;
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM accounts WHERE jid = $1)")
            .bind(key(account))
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed(ACTION))
    }

    /// The keys of an account, sorted by mechanism; empty if there is no such account.
    pub async fn keys(&self, account: &Jid) -> Result<Vec<StoredKeys>, StoreError> {
        const ACTION: &str = "reading the keys of an account";
        let mut transaction = self.read(ACTION).await?;
        keys_of(&mut transaction, account, ACTION).await
    }

    /// The keys of an account and their version; `None` if there is no such account.
    pub async fn credentials(&self, account: &Jid) -> Result<Option<Credentials>, StoreError> {
        const ACTION: &str = "reading the credentials of an account";
        let mut transaction = self.read(ACTION).await?;
        let versions = versions_of(&mut transaction, &[account], ACTION).await?;
        let Some((_, version)) = versions.into_iter().next() else { return Ok(None) };
        let keys = keys_of(&mut transaction, account, ACTION).await?;
        Ok(Some(Credentials { version, keys }))
    }

    /// The versions of those of `accounts` that exist, in no order.
    pub async fn account_versions(
        &self,
        accounts: &[&Jid],
    ) -> Result<Vec<(Jid, AccountVersion)>, StoreError> {
        const ACTION: &str = "reading the versions of accounts";
        let mut transaction = self.read(ACTION).await?;
        versions_of(&mut transaction, accounts, ACTION).await
    }
}

async fn versions_of(
    connection: &mut SqliteConnection,
    accounts: &[&Jid],
    action: &'static str,
) -> Result<Vec<(Jid, AccountVersion)>, StoreError> {
    let wanted: Vec<String> = accounts.iter().map(|account| key(account)).collect();
    let wanted = serde_json::to_string(&wanted).map_err(failed(action))?;
    let rows = sqlx::query(
        "SELECT jid, id, generation FROM accounts
         WHERE jid IN (SELECT value FROM json_each($1))",
    )
    .bind(wanted)
    .fetch_all(connection)
    .await
    .map_err(failed(action))?;
    rows.iter()
        .map(|row| {
            let id = row.try_get("id").map_err(failed(action))?;
            let generation = row.try_get("generation").map_err(failed(action))?;
            let jid: String = row.try_get("jid").map_err(failed(action))?;
            Ok((stored_jid(&jid, action)?, AccountVersion { id, generation }))
        })
        .collect()
}

async fn keys_of(
    connection: &mut SqliteConnection,
    account: &Jid,
    action: &'static str,
) -> Result<Vec<StoredKeys>, StoreError> {
    let rows = sqlx::query(
        "SELECT mechanism, salt, iterations, stored_key, server_key
         FROM scram_keys JOIN accounts ON accounts.id = account_id
         WHERE jid = $1 ORDER BY mechanism",
    )
    .bind(key(account))
    .fetch_all(connection)
    .await
    .map_err(failed(action))?;
    rows.iter()
        .map(|row| {
            Ok(StoredKeys {
                mechanism: row.try_get("mechanism")?,
                salt: row.try_get("salt")?,
                iterations: row.try_get("iterations")?,
                stored_key: row.try_get("stored_key")?,
                server_key: row.try_get("server_key")?,
            })
        })
        .collect::<Result<_, sqlx::Error>>()
        .map_err(failed(action))
}

async fn insert_keys(
    connection: &mut SqliteConnection,
    account: i64,
    keys: &[StoredKeys],
    action: &'static str,
) -> Result<(), StoreError> {
    for key in keys {
        sqlx::query(
            "INSERT INTO scram_keys
                 (account_id, mechanism, salt, iterations, stored_key, server_key)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(account)
        .bind(&key.mechanism)
        .bind(&key.salt)
        .bind(key.iterations)
        .bind(&key.stored_key)
        .bind(&key.server_key)
        .execute(&mut *connection)
        .await
        .map_err(failed(action))?;
    }
    Ok(())
}

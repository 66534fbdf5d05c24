use std::fmt;

use gatehouse_types::Jid;
use sqlx::Row;

use crate::accounts::AccountVersion;
use crate::database::{commit, key};
use crate::error::failed;
use crate::{Store, StoreError};

/// Installations of clients that have tokens of one account; the one whose token expires first makes
/// room.
const CLIENTS_MAX: i64 = 20;

/// A token of one installation of a client (XEP-0484).
#[derive(Clone, Eq, PartialEq)]
pub struct FastToken {
    /// What the client has, too.
    pub token: String,
    /// It was given out while another one was in use, and nobody logged in with it yet.
    pub is_fresh: bool,
    /// Unix milliseconds.
    pub expires_ms: i64,
}

impl fmt::Debug for FastToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastToken")
            .field("is_fresh", &self.is_fresh)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

/// What a log-in with a token is checked against, all of one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FastTokens {
    /// Whose tokens these are.
    pub version: AccountVersion,
    /// The one in use and the fresh one, as far as they are there and good.
    pub tokens: Vec<FastToken>,
}

impl Store {
    /// The tokens of installation `client` that are good for `mechanism` at `now_ms`; `None` if there
    /// is no such account. A token from before the account got other keys is not good.
    pub async fn fast_tokens(
        &self,
        account: &Jid,
        client: &str,
        mechanism: &str,
        now_ms: i64,
    ) -> Result<Option<FastTokens>, StoreError> {
        const ACTION: &str = "reading the tokens of an account";
        let mut transaction = self.read(ACTION).await?;
        let rows = sqlx::query(
            "SELECT id, accounts.generation, token, slot, expires_ms
             FROM accounts LEFT JOIN fast_tokens
                 ON account_id = id AND fast_tokens.generation = accounts.generation
                 AND client = $2 AND mechanism = $3 AND expires_ms > $4
             WHERE jid = $1 ORDER BY slot",
        )
        .bind(key(account))
        .bind(client)
        .bind(mechanism)
        .bind(now_ms)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        let mut found = None;
        for row in &rows {
            let read = || -> Result<_, sqlx::Error> {
                let version = AccountVersion { id: row.try_get(0)?, generation: row.try_get(1)? };
                let token: Option<String> = row.try_get(2)?;
                let Some(token) = token else { return Ok((version, None)) };
                let is_fresh = row.try_get::<i64, _>(3)? == 1;
                Ok((version, Some(FastToken { token, is_fresh, expires_ms: row.try_get(4)? })))
            };
            let (version, token) = read().map_err(failed(ACTION))?;
            found.get_or_insert(FastTokens { version, tokens: Vec::new() }).tokens.extend(token);
        }
        Ok(found)
    }

    /// Somebody logged in with the fresh token of `client`: from now on it is the one in use.
    pub async fn use_fresh_token(
        &self,
        version: AccountVersion,
        client: &str,
    ) -> Result<(), StoreError> {
        const ACTION: &str = "replacing a token";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        sqlx::query(
            "DELETE FROM fast_tokens WHERE account_id = $1 AND client = $2 AND slot = 0
                 AND EXISTS (SELECT 1 FROM fast_tokens
                     WHERE account_id = $1 AND client = $2 AND slot = 1)",
        )
        .bind(version.id)
        .bind(client)
        .execute(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        sqlx::query(
            "UPDATE fast_tokens SET slot = 0 WHERE account_id = $1 AND client = $2 AND slot = 1",
        )
        .bind(version.id)
        .bind(client)
        .execute(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        commit(transaction, ACTION).await
    }

    /// Takes all tokens of `client` away.
    pub async fn remove_tokens(
        &self,
        version: AccountVersion,
        client: &str,
    ) -> Result<(), StoreError> {
        const ACTION: &str = "removing tokens";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        sqlx::query("DELETE FROM fast_tokens WHERE account_id = $1 AND client = $2")
            .bind(version.id)
            .bind(client)
            .execute(&mut *transaction)
            .await
            .map_err(failed(ACTION))?;
        commit(transaction, ACTION).await
    }

    /// Keeps a fresh token of `client` beside the one in use. False if the account is gone or has
    /// other keys by now. What has expired at `now_ms` is forgotten.
    pub async fn add_token(
        &self,
        version: AccountVersion,
        client: &str,
        mechanism: &str,
        token: &FastToken,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        const ACTION: &str = "storing a token";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        sqlx::query(
            "DELETE FROM fast_tokens WHERE account_id = $1 AND (expires_ms <= $2 OR generation <> $3)",
        )
        .bind(version.id)
        .bind(now_ms)
        .bind(version.generation)
        .execute(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        let added = sqlx::query(
            "INSERT INTO fast_tokens
                 (account_id, client, slot, mechanism, token, generation, expires_ms)
             SELECT id, $2, 1, $3, $4, generation, $5 FROM accounts
                 WHERE id = $1 AND generation = $6
             ON CONFLICT (account_id, client, slot) DO UPDATE SET
                 mechanism = excluded.mechanism, token = excluded.token,
                 generation = excluded.generation, expires_ms = excluded.expires_ms",
        )
        .bind(version.id)
        .bind(client)
        .bind(mechanism)
        .bind(&token.token)
        .bind(token.expires_ms)
        .bind(version.generation)
        .execute(&mut *transaction)
        .await
        .map_err(failed(ACTION))?
        .rows_affected();
        sqlx::query(
            "DELETE FROM fast_tokens WHERE account_id = $1 AND client NOT IN
                 (SELECT client FROM fast_tokens WHERE account_id = $1
                  GROUP BY client ORDER BY client = $3 DESC, MAX(expires_ms) DESC LIMIT $2)",
        )
        .bind(version.id)
        .bind(CLIENTS_MAX)
        .bind(client)
        .execute(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        commit(transaction, ACTION).await?;
        Ok(added > 0)
    }
}

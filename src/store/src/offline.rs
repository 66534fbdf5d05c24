use gatehouse_types::Jid;
use sqlx::Row;

use crate::database::{account_id, commit, from_sql, key};
use crate::error::failed;
use crate::{Store, StoreError};

/// One message that waits for its user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OfflineMessage {
    /// Its key, ascending in order of arrival.
    pub id: i64,
    /// When it came, Unix milliseconds.
    pub received_ms: i64,
    /// The stanza, serialised, without delay stamp.
    pub stanza: String,
}

/// Caps on offline messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OfflineLimits {
    /// For one account.
    pub per_account: u64,
    /// For the whole node.
    pub per_node: u64,
}

impl Default for OfflineLimits {
    fn default() -> Self {
        Self { per_account: 100, per_node: 30_000 }
    }
}

impl Store {
    /// Keeps a message for an offline account, unless a cap is reached ([`StoreError::Full`]).
    ///
    /// # Errors
    ///
    /// [`StoreError::NoAccount`], [`StoreError::Full`] (the account's cap is looked at first).
    pub async fn push_offline(
        &self,
        account: &Jid,
        received_ms: i64,
        stanza: &str,
        limits: OfflineLimits,
    ) -> Result<(), StoreError> {
        const ACTION: &str = "storing an offline message";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let id = account_id(&mut transaction, account, ACTION).await?;
        let of_account: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM offline_messages WHERE account_id = $1")
                .bind(id)
                .fetch_one(&mut *transaction)
                .await
                .map_err(failed(ACTION))?;
        if from_sql(of_account) >= limits.per_account {
            return Err(StoreError::Full {
                what: "the account's offline storage",
                limit: limits.per_account,
            });
        }
        // Counts a small index. With 30 000 messages that is far less than the wait for the disk,
        // and unlike a counter it cannot drift.
        let of_node: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM offline_messages")
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed(ACTION))?;
        if from_sql(of_node) >= limits.per_node {
            return Err(StoreError::Full {
                what: "the node's offline storage",
                limit: limits.per_node,
            });
        }
        sqlx::query(
            "INSERT INTO offline_messages (account_id, received_ms, stanza) VALUES ($1, $2, $3)",
        )
        .bind(id)
        .bind(received_ms)
        .bind(stanza)
        .execute(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        commit(transaction, ACTION).await
    }

    /// The waiting messages, oldest first. They stay until removed.
    pub async fn offline(&self, account: &Jid) -> Result<Vec<OfflineMessage>, StoreError> {
        const ACTION: &str = "reading offline messages";
        let mut transaction = self.read(ACTION).await?;
        let rows = sqlx::query(
            "SELECT offline_messages.id, received_ms, stanza
             FROM offline_messages JOIN accounts ON accounts.id = account_id
             WHERE jid = $1 ORDER BY offline_messages.id",
        )
        .bind(key(account))
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        rows.iter()
            .map(|row| {
                Ok(OfflineMessage {
                    id: row.try_get("id")?,
                    received_ms: row.try_get("received_ms")?,
                    stanza: row.try_get("stanza")?,
                })
            })
            .collect::<Result<_, sqlx::Error>>()
            .map_err(failed(ACTION))
    }

    /// Removes the waiting messages up to and including `up_to`.
    pub async fn remove_offline(&self, account: &Jid, up_to: i64) -> Result<(), StoreError> {
        const ACTION: &str = "removing offline messages";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        sqlx::query(
            "DELETE FROM offline_messages
             WHERE account_id = (SELECT id FROM accounts WHERE jid = $1) AND id <= $2",
        )
        .bind(key(account))
        .bind(up_to)
        .execute(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        commit(transaction, ACTION).await
    }

    /// Removes one waiting message.
    pub async fn remove_one_offline(&self, account: &Jid, id: i64) -> Result<(), StoreError> {
        const ACTION: &str = "removing an offline message";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        sqlx::query(
            "DELETE FROM offline_messages
             WHERE account_id = (SELECT id FROM accounts WHERE jid = $1) AND id = $2",
        )
        .bind(key(account))
        .bind(id)
        .execute(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        commit(transaction, ACTION).await
    }
}

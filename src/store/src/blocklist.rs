use gatehouse_types::Jid;

use crate::database::{account_id, commit, find_account, key, stored_jid};
use crate::error::failed;
use crate::{Store, StoreError};

impl Store {
    /// The block list of an account (XEP-0191): full, bare, or domain addresses, sorted.
    pub async fn blocked(&self, account: &Jid) -> Result<Vec<Jid>, StoreError> {
        const ACTION: &str = "reading a block list";
        let mut transaction = self.read(ACTION).await?;
        let rows: Vec<String> = sqlx::query_scalar(
            "SELECT blocked.jid FROM blocked JOIN accounts ON accounts.id = account_id
             WHERE accounts.jid = $1",
        )
        .bind(key(account))
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        let mut blocked =
            rows.iter().map(|text| stored_jid(text, ACTION)).collect::<Result<Vec<_>, _>>()?;
        blocked.sort();
        Ok(blocked)
    }

    /// Adds to the block list, all or nothing. What is there already stays.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoAccount`].
    pub async fn block(&self, account: &Jid, jids: &[Jid]) -> Result<(), StoreError> {
        const ACTION: &str = "adding to a block list";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let id = account_id(&mut transaction, account, ACTION).await?;
        for jid in jids {
            sqlx::query(
                "INSERT INTO blocked (account_id, jid) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            )
            .bind(id)
            .bind(jid.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(failed(ACTION))?;
        }
        commit(transaction, ACTION).await
    }

    /// Removes from the block list, all or nothing; an empty list empties it.
    pub async fn unblock(&self, account: &Jid, jids: &[Jid]) -> Result<(), StoreError> {
        const ACTION: &str = "removing from a block list";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let Some(id) = find_account(&mut transaction, account, ACTION).await? else {
            return Ok(());
        };
        if jids.is_empty() {
            sqlx::query("DELETE FROM blocked WHERE account_id = $1")
                .bind(id)
                .execute(&mut *transaction)
                .await
                .map_err(failed(ACTION))?;
        }
        for jid in jids {
            sqlx::query("DELETE FROM blocked WHERE account_id = $1 AND jid = $2")
                .bind(id)
                .bind(jid.to_string())
                .execute(&mut *transaction)
                .await
                .map_err(failed(ACTION))?;
        }
        commit(transaction, ACTION).await
    }
}

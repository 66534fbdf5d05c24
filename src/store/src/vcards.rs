use gatehouse_types::Jid;

use crate::database::{account_id, commit, key};
use crate::error::failed;
use crate::{Store, StoreError};

impl Store {
    /// The vCard of an account, serialised.
    pub async fn vcard(&self, account: &Jid) -> Result<Option<String>, StoreError> {
        const ACTION: &str = "reading a vCard";
        let mut transaction = self.read(ACTION).await?;
        sqlx::query_scalar(
            "SELECT vcard FROM vcards JOIN accounts ON accounts.id = account_id WHERE jid = $1",
        )
        .bind(key(account))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed(ACTION))
    }

    /// Writes the vCard of an account.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoAccount`].
    pub async fn set_vcard(&self, account: &Jid, vcard: &str) -> Result<(), StoreError> {
        const ACTION: &str = "storing a vCard";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let id = account_id(&mut transaction, account, ACTION).await?;
        sqlx::query(
            "INSERT INTO vcards (account_id, vcard) VALUES ($1, $2)
             ON CONFLICT (account_id) DO UPDATE SET vcard = excluded.vcard",
        )
        .bind(id)
        .bind(vcard)
        .execute(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        commit(transaction, ACTION).await
    }
}

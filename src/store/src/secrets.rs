use crate::database::commit;
use crate::error::failed;
use crate::{Store, StoreError};

impl Store {
    /// A random secret of 32 bytes that is made at the first call and stays: `fresh` is kept if
    /// there is none of that `name` yet, else the one that is there is returned.
    pub async fn secret(&self, name: &str, fresh: [u8; 32]) -> Result<Vec<u8>, StoreError> {
        const ACTION: &str = "reading a secret";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        sqlx::query("INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(name)
            .bind(fresh.as_slice())
            .execute(&mut *transaction)
            .await
            .map_err(failed(ACTION))?;
        let secret = sqlx::query_scalar("SELECT value FROM secrets WHERE name = $1")
            .bind(name)
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed(ACTION))?;
        commit(transaction, ACTION).await?;
        Ok(secret)
    }
}

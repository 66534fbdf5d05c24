use crate::database::commit;
use crate::error::failed;
use crate::{Store, StoreError};

/// A SIP subscription in the gateway's own form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SipRecord {
    /// Its name.
    pub key: String,
    /// Its state.
    pub value: Vec<u8>,
    /// When its time is over, in Unix milliseconds.
    pub expires_ms: i64,
}

/// The name of a record with its new value and when its time is over (Unix milliseconds), or with
/// nothing to take it away.
pub type SipChange = (String, Option<(Vec<u8>, i64)>);

impl Store {
    /// Every SIP subscription, also those whose time is over: what that means is the gateway's to
    /// say.
    pub async fn sip_records(&self) -> Result<Vec<SipRecord>, StoreError> {
        const ACTION: &str = "reading SIP subscriptions";
        let mut transaction = self.read(ACTION).await?;
        let rows: Vec<(String, Vec<u8>, i64)> =
            sqlx::query_as("SELECT key, value, expires_ms FROM sip_records ORDER BY key")
                .fetch_all(&mut *transaction)
                .await
                .map_err(failed(ACTION))?;
        let record = |(key, value, expires_ms)| SipRecord { key, value, expires_ms };
        Ok(rows.into_iter().map(record).collect())
    }

    /// Writes and takes away SIP subscriptions, all or none. `None` takes one away; it may not be
    /// there.
    pub async fn change_sip_records(&self, changes: &[SipChange]) -> Result<(), StoreError> {
        const ACTION: &str = "storing SIP subscriptions";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        for (key, change) in changes {
            let query = match change {
                None => sqlx::query("DELETE FROM sip_records WHERE key = $1").bind(key),
                Some((value, expires_ms)) => sqlx::query(
                    "INSERT INTO sip_records (key, value, expires_ms) VALUES ($1, $2, $3)
                     ON CONFLICT (key) DO UPDATE
                     SET value = excluded.value, expires_ms = excluded.expires_ms",
                )
                .bind(key)
                .bind(value)
                .bind(expires_ms),
            };
            query.execute(&mut *transaction).await.map_err(failed(ACTION))?;
        }
        commit(transaction, ACTION).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn subscriptions_come_back_as_they_were_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let store = Store::open(&path).await.unwrap();
        let put =
            |key: &str, value: &[u8], expires| (key.to_owned(), Some((value.to_vec(), expires)));
        store
            .change_sip_records(&[put("a", b"1", 100), put("b", b"2", 200), put("c", b"3", 300)])
            .await
            .unwrap();
        store.change_sip_records(&[put("b", b"new", 250), ("c".to_owned(), None)]).await.unwrap();
        store.change_sip_records(&[("nobody".to_owned(), None)]).await.unwrap();
        store.close().await;
        let store = Store::open(&path).await.unwrap();
        let records = store.sip_records().await.unwrap();
        let texts: Vec<String> = records
            .into_iter()
            .map(|record| {
                let value = String::from_utf8(record.value).unwrap();
                format!("{}={value} until {}", record.key, record.expires_ms)
            })
            .collect();
        assert_eq!(texts, ["a=1 until 100", "b=new until 250"]);
    }
}

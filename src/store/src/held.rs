use gatehouse_types::Jid;
use sqlx::SqliteConnection;

use crate::database::{commit, from_sql, key};
use crate::error::failed;
use crate::{Store, StoreError};

/// Messages of sessions that are held at a time.
const HELD_MAX: u64 = 100_000;
/// Of one account: nobody may use up the room of all.
const HELD_PER_ACCOUNT_MAX: u64 = 5_000;

const HOLDING: &str = "holding messages for clients that are away";

impl Store {
    /// Holds messages, serialised, for `account` while a session tries to get them to its client. Gives
    /// their keys, in the order of `stanzas`; none if there is no such account.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] if the node or the account holds too many; then none of these is held.
    pub async fn hold(
        &self,
        account: &Jid,
        received_ms: i64,
        stanzas: &[String],
    ) -> Result<Vec<i64>, StoreError> {
        let mut held = self.hold_all(received_ms, &[(account, stanzas)]).await?;
        held.pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// The same for several accounts at once: what one has too much of is not held, and that of the
    /// others is.
    ///
    /// # Errors
    ///
    /// The store failed, and nothing is held.
    pub async fn hold_all(
        &self,
        received_ms: i64,
        of: &[(&Jid, &[String])],
    ) -> Result<Vec<Result<Vec<i64>, StoreError>>, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(HOLDING).await?;
        let held: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM held_messages")
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed(HOLDING))?;
        let mut total = from_sql(held);
        let mut outcomes = Vec::with_capacity(of.len());
        for (account, stanzas) in of {
            let sum = total.saturating_add(stanzas.len() as u64);
            if sum > HELD_MAX {
                let what = "the storage for clients that are away";
                outcomes.push(Err(StoreError::Full { what, limit: HELD_MAX }));
                continue;
            }
            let outcome = hold_one(&mut transaction, account, received_ms, stanzas).await?;
            if outcome.is_ok() {
                total = sum;
            }
            outcomes.push(outcome);
        }
        commit(transaction, HOLDING).await?;
        Ok(outcomes)
    }

    /// Forgets held messages: their clients have them, or something else answers for them.
    pub async fn let_go(&self, held: &[i64]) -> Result<(), StoreError> {
        const ACTION: &str = "removing messages that were held";
        let held = serde_json::to_string(held).map_err(failed(ACTION))?;
        let statement =
            sqlx::query("DELETE FROM held_messages WHERE id IN (SELECT value FROM json_each($1))");
        self.writer().await.execute(statement.bind(held), ACTION).await
    }

    /// Makes offline messages of all that is held, and tells how many they are. Only for a core that
    /// starts: nobody else may hold any then. The caps on offline messages do not count here, for
    /// the authors were told that these are safe.
    pub async fn recover_held(&self) -> Result<u64, StoreError> {
        const ACTION: &str = "storing messages that were held when the core was killed";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let moved = sqlx::query(
            "INSERT INTO offline_messages (account_id, received_ms, stanza)
             SELECT account_id, received_ms, stanza FROM held_messages ORDER BY id",
        )
        .execute(&mut *transaction)
        .await
        .map_err(failed(ACTION))?
        .rows_affected();
        sqlx::query("DELETE FROM held_messages")
            .execute(&mut *transaction)
            .await
            .map_err(failed(ACTION))?;
        commit(transaction, ACTION).await?;
        Ok(moved)
    }
}

/// Fails if the store does; gives [`StoreError::Full`] if the account has too many.
async fn hold_one(
    connection: &mut SqliteConnection,
    account: &Jid,
    received_ms: i64,
    stanzas: &[String],
) -> Result<Result<Vec<i64>, StoreError>, StoreError> {
    let held: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM held_messages JOIN accounts ON accounts.id = account_id
         WHERE jid = $1",
    )
    .bind(key(account))
    .fetch_one(&mut *connection)
    .await
    .map_err(failed(HOLDING))?;
    if from_sql(held).saturating_add(stanzas.len() as u64) > HELD_PER_ACCOUNT_MAX {
        return Ok(Err(StoreError::Full {
            what: "the account's storage for clients that are away",
            limit: HELD_PER_ACCOUNT_MAX,
        }));
    }
    let mut ids = Vec::with_capacity(stanzas.len());
    for stanza in stanzas {
        let id: Option<i64> = sqlx::query_scalar(
            "INSERT INTO held_messages (account_id, received_ms, stanza)
             SELECT id, $2, $3 FROM accounts WHERE jid = $1 RETURNING id",
        )
        .bind(key(account))
        .bind(received_ms)
        .bind(stanza)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(HOLDING))?;
        ids.extend(id);
    }
    Ok(Ok(ids))
}

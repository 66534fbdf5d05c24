use std::collections::HashMap;
use std::collections::hash_map::Entry;

use gatehouse_types::{Domain, Jid};
use sqlx::query::QueryAs;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqliteConnection};

use crate::database::{commit, find_account, from_sql, to_sql};
use crate::error::failed;
use crate::{Store, StoreError};

/// A message on its way to a SIP partner, to be stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewOutgoing {
    /// Its author, an account of ours.
    pub account: Jid,
    /// The partner's domain.
    pub domain: Domain,
    /// When it came, Unix milliseconds.
    pub received_ms: i64,
    /// The stanza, serialised, with both addresses.
    pub stanza: String,
}

/// A message on its way to a SIP partner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutgoingMessage {
    /// Its key, ascending in order of arrival.
    pub id: i64,
    /// When it came, Unix milliseconds.
    pub received_ms: i64,
    /// The stanza, serialised, with both addresses.
    pub stanza: String,
}

/// Caps on messages that wait for SIP partners: how many, and how many bytes they have together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutgoingLimits {
    /// Of one account.
    pub per_account: (u64, u64),
    /// To one partner: it may be silent, and others are not.
    pub per_domain: (u64, u64),
    /// On the whole node.
    pub per_node: (u64, u64),
}

impl Default for OutgoingLimits {
    fn default() -> Self {
        Self {
            per_account: (5_000, 16 << 20),
            per_domain: (25_000, 64 << 20),
            per_node: (100_000, 256 << 20),
        }
    }
}

impl Store {
    /// Stores messages on their way to SIP partners, in this order. Gives for each its key, or why it
    /// is not stored: [`StoreError::NoAccount`], or [`StoreError::Full`] if a cap is reached.
    ///
    /// # Errors
    ///
    /// None of them is stored.
    pub async fn push_outgoing(
        &self,
        messages: &[NewOutgoing],
        limits: OutgoingLimits,
    ) -> Result<Vec<Result<i64, StoreError>>, StoreError> {
        const ACTION: &str = "storing messages to SIP partners";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut stored = Stored::default();
        for message in messages {
            let outcome = push(&mut transaction, message, &mut stored, limits).await;
            match outcome {
                Ok(_) | Err(StoreError::NoAccount(_) | StoreError::Full { .. }) => {
                    outcomes.push(outcome);
                }
                Err(failure) => return Err(failure),
            }
        }
        commit(transaction, ACTION).await?;
        Ok(outcomes)
    }

    /// The messages with keys above `after`, oldest first, `count_max` at most.
    pub async fn outgoing(
        &self,
        after: i64,
        count_max: u32,
    ) -> Result<Vec<OutgoingMessage>, StoreError> {
        const ACTION: &str = "reading messages to SIP partners";
        let mut transaction = self.read(ACTION).await?;
        let rows: Vec<(i64, i64, String)> = sqlx::query_as(
            "SELECT id, received_ms, stanza FROM outgoing_messages WHERE id > $1
             ORDER BY id LIMIT $2",
        )
        .bind(after)
        .bind(count_max)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        let message = |(id, received_ms, stanza)| OutgoingMessage { id, received_ms, stanza };
        Ok(rows.into_iter().map(message).collect())
    }

    /// Forgets messages to SIP partners: they were answered, or their authors know why not.
    pub async fn remove_outgoing(&self, ids: &[i64]) -> Result<(), StoreError> {
        const ACTION: &str = "removing messages to SIP partners";
        let ids = serde_json::to_string(ids).map_err(failed(ACTION))?;
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        sqlx::query("DELETE FROM outgoing_messages WHERE id IN (SELECT value FROM json_each($1))")
            .bind(ids)
            .execute(&mut *transaction)
            .await
            .map_err(failed(ACTION))?;
        commit(transaction, ACTION).await
    }
}

/// How many there are, and how many bytes they have together.
#[derive(Clone, Copy, Debug)]
struct Sum {
    count: u64,
    bytes: u64,
}

impl Sum {
    /// Whether another one of `bytes` is too much; then the cap that is reached.
    fn is_full(self, bytes: u64, (count_max, bytes_max): (u64, u64)) -> Option<u64> {
        if self.count >= count_max {
            return Some(count_max);
        }
        (self.bytes.saturating_add(bytes) > bytes_max).then_some(bytes_max)
    }

    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What is stored, looked up once for each account and domain in a transaction: a count cannot drift, and
/// unless partners are silent there is little to count.
#[derive(Debug, Default)]
struct Stored {
    of_accounts: HashMap<i64, Sum>,
    of_domains: HashMap<Domain, Sum>,
    of_node: Option<Sum>,
}

const ACTION: &str = "storing a message to a SIP partner";

async fn push(
    connection: &mut SqliteConnection,
    message: &NewOutgoing,
    stored: &mut Stored,
    limits: OutgoingLimits,
) -> Result<i64, StoreError> {
    let Some(account) = find_account(connection, &message.account, ACTION).await? else {
        return Err(StoreError::NoAccount(message.account.to_bare()));
    };
    let bytes = message.stanza.len() as u64;
    let domain = message.domain.as_str();
    let of_account = match stored.of_accounts.entry(account) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => {
            let query = sqlx::query_as(
                "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM outgoing_messages
                 WHERE account_id = $1",
            );
            new.insert(sum(query.bind(account), connection).await?)
        }
    };
    let of_domain = match stored.of_domains.entry(message.domain.clone()) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => {
            let query = sqlx::query_as(
                "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM outgoing_messages WHERE domain = $1",
            );
            new.insert(sum(query.bind(domain), connection).await?)
        }
    };
    let of_node = match &mut stored.of_node {
        Some(known) => known,
        new => {
            let query =
                sqlx::query_as("SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM outgoing_messages");
            new.insert(sum(query, connection).await?)
        }
    };
    let counts = [
        (of_account, limits.per_account, "the account's storage for messages to SIP partners"),
        (of_domain, limits.per_domain, "the storage for messages to this SIP partner"),
        (of_node, limits.per_node, "the storage for messages to SIP partners"),
    ];
    for (sum, most, what) in &counts {
        if let Some(limit) = sum.is_full(bytes, *most) {
            return Err(StoreError::Full { what, limit });
        }
    }
    for (sum, ..) in counts {
        sum.add(bytes);
    }
    sqlx::query_scalar(
        "INSERT INTO outgoing_messages (account_id, domain, received_ms, bytes, stanza)
         VALUES ($1, $2, $3, $4, $5) RETURNING id",
    )
    .bind(account)
    .bind(domain)
    .bind(message.received_ms)
    .bind(to_sql(bytes))
    .bind(&message.stanza)
    .fetch_one(connection)
    .await
    .map_err(failed(ACTION))
}

async fn sum(
    query: QueryAs<'_, Sqlite, (i64, i64), SqliteArguments>,
    connection: &mut SqliteConnection,
) -> Result<Sum, StoreError> {
    let (count, bytes) = query.fetch_one(connection).await.map_err(failed(ACTION))?;
    Ok(Sum { count: from_sql(count), bytes: from_sql(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OutgoingLimits =
        OutgoingLimits { per_account: (3, 100), per_domain: (4, 100), per_node: (5, 100) };

    fn message(name: &str, domain: &str, stanza: &str) -> NewOutgoing {
        NewOutgoing {
            account: format!("{name}@ours.example/desk").parse().unwrap(),
            domain: domain.parse().unwrap(),
            received_ms: 7,
            stanza: stanza.to_owned(),
        }
    }

    async fn store(path: &std::path::Path) -> Store {
        let store = Store::open(path).await.unwrap();
        for name in ["a", "b", "c"] {
            let account = format!("{name}@ours.example").parse().unwrap();
            store.add_account(&account, &[]).await.unwrap();
        }
        store
    }

    async fn stanzas(store: &Store) -> String {
        let found = store.outgoing(0, 100).await.unwrap();
        found.into_iter().map(|message| message.stanza).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn what_is_not_done_is_found_in_order_and_what_is_done_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let store = store(&path).await;
        let new = ["1", "2", "3"].map(|text| message("a", "x.example", text));
        let ids: Vec<i64> = store
            .push_outgoing(&new, LIMITS)
            .await
            .unwrap()
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap();
        assert!(ids.is_sorted());
        store.remove_outgoing(&[ids[1], 999]).await.unwrap();
        store.close().await;
        let store = Store::open(&path).await.unwrap();
        assert_eq!(stanzas(&store).await, "1 3");
        // In pages, too.
        let first = store.outgoing(0, 1).await.unwrap().remove(0);
        assert_eq!((first.id, first.received_ms, first.stanza.as_str()), (ids[0], 7, "1"));
        assert_eq!(store.outgoing(first.id, 1).await.unwrap()[0].stanza, "3");
        assert!(store.outgoing(ids[2], 1).await.unwrap().is_empty());
        // Who is gone sends nothing any more.
        store.remove_account(&"a@ours.example".parse().unwrap()).await.unwrap();
        assert_eq!(stanzas(&store).await, "");
    }

    #[tokio::test]
    async fn each_cap_holds_and_refuses_no_other_message() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir.path().join("store.db")).await;
        let new = [
            message("nobody", "x.example", "never"),
            message("a", "x.example", "1"),
            message("a", "x.example", "2"),
            message("a", "y.example", "3"),
            message("a", "y.example", "the account's cap"),
            message("b", "x.example", "4"),
            message("b", "x.example", "5"),
            message("c", "x.example", "the partner's cap"),
            message("c", "y.example", "the node's cap"),
        ];
        let outcomes = store.push_outgoing(&new, LIMITS).await.unwrap();
        let said: Vec<String> = outcomes
            .into_iter()
            .filter_map(|outcome| outcome.err().map(|error| error.to_string()))
            .collect();
        assert_eq!(
            said,
            [
                "there is no account nobody@ours.example",
                "the account's storage for messages to SIP partners is full: 3 at most",
                "the storage for messages to this SIP partner is full: 4 at most",
                "the storage for messages to SIP partners is full: 5 at most",
            ]
        );
        assert_eq!(stanzas(&store).await, "1 2 3 4 5");
    }

    #[tokio::test]
    async fn bytes_count_too() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir.path().join("store.db")).await;
        let (long, short) = ("x".repeat(99), "y");
        let new = [
            message("a", "x.example", &long),
            message("a", "y.example", "zz"),
            message("a", "y.example", short),
        ];
        let outcomes = store.push_outgoing(&new, LIMITS).await.unwrap();
        assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
        assert!(matches!(outcomes[1], Err(StoreError::Full { limit: 100, .. })));
        assert_eq!(stanzas(&store).await, format!("{long} {short}"));
    }
}

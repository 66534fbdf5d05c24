use std::collections::{BTreeSet, HashMap};

use gatehouse_types::{Domain, Jid};
use sqlx::SqliteConnection;

use crate::database::{commit, from_sql, key, to_sql};
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
    /// Stores messages on their way to SIP partners, in this order, and forgets those that are
    /// `answered` by now: one commit for both. Gives for each new one its key, or why it is not stored:
    /// [`StoreError::NoAccount`], or [`StoreError::Full`] if a cap is reached.
    ///
    /// # Errors
    ///
    /// None of them is stored, and none is forgotten.
    pub async fn push_outgoing(
        &self,
        messages: &[NewOutgoing],
        answered: &[i64],
        limits: OutgoingLimits,
    ) -> Result<Vec<Result<i64, StoreError>>, StoreError> {
        const ACTION: &str = "storing messages to SIP partners";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        if !answered.is_empty() {
            let keys = serde_json::to_string(answered).map_err(failed(ACTION))?;
            sqlx::query(REMOVE)
                .bind(keys)
                .execute(&mut *transaction)
                .await
                .map_err(failed(ACTION))?;
        }
        let mut stored = Stored::look_up(&mut transaction, messages, ACTION).await?;
        let admitted: Vec<Result<i64, StoreError>> =
            messages.iter().map(|message| stored.admit(message, limits)).collect();
        let row = |(message, account)| Some(row(message, *Result::as_ref(account).ok()?));
        let rows: Vec<Row<'_>> = messages.iter().zip(&admitted).filter_map(row).collect();
        let mut ids = insert(&mut transaction, &rows, ACTION).await?.into_iter();
        commit(transaction, ACTION).await?;
        let key = |account: Result<i64, StoreError>| {
            account.and_then(|_| ids.next().ok_or(sqlx::Error::RowNotFound).map_err(failed(ACTION)))
        };
        Ok(admitted.into_iter().map(key).collect())
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
        let statement = sqlx::query(REMOVE).bind(ids);
        self.writer().await.execute(statement, ACTION).await
    }
}

const REMOVE: &str = "DELETE FROM outgoing_messages WHERE id IN (SELECT value FROM json_each($1))";

/// How many there are, and how many bytes they have together.
#[derive(Clone, Copy, Debug, Default)]
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

/// What is stored of the accounts and domains of some messages, looked up in each transaction: a count
/// cannot drift, and unless partners are silent there is little to count.
#[derive(Debug, Default)]
struct Stored {
    /// By address, with the account's key.
    of_accounts: HashMap<String, (i64, Sum)>,
    of_domains: HashMap<String, Sum>,
    of_node: Sum,
}

/// What a row of [`LOOK_UP`] is about.
const ACCOUNT: i64 = 0;
const DOMAIN: i64 = 1;

const LOOK_UP: &str = "
    SELECT 0, jid, accounts.id, COUNT(outgoing_messages.id), COALESCE(SUM(bytes), 0)
        FROM accounts LEFT JOIN outgoing_messages ON account_id = accounts.id
        WHERE jid IN (SELECT value FROM json_each($1)) GROUP BY accounts.id
    UNION ALL
    SELECT 1, domain, 0, COUNT(*), SUM(bytes)
        FROM outgoing_messages WHERE domain IN (SELECT value FROM json_each($2)) GROUP BY domain
    UNION ALL
    SELECT 2, '', 0, COUNT(*), COALESCE(SUM(bytes), 0) FROM outgoing_messages";

impl Stored {
    async fn look_up(
        connection: &mut SqliteConnection,
        messages: &[NewOutgoing],
        action: &'static str,
    ) -> Result<Self, StoreError> {
        let accounts: BTreeSet<String> =
            messages.iter().map(|message| key(&message.account)).collect();
        let domains: BTreeSet<&str> =
            messages.iter().map(|message| message.domain.as_str()).collect();
        let rows: Vec<(i64, String, i64, i64, i64)> = sqlx::query_as(LOOK_UP)
            .bind(serde_json::to_string(&accounts).map_err(failed(action))?)
            .bind(serde_json::to_string(&domains).map_err(failed(action))?)
            .fetch_all(connection)
            .await
            .map_err(failed(action))?;
        let mut stored = Self::default();
        for (what, name, id, count, bytes) in rows {
            let sum = Sum { count: from_sql(count), bytes: from_sql(bytes) };
            match what {
                ACCOUNT => drop(stored.of_accounts.insert(name, (id, sum))),
                DOMAIN => drop(stored.of_domains.insert(name, sum)),
                _ => stored.of_node = sum,
            }
        }
        Ok(stored)
    }

    /// Counts one more; gives the key of its account, or why there is no room.
    fn admit(&mut self, message: &NewOutgoing, limits: OutgoingLimits) -> Result<i64, StoreError> {
        let account = self.of_accounts.get_mut(&key(&message.account));
        let Some((account, of_account)) = account else {
            return Err(StoreError::NoAccount(message.account.to_bare()));
        };
        let bytes = message.stanza.len() as u64;
        let of_domain = self.of_domains.entry(message.domain.as_str().to_owned()).or_default();
        let counts = [
            (of_account, limits.per_account, "the account's storage for messages to SIP partners"),
            (of_domain, limits.per_domain, "the storage for messages to this SIP partner"),
            (&mut self.of_node, limits.per_node, "the storage for messages to SIP partners"),
        ];
        for (sum, most, what) in &counts {
            if let Some(limit) = sum.is_full(bytes, *most) {
                return Err(StoreError::Full { what, limit });
            }
        }
        for (sum, ..) in counts {
            sum.add(bytes);
        }
        Ok(*account)
    }
}

/// Account, domain, time, bytes, stanza.
type Row<'a> = (i64, &'a str, i64, i64, &'a str);

fn row(message: &NewOutgoing, account: i64) -> Row<'_> {
    let NewOutgoing { domain, received_ms, stanza, .. } = message;
    (account, domain.as_str(), *received_ms, to_sql(stanza.len() as u64), stanza)
}

/// Gives their keys, in the order of `rows`. One statement for all of them, for each is a wake-up of SQLite's
/// thread, and of ours.
async fn insert(
    connection: &mut SqliteConnection,
    rows: &[Row<'_>],
    action: &'static str,
) -> Result<Vec<i64>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let json = serde_json::to_string(rows).map_err(failed(action))?;
    let mut ids: Vec<i64> = sqlx::query_scalar(
        "INSERT INTO outgoing_messages (account_id, domain, received_ms, bytes, stanza)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4
         FROM json_each($1) ORDER BY key RETURNING id",
    )
    .bind(json)
    .fetch_all(connection)
    .await
    .map_err(failed(action))?;
    // They ascend in the order in which rows go in; that of RETURNING is not promised.
    ids.sort_unstable();
    if ids.len() == rows.len() { Ok(ids) } else { Err(failed(action)(sqlx::Error::RowNotFound)) }
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
            .push_outgoing(&new, &[], LIMITS)
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
        let outcomes = store.push_outgoing(&new, &[], LIMITS).await.unwrap();
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

    /// Their text goes into the store and comes out again as it is, whatever stands in it.
    #[tokio::test]
    async fn each_key_is_that_of_its_message() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir.path().join("store.db")).await;
        let texts = ["<a b='\"\\'/>", "[0,\"x\"]", "", "\u{1}\n\u{10ffff} \u{df}", "null", "7"];
        let mut new = texts.map(|text| message("a", "x.example", text)).to_vec();
        new.insert(3, message("nobody", "x.example", "never"));
        let roomy = OutgoingLimits { per_account: (9, 99), per_domain: (9, 99), per_node: (9, 99) };
        let outcomes = store.push_outgoing(&new, &[], roomy).await.unwrap();
        let found = store.outgoing(0, 100).await.unwrap();
        assert_eq!(found.len(), texts.len());
        assert!(outcomes[3].is_err());
        for (outcome, new) in outcomes.into_iter().zip(&new) {
            let Ok(id) = outcome else { continue };
            let found = found.iter().find(|found| found.id == id).unwrap();
            assert_eq!(found.stanza, new.stanza);
        }
    }

    #[tokio::test]
    async fn what_is_answered_makes_room_in_the_same_commit() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir.path().join("store.db")).await;
        let full = ["1", "2", "3"].map(|text| message("a", "x.example", text));
        let ids = store.push_outgoing(&full, &[], LIMITS).await.unwrap();
        let ids: Vec<i64> = ids.into_iter().collect::<Result<_, _>>().unwrap();
        let next = [message("a", "x.example", "4"), message("a", "x.example", "5")];
        let outcomes = store.push_outgoing(&next, &[ids[0]], LIMITS).await.unwrap();
        assert!(outcomes[0].is_ok());
        assert!(matches!(outcomes[1], Err(StoreError::Full { limit: 3, .. })));
        assert_eq!(stanzas(&store).await, "2 3 4");
        // Also if nothing is stored.
        let nobody = [message("nobody", "x.example", "6")];
        store.push_outgoing(&nobody, &ids[1..], LIMITS).await.unwrap();
        assert_eq!(stanzas(&store).await, "4");
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
        let outcomes = store.push_outgoing(&new, &[], LIMITS).await.unwrap();
        assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
        assert!(matches!(outcomes[1], Err(StoreError::Full { limit: 100, .. })));
        assert_eq!(stanzas(&store).await, format!("{long} {short}"));
    }
}

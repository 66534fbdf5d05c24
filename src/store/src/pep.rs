use gatehouse_types::Jid;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::database::{account_id, commit, find_account, from_sql, key, to_sql};
use crate::error::failed;
use crate::{Store, StoreError};

/// Who may read a node (XEP-0060, section 4.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PepAccess {
    /// Who sees the owner's presence.
    Presence,
    /// Everybody.
    Open,
    /// The owner alone: there is no list.
    Whitelist,
}

impl PepAccess {
    /// The value of `pubsub#access_model`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Open => "open",
            Self::Whitelist => "whitelist",
        }
    }

    /// The model of that name, if it is one of these.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Presence, Self::Open, Self::Whitelist]
            .into_iter()
            .find(|access| access.as_str() == name)
    }
}

/// The settings of one node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PepConfig {
    /// Who may read it.
    pub access: PepAccess,
    /// Items kept; at least one.
    pub max_items: u64,
    /// Items are stored, not only sent.
    pub persist: bool,
    /// The last item is sent to who comes online.
    pub send_last: bool,
}

/// One node of one account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PepNode {
    /// Its name.
    pub node: String,
    /// Its settings.
    pub config: PepConfig,
}

/// One item of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PepItem {
    /// Its id, unique in its node.
    pub id: String,
    /// What was published, serialised; empty if there was nothing.
    pub payload: String,
}

/// Caps on what one account publishes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PepLimits {
    /// Nodes.
    pub nodes: u64,
    /// Bytes of all items together.
    pub bytes: u64,
}

impl Store {
    /// The nodes of an account, by name.
    pub async fn pep_nodes(&self, account: &Jid) -> Result<Vec<PepNode>, StoreError> {
        const ACTION: &str = "reading the nodes of an account";
        let mut transaction = self.read(ACTION).await?;
        let rows = sqlx::query(
            "SELECT pep_nodes.* FROM pep_nodes JOIN accounts ON accounts.id = account_id
             WHERE accounts.jid = $1 ORDER BY node",
        )
        .bind(key(account))
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        rows.iter().map(|row| node_from_row(row, ACTION)).collect()
    }

    /// Makes a node, or changes its settings; surplus items are forgotten, the oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoAccount`]; [`StoreError::Full`] if a new node has no room.
    pub async fn put_pep_node(
        &self,
        account: &Jid,
        node: &PepNode,
        limits: PepLimits,
    ) -> Result<(), StoreError> {
        const ACTION: &str = "storing a node";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let account = account_id(&mut transaction, account, ACTION).await?;
        let id = upsert_node(&mut transaction, account, node, limits, ACTION).await?;
        trim(&mut transaction, id, node.config, ACTION).await?;
        commit(transaction, ACTION).await
    }

    /// Removes a node with its items; false if there is none.
    pub async fn remove_pep_node(&self, account: &Jid, node: &str) -> Result<bool, StoreError> {
        const ACTION: &str = "removing a node";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let Some(account) = find_account(&mut transaction, account, ACTION).await? else {
            return Ok(false);
        };
        let removed = sqlx::query("DELETE FROM pep_nodes WHERE account_id = $1 AND node = $2")
            .bind(account)
            .bind(node)
            .execute(&mut *transaction)
            .await
            .map_err(failed(ACTION))?;
        commit(transaction, ACTION).await?;
        Ok(removed.rows_affected() > 0)
    }

    /// Publishes: makes the node as `node` says or leaves it as it is there, puts the item at its
    /// end (in place of one of the same id), and forgets the oldest beyond its `max_items`. All or
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoAccount`]; [`StoreError::Full`] if the node or the item has no room.
    pub async fn publish_pep(
        &self,
        account: &Jid,
        node: &PepNode,
        item: &PepItem,
        limits: PepLimits,
    ) -> Result<(), StoreError> {
        const ACTION: &str = "storing a published item";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let account = account_id(&mut transaction, account, ACTION).await?;
        let id = upsert_node(&mut transaction, account, node, limits, ACTION).await?;
        if node.config.persist {
            sqlx::query("DELETE FROM pep_items WHERE node_id = $1 AND item = $2")
                .bind(id)
                .bind(&item.id)
                .execute(&mut *transaction)
                .await
                .map_err(failed(ACTION))?;
            sqlx::query("INSERT INTO pep_items (node_id, item, payload) VALUES ($1, $2, $3)")
                .bind(id)
                .bind(&item.id)
                .bind(&item.payload)
                .execute(&mut *transaction)
                .await
                .map_err(failed(ACTION))?;
            trim(&mut transaction, id, node.config, ACTION).await?;
            let bytes: i64 = sqlx::query_scalar(
                "SELECT COALESCE(SUM(LENGTH(CAST(payload AS BLOB))), 0)
                 FROM pep_items JOIN pep_nodes ON pep_nodes.id = node_id WHERE account_id = $1",
            )
            .bind(account)
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed(ACTION))?;
            if from_sql(bytes) > limits.bytes {
                let what = "what the account publishes (in bytes)";
                return Err(StoreError::Full { what, limit: limits.bytes });
            }
        }
        commit(transaction, ACTION).await
    }

    /// The items of a node, oldest first.
    pub async fn pep_items(&self, account: &Jid, node: &str) -> Result<Vec<PepItem>, StoreError> {
        self.newest_pep_items(account, node, u64::MAX).await
    }

    /// The last `count` items of a node, oldest first.
    pub async fn newest_pep_items(
        &self,
        account: &Jid,
        node: &str,
        count: u64,
    ) -> Result<Vec<PepItem>, StoreError> {
        const ACTION: &str = "reading published items";
        let mut transaction = self.read(ACTION).await?;
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT item, payload FROM pep_items
             JOIN pep_nodes ON pep_nodes.id = node_id JOIN accounts ON accounts.id = account_id
             WHERE accounts.jid = $1 AND node = $2 ORDER BY pep_items.id DESC LIMIT $3",
        )
        .bind(key(account))
        .bind(node)
        .bind(to_sql(count))
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        Ok(rows.into_iter().rev().map(|(id, payload)| PepItem { id, payload }).collect())
    }

    /// Removes one item, or all if `item` is `None`; false if there was nothing to remove.
    pub async fn remove_pep_items(
        &self,
        account: &Jid,
        node: &str,
        item: Option<&str>,
    ) -> Result<bool, StoreError> {
        const ACTION: &str = "removing published items";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let removed = sqlx::query(
            "DELETE FROM pep_items WHERE ($3 IS NULL OR item = $3) AND node_id IN
             (SELECT pep_nodes.id FROM pep_nodes JOIN accounts ON accounts.id = account_id
              WHERE accounts.jid = $1 AND node = $2)",
        )
        .bind(key(account))
        .bind(node)
        .bind(item)
        .execute(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        commit(transaction, ACTION).await?;
        Ok(removed.rows_affected() > 0)
    }
}

async fn upsert_node(
    connection: &mut SqliteConnection,
    account: i64,
    node: &PepNode,
    limits: PepLimits,
    action: &'static str,
) -> Result<i64, StoreError> {
    let config = node.config;
    let known: Option<i64> = sqlx::query_scalar(
        "UPDATE pep_nodes SET access = $3, max_items = $4, persist = $5, send_last = $6
         WHERE account_id = $1 AND node = $2 RETURNING id",
    )
    .bind(account)
    .bind(&node.node)
    .bind(config.access.as_str())
    .bind(to_sql(config.max_items.max(1)))
    .bind(config.persist)
    .bind(config.send_last)
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed(action))?;
    if let Some(id) = known {
        return Ok(id);
    }
    let nodes: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pep_nodes WHERE account_id = $1")
        .bind(account)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed(action))?;
    if from_sql(nodes) >= limits.nodes {
        return Err(StoreError::Full { what: "the list of nodes", limit: limits.nodes });
    }
    sqlx::query_scalar(
        "INSERT INTO pep_nodes (account_id, node, access, max_items, persist, send_last)
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
    )
    .bind(account)
    .bind(&node.node)
    .bind(config.access.as_str())
    .bind(to_sql(config.max_items.max(1)))
    .bind(config.persist)
    .bind(config.send_last)
    .fetch_one(connection)
    .await
    .map_err(failed(action))
}

/// Forgets what is beyond the settings.
async fn trim(
    connection: &mut SqliteConnection,
    node: i64,
    config: PepConfig,
    action: &'static str,
) -> Result<(), StoreError> {
    let kept = if config.persist { config.max_items.max(1) } else { 0 };
    sqlx::query(
        "DELETE FROM pep_items WHERE node_id = $1 AND id NOT IN
         (SELECT id FROM pep_items WHERE node_id = $1 ORDER BY id DESC LIMIT $2)",
    )
    .bind(node)
    .bind(to_sql(kept))
    .execute(connection)
    .await
    .map_err(failed(action))?;
    Ok(())
}

fn node_from_row(row: &SqliteRow, action: &'static str) -> Result<PepNode, StoreError> {
    let flag = |column| row.try_get::<bool, _>(column).map_err(failed(action));
    let access = row.try_get::<&str, _>("access").map_err(failed(action))?;
    let access = PepAccess::from_name(access)
        .ok_or_else(|| failed(action)(format!("unknown access model `{access}`")))?;
    let max_items = from_sql(row.try_get("max_items").map_err(failed(action))?);
    let config =
        PepConfig { access, max_items, persist: flag("persist")?, send_last: flag("send_last")? };
    Ok(PepNode { node: row.try_get("node").map_err(failed(action))?, config })
}

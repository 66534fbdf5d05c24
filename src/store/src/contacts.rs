use gatehouse_types::Jid;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::database::{account_id, commit, find_account, from_sql, key, stored_jid};
use crate::error::failed;
use crate::roster_versions::{next_version, note_removal, roster_version, unnote_removal};
use crate::{Store, StoreError};

/// The subscription state of a roster item (RFC 6121, section 2.1.2.5).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum Subscription {
    #[default]
    None,
    To,
    From,
    Both,
}

impl Subscription {
    /// The value of the roster item's `subscription`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::To => "to",
            Self::From => "from",
            Self::Both => "both",
        }
    }
}

/// One contact of one user, with everything that RFC 6121 section 3 and appendix A know of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contact {
    /// Bare address.
    pub jid: Jid,
    /// False while only an inbound request is known: such a contact is not in the roster.
    pub in_roster: bool,
    /// The user's name for it.
    pub name: Option<String>,
    /// State.
    pub subscription: Subscription,
    /// `ask='subscribe'`: we asked and wait.
    pub pending_out: bool,
    /// It asked and waits: the `subscribe` stanza as it came, serialised.
    pub pending_in: Option<String>,
    /// Pre-approved (RFC 6121, section 3.4).
    pub approved: bool,
    /// Groups.
    pub groups: Vec<String>,
}

/// A user's contacts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Contacts {
    /// The roster version: grows with each change.
    pub version: u64,
    /// All, by address.
    pub contacts: Vec<Contact>,
}

/// How many contacts an account has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ContactCount {
    /// In the roster.
    pub roster: u64,
    /// Not in the roster: requests of strangers.
    pub requests: u64,
}

/// Caps on the contacts of one account. Strangers fill only their own part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ContactLimits {
    /// In the roster.
    pub roster: u64,
    /// Not in the roster: requests of strangers.
    pub requests: u64,
    /// Who see the account's presence; all of them are in the roster, too.
    pub watchers: u64,
}

impl Subscription {
    /// True if the contact sees the account's presence.
    pub fn is_watcher(self) -> bool {
        matches!(self, Self::From | Self::Both)
    }
}

impl Store {
    /// All contacts of an account.
    pub async fn contacts(&self, account: &Jid) -> Result<Contacts, StoreError> {
        const ACTION: &str = "reading contacts";
        let mut transaction = self.read(ACTION).await?;
        let Some(id) = find_account(&mut transaction, account, ACTION).await? else {
            return Ok(Contacts::default());
        };
        let version = roster_version(&mut transaction, id, ACTION).await?;
        let rows = sqlx::query("SELECT * FROM contacts WHERE account_id = $1 ORDER BY jid")
            .bind(id)
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed(ACTION))?;
        let contacts =
            rows.iter().map(|row| from_row(row, ACTION)).collect::<Result<Vec<_>, _>>()?;
        Ok(Contacts { version, contacts })
    }

    /// One contact of an account.
    pub async fn contact(
        &self,
        account: &Jid,
        contact: &Jid,
    ) -> Result<Option<Contact>, StoreError> {
        const ACTION: &str = "reading a contact";
        let mut transaction = self.read(ACTION).await?;
        let row = sqlx::query(
            "SELECT contacts.* FROM contacts JOIN accounts ON accounts.id = account_id
             WHERE accounts.jid = $1 AND contacts.jid = $2",
        )
        .bind(key(account))
        .bind(key(contact))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        row.map(|row| from_row(&row, ACTION)).transpose()
    }

    /// How many contacts an account has.
    pub async fn contact_count(&self, account: &Jid) -> Result<ContactCount, StoreError> {
        const ACTION: &str = "counting contacts";
        let mut transaction = self.read(ACTION).await?;
        let Some(id) = find_account(&mut transaction, account, ACTION).await? else {
            return Ok(ContactCount::default());
        };
        Ok(ContactCount {
            roster: count(&mut transaction, id, true, ACTION).await?,
            requests: count(&mut transaction, id, false, ACTION).await?,
        })
    }

    /// Writes one contact (insert or replace) and returns the new roster version. The version grows
    /// only if `in_roster` is or was true.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoAccount`].
    pub async fn put_contact(&self, account: &Jid, contact: &Contact) -> Result<u64, StoreError> {
        let limits = ContactLimits { roster: u64::MAX, requests: u64::MAX, watchers: u64::MAX };
        self.put(account, contact, limits).await
    }

    /// The same, unless the contact is new (to the roster, as a request, or as a watcher) and there is
    /// no room.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoAccount`], [`StoreError::Full`].
    pub async fn put_contact_within(
        &self,
        account: &Jid,
        contact: &Contact,
        limits: ContactLimits,
    ) -> Result<u64, StoreError> {
        self.put(account, contact, limits).await
    }

    /// Removes one contact and returns the new roster version, which is the old one if the contact
    /// was not in the roster.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoAccount`].
    pub async fn remove_contact(&self, account: &Jid, contact: &Jid) -> Result<u64, StoreError> {
        const ACTION: &str = "removing a contact";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let id = account_id(&mut transaction, account, ACTION).await?;
        let was_in_roster: Option<bool> = sqlx::query_scalar(
            "DELETE FROM contacts WHERE account_id = $1 AND jid = $2 RETURNING in_roster",
        )
        .bind(id)
        .bind(key(contact))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        let version = if was_in_roster == Some(true) {
            let version = next_version(&mut transaction, id, ACTION).await?;
            note_removal(&mut transaction, id, contact, version, ACTION).await?;
            version
        } else {
            roster_version(&mut transaction, id, ACTION).await?
        };
        commit(transaction, ACTION).await?;
        Ok(version)
    }

    async fn put(
        &self,
        account: &Jid,
        contact: &Contact,
        limits: ContactLimits,
    ) -> Result<u64, StoreError> {
        const ACTION: &str = "storing a contact";
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(ACTION).await?;
        let id = account_id(&mut transaction, account, ACTION).await?;
        let before: Option<(bool, bool)> = sqlx::query_as(
            "SELECT in_roster, subscription IN ('from', 'both') FROM contacts
             WHERE account_id = $1 AND jid = $2",
        )
        .bind(id)
        .bind(key(&contact.jid))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
        let was_in_roster = before.map(|(in_roster, _)| in_roster);
        let was_watcher = before.is_some_and(|(_, watcher)| watcher);
        if contact.subscription.is_watcher()
            && !was_watcher
            && watchers(&mut transaction, id, ACTION).await? >= limits.watchers
        {
            let what = "the list of those who see the presence";
            return Err(StoreError::Full { what, limit: limits.watchers });
        }

        if was_in_roster != Some(contact.in_roster) {
            let (what, limit) = match contact.in_roster {
                true => ("the roster", limits.roster),
                false => ("the list of subscription requests", limits.requests),
            };
            if count(&mut transaction, id, contact.in_roster, ACTION).await? >= limit {
                return Err(StoreError::Full { what, limit });
            }
        }

        let version = if contact.in_roster || was_in_roster == Some(true) {
            next_version(&mut transaction, id, ACTION).await?
        } else {
            roster_version(&mut transaction, id, ACTION).await?
        };
        match (was_in_roster, contact.in_roster) {
            (Some(true), false) => {
                note_removal(&mut transaction, id, &contact.jid, version, ACTION).await?;
            }
            (None | Some(false), true) => {
                unnote_removal(&mut transaction, id, &contact.jid, ACTION).await?;
            }
            (Some(true), true) | (None | Some(false), false) => {}
        }
        upsert(&mut transaction, id, contact, version, ACTION).await?;
        commit(transaction, ACTION).await?;
        Ok(version)
    }
}

async fn upsert(
    connection: &mut SqliteConnection,
    account: i64,
    contact: &Contact,
    version: u64,
    action: &'static str,
) -> Result<(), StoreError> {
    let groups = serde_json::to_string(&contact.groups).map_err(failed(action))?;
    sqlx::query(
        "INSERT INTO contacts (account_id, jid, in_roster, name, subscription, pending_out,
                               pending_in, approved, groups, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (account_id, jid) DO UPDATE SET
             in_roster = excluded.in_roster, name = excluded.name,
             subscription = excluded.subscription, pending_out = excluded.pending_out,
             pending_in = excluded.pending_in, approved = excluded.approved,
             groups = excluded.groups, version = excluded.version",
    )
    .bind(account)
    .bind(key(&contact.jid))
    .bind(contact.in_roster)
    .bind(&contact.name)
    .bind(contact.subscription.as_str())
    .bind(contact.pending_out)
    .bind(&contact.pending_in)
    .bind(contact.approved)
    .bind(groups)
    .bind(if contact.in_roster { crate::database::to_sql(version) } else { 0 })
    .execute(connection)
    .await
    .map_err(failed(action))?;
    Ok(())
}

async fn count(
    connection: &mut SqliteConnection,
    account: i64,
    in_roster: bool,
    action: &'static str,
) -> Result<u64, StoreError> {
    sqlx::query_scalar("SELECT COUNT(*) FROM contacts WHERE account_id = $1 AND in_roster = $2")
        .bind(account)
        .bind(in_roster)
        .fetch_one(connection)
        .await
        .map(from_sql)
        .map_err(failed(action))
}

async fn watchers(
    connection: &mut SqliteConnection,
    account: i64,
    action: &'static str,
) -> Result<u64, StoreError> {
    sqlx::query_scalar(
        "SELECT COUNT(*) FROM contacts
         WHERE account_id = $1 AND subscription IN ('from', 'both')",
    )
    .bind(account)
    .fetch_one(connection)
    .await
    .map(from_sql)
    .map_err(failed(action))
}

/// Reads one row of `contacts`.
pub(crate) fn from_row(row: &SqliteRow, action: &'static str) -> Result<Contact, StoreError> {
    let text = |column| row.try_get::<&str, _>(column).map_err(failed(action));
    let flag = |column| row.try_get::<bool, _>(column).map_err(failed(action));
    let optional = |column| row.try_get::<Option<String>, _>(column).map_err(failed(action));
    Ok(Contact {
        jid: stored_jid(text("jid")?, action)?,
        in_roster: flag("in_roster")?,
        name: optional("name")?,
        subscription: match text("subscription")? {
            "none" => Subscription::None,
            "to" => Subscription::To,
            "from" => Subscription::From,
            "both" => Subscription::Both,
            other => return Err(failed(action)(format!("unknown subscription `{other}`"))),
        },
        pending_out: flag("pending_out")?,
        pending_in: optional("pending_in")?,
        approved: flag("approved")?,
        groups: serde_json::from_str(text("groups")?).map_err(failed(action))?,
    })
}

//! Accounts, rosters, offline messages, vCards, block lists: SQLite in WAL mode, with migrations.
//!
//! Owns: the tables and what is atomic. Does not own: what the values mean to XMPP.
//! Every method that returns `Ok` has committed: what it wrote survives `kill -9`.

use std::path::Path;

use gatehouse_types::{Domain, Jid};

/// The store; cheap to clone, shared by all tasks.
#[derive(Clone, Debug)]
pub struct Store {}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be opened.
    #[error("cannot open the database {path}")]
    Open {
        /// Where.
        path: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A statement failed.
    #[error("the database failed while {action}")]
    Database {
        /// What was being done, such as `storing an offline message`.
        action: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is one already.
    #[error("account {0} exists already")]
    AccountExists(Jid),
    /// There is none.
    #[error("there is no account {0}")]
    NoAccount(Jid),
    /// A cap was reached.
    #[error("{what} is full: {limit} at most")]
    Full {
        /// What.
        what: &'static str,
        /// The cap.
        limit: u64,
    },
}

/// The keys of one account for one SCRAM hash.
#[derive(Clone, Eq, PartialEq)]
pub struct StoredKeys {
    /// `SCRAM-SHA-1` or `SCRAM-SHA-256`.
    pub mechanism: String,
    /// Salt.
    pub salt: Vec<u8>,
    /// PBKDF2 iterations.
    pub iterations: u32,
    /// H(ClientKey).
    pub stored_key: Vec<u8>,
    /// HMAC(SaltedPassword, "Server Key").
    pub server_key: Vec<u8>,
}

impl std::fmt::Debug for StoredKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredKeys({}, [redacted])", self.mechanism)
    }
}

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
    /// Opens (and makes, and migrates) the database file, mode 0600.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let _ = path;
        todo!()
    }

    /// Adds an account.
    pub async fn add_account(&self, account: &Jid, keys: &[StoredKeys]) -> Result<(), StoreError> {
        let _ = (account, keys);
        todo!()
    }

    /// Replaces the keys of an account.
    pub async fn set_keys(&self, account: &Jid, keys: &[StoredKeys]) -> Result<(), StoreError> {
        let _ = (account, keys);
        todo!()
    }

    /// Removes an account and all that belongs to it.
    pub async fn remove_account(&self, account: &Jid) -> Result<(), StoreError> {
        let _ = account;
        todo!()
    }

    /// All accounts, of one domain or all, sorted.
    pub async fn accounts(&self, domain: Option<&Domain>) -> Result<Vec<Jid>, StoreError> {
        let _ = domain;
        todo!()
    }

    /// True if there is such an account.
    pub async fn has_account(&self, account: &Jid) -> Result<bool, StoreError> {
        let _ = account;
        todo!()
    }

    /// The keys of an account; empty if there is none.
    pub async fn keys(&self, account: &Jid) -> Result<Vec<StoredKeys>, StoreError> {
        let _ = account;
        todo!()
    }

    /// All contacts of an account.
    pub async fn contacts(&self, account: &Jid) -> Result<Contacts, StoreError> {
        let _ = account;
        todo!()
    }

    /// Writes one contact (insert or replace) and returns the new roster version. The version grows
    /// only if `in_roster` is or was true.
    pub async fn put_contact(&self, account: &Jid, contact: &Contact) -> Result<u64, StoreError> {
        let _ = (account, contact);
        todo!()
    }

    /// Removes one contact and returns the new roster version.
    pub async fn remove_contact(&self, account: &Jid, contact: &Jid) -> Result<u64, StoreError> {
        let _ = (account, contact);
        todo!()
    }

    /// Keeps a message for an offline account, unless a cap is reached ([`StoreError::Full`]).
    pub async fn push_offline(
        &self,
        account: &Jid,
        received_ms: i64,
        stanza: &str,
        limits: OfflineLimits,
    ) -> Result<(), StoreError> {
        let _ = (account, received_ms, stanza, limits);
        todo!()
    }

    /// The waiting messages, oldest first. They stay until removed.
    pub async fn offline(&self, account: &Jid) -> Result<Vec<OfflineMessage>, StoreError> {
        let _ = account;
        todo!()
    }

    /// Removes the waiting messages up to and including `id`.
    pub async fn remove_offline(&self, account: &Jid, up_to: i64) -> Result<(), StoreError> {
        let _ = (account, up_to);
        todo!()
    }

    /// The vCard of an account, serialised.
    pub async fn vcard(&self, account: &Jid) -> Result<Option<String>, StoreError> {
        let _ = account;
        todo!()
    }

    /// Writes the vCard of an account.
    pub async fn set_vcard(&self, account: &Jid, vcard: &str) -> Result<(), StoreError> {
        let _ = (account, vcard);
        todo!()
    }

    /// The block list of an account (XEP-0191): full, bare, or domain addresses.
    pub async fn blocked(&self, account: &Jid) -> Result<Vec<Jid>, StoreError> {
        let _ = account;
        todo!()
    }

    /// Adds to the block list.
    pub async fn block(&self, account: &Jid, jids: &[Jid]) -> Result<(), StoreError> {
        let _ = (account, jids);
        todo!()
    }

    /// Removes from the block list; an empty list empties it.
    pub async fn unblock(&self, account: &Jid, jids: &[Jid]) -> Result<(), StoreError> {
        let _ = (account, jids);
        todo!()
    }

    /// A random secret of 32 bytes that is made at the first call and stays.
    pub async fn secret(&self, name: &str, fresh: [u8; 32]) -> Result<Vec<u8>, StoreError> {
        let _ = (name, fresh);
        todo!()
    }
}

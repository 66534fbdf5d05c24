//! Accounts, rosters, offline messages, messages to SIP partners, vCards, block lists, published items:
//! SQLite in WAL mode, with migrations.
//!
//! Owns: the tables and what is atomic. Does not own: what the values mean to XMPP.
//! Every method that returns `Ok` has committed: what it wrote survives `kill -9` and, as far as the
//! disk keeps its word, a power cut.
//!
//! Reading what belongs to an account that does not exist gives nothing; adding to it fails with
//! [`StoreError::NoAccount`]. Methods that take an account ignore its resource.

mod accounts;
mod blocklist;
mod contacts;
mod database;
mod error;
mod fast_tokens;
mod held;
mod offline;
mod outgoing;
mod pep;
mod roster_versions;
mod secrets;
mod sip;
mod vcards;
mod writer;

pub use self::accounts::{AccountVersion, Credentials, StoredKeys};
pub use self::contacts::{Contact, ContactCount, ContactLimits, Contacts, Subscription};
pub use self::database::Store;
pub use self::error::StoreError;
pub use self::fast_tokens::{FastToken, FastTokens};
pub use self::offline::{OfflineLimits, OfflineMessage};
pub use self::outgoing::{NewOutgoing, OutgoingLimits, OutgoingMessage};
pub use self::pep::{PepAccess, PepConfig, PepItem, PepLimits, PepNode};
pub use self::roster_versions::RosterChange;
pub use self::sip::{SipChange, SipRecord};

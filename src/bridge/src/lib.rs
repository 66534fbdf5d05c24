//! SIP to XMPP and back: addresses, presence, IM sessions, typing, errors; one profile per kind of
//! partner.
//!
//! Owns: what a message of one protocol means in the other (RFC 7247, 7572, 7573, 8048, and
//! Microsoft's ways), and the state that this needs. Does not own: sockets, clocks, stores,
//! policy, transactions. Only this crate knows both protocols.
//!
//! [`Gateway`] is the one machine: stanzas, SIP requests, SIP answers and time go in, [`Effect`]s
//! come out. docs/protocols/sip-gateway.md says what it does and docs/decisions why.

pub mod address;
pub mod availability;
pub mod body;
pub mod condition;
mod config;
mod count;
mod effect;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gateway;
mod local;
mod loops;
mod presence;
pub mod profile;
mod record;
mod session;
mod sip;
mod timers;
mod weights;

pub use self::config::{GatewayConfig, Limits};
pub use self::effect::{Effect, Failure, OutgoingId, Receipt, RequestKey, Scarce, Way, Whose};
pub use self::gateway::{Gateway, GatewayStatus};
pub use self::record::{InvalidRecord, Record, RecordKey};

//! XMPP without sockets: framing and limits, stream negotiation for clients (C2S), servers (S2S)
//! and the trunk, SASL, dialback, stanzas.
//!
//! Owns: everything that is bytes, states and events. One machine per role: [`C2sServer`],
//! [`S2sReceiver`], [`S2sInitiator`], [`TrunkEnd`].
//! Does not own: sockets, clocks, DNS, policy, accounts. Time and randomness are passed in.

pub mod c2s;
pub mod dialback;
pub mod features;
pub mod framing;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod ns;
pub mod s2s;
pub mod sasl;

pub mod sm;
pub mod stanza;
pub mod stream;
pub mod trunk;

pub use minidom::{Element, Node};
pub use xmpp_parsers as parsers;

pub use self::c2s::{BindWish, C2sConfig, C2sEvent, C2sServer, Granted, GrantedSession, Wishes};
pub use self::s2s::{Gate, S2sEvent, S2sInitiator, S2sReceiver};
pub use self::stanza::{ErrorKind, Payload, Stanza, StanzaCondition, StanzaKind};
pub use self::stream::{Entry, StreamCondition, StreamError};
pub use self::trunk::{TrunkConfig, TrunkEnd, TrunkEvent};
pub use gatehouse_types::Seed;

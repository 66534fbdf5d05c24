//! The DMZ role: S2S listeners, outbound S2S pool, dialback, anti-relay, the edge's end of the trunk.
//!
//! Owns: which stream a stanza takes, who is dialled, what becomes of a stanza that cannot be
//! delivered. Does not own: users, rosters, anything that must last: killing an edge loses no
//! acknowledged stanza.
//!
//! **Invariants.** A stanza reaches the core only with a [`Permit`](gatehouse_policy::Permit) for
//! its pair of domains, and only for a domain of ours: there is no relay. An error or a result is
//! never bounced. What a partner or an author is told never names our rules, hosts or addresses.

mod bounce;
mod dialback;
mod gate;
mod inbound;
mod intake;
mod lanes;
mod outbound;
mod parts;
mod places;
pub mod probe;
mod random;
mod shared;
mod sip;
mod start;
mod warnings;

pub use self::outbound::PrivateTargets;
pub use self::parts::{EdgeConfig, EdgeParts};
pub use self::sip::{SipConfig, SipParts, start as start_sip};
pub use self::start::start;
pub use gatehouse_sip::KEYS_MAX as SIP_SECRETS_MAX;
pub use gatehouse_xmpp::s2s::Bidi;

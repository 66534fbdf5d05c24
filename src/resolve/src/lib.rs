//! A domain and a service to an ordered list of endpoints: SRV by priority and weight, A and AAAA;
//! and what DNSSEC proves about their certificates (TLSA).
//!
//! Wraps hickory-resolver; none of its types leave this crate.
//! Owns: which queries are asked, in which order their answers are tried, and how many of them.
//! Does not own: dialling, randomness, what a failure means to the author of a stanza.

mod endpoint;
mod error;
mod lookup;
mod order;
mod query;
mod resolver;
mod sip;
mod survey;
mod tlsa;

pub use self::endpoint::{Endpoint, Host, Place, Transport};
pub use self::error::{ResolveError, ResolverSetupError};
pub use self::resolver::Resolver;
pub use self::survey::{HostSurvey, SrvRecord, SrvSurvey, TlsaSurvey};
pub use self::tlsa::{Tlsa, TlsaAnswer};

//! SIP partners: the rows of the policy that speak of them, and which protocol a domain speaks.

mod conditions;
mod partner;
mod protocol;
mod route;

pub use self::conditions::{SipConditions, SipPermit};
pub use self::partner::{SipKind, SipMode, SipPartner, SipProof};
pub use self::protocol::Protocol;
pub use self::route::{InvalidSipRoute, SipRoute};

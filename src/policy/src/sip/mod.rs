//! SIP partners: the rows of the policy that speak of them, and which protocol a domain speaks.

mod conditions;
mod inside;
mod partner;
mod protocol;
mod route;

pub use self::conditions::{SipConditions, SipPermit};
pub use self::inside::{
    EmbedTemplate, Evidence, Hop, HopProtocol, InsideSip, InvalidHop, InvalidRoutePattern,
    InvalidRoutes, InvalidTemplate, NextHop, RouteBy, RouteFault, RoutePattern, RouteTable,
    Selection, StaticRoute, TrustedPeer,
};
pub use self::partner::{SendRate, SipKind, SipMode, SipPartner, SipProof};
pub use self::protocol::Protocol;
pub use self::route::{InvalidSipRoute, SipRoute};

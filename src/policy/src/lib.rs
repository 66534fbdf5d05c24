//! Who may talk to whom, how it must prove itself, how much it may send; every answer with its
//! reason.
//!
//! Owns: the rules, the decision, the rates. Does not own: messages, sockets, the file's path.

mod check;
mod decision;
mod explain;
mod pattern;
mod rate;
mod route;
mod rule;
mod sip;

pub use self::check::{PolicyProblem, Table};
pub use self::decision::{Channel, Conditions, Denial, Permit};
pub use self::pattern::{InvalidPattern, Pattern};
pub use self::rate::{OverRate, PeerRate};
pub use self::route::{InvalidRoute, Route, RouteHost, RouteTransport};
pub use self::rule::{Action, Policy, Require, Rule, Tls};
pub use self::sip::{
    EmbedTemplate, Evidence, Hop, HopProtocol, InsideSip, InvalidHop, InvalidRoutePattern,
    InvalidRoutes, InvalidSipRoute, InvalidTemplate, NextHop, Protocol, RouteBy, RouteFault,
    RoutePattern, RouteTable, Selection, SendRate, SipConditions, SipKind, SipMode, SipPartner,
    SipPermit, SipProof, SipRoute, StaticRoute, TrustedPeer,
};

//! Rosters and presence subscriptions (RFC 6121, sections 2, 3 and appendix A), without I/O.
//!
//! Owns: what a subscription stanza or a roster request does to a contact, and what must be sent.
//! Does not own: storing the contact, stamping, routing, and delivering; that is the caller's work,
//! in the order of [`Outcome::effects`], after [`Outcome::change`] is stored.
//!
//! The nine states of appendix A are two independent directions with three states each: what we
//! have of the contact ([`Ours`](state::Ours)) and what the contact has of us
//! ([`Theirs`](state::Theirs)).

mod inbound;
mod outbound;
mod outcome;
#[cfg(test)]
mod properties;
mod roster;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use self::inbound::inbound;
pub(crate) use self::outbound::outbound;
pub(crate) use self::outcome::{Action, Change, Effect, Outcome};
pub(crate) use self::roster::{NotInRoster, roster_remove, roster_set};

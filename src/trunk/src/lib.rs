//! The link between edge and core, both ends.
//!
//! In one process ([`in_process`]): values over bounded channels. Between two: the core dials
//! ([`dial`]) and the edge listens ([`listen`]); mutual TLS under an authority of the trunk's own,
//! an XMPP stream with SASL EXTERNAL and XEP-0198 with resume (the machine is
//! [`gatehouse_xmpp::trunk`]).
//!
//! Owns: dialling, accepting, acknowledgement, resend, spreading over several edges, giving back
//! what could not be delivered.
//! Does not own: what a stanza means, policy, users.
//!
//! # What is promised
//!
//! - A stanza that [`TrunkSender::send`] took is delivered, or its author is told: a bounce comes
//!   out of [`Trunk::incoming`] as if the other side had sent it. Only answers, which nobody may
//!   answer, are dropped, and counted.
//! - Order is kept per pair of domains, whatever breaks.
//! - A core gets what is for the domains that it announced and may serve; what is for a domain that
//!   no core serves goes back.
//! - A core speaks for its own domains only: a stanza that is from another one goes no further, and
//!   its author, at that core, is told.
//! - A stanza that takes its time holds up no other: what was handled behind it is acknowledged out
//!   of turn.
//! - No stanza is delivered twice while both processes live. When a process dies, or one edge takes
//!   over from another, what it had not acknowledged is sent again, and may have been delivered.

mod config;
mod dial;
mod dispatch;
mod end;
mod give_back;
mod in_process;
mod lane;
mod listen;
mod node;
mod observer;
mod overstep;
mod parcel;
mod random;
mod receipt;
pub mod sip;
mod spread;
mod stream;
mod sweep;

#[cfg(test)]
mod tests;

pub use self::config::{CoreNode, DialConfig, EdgeAddress, ListenConfig, Tuning};
pub use self::dial::dial;
pub use self::end::{Transfer, Trunk, TrunkSender, Unreachable};
pub use self::in_process::in_process;
pub use self::listen::{listen, listen_with_sip};
pub use self::node::Node;
pub use self::observer::{NoObserver, TrunkObserver};
pub use self::receipt::{Receipt, Receipts};
pub use gatehouse_xmpp::trunk::ALPN;

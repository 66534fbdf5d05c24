//! The link between edge and core, both ends.
//!
//! In one process: values over bounded channels. Between two: the core dials the edge; mutual TLS,
//! an XMPP stream with SASL EXTERNAL and XEP-0198 with resume.
//! Owns: dialling, accepting, acknowledgement, resend, spreading over several edges.
//! Does not own: what a stanza means, policy, users.

mod end;
mod in_process;

pub use self::end::{Receipt, Transfer, Trunk, TrunkSender, Unreachable};
pub use self::in_process::in_process;

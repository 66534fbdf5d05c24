//! TLS set up once: provider, versions, verifiers, hot-swapped keys and trust.
//!
//! Certificates of the other side are taken as they come and judged after the handshake
//! (RFC 6120, section 13.7.2): who is there is a question for gatehouse-identity, once the stream
//! header has said who it wants to be. Path validation happens here, with server-authentication
//! purpose, because public authorities no longer issue the client one.
//!
//! Owns: handshakes, our certificates in memory, trust anchors, the verdict on a peer's chain.
//! Does not own: files (gatehouse-pki), what a certificate's names mean (gatehouse-identity),
//! time limits: callers wrap `accept` and `connect` in a timeout.

mod acceptor;
mod connector;
mod error;
mod exporter;
mod facts;
mod io;
mod judgement;
mod keys;
mod provider;
mod roots;
mod signatures;
mod stream;
mod verifier;

#[cfg(test)]
mod tests;

pub use self::acceptor::Acceptor;
pub use self::connector::{Connector, Inspection};
pub use self::error::{TlsError, speaks_none_of_ours};
pub use self::io::Io;
pub use self::judgement::chains_to;
pub use self::keys::{KeyEntry, Keys};
pub use self::roots::{Roots, SystemRoots};

//! What a certificate proves about a peer, and what is only claimed.
//!
//! Owns: reading the names of a certificate (dNSName, SRVName, xmppAddr), matching them against a
//! claimed domain, pinned keys, TLSA records, and the proof types that later steps ask for.
//! Does not own: path validation (gatehouse-tls does that right after the handshake), sockets,
//! clocks, trust anchors.

mod certificate;
mod dane;
mod distinguished_name;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod names;
mod peer;
mod pin;
mod presented;
mod printable;
mod purposes;
mod sip;

pub use self::certificate::{CertificateSummary, UnreadableCertificate};
pub use self::dane::{ChainsTo, TlsaSet};
pub use self::names::CertificateNames;
pub use self::peer::{AuthenticatedPeer, IdentityError, Proof, prove};
pub use self::pin::{InvalidPin, KeyPin};
pub use self::presented::{ChainFault, Presented, TlsFacts, TlsVersion, VerifiedLeaf, Vouched};
pub use self::printable::printable;
pub use self::purposes::CertificatePurposes;
pub use self::sip::{Lacking, SipCertificate, SipGrounds, SipIdentityError};

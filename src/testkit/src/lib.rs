//! Test PKI: an authority of one's own, and every kind of certificate a peer might show. And the corpora of
//! the fuzz targets, for the tests that replay them.
//!
//! Only ever a dev-dependency. Owns: throw-away keys and certificates, good and bad.
//! Does not own: anything that a running gateway uses. The subjectAltName encoder here is written
//! apart from the one in gatehouse-pki on purpose, so that a mistake in one cannot hide in the
//! other.
#![allow(clippy::expect_used, reason = "a test world that cannot be built is a failed test")]

mod authority;
mod certificate;
mod corpus;
mod san;

pub use self::authority::TestCa;
pub use self::certificate::{Issue, TestCertificate};
pub use self::corpus::replay;
pub use self::san::San;

//! Server-side SASL for clients: SCRAM-SHA-256 and -1 with and without -PLUS, PLAIN, and
//! tokens (HT-SHA-256).
//!
//! Only keys are known here, never passwords (RFC 5802, section 3: StoredKey and ServerKey). An
//! account that does not exist gets decoy keys and the same treatment, so that neither what a
//! client reads nor the work done for it says whether there is such an account.

mod exchange;
mod failure;
mod keys;
mod mechanism;
mod plain;
mod scram;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod test_client;
mod token;

pub(crate) use self::exchange::{Answer, Opening, Terms};
pub(crate) use self::failure::Failure;
pub use self::keys::{ITERATIONS, InvalidPassword, ScramHash, ScramKeys};
pub(crate) use self::mechanism::Mechanism;
pub(crate) use self::scram::AwaitProof;
pub(crate) use self::token::TokenFirst;
pub use self::token::TokenMechanism;

//! Server-side SASL: SCRAM-SHA-256 and -1 with and without -PLUS, PLAIN, EXTERNAL.
//!
//! Only keys are known here, never passwords (RFC 5802, section 3: StoredKey and ServerKey).

use zeroize::Zeroize;

/// The hash of a SCRAM family.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ScramHash {
    /// SCRAM-SHA-1 (RFC 5802).
    Sha1,
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256,
}

/// What is stored instead of a password, for one hash.
#[derive(Clone, Eq, PartialEq)]
pub struct ScramKeys {
    /// Which hash.
    pub hash: ScramHash,
    /// Salt.
    pub salt: Vec<u8>,
    /// PBKDF2 iterations.
    pub iterations: u32,
    /// H(ClientKey).
    pub stored_key: Vec<u8>,
    /// HMAC(SaltedPassword, "Server Key").
    pub server_key: Vec<u8>,
}

/// PBKDF2 iterations of new keys.
pub const ITERATIONS: u32 = 10_000;

/// A password that cannot be prepared (RFC 8265, OpaqueString), such as an empty one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this password cannot be used: it is empty or has characters that may not stand in one")]
pub struct InvalidPassword;

impl ScramKeys {
    /// Derives the keys of `password`.
    pub fn derive(
        hash: ScramHash,
        password: &str,
        salt: &[u8],
        iterations: u32,
    ) -> Result<Self, InvalidPassword> {
        let _ = (hash, password, salt, iterations);
        todo!()
    }
}

impl Drop for ScramKeys {
    fn drop(&mut self) {
        self.stored_key.zeroize();
        self.server_key.zeroize();
    }
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ScramKeys({:?}, [redacted])", self.hash)
    }
}

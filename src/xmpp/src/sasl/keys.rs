use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use gatehouse_types::Jid;
use precis_profiles::OpaqueString;
use precis_profiles::precis_core::profile::PrecisFastInvocation as _;
use zeroize::{Zeroize, Zeroizing};

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
    /// Salt. Make it 16 bytes long: that is what the salt of an unknown account looks like.
    pub salt: Vec<u8>,
    /// PBKDF2 iterations. Make it [`ITERATIONS`], for the same reason.
    pub iterations: u32,
    /// H(ClientKey).
    pub stored_key: Vec<u8>,
    /// HMAC(SaltedPassword, "Server Key").
    pub server_key: Vec<u8>,
}

/// PBKDF2 iterations of new keys.
pub const ITERATIONS: u32 = 10_000;

/// The salt of decoys, and of all keys that are to look like them.
const SALT_BYTES: usize = 16;

/// A password that cannot be prepared (RFC 8265, OpaqueString), such as an empty one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this password cannot be used: it is empty or has characters that may not stand in one")]
pub struct InvalidPassword;

impl ScramKeys {
    /// Derives the keys of `password` (RFC 5802, section 3). No iterations count as one.
    pub fn derive(
        hash: ScramHash,
        password: &str,
        salt: &[u8],
        iterations: u32,
    ) -> Result<Self, InvalidPassword> {
        let prepared = OpaqueString::enforce(password).map_err(|_| InvalidPassword)?;
        let prepared = Zeroizing::new(prepared.into_owned());
        let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        let mut salted = Zeroizing::new(vec![0; hash.output_len()]);
        pbkdf2::derive(hash.pbkdf2(), rounds, salt, prepared.as_bytes(), &mut salted);
        let mut client_key = hash.hmac(&salted, b"Client Key");
        let keys = Self {
            hash,
            salt: salt.to_vec(),
            iterations: rounds.get(),
            stored_key: hash.digest(&client_key),
            server_key: hash.hmac(&salted, b"Server Key"),
        };
        client_key.zeroize();
        Ok(keys)
    }

    /// Keys for an account without any: the same ones each time, and nobody knows a password that
    /// goes with them.
    fn decoy(hash: ScramHash, account: &Jid, secret: &[u8]) -> Self {
        let mut key = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
        // Real accounts have a salt for each hash; so have the others.
        key.update(format!("{hash:?}\0{account}\0").as_bytes());
        let make = |what: &[u8], len: usize| {
            let mut context = key.clone();
            context.update(what);
            context.sign().as_ref().iter().copied().take(len).collect()
        };
        Self {
            hash,
            salt: make(b"salt", SALT_BYTES),
            iterations: ITERATIONS,
            stored_key: make(b"stored key", hash.output_len()),
            server_key: make(b"server key", hash.output_len()),
        }
    }

    /// False for what no `derive` made, such as a damaged row of a store.
    fn is_whole(&self) -> bool {
        let len = self.hash.output_len();
        !self.salt.is_empty()
            && self.iterations > 0
            && self.stored_key.len() == len
            && self.server_key.len() == len
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

impl ScramHash {
    pub(super) fn output_len(self) -> usize {
        self.digest_algorithm().output_len()
    }

    pub(super) fn digest(self, data: &[u8]) -> Vec<u8> {
        digest::digest(self.digest_algorithm(), data).as_ref().to_vec()
    }

    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), data).as_ref().to_vec()
    }

    pub(super) fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        }
    }

    fn digest_algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        }
    }
}

/// The keys that a proof is checked against. There always are some.
#[derive(Debug)]
pub(super) struct Credential {
    keys: ScramKeys,
    source: Source,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    Stored,
    Decoy,
}

impl Credential {
    /// The keys of `account` for `hash`, or for the best hash there is if any will do.
    pub(super) fn select(
        stored: Vec<ScramKeys>,
        hash: Option<ScramHash>,
        account: &Jid,
        decoy_secret: &[u8],
    ) -> Self {
        // Made whether needed or not: the same work for all.
        let decoy = ScramKeys::decoy(hash.unwrap_or(ScramHash::Sha256), account, decoy_secret);
        let found = stored
            .into_iter()
            .filter(|keys| hash.is_none_or(|hash| keys.hash == hash) && keys.is_whole())
            .max_by_key(|keys| match keys.hash {
                ScramHash::Sha1 => 1,
                ScramHash::Sha256 => 2,
            });
        match found {
            Some(keys) => Self { keys, source: Source::Stored },
            None => Self { keys: decoy, source: Source::Decoy },
        }
    }

    pub(super) fn keys(&self) -> &ScramKeys {
        &self.keys
    }

    /// True if `stored_key`, computed from what the client sent, is the account's. Takes the same
    /// time whatever the answer, and compares even where the answer can only be no.
    pub(super) fn accepts(&self, stored_key: &[u8]) -> bool {
        let equal =
            constant_time::verify_slices_are_equal(&self.keys.stored_key, stored_key).is_ok();
        equal & (self.source == Source::Stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Jid {
        Jid::of_account(name, &"ours.example".parse().unwrap()).unwrap()
    }

    fn derive(hash: ScramHash, password: &str) -> ScramKeys {
        ScramKeys::derive(hash, password, b"0123456789abcdef", 2).unwrap()
    }

    #[test]
    fn password_is_prepared() {
        // RFC 8265, section 4.3, example 5: OGHAM SPACE MARK becomes a space.
        let (ogham, space) = ("foo\u{1680}bar", "foo bar");
        assert_eq!(derive(ScramHash::Sha256, ogham), derive(ScramHash::Sha256, space));
        assert_ne!(derive(ScramHash::Sha256, "Foo bar"), derive(ScramHash::Sha256, space));
        for unusable in ["", "tab\there", "nul\0"] {
            let refused = ScramKeys::derive(ScramHash::Sha1, unusable, b"salt", 1);
            assert_eq!(refused, Err(InvalidPassword), "{unusable:?}");
        }
    }

    #[test]
    fn decoys_are_steady_and_all_different() {
        let decoy =
            |hash, name: &str, secret: &[u8]| ScramKeys::decoy(hash, &account(name), secret);
        let one = decoy(ScramHash::Sha256, "one", b"secret");
        assert_eq!(one, decoy(ScramHash::Sha256, "ONE", b"secret"));
        assert_ne!(one.salt, decoy(ScramHash::Sha256, "two", b"secret").salt);
        assert_ne!(one.salt, decoy(ScramHash::Sha256, "one", b"other").salt);
        assert_ne!(one.salt, decoy(ScramHash::Sha1, "one", b"secret").salt);
        let real = ScramKeys::derive(ScramHash::Sha256, "pw", &[0; 16], ITERATIONS).unwrap();
        for (decoy, real) in [
            (&one.salt, &real.salt),
            (&one.stored_key, &real.stored_key),
            (&one.server_key, &real.server_key),
        ] {
            assert_eq!(decoy.len(), real.len());
        }
        assert_eq!((one.iterations, one.is_whole()), (real.iterations, true));
    }

    #[test]
    fn decoy_accepts_nothing() {
        let name = account("nobody");
        let credential = Credential::select(Vec::new(), None, &name, b"secret");
        // Not even the key that it was made with.
        let own = credential.keys().stored_key.clone();
        assert!(!credential.accepts(&own));
    }

    #[test]
    fn select_takes_the_hash_that_is_wanted() {
        let stored = || vec![derive(ScramHash::Sha1, "pw"), derive(ScramHash::Sha256, "pw")];
        let select = |stored, hash| Credential::select(stored, hash, &account("a"), b"secret");
        for (wanted, got) in [
            (Some(ScramHash::Sha1), ScramHash::Sha1),
            (Some(ScramHash::Sha256), ScramHash::Sha256),
            (None, ScramHash::Sha256),
        ] {
            let credential = select(stored(), wanted);
            assert_eq!((credential.keys.hash, credential.source), (got, Source::Stored));
        }
        let only_sha1 = || stored().into_iter().take(1).collect();
        assert_eq!(select(only_sha1(), None).keys.hash, ScramHash::Sha1);
        let missing = select(only_sha1(), Some(ScramHash::Sha256));
        assert_eq!((missing.keys.hash, missing.source), (ScramHash::Sha256, Source::Decoy));
        let mut damaged = derive(ScramHash::Sha1, "pw");
        damaged.stored_key.truncate(3);
        assert_eq!(select(vec![damaged], Some(ScramHash::Sha1)).source, Source::Decoy);
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", derive(ScramHash::Sha256, "hunter2"));
        assert_eq!(shown, "ScramKeys(Sha256, [redacted])");
    }
}

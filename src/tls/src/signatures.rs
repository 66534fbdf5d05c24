//! Signatures in certificates that have been found right.
//!
//! Checking them is the dearest part of judging a chain, and a partner shows the same one each time it
//! connects. That a signature is right, for these bytes and this key, depends neither on the time nor on
//! whom we trust, so it is remembered. Nothing else is: validity, purposes, names, constraints and the
//! way to an authority are looked at anew whenever a chain is judged, and possession of the key is
//! proved in each handshake.

use std::collections::HashSet;
use std::fmt;
use std::mem;
use std::sync::Arc;

use aws_lc_rs::digest;
use parking_lot::Mutex;
use rustls_pki_types::{
    AlgorithmIdentifier, FipsStatus, InvalidSignature, SignatureVerificationAlgorithm,
};

use crate::provider::provider;

/// Signatures after which the older half is forgotten. Only those under an authority of ours get in.
const HALF_LEN_MAX: usize = 1024;

/// The algorithms of our provider, which remember what they found right.
#[derive(Debug)]
pub(crate) struct Signatures(Vec<Remembering>);

impl Signatures {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        let known = Arc::new(Mutex::new(Known::default()));
        let all = provider().signature_verification_algorithms.all.iter();
        Self(all.map(|checker| Remembering { checker: *checker, known: known.clone() }).collect())
    }

    /// As the path builder takes them.
    pub(crate) fn algorithms(&self) -> Vec<&dyn SignatureVerificationAlgorithm> {
        self.0.iter().map(|algorithm| algorithm as &dyn SignatureVerificationAlgorithm).collect()
    }

    /// How many are known.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.first().map_or(0, |algorithm| algorithm.known.lock().len())
    }
}

impl Default for Signatures {
    fn default() -> Self {
        Self::new()
    }
}

/// One algorithm.
struct Remembering {
    checker: &'static dyn SignatureVerificationAlgorithm,
    /// Shared by all algorithms.
    known: Arc<Mutex<Known>>,
}

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let fingerprint = Fingerprint::of(self.checker, public_key, message, signature);
        if self.known.lock().contains(&fingerprint) {
            return Ok(());
        }
        self.checker.verify_signature(public_key, message, signature)?;
        self.known.lock().insert(fingerprint);
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.checker.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.checker.signature_alg_id()
    }

    fn fips_status(&self) -> FipsStatus {
        self.checker.fips_status()
    }

    fn fips(&self) -> bool {
        self.checker.fips()
    }
}

impl fmt::Debug for Remembering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.checker.fmt(f)
    }
}

/// SHA-256 over all that a verdict on a signature depends on.
#[derive(Clone, Eq, Hash, PartialEq)]
struct Fingerprint([u8; digest::SHA256_OUTPUT_LEN]);

impl Fingerprint {
    fn of(
        algorithm: &dyn SignatureVerificationAlgorithm,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        let (key_kind, kind) = (algorithm.public_key_alg_id(), algorithm.signature_alg_id());
        for part in [key_kind.as_ref(), kind.as_ref(), public_key, signature, message] {
            // With its length, so that no byte can move from one part into the next.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut fingerprint = Self([0; digest::SHA256_OUTPUT_LEN]);
        fingerprint.0.copy_from_slice(context.finish().as_ref());
        fingerprint
    }
}

/// A bounded set: once the younger half is full, the older one is forgotten.
#[derive(Default)]
struct Known {
    younger: HashSet<Fingerprint>,
    older: HashSet<Fingerprint>,
}

impl Known {
    /// Who is asked for stays.
    fn contains(&mut self, fingerprint: &Fingerprint) -> bool {
        if self.younger.contains(fingerprint) {
            return true;
        }
        match self.older.take(fingerprint) {
            Some(fingerprint) => {
                self.insert(fingerprint);
                true
            }
            None => false,
        }
    }

    fn insert(&mut self, fingerprint: Fingerprint) {
        if self.younger.len() >= HALF_LEN_MAX {
            self.older = mem::take(&mut self.younger);
        }
        self.younger.insert(fingerprint);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.younger.len() + self.older.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls_pki_types::alg_id::{ECDSA_P256, ECDSA_SHA256, ED25519, RSA_ENCRYPTION};

    use super::*;

    /// Takes only the signature `right`, and counts how often it is asked.
    #[derive(Debug)]
    struct Counting {
        asked: AtomicUsize,
        key_kind: AlgorithmIdentifier,
        kind: AlgorithmIdentifier,
    }

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(
            &self,
            _: &[u8],
            _: &[u8],
            signature: &[u8],
        ) -> Result<(), InvalidSignature> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if signature.starts_with(b"right") { Ok(()) } else { Err(InvalidSignature) }
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            self.key_kind
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            self.kind
        }
    }

    fn counting(
        key_kind: AlgorithmIdentifier,
        kind: AlgorithmIdentifier,
        known: &Arc<Mutex<Known>>,
    ) -> (Remembering, &'static Counting) {
        let asked = AtomicUsize::new(0);
        let checker: &'static Counting = Box::leak(Box::new(Counting { asked, key_kind, kind }));
        (Remembering { checker, known: known.clone() }, checker)
    }

    #[test]
    fn what_is_known_is_not_checked_again_and_nothing_else_is_known_by_it() {
        let known = Arc::default();
        let (remembering, checker) = counting(ECDSA_P256, ECDSA_SHA256, &known);
        let asked = || checker.asked.load(Ordering::Relaxed);
        for _ in 0..3 {
            assert!(remembering.verify_signature(b"key", b"message", b"right").is_ok());
        }
        assert_eq!(asked(), 1);

        // Another key, message or signature; and bytes that moved from one to the other.
        for (number, (key, message, signature)) in [
            (&b"yek"[..], &b"message"[..], &b"right"[..]),
            (b"key", b"messagf", b"right"),
            (b"key", b"message", b"right too"),
            (b"keym", b"essage", b"right"),
            (b"ke", b"ymessage", b"right"),
            (b"key", b"", b"rightmessage"),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(remembering.verify_signature(key, message, signature).is_ok());
            assert_eq!(asked(), number + 2, "{key:?} {message:?} {signature:?}");
        }

        // The same bytes for another algorithm.
        for (key_kind, kind) in [(ED25519, ECDSA_SHA256), (ECDSA_P256, RSA_ENCRYPTION)] {
            let (other, checker) = counting(key_kind, kind, &known);
            assert!(other.verify_signature(b"key", b"message", b"right").is_ok());
            assert_eq!(checker.asked.load(Ordering::Relaxed), 1);
        }
    }

    #[test]
    fn what_is_wrong_is_checked_and_refused_each_time() {
        let known = Arc::default();
        let (remembering, checker) = counting(ECDSA_P256, ECDSA_SHA256, &known);
        assert!(remembering.verify_signature(b"key", b"message", b"right").is_ok());
        for asked in 2..5 {
            assert!(remembering.verify_signature(b"key", b"message", b"wrong").is_err());
            assert_eq!(checker.asked.load(Ordering::Relaxed), asked);
        }
        assert_eq!(known.lock().len(), 1);
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_asked_for() {
        let known = Arc::default();
        let (remembering, checker) = counting(ECDSA_P256, ECDSA_SHA256, &known);
        let verify = |message: &[u8]| {
            let asked = checker.asked.load(Ordering::Relaxed);
            assert!(remembering.verify_signature(b"key", message, b"right").is_ok());
            checker.asked.load(Ordering::Relaxed) - asked
        };
        assert_eq!((verify(b"seldom"), verify(b"often")), (1, 1));
        for number in 0..5 * HALF_LEN_MAX {
            assert_eq!(verify(&number.to_be_bytes()), 1);
            assert_eq!(verify(b"often"), 0);
        }
        assert_eq!(verify(b"seldom"), 1);
        assert!(known.lock().len() <= 2 * HALF_LEN_MAX, "{}", known.lock().len());
    }
}

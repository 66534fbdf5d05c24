//! Randomness, passed in.

use aws_lc_rs::hmac;

/// A source of unguessable bytes that a machine owns; seeded once by its owner, so that a test can
/// replay a run. HMAC-SHA-256 in counter mode over the seed.
#[derive(Clone)]
pub struct Seed {
    key: hmac::Key,
    counter: u64,
}

impl Seed {
    /// Starts from 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), counter: 0 }
    }

    /// The next 32 bytes.
    pub fn next_bytes(&mut self) -> [u8; 32] {
        self.counter += 1;
        let tag = hmac::sign(&self.key, &self.counter.to_be_bytes());
        let mut out = [0; 32];
        out.copy_from_slice(tag.as_ref());
        out
    }

    /// The next 16 bytes as 32 hexadecimal digits: fit for stream ids, stanza ids, resources.
    pub fn next_hex(&mut self) -> String {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(32);
        for byte in self.next_bytes().iter().take(16) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed")
    }
}

//! Dialback (XEP-0220) with keys as in XEP-0185.

use aws_lc_rs::{constant_time, digest, hmac};
use gatehouse_types::{Domain, Secret};

/// The secret that all edges of one deployment share.
#[derive(Clone, Debug)]
pub struct DialbackSecret(Secret<Vec<u8>>);

impl DialbackSecret {
    /// Wraps the bytes (at least 32 of them, random).
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Secret::new(bytes))
    }

    /// The key for a stream: HMAC-SHA256 keyed with the hex SHA-256 of the secret over
    /// `receiving originating streamid`, in lower-case hex (XEP-0185, section 3).
    pub fn key(&self, receiving: &Domain, originating: &Domain, stream_id: &str) -> String {
        hex(self.tag(receiving, originating, stream_id).as_ref())
    }

    /// Compares in constant time.
    pub fn is_valid(
        &self,
        key: &str,
        receiving: &Domain,
        originating: &Domain,
        stream_id: &str,
    ) -> bool {
        let expected = self.key(receiving, originating, stream_id);
        constant_time::verify_slices_are_equal(key.as_bytes(), expected.as_bytes()).is_ok()
    }

    fn tag(&self, receiving: &Domain, originating: &Domain, stream_id: &str) -> hmac::Tag {
        let secret = hex(digest::digest(&digest::SHA256, self.0.reveal()).as_ref());
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        // Domains go in as A-labels, so every edge makes the same key however it was spelled.
        hmac::sign(&key, format!("{receiving} {originating} {stream_id}").as_bytes())
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        text.parse().unwrap()
    }

    const KEY: &str = "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643";

    #[test]
    fn key_of_the_specification() {
        let secret = DialbackSecret::new(b"s3cr3tf0rd14lb4ck".to_vec());
        let (receiving, originating) = (domain("xmpp.example.com"), domain("example.org"));
        assert_eq!(secret.key(&receiving, &originating, "D60000229F"), KEY);
        assert!(secret.is_valid(KEY, &receiving, &originating, "D60000229F"));
    }

    #[test]
    fn key_fits_nothing_else() {
        let secret = DialbackSecret::new(b"s3cr3tf0rd14lb4ck".to_vec());
        let other = DialbackSecret::new(b"another".to_vec());
        let (receiving, originating) = (domain("xmpp.example.com"), domain("example.org"));
        assert!(!other.is_valid(KEY, &receiving, &originating, "D60000229F"), "secret");
        assert!(!secret.is_valid(KEY, &originating, &receiving, "D60000229F"), "direction");
        assert!(!secret.is_valid(KEY, &receiving, &originating, "D60000229E"), "stream");
        assert!(!secret.is_valid("", &receiving, &originating, "D60000229F"), "empty");
        assert!(!secret.is_valid(&KEY[1..], &receiving, &originating, "D60000229F"), "shorter");
    }
}

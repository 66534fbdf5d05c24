//! Dialback (XEP-0220) with keys as in XEP-0185.

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
        let _ = (receiving, originating, stream_id, &self.0);
        todo!()
    }

    /// Compares in constant time.
    pub fn is_valid(
        &self,
        key: &str,
        receiving: &Domain,
        originating: &Domain,
        stream_id: &str,
    ) -> bool {
        let _ = (key, receiving, originating, stream_id);
        todo!()
    }
}

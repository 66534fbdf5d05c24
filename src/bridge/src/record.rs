//! What outlives a restart.

use bytes::Bytes;

/// The name of a record: text that is the same for the same subscription.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RecordKey(pub String);

/// One subscription, as its owner stores it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Its name.
    pub key: RecordKey,
    /// Its state; the first byte is the version of the form.
    pub value: Bytes,
}

/// Why a record cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("stored SIP subscription: {why}")]
pub struct InvalidRecord {
    /// What is wrong.
    pub why: &'static str,
}

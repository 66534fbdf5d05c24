use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock, in Unix seconds: certificates begin and end by it.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of this program that reads it for certificates"
)]
pub(crate) fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

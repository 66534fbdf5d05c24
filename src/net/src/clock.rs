use std::time::Instant;

/// The time that machines are given. Tests can pause it (`tokio::time::pause`).
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

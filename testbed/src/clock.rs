use std::thread;
use std::time::{Duration, Instant};

const POLL_EVERY: Duration = Duration::from_millis(30);

/// The one place of the testbed that reads the clock.
#[expect(clippy::disallowed_methods, reason = "the testbed runs real programs in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Asks again and again until there is an answer or the time is up.
pub(crate) fn poll<T>(within: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = now() + within;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if now() >= deadline {
            return None;
        }
        thread::sleep(POLL_EVERY);
    }
}

//! What may be tried again, and when (RFC 6665 sections 4.1.2.3 and 4.1.3, RFC 8048).

use std::time::Duration;

use crate::{HeaderName, Message, Seed, Status};

/// The longest time a 423 can make us ask for.
pub(super) const EXPIRES_MAX: u32 = 7 * 24 * 3600;
/// The shortest time between two refreshes.
pub(super) const REFRESH_MIN: Duration = Duration::from_secs(5);
/// The first wait and the longest, in seconds.
const WAIT_FIRST: u32 = 30;
const WAIT_MAX: u32 = 3600;

/// What a refusal of SUBSCRIBE means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AfterRefusal {
    /// Ask for more time.
    Raise,
    /// The dialog is gone: a new one.
    Anew,
    /// Later.
    Later,
    /// For good.
    Never,
}

pub(super) fn after_refusal(status: Status) -> AfterRefusal {
    match status.code() {
        423 => AfterRefusal::Raise,
        481 => AfterRefusal::Anew,
        408 | 429 | 430 | 480 | 482 | 483 | 486 | 487 | 491 | 494 | 500 | 502..=504 | 600 => {
            AfterRefusal::Later
        }
        300..=399 | 506..=599 => AfterRefusal::Later,
        _ => AfterRefusal::Never,
    }
}

/// What a reason of `terminated` means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AfterTermination {
    AtOnce,
    Later,
    Never,
}

pub(super) fn after_termination(reason: Option<&str>) -> AfterTermination {
    match reason {
        Some("deactivated" | "timeout") => AfterTermination::AtOnce,
        Some("rejected" | "noresource" | "invariant") => AfterTermination::Never,
        // `probation`, `giveup`, none, and what we do not know.
        _ => AfterTermination::Later,
    }
}

/// How long to wait after so many failures in a row; what the peer asks for counts, within bounds.
pub(super) fn wait(seed: &mut Seed, failures: u32, asked: Option<u32>) -> Duration {
    let doublings = failures.saturating_sub(1).min(7);
    let own = WAIT_FIRST.saturating_mul(1 << doublings).min(WAIT_MAX);
    let seconds = asked.map_or(own, |asked| asked.clamp(1, WAIT_MAX));
    // Up to a fifth more, so that those who were refused together do not come back together.
    Duration::from_secs(seconds.into()).mul_f64(1.0 + 0.2 * fraction(seed))
}

/// From 0 to 1.
pub(super) fn fraction(seed: &mut Seed) -> f64 {
    let [first, second, ..] = seed.next_bytes();
    f64::from(u16::from_be_bytes([first, second])) / 65536.0
}

/// A header that holds seconds; what follows the digits (Retry-After's comment) is passed over.
pub(super) fn seconds(message: &Message, name: &HeaderName) -> Option<u32> {
    let value = message.headers.get(name)?;
    let digits: String = value.trim().chars().take_while(char::is_ascii_digit).collect();
    if digits.is_empty() { None } else { Some(digits.parse().unwrap_or(u32::MAX)) }
}

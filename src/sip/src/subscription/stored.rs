//! Subscriptions for the store. Moments are written as seconds of the wall clock.

use std::time::{Duration, Instant};

use super::{Cause, InvalidStored, Subscriber, Watch, WatchState};
use crate::dialog::{Reader, Writer};
use crate::{Dialog, Seed};

const VERSION: u8 = 1;
/// Media types of one subscription.
pub(super) const TYPES_MAX: u64 = 16;

impl Subscriber {
    /// For the store; `unix` is the wall clock in seconds.
    pub fn to_bytes(&self, now: Instant, unix: u64) -> Vec<u8> {
        let mut out = Writer::new(VERSION);
        let watch = &self.watch;
        for text in [
            &watch.local.to_string(),
            &watch.remote.to_string(),
            &watch.target.to_string(),
            &watch.contact.to_string(),
            &watch.package,
        ] {
            out.text(text);
        }
        out.number(watch.accept.len() as u64);
        for accepted in &watch.accept {
            out.text(accepted);
        }
        out.number(watch.expires.into());
        out.number(self.wish.into());
        out.number(match &self.state {
            WatchState::Asking | WatchState::Waiting { .. } => 0,
            WatchState::Pending => 1,
            WatchState::Active => 2,
            WatchState::Ended(_) => 3,
        });
        out.number(self.failures.into());
        out.optional(self.expires_at.map(|at| to_unix(at, now, unix)));
        out.bytes(&self.dialog.as_ref().map(Dialog::to_bytes).unwrap_or_default());
        out.done()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `unix` is the wall clock in seconds. A
    /// subscription that has run out is asked for anew at once; otherwise the next refresh comes
    /// when it is due: call [`refresh`](Self::refresh) to have the state now.
    ///
    /// # Errors
    /// Bytes of another version or damaged ones.
    pub fn from_bytes(
        bytes: &[u8],
        seed: Seed,
        now: Instant,
        unix: u64,
    ) -> Result<Self, InvalidStored> {
        let mut input = Reader::new(bytes, VERSION)?;
        let (local, remote) = (input.address()?, input.address()?);
        let (target, contact) = (input.uri()?, input.address()?);
        let package = input.text()?;
        let count = input.number()?;
        if count > TYPES_MAX {
            return Err(InvalidStored);
        }
        let accept = (0..count).map(|_| input.text()).collect::<Result<_, _>>()?;
        let expires = input.small()?;
        let watch = Watch { local, remote, target, contact, package, accept, expires };
        let mut revived = Self::idle(watch, seed);
        revived.wish = input.small()?;
        let state = input.number()?;
        revived.failures = input.small()?;
        let ends = input.optional()?;
        let dialog = input.bytes()?;
        let dialog = if dialog.is_empty() { None } else { Some(Dialog::from_bytes(dialog)?) };
        input.end()?;
        let left = ends.and_then(|ends| ends.checked_sub(unix)).filter(|left| *left > 0);
        let left = left.map(|left| u32::try_from(left).unwrap_or(u32::MAX).min(revived.wish));
        revived.state = match state {
            0 => WatchState::Asking,
            1 => WatchState::Pending,
            2 => WatchState::Active,
            3 => WatchState::Ended(Cause::Done),
            _ => return Err(InvalidStored),
        };
        match (dialog, left) {
            _ if state == 3 => {}
            (Some(dialog), Some(left)) => {
                revived.call_id = dialog.id.call_id.clone();
                revived.local_tag = dialog.id.local_tag.clone();
                revived.dialog = Some(dialog);
                revived.set_expiry(left, now);
            }
            _ => revived.start(now),
        }
        Ok(revived)
    }
}

/// A moment of the wall clock, rounded down.
pub(super) fn to_unix(at: Instant, now: Instant, unix: u64) -> u64 {
    if at >= now {
        unix.saturating_add(at.duration_since(now).as_secs())
    } else {
        unix.saturating_sub(now.duration_since(at).as_secs())
    }
}

/// The moment of a wall clock's second; what lies in the past is now. At most a year ahead, which
/// bounds what damaged bytes can say.
pub(super) fn from_unix(at: u64, now: Instant, unix: u64) -> Instant {
    now + Duration::from_secs(at.saturating_sub(unix).min(366 * 24 * 3600))
}

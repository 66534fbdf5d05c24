//! Presence subscriptions (RFC 8048, RFC 6665): local users who watch SIP contacts, and SIP
//! contacts who watch local users.

mod watched;
mod watching;

use std::time::{Duration, Instant};

use gatehouse_sip::pidf;
use gatehouse_sip::{HeaderName, Message};

pub(crate) use self::watched::Person;
pub(crate) use self::watching::{Fetch, Watch};
use crate::availability::{Availability, from_pidf};
use crate::record::Stored;
use crate::{Effect, Gateway, InvalidRecord, Record, sip};

/// Timer N (RFC 6665 section 4.1.2.4): how long a SUBSCRIBE waits for its NOTIFY.
const NOTIFY_WAIT: Duration = Duration::from_secs(32);
const BACKOFF_FIRST: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(3600);

impl Gateway {
    /// Takes back what was stored before a restart; `left` is what is left of its time (zero, if it
    /// is over: it is renewed or forgotten). What is there already, or too much, is passed over.
    ///
    /// # Errors
    /// If it was not written by this program; the record is best taken away.
    pub fn revive(
        &mut self,
        record: &Record,
        left: Duration,
        now: Instant,
    ) -> Result<(), InvalidRecord> {
        let stored = Stored::read(record)?;
        let at = self.within_revival(now);
        match stored {
            Stored::Watch { pair, granted, dialog } => {
                self.revive_watch(pair, granted, dialog.filter(|_| !left.is_zero()), at);
            }
            Stored::Watched { pair, granted, event_id, dialog } => {
                if left.is_zero() {
                    self.push(Effect::Forget(record.key.clone()));
                } else {
                    self.revive_watched(pair, granted, (event_id, dialog), (at, now + left));
                }
            }
        }
        Ok(())
    }

    /// Some moment soon, so that not all come at once.
    fn within_revival(&mut self, now: Instant) -> Instant {
        let spread = u64::try_from(self.config.revive_within.as_millis()).unwrap_or(u64::MAX);
        now + Duration::from_millis(self.random(spread))
    }

    /// How long to wait after so many failures, somewhat scattered.
    fn backoff(&mut self, failures: u8) -> Duration {
        let wait = BACKOFF_FIRST * 2u32.saturating_pow(u32::from(failures.min(8)));
        let wait = wait.min(BACKOFF_MAX);
        let millis = u64::try_from(wait.as_millis() / 4).unwrap_or_default();
        wait + Duration::from_millis(self.random(millis))
    }

    /// What a NOTIFY says of the person's devices; `None` if it says nothing new.
    fn devices_in(&self, notify: &Message) -> Option<Vec<Availability>> {
        if notify.body.is_empty() {
            return None;
        }
        let essence = notify.content_type().ok().flatten().map(|it| it.essence);
        if !matches!(
            essence.as_deref(),
            Some(sip::PIDF | "application/cpim-pidf+xml" | "text/xml+msrtc.pidf")
        ) {
            return None;
        }
        let document = pidf::parse(&notify.body).ok()?;
        Some(from_pidf(&document, self.config.busy_as, self.config.limits.resources_max))
    }
}

/// `Retry-After` in seconds, at most a day.
fn retry_after(message: &Message) -> Option<Duration> {
    let value = message.headers.get(&HeaderName::RetryAfter)?;
    let digits: String = value.trim().chars().take_while(char::is_ascii_digit).collect();
    Some(Duration::from_secs(digits.parse::<u64>().ok()?.min(86_400)))
}

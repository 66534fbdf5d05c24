//! When to store what a client was sent and does not say that it has.

use std::pin::Pin;
use std::time::Duration;

use gatehouse_net::{ConnectionError, now};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::held::note_not_held;
use crate::outbox::Outgoing;
use crate::session::Client;

/// How long what was sent to a client may stay unread before the store answers for it; twice that at
/// most.
const UNREAD_MAX: Duration = Duration::from_secs(2);

/// Tells what was sent some time ago from what was sent since.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// Only while something was sent.
    timer: Option<Pin<Box<Sleep>>>,
    /// Sent since the timer began.
    fresh: usize,
}

impl Sweep {
    /// One more was sent.
    pub(crate) fn sent(&mut self) {
        if self.timer.is_none() {
            self.begin();
        } else {
            self.fresh += 1;
        }
    }

    /// Waits until it is time to look.
    pub(crate) async fn due(&mut self) {
        match &mut self.timer {
            Some(timer) => timer.as_mut().await,
            None => std::future::pending().await,
        }
    }

    /// It was time: tells how many of `waiting` were there before, and goes on unless none waits.
    fn look(&mut self, waiting: usize) -> usize {
        let old = waiting.saturating_sub(self.fresh);
        self.timer = None;
        if waiting > 0 {
            self.begin();
        }
        old
    }

    fn begin(&mut self) {
        self.fresh = 0;
        self.timer = Some(Box::pin(sleep_until(Instant::from_std(now() + UNREAD_MAX))));
    }
}

impl Client {
    /// Stores what has been unread for some time.
    pub(crate) async fn hold_unread(&mut self) -> Result<(), ConnectionError> {
        let Some(bound) = &self.bound else {
            self.sweep = Sweep::default();
            return Ok(());
        };
        let unacked = bound.managed.iter().flat_map(|managed| managed.unacked.iter());
        let waiting: Vec<&Outgoing> = unacked.chain(&self.unwritten).collect();
        let old = self.sweep.look(waiting.len());
        let old: Vec<Outgoing> =
            waiting.into_iter().take(old).filter(|item| !item.copies.is_safe()).cloned().collect();
        if old.is_empty() {
            return Ok(());
        }
        let (router, account) = (self.ports.router.clone(), bound.session.account.jid.clone());
        let work = async move {
            if let Err(failure) = router.hold(&account, &old, router.clock.now_ms()).await {
                note_not_held(&failure);
            }
        };
        self.while_writing(work).await
    }
}

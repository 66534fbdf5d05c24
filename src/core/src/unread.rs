//! Stanzas that were handed to sessions, until their clients have read them or the store has them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_net::{Tasks, now};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::outbox::Owed;
use crate::router::Router;

/// How long a client may take to read a stanza before the store answers for it and it is acknowledged.
/// Receipts go back in order, so that a client that does not read would hold up those of everybody
/// else.
const UNREAD_MAX: Duration = Duration::from_secs(2);
/// Stanzas that clients are waited for.
const UNREAD_LEN_MAX: usize = 4096;
/// Stanzas that go into the store at a time.
const BATCH_MAX: usize = 256;
/// While there is no room, how often it is looked whether there is some.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What was handed to sessions, and whose clients are waited for.
#[derive(Clone, Debug)]
pub(crate) struct Unread(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Something waits where nothing did.
    came: Notify,
    stop: CancellationToken,
}

/// Oldest first. What is read meanwhile stays until somebody looks.
#[derive(Debug)]
struct Waiting {
    items: VecDeque<(Instant, Owed)>,
    len_max: usize,
    /// All of them were looked at, and before this it is not worth it again.
    look_at: Instant,
}

impl Waiting {
    fn new(len_max: usize) -> Self {
        Self { items: VecDeque::new(), len_max, look_at: now() }
    }

    /// Drops what is read by now; mostly that is all up to the newest.
    fn drop_read(&mut self) {
        while self.items.pop_front_if(|(_, owed)| !owed.is_held_elsewhere()).is_some() {}
    }

    fn has_room(&mut self, now: Instant) -> bool {
        self.drop_read();
        if self.items.len() >= self.len_max && self.look_at <= now {
            self.items.retain(|(_, owed)| owed.is_held_elsewhere());
            self.look_at = now + LOOK_EVERY;
        }
        self.items.len() < self.len_max
    }

    /// When the oldest is to be stored.
    fn due_at(&mut self) -> Option<Instant> {
        self.drop_read();
        self.items.front().map(|(until, _)| *until)
    }

    fn take_due(&mut self, now: Instant) -> Vec<Owed> {
        let mut due = Vec::new();
        while due.len() < BATCH_MAX
            && let Some((_, owed)) = self.items.pop_front_if(|(until, _)| *until <= now)
        {
            due.push(owed);
        }
        due
    }
}

impl Unread {
    /// Starts the task that waits, no longer than it may.
    pub(crate) fn start(router: &Router, span: Span, tasks: &Tasks) -> Self {
        let unread = Self::new(UNREAD_LEN_MAX, tasks.stop());
        let (shared, keeper) = (Arc::clone(&unread.0), router.clone());
        tasks.spawn(span, async move {
            let release = async {
                loop {
                    let due_at = shared.waiting.lock().due_at();
                    let Some(due_at) = due_at else {
                        shared.came.notified().await;
                        continue;
                    };
                    time::sleep_until(due_at.into()).await;
                    let due = shared.waiting.lock().take_due(now());
                    keeper.hold_unread(&due, keeper.clock.now_ms()).await;
                    due.iter().for_each(Owed::release_receipt);
                }
            };
            shared.stop.run_until_cancelled(release).await;
        });
        unread
    }

    fn new(len_max: usize, stop: CancellationToken) -> Self {
        let waiting = Mutex::new(Waiting::new(len_max));
        Self(Arc::new(Shared { waiting, came: Notify::new(), stop }))
    }

    /// Has it waited for whoever else answers for a stanza, if anybody does. While too many are waited
    /// for, this waits, and with it whoever brings more: nothing is taken for safe that is not. When we
    /// are stopping, whoever else has it answers for it alone.
    pub(crate) async fn watch(&self, owed: Owed) {
        while owed.is_held_elsewhere() && !self.0.stop.is_cancelled() {
            if self.try_watch(&owed) {
                return;
            }
            let pause = time::sleep(LOOK_EVERY);
            self.0.stop.run_until_cancelled(pause).await;
        }
    }

    fn try_watch(&self, owed: &Owed) -> bool {
        let now = now();
        let mut waiting = self.0.waiting.lock();
        let has_room = waiting.has_room(now);
        if has_room {
            if waiting.items.is_empty() {
                self.0.came.notify_one();
            }
            waiting.items.push_back((now + UNREAD_MAX, owed.clone()));
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_trunk::Receipt;

    use super::*;

    fn owed() -> Owed {
        Owed::new(Receipt::default())
    }

    fn room_for(len: usize) -> Unread {
        Unread::new(len, CancellationToken::new())
    }

    #[tokio::test(start_paused = true)]
    async fn while_too_many_are_unread_who_brings_more_waits_and_nothing_is_released() {
        let unread = room_for(1);
        let (one, two) = (owed(), owed());
        unread.watch(one.clone()).await;
        let soon = Duration::from_secs(1);
        let waits = time::timeout(soon, unread.watch(two.clone())).await;
        assert!(waits.is_err() && one.is_held_elsewhere());
        let again = two.clone();
        assert!(two.is_held_elsewhere(), "nobody has it yet");
        let due = unread.0.waiting.lock().take_due(now() + UNREAD_MAX);
        assert_eq!(due.len(), 1);
        time::timeout(soon, unread.watch(again)).await.unwrap();
        // What is safe is not waited for.
        time::timeout(soon, unread.watch(owed())).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_takes_no_room() {
        let unread = room_for(2);
        let begun = now();
        // One client is slow, and the others are not.
        let slow = owed();
        unread.watch(slow.clone()).await;
        for _ in 0..1000 {
            let one = owed();
            let at_the_client = one.clone();
            unread.watch(one).await;
            at_the_client.release_receipt();
        }
        assert!(slow.is_held_elsewhere(), "it was not given up for the others");
        // Not two seconds for each two of them: it is looked for those behind the slow one.
        assert!(now() - begun <= 1000 * LOOK_EVERY, "{:?}", now() - begun);
        // In order nobody waits at all.
        let begun = now();
        slow.release_receipt();
        for _ in 0..1000 {
            let one = owed();
            let at_the_client = one.clone();
            unread.watch(one).await;
            at_the_client.release_receipt();
        }
        assert_eq!(now(), begun);
    }
}

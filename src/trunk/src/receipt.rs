use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// The promise to acknowledge one stanza; dropping it does.
#[derive(Default)]
pub struct Receipt {
    ticket: Option<Ticket>,
    /// In one process: the stanza's place in the budget, held until it is safe.
    room: Option<OwnedSemaphorePermit>,
}

/// Who hears of it.
enum Ticket {
    /// The stream on which the stanza came in, by its number there.
    Numbered(Arc<Receipts>, u64),
    /// Whoever shares this, once nobody else has it.
    Shared(
        #[expect(dead_code, reason = "it is dropped with the receipt")] Arc<dyn Any + Send + Sync>,
    ),
}

/// Where the receipts of one stream come back to: each stanza that came in on it takes one along,
/// and gives it back once it is safe. As long as its bound: the stanzas that are open.
#[derive(Debug)]
pub struct Receipts {
    /// Of this process; none is used twice.
    session: u64,
    done: Mutex<Vec<u64>>,
    news: Notify,
}

impl Default for Receipts {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let session = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { session, done: Mutex::default(), news: Notify::default() }
    }
}

impl Receipts {
    /// The receipt for the stanza with this number.
    pub fn receipt(self: &Arc<Self>, number: u64) -> Receipt {
        Receipt { ticket: Some(Ticket::Numbered(Arc::clone(self), number)), room: None }
    }

    /// What came back since the last time.
    pub fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.done.lock())
    }

    /// Waits until something came back.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}

impl Receipt {
    /// One that stands for a share of something else, which is dropped with it.
    pub fn sharing(other: Arc<dyn Any + Send + Sync>) -> Self {
        Self { ticket: Some(Ticket::Shared(other)), room: None }
    }

    /// Which session of a stream the stanza came in on; a resumed one is the same. `None` in one
    /// process.
    pub fn session(&self) -> Option<u64> {
        match &self.ticket {
            Some(Ticket::Numbered(receipts, _)) => Some(receipts.session),
            Some(Ticket::Shared(_)) | None => None,
        }
    }

    /// The same, which also holds a place in the budget until the stanza is safe.
    pub(crate) fn holding(mut self, room: OwnedSemaphorePermit) -> Self {
        self.room = Some(room);
        self
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(Ticket::Numbered(receipts, number)) = self.ticket.take() {
            receipts.done.lock().push(number);
            receipts.news.notify_one();
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// The promise to acknowledge one stanza; dropping it does.
#[derive(Default)]
pub struct Receipt {
    ticket: Option<(Arc<Receipts>, u64)>,
    /// In one process: the stanza's place in the budget, held until it is safe.
    room: Option<OwnedSemaphorePermit>,
}

/// Where the receipts of one stream come back to: each stanza that came in on it takes one along,
/// and gives it back once it is safe. As long as its bound: the stanzas that are open.
#[derive(Debug, Default)]
pub struct Receipts {
    done: Mutex<Vec<u64>>,
    news: Notify,
}

impl Receipts {
    /// The receipt for the stanza with this number.
    pub fn receipt(self: &Arc<Self>, number: u64) -> Receipt {
        Receipt { ticket: Some((Arc::clone(self), number)), room: None }
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
    /// The same, which also holds a place in the budget until the stanza is safe.
    pub(crate) fn holding(mut self, room: OwnedSemaphorePermit) -> Self {
        self.room = Some(room);
        self
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some((receipts, number)) = self.ticket.take() {
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

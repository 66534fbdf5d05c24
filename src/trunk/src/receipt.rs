use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// The promise to acknowledge one stanza; dropping it does.
#[derive(Default)]
pub struct Receipt {
    ticket: Option<(Arc<Receipts>, u64)>,
    /// In one process: the stanza's place in the budget, held until it is safe.
    _room: Option<OwnedSemaphorePermit>,
}

/// Where the receipts of one session come back to. As long as its bound: the stanzas that are open.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    done: Mutex<Vec<u64>>,
    news: Notify,
}

impl Receipts {
    /// The receipt for the stanza with this number.
    pub(crate) fn receipt(self: &Arc<Self>, number: u64) -> Receipt {
        Receipt { ticket: Some((Arc::clone(self), number)), _room: None }
    }

    /// What came back since the last time.
    pub(crate) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.done.lock())
    }

    /// Waits until something came back.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }
}

impl Receipt {
    pub(crate) fn holding(room: OwnedSemaphorePermit) -> Self {
        Self { ticket: None, _room: Some(room) }
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

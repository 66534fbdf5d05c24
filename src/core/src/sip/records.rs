use std::time::Duration;

use gatehouse_bridge::{Record, RecordKey};
use gatehouse_net::Tasks;
use gatehouse_store::{SipChange, Store};
use gatehouse_types::Chain;
use tokio::sync::mpsc;
use tracing::{error, info_span};

use crate::stamp::WallClock;

/// Changes that wait for the disk; then the gateway waits.
const QUEUE_LEN_MAX: usize = 4096;
/// Changes that are committed together.
const BATCH_LEN_MAX: usize = 256;

/// Writes subscriptions behind the gateway, in order.
#[derive(Debug)]
pub(super) struct Records {
    queue: mpsc::Sender<SipChange>,
    clock: WallClock,
}

impl Records {
    pub(super) fn start(store: &Store, clock: &WallClock, tasks: &Tasks) -> Self {
        let (queue, mut changes) = mpsc::channel::<SipChange>(QUEUE_LEN_MAX);
        let store = store.clone();
        // Ends with the gateway, after what it said last was written.
        tasks.spawn(info_span!("sip.records"), async move {
            let mut batch = Vec::new();
            while changes.recv_many(&mut batch, BATCH_LEN_MAX).await > 0 {
                if let Err(error) = store.change_sip_records(&batch).await {
                    error!(error = %Chain(&error), "SIP subscriptions were not stored: after a restart presence may be late");
                }
                batch.clear();
            }
        });
        Self { queue, clock: clock.clone() }
    }

    pub(super) async fn store(&self, record: Record, lasts: Duration) {
        let lasts_ms = i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX);
        let expires_ms = self.clock.now_ms().saturating_add(lasts_ms);
        let change = (record.key.0, Some((record.value.to_vec(), expires_ms)));
        // The writer lives as long as we do.
        let _ = self.queue.send(change).await;
    }

    pub(super) async fn forget(&self, key: RecordKey) {
        let _ = self.queue.send((key.0, None)).await;
    }
}

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_net::now;
use gatehouse_xmpp::Stanza;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time;

use crate::parcel::weigh;
use crate::{Receipt, Transfer, Trunk, TrunkSender, Unreachable};

/// Stanzas that wait in each direction before `send` waits.
const QUEUE_LEN_MAX: usize = 1024;

/// What may be under way in each direction, those that were taken and are not safe yet included.
const QUEUE_KIB_MAX: u32 = 32 * 1024;

/// How long a full queue is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Both ends, for edge and core in one process: (core's end, edge's end).
pub fn in_process() -> (Trunk, Trunk) {
    let (to_edge, from_core) = Channel::new("edge");
    let (to_core, from_edge) = Channel::new("core");
    let core = Trunk { sender: TrunkSender::in_process(to_edge), incoming: from_edge };
    let edge = Trunk { sender: TrunkSender::in_process(to_core), incoming: from_core };
    (core, edge)
}

/// One direction: bounded in stanzas and in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    /// The other role.
    role: &'static str,
    queue: mpsc::Sender<Transfer>,
    budget: Arc<Semaphore>,
    /// Since when nobody has found room.
    stuck_since: Arc<Mutex<Option<Instant>>>,
}

impl Channel {
    fn new(role: &'static str) -> (Self, mpsc::Receiver<Transfer>) {
        let (queue, receiver) = mpsc::channel(QUEUE_LEN_MAX);
        let budget = Arc::new(Semaphore::new(QUEUE_KIB_MAX as usize));
        (Self { role, queue, budget, stuck_since: Arc::default() }, receiver)
    }

    pub(crate) async fn send(&self, stanza: Stanza, receipt: Receipt) -> Result<(), Unreachable> {
        let weight = weight(&stanza);
        let room = async move {
            let budget = Arc::clone(&self.budget).acquire_many_owned(weight);
            let room = tokio::select! {
                room = budget => room.ok()?,
                () = self.queue.closed() => return None,
            };
            Some((room, self.queue.reserve().await.ok()?))
        };
        // Only the first waits for all of it: a role that takes nothing holds nobody up for longer.
        let mut room = pin!(room);
        let found = match time::timeout(Duration::ZERO, &mut room).await {
            Ok(found) => Ok(found),
            Err(_full) => {
                let since = *self.stuck_since.lock().get_or_insert_with(now);
                time::timeout_at((since + PATIENCE).into(), room).await
            }
        };
        match found {
            Ok(Some((room, slot))) => {
                *self.stuck_since.lock() = None;
                slot.send(Transfer { stanza, receipt: receipt.holding(room) });
                Ok(())
            }
            Ok(None) => self.unreachable("it has stopped".to_owned(), stanza),
            Err(_elapsed) => {
                let reason = format!("its queue was full for {} s", PATIENCE.as_secs());
                self.unreachable(reason, stanza)
            }
        }
    }

    pub(crate) fn try_send(&self, stanza: Stanza) -> Result<(), Unreachable> {
        let reason = match self.queue.try_reserve() {
            Err(TrySendError::Closed(())) => "it has stopped",
            Err(TrySendError::Full(())) => "its queue is full",
            Ok(slot) => match Arc::clone(&self.budget).try_acquire_many_owned(weight(&stanza)) {
                Ok(room) => {
                    slot.send(Transfer { stanza, receipt: Receipt::default().holding(room) });
                    return Ok(());
                }
                Err(_) => "its queue is full",
            },
        };
        self.unreachable(reason.to_owned(), stanza)
    }

    pub(crate) fn no_other(&self, stanza: Stanza) -> Unreachable {
        let reason = "there is one only".to_owned();
        Unreachable { role: self.role, reason, stanza: Box::new(stanza) }
    }

    fn unreachable(&self, reason: String, stanza: Stanza) -> Result<(), Unreachable> {
        Err(Unreachable { role: self.role, reason, stanza: Box::new(stanza) })
    }
}

/// One stanza always fits.
fn weight(stanza: &Stanza) -> u32 {
    weigh(stanza).min(QUEUE_KIB_MAX)
}

//! What comes over the trunk, taken in order per author.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use gatehouse_net::{Tasks, now};
use gatehouse_trunk::Transfer;
use gatehouse_types::Jid;
use tokio::sync::mpsc;
use tokio::time;
use tracing::{Span, debug, info_span};

use crate::outbox::Owed;
use crate::recent::Recent;
use crate::router::Router;

/// Stanzas of different authors are worked on at the same time by this many tasks.
const LANES: usize = 8;
/// Stanzas waiting in one lane; then the trunk waits too.
const LANE_LEN_MAX: usize = 64;

/// How long a client may take to read a stanza before the store answers for it and it is acknowledged.
/// Receipts go back in order, so that a client that does not read would hold up those of everybody
/// else.
const UNREAD_MAX: Duration = Duration::from_secs(2);
/// Stanzas that clients are waited for.
const UNREAD_LEN_MAX: usize = 4096;
/// Stanzas that go into the store at a time.
const BATCH_MAX: usize = 256;

/// What was handed to sessions, and whose clients are waited for.
#[derive(Clone, Debug)]
pub(crate) struct Unread(mpsc::Sender<(Instant, Owed)>);

impl Unread {
    /// Starts the task that waits, no longer than it may.
    pub(crate) fn start(router: &Router, span: Span, tasks: &Tasks) -> Self {
        let (unread, mut overdue) = mpsc::channel::<(Instant, Owed)>(UNREAD_LEN_MAX);
        let (stop, keeper) = (tasks.stop(), router.clone());
        tasks.spawn(span, async move {
            let release = async {
                let mut next = overdue.recv().await;
                while let Some((until, owed)) = next.take() {
                    time::sleep_until(until.into()).await;
                    let mut due = vec![owed];
                    while let Ok((until, owed)) = overdue.try_recv() {
                        if until > now() || due.len() >= BATCH_MAX {
                            next = Some((until, owed));
                            break;
                        }
                        due.push(owed);
                    }
                    keeper.hold_unread(&due, keeper.clock.now_ms()).await;
                    due.iter().for_each(Owed::release_receipt);
                    drop(due);
                    if next.is_none() {
                        next = overdue.recv().await;
                    }
                }
            };
            stop.run_until_cancelled(release).await;
        });
        Self(unread)
    }

    /// Has it waited for whoever else answers for a stanza, if anybody does. While too many are waited
    /// for, this waits, and with it whoever brings more: nothing is taken for safe that is not.
    pub(crate) async fn watch(&self, owed: Owed) {
        if owed.is_held_elsewhere() {
            // When we are stopping, whoever else has it answers for it alone.
            let _ = self.0.send((now() + UNREAD_MAX, owed)).await;
        }
    }
}

/// Starts the tasks that route what comes from the edge.
pub(crate) fn start(router: &Router, mut incoming: mpsc::Receiver<Transfer>, tasks: &Tasks) {
    let unread = Unread::start(router, info_span!("trunk.unread"), tasks);
    let lanes: Vec<mpsc::Sender<Transfer>> = (0..LANES)
        .map(|lane| {
            let (sender, mut receiver) = mpsc::channel::<Transfer>(LANE_LEN_MAX);
            let (router, unread) = (router.clone(), unread.clone());
            tasks.spawn(info_span!("trunk.lane", lane), async move {
                while let Some(Transfer { stanza, receipt }) = receiver.recv().await {
                    // The receipt lives until the stanza is safe; then the edge may forget it.
                    let owed = Owed::new(receipt);
                    router.take_from_edge(stanza, owed.clone()).await;
                    unread.watch(owed).await;
                }
            });
            sender
        })
        .collect();
    let (stop, trunk) = (tasks.stop(), router.trunk().clone());
    tasks.spawn(info_span!("trunk.incoming"), async move {
        // In one process no edge can be lost.
        let mut recent = trunk.is_remote().then(Recent::default);
        let dispatch = async {
            while let Some(transfer) = incoming.recv().await {
                let again = recent.as_mut().is_some_and(|recent| {
                    let session = transfer.receipt.session();
                    recent.comes_again(&transfer.stanza, session, now(), || trunk.lost_at())
                });
                if again {
                    // The one that came first has its own receipt; this one needs nothing more.
                    metrics::counter!("gatehouse_trunk_repeated_total").increment(1);
                    debug!(stanza.id = %transfer.stanza.trace(), "a message came again after an edge was lost");
                    continue;
                }
                let lane = lane_of(transfer.stanza.from());
                let Some(lane) = lanes.get(lane) else { continue };
                if lane.send(transfer).await.is_err() {
                    return;
                }
            }
        };
        // What was not taken from the trunk is not acknowledged, so the edge keeps it.
        stop.run_until_cancelled(dispatch).await;
    });
}

/// The same lane for everything from one user. So order holds for each pair of users, and an answer
/// to a later stanza tells the author that the earlier ones are safe, whoever they were for.
fn lane_of(from: Option<&Jid>) -> usize {
    let mut hasher = DefaultHasher::new();
    from.map(|from| (from.local(), from.domain())).hash(&mut hasher);
    usize::try_from(hasher.finish() % (LANES as u64)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use gatehouse_trunk::Receipt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn while_too_many_are_unread_who_brings_more_waits_and_nothing_is_released() {
        let (sender, mut watched) = mpsc::channel(1);
        let unread = Unread(sender);
        let owed = || Owed::new(Receipt::default());
        let (one, two) = (owed(), owed());
        unread.watch(one.clone()).await;
        let soon = Duration::from_secs(1);
        let waits = time::timeout(soon, unread.watch(two.clone())).await;
        assert!(waits.is_err() && one.is_held_elsewhere());
        let again = two.clone();
        assert!(two.is_held_elsewhere(), "nobody has it yet");
        watched.recv().await.unwrap();
        time::timeout(soon, unread.watch(again)).await.unwrap();
        // What is safe is not waited for.
        let three = owed();
        time::timeout(soon, unread.watch(three)).await.unwrap();
    }
}

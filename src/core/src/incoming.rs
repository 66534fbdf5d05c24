//! What comes over the trunk, taken in order per author.

use std::hash::{DefaultHasher, Hash, Hasher};

use gatehouse_net::{Tasks, now};
use gatehouse_trunk::Transfer;
use gatehouse_types::Jid;
use tokio::sync::mpsc;
use tracing::{debug, info_span};

use crate::outbox::Owed;
use crate::recent::Recent;
use crate::router::Router;
use crate::unread::Unread;

/// Stanzas of different authors are worked on at the same time by this many tasks.
const LANES: usize = 8;
/// Stanzas waiting in one lane; then the trunk waits too.
const LANE_LEN_MAX: usize = 64;

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

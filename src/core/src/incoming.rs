//! What comes over the trunk, taken in order per author.

use std::hash::{DefaultHasher, Hash, Hasher};

use gatehouse_net::Tasks;
use gatehouse_trunk::Transfer;
use gatehouse_types::Jid;
use tokio::sync::mpsc;
use tracing::info_span;

use crate::router::Router;

/// Stanzas of different authors are worked on at the same time by this many tasks.
const LANES: usize = 8;
/// Stanzas waiting in one lane; then the trunk waits too.
const LANE_LEN_MAX: usize = 64;

/// Starts the tasks that route what comes from the edge.
pub(crate) fn start(router: &Router, mut incoming: mpsc::Receiver<Transfer>, tasks: &Tasks) {
    let lanes: Vec<mpsc::Sender<Transfer>> = (0..LANES)
        .map(|lane| {
            let (sender, mut receiver) = mpsc::channel::<Transfer>(LANE_LEN_MAX);
            let router = router.clone();
            tasks.spawn(info_span!("trunk.lane", lane), async move {
                // The receipt lives until the stanza is safe; then the edge may forget it.
                while let Some(Transfer { stanza, receipt: _receipt }) = receiver.recv().await {
                    router.take_from_edge(stanza).await;
                }
            });
            sender
        })
        .collect();
    let stop = tasks.stop();
    tasks.spawn(info_span!("trunk.incoming"), async move {
        let dispatch = async {
            while let Some(transfer) = incoming.recv().await {
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
    from.map(Jid::to_bare).hash(&mut hasher);
    usize::try_from(hasher.finish() % (LANES as u64)).unwrap_or_default()
}

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use gatehouse_bridge::RequestKey;
use gatehouse_net::Tasks;
use gatehouse_types::Jid;
use gatehouse_xmpp::{Stanza, StanzaCondition};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{debug, info_span};

use crate::router::Router;

/// Stanzas of different authors are worked on at the same time by this many tasks.
const LANES: usize = 8;
/// Stanzas that the router has not taken yet, over all lanes.
const BUDGET: usize = 4096;
/// While fewer than so many are left, nothing is read from the edges: what is read may bring
/// several.
const RESERVE: usize = 256;

/// What became of a message that the router was given.
pub(super) type Taken = (RequestKey, Result<(), StanzaCondition>);

/// Hands stanzas of partners to the router, each author's in order, without a wait.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Vec<mpsc::Sender<Job>>,
    budget: Arc<Semaphore>,
}

#[derive(Debug)]
struct Job {
    stanza: Stanza,
    key: Option<RequestKey>,
    _place: OwnedSemaphorePermit,
}

impl Lanes {
    pub(super) fn start(router: &Router, taken: &mpsc::Sender<Taken>, tasks: &Tasks) -> Self {
        let lanes = (0..LANES).map(|lane| {
            // As long as the budget: it is never full.
            let (sender, mut jobs) = mpsc::channel::<Job>(BUDGET);
            let (router, taken) = (router.clone(), taken.clone());
            tasks.spawn(info_span!("sip.lane", lane), async move {
                while let Some(Job { stanza, key, _place }) = jobs.recv().await {
                    let outcome = router.take_from_gateway(stanza).await;
                    if let Some(key) = key
                        && taken.send((key, outcome)).await.is_err()
                    {
                        return;
                    }
                }
            });
            sender
        });
        Self { lanes: lanes.collect(), budget: Arc::new(Semaphore::new(BUDGET)) }
    }

    /// True while more may be read from the edges.
    pub(super) fn have_room(&self) -> bool {
        self.budget.available_permits() > RESERVE
    }

    /// Queues a stanza. With a key, what became of it is told. Gives false if there is no room.
    pub(super) fn push(&self, stanza: Stanza, key: Option<RequestKey>) -> bool {
        let Ok(place) = Arc::clone(&self.budget).try_acquire_owned() else {
            metrics::counter!("gatehouse_sip_stanzas_dropped_total").increment(1);
            debug!("no room for a stanza of a SIP partner");
            return false;
        };
        let lane = self.lanes.get(lane_of(stanza.from()));
        lane.is_some_and(|lane| lane.try_send(Job { stanza, key, _place: place }).is_ok())
    }
}

fn lane_of(from: Option<&Jid>) -> usize {
    let mut hasher = DefaultHasher::new();
    from.map(Jid::to_bare).hash(&mut hasher);
    usize::try_from(hasher.finish() % (LANES as u64)).unwrap_or_default()
}

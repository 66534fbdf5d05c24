use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use gatehouse_bridge::RequestKey;
use gatehouse_net::Tasks;
use gatehouse_types::Jid;
use gatehouse_xmpp::{Stanza, StanzaCondition};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::info_span;

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
    /// Bounces and answers for which there was no room: they are all that is left of what was taken,
    /// so they wait, and nothing new is taken meanwhile.
    late: VecDeque<Stanza>,
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
        Self {
            lanes: lanes.collect(),
            budget: Arc::new(Semaphore::new(BUDGET)),
            late: VecDeque::new(),
        }
    }

    /// True while more may be read from the edges and taken from users.
    pub(super) fn have_room(&self) -> bool {
        self.late.is_empty() && self.budget.available_permits() > RESERVE
    }

    /// True if something waits for room.
    pub(super) fn are_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Ends when there is room for what waits; call [`catch_up`](Self::catch_up) then.
    pub(super) fn room(&self) -> impl Future<Output = ()> + use<> {
        let budget = Arc::clone(&self.budget);
        async move {
            // Given back at once: it is asked for again.
            let _ = budget.acquire().await;
        }
    }

    /// Queues what waits, as far as there is room.
    pub(super) fn catch_up(&mut self) {
        while !self.late.is_empty()
            && let Ok(place) = Arc::clone(&self.budget).try_acquire_owned()
            && let Some(stanza) = self.late.pop_front()
        {
            self.hand_over(Job { stanza, key: None, _place: place });
        }
    }

    /// Queues a stanza; without room it waits.
    pub(super) fn push(&mut self, stanza: Stanza) {
        self.late.push_back(stanza);
        self.catch_up();
    }

    /// Queues a message of a partner, who is told what became of it. Gives false if there is no room.
    pub(super) fn push_for(&self, key: RequestKey, stanza: Stanza) -> bool {
        let place = Arc::clone(&self.budget).try_acquire_owned();
        match place.ok().filter(|_| self.late.is_empty()) {
            Some(place) => self.hand_over(Job { stanza, key: Some(key), _place: place }),
            None => {
                metrics::counter!("gatehouse_sip_stanzas_refused_total").increment(1);
                false
            }
        }
    }

    fn hand_over(&self, job: Job) -> bool {
        let lane = self.lanes.get(lane_of(job.stanza.from()));
        lane.is_some_and(|lane| lane.try_send(job).is_ok())
    }
}

fn lane_of(from: Option<&Jid>) -> usize {
    let mut hasher = DefaultHasher::new();
    from.map(Jid::to_bare).hash(&mut hasher);
    usize::try_from(hasher.finish() % (LANES as u64)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use gatehouse_xmpp::Element;

    use super::*;

    fn bounce(number: usize) -> Stanza {
        let text = format!(
            "<message xmlns='jabber:client' from='b@them.example' to='a@ours.example' \
             id='{number}' type='error'/>"
        );
        Stanza::from_element(text.parse::<Element>().unwrap()).unwrap()
    }

    #[test]
    fn what_finds_no_room_waits_in_order_and_nothing_new_is_taken() {
        let (lane, mut jobs) = mpsc::channel(BUDGET);
        let mut lanes = Lanes {
            lanes: vec![lane; LANES],
            budget: Arc::new(Semaphore::new(BUDGET)),
            late: VecDeque::new(),
        };
        assert!(lanes.have_room() && !lanes.are_late());
        for number in 0..BUDGET + 2 {
            lanes.push(bounce(number));
        }
        assert!(lanes.are_late() && !lanes.have_room());
        assert!(!lanes.push_for(RequestKey(1), bounce(0)), "its partner is told so");
        for number in 0..BUDGET + 2 {
            let job = jobs.try_recv().unwrap();
            assert_eq!(job.stanza.id(), Some(number.to_string().as_str()));
            drop(job);
            lanes.catch_up();
        }
        assert!(lanes.have_room() && !lanes.are_late());
        assert!(lanes.push_for(RequestKey(1), bounce(0)));
    }
}

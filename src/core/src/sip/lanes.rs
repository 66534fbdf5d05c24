use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::thread;

use gatehouse_bridge::RequestKey;
use gatehouse_net::Tasks;
use gatehouse_types::Jid;
use gatehouse_xmpp::{Stanza, StanzaCondition};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::info_span;

use crate::outbox::Owed;
use crate::router::Router;
use crate::unread::Unread;

/// Stanzas of different authors are worked on at the same time by this many tasks.
const LANES: usize = 8;
/// Stanzas that the router has not taken yet, over all lanes.
const BUDGET: usize = 4096;
/// While fewer than so many are left, nothing is read from the edges: what is read may bring
/// several.
const RESERVE: usize = 256;

/// What became of a message that the router was given.
pub(super) type Taken = (RequestKey, Result<(), StanzaCondition>);

/// What became of messages that the router was given; no more of them than requests are open.
#[derive(Debug, Default)]
pub(super) struct Answers {
    known: Mutex<Vec<Taken>>,
    news: Notify,
}

impl Answers {
    /// What became known; waits until something is. Cancel-safe.
    pub(super) async fn next(&self) -> Vec<Taken> {
        loop {
            let known = std::mem::take(&mut *self.known.lock());
            if !known.is_empty() {
                return known;
            }
            self.news.notified().await;
        }
    }
}

/// A SIP partner waits to hear what became of its message: once this is dropped, that it is safe.
#[derive(Debug)]
pub(crate) struct Answer {
    key: RequestKey,
    outcome: Result<(), StanzaCondition>,
    answers: Arc<Answers>,
}

impl Answer {
    /// It is not taken.
    pub(crate) fn refuse(mut self, condition: StanzaCondition) {
        self.outcome = Err(condition);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Whoever had the message did not come to an end with it.
        if thread::panicking() {
            self.outcome = Err(StanzaCondition::InternalServerError);
        }
        self.answers.known.lock().push((self.key, self.outcome));
        self.answers.news.notify_one();
    }
}

/// Hands stanzas of partners to the router, each author's in order, without a wait.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Vec<mpsc::Sender<Job>>,
    budget: Arc<Semaphore>,
    answers: Arc<Answers>,
    /// The router has taken one more.
    drained: Arc<Notify>,
    /// Bounces and answers for which there was no room: they are all that is left of what was taken,
    /// so they wait, and nothing new is taken meanwhile.
    late: VecDeque<(Stanza, Owed)>,
}

#[derive(Debug)]
struct Job {
    stanza: Stanza,
    /// Who waits until the stanza is safe.
    owed: Owed,
    place: OwnedSemaphorePermit,
}

impl Lanes {
    pub(super) fn start(router: &Router, tasks: &Tasks) -> Self {
        let unread = Unread::start(router, info_span!("sip.unread"), tasks);
        let drained = Arc::<Notify>::default();
        let lanes = (0..LANES).map(|lane| {
            // As long as the budget: it is never full.
            let (sender, mut jobs) = mpsc::channel::<Job>(BUDGET);
            let (router, unread) = (router.clone(), unread.clone());
            let drained = Arc::clone(&drained);
            tasks.spawn(info_span!("sip.lane", lane), async move {
                while let Some(Job { stanza, owed, place }) = jobs.recv().await {
                    if let Err(condition) = router.take_from_gateway(stanza, owed.clone()).await {
                        owed.refuse(condition);
                    }
                    unread.watch(owed).await;
                    drop(place);
                    drained.notify_one();
                }
                // We are stopping, and whoever else removes what is done with may be gone.
                router.let_go().await;
            });
            sender
        });
        Self {
            lanes: lanes.collect(),
            budget: Arc::new(Semaphore::new(BUDGET)),
            answers: Arc::default(),
            drained,
            late: VecDeque::new(),
        }
    }

    /// Tells of each stanza that the router has taken: there may be room again, or little to do.
    pub(super) fn drained(&self) -> Arc<Notify> {
        Arc::clone(&self.drained)
    }

    /// What became of messages of partners.
    pub(super) fn answers(&self) -> Arc<Answers> {
        Arc::clone(&self.answers)
    }

    /// True while more may be read from the edges and taken from users.
    pub(super) fn have_room(&self) -> bool {
        self.late.is_empty() && self.budget.available_permits() > RESERVE
    }

    /// True if there is so little to do that what nobody waits for may be added.
    pub(super) fn are_idle(&self) -> bool {
        self.late.is_empty() && self.budget.available_permits() > BUDGET - RESERVE
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
            && let Some((stanza, owed)) = self.late.pop_front()
        {
            self.hand_over(Job { stanza, owed, place });
        }
    }

    /// Queues a stanza, and what is owed until it is safe; without room it waits.
    pub(super) fn push(&mut self, stanza: Stanza, owed: Owed) {
        self.late.push_back((stanza, owed));
        self.catch_up();
    }

    /// There will be no room any more: what is stored stays in the store.
    pub(super) fn leave(&mut self) {
        for (_, owed) in self.late.drain(..) {
            owed.keep();
        }
    }

    /// Queues a message of a partner, who is told what became of it. Gives false if there is no room.
    pub(super) fn push_for(&self, key: RequestKey, stanza: Stanza) -> bool {
        let place = Arc::clone(&self.budget).try_acquire_owned();
        match place.ok().filter(|_| self.late.is_empty()) {
            Some(place) => {
                let answers = Arc::clone(&self.answers);
                let owed = Owed::answer(Answer { key, outcome: Ok(()), answers });
                self.hand_over(Job { stanza, owed, place });
                true
            }
            None => {
                metrics::counter!("gatehouse_sip_stanzas_refused_total").increment(1);
                false
            }
        }
    }

    fn hand_over(&self, job: Job) {
        let Some(lane) = self.lanes.get(lane_of(job.stanza.from())) else { return };
        if let Err(refused) = lane.try_send(job) {
            // The lanes are as long as the budget, so it is gone: we are stopping.
            let owed = refused.into_inner().owed;
            owed.refuse(StanzaCondition::RemoteServerTimeout);
            owed.keep();
        }
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
            answers: Arc::default(),
            drained: Arc::default(),
            late: VecDeque::new(),
        };
        assert!(lanes.have_room() && !lanes.are_late());
        for number in 0..BUDGET + 2 {
            lanes.push(bounce(number), Owed::default());
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

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use gatehouse_trunk::Receipt;
use gatehouse_types::{Domain, Local, Remote};
use gatehouse_xmpp::Stanza;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How many pairs may have a link at a time; a user of ours must not make us dial the world.
const LINKS_MAX: usize = 4096;

/// About how many bytes may wait for one pair; one stanza always fits. A partner that does not read
/// must not use up what may be under way on the trunk, for that would hold up all the others.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// About how many bytes of errors and results may wait beyond that, for all pairs together. Nobody is
/// told if one of these is dropped, and when a core is lost all that was on its way to it is answered
/// in the same moment: about as much as may be under way on the trunk.
const ANSWERS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Two domains that talk to each other: the key of an outbound stream.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Pair {
    pub(crate) local: Local<Domain>,
    pub(crate) remote: Remote<Domain>,
}

/// A stanza on its way out. Its receipt is kept until its bytes have left or its author was told.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) stanza: Stanza,
    pub(super) receipt: Option<Receipt>,
    /// True if it was already given to a stream that broke before it was flushed.
    pub(super) retried: bool,
}

/// The bounded queue of one link.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Weighed>,
    len_max: usize,
    /// For answers that the queue has no room for, shared by all queues.
    beyond: Arc<Semaphore>,
    arrived: Notify,
}

/// What waits, and the weight of all.
#[derive(Debug, Default)]
struct Weighed {
    items: VecDeque<Item>,
    bytes: usize,
}

#[derive(Debug)]
struct Item {
    waiting: Waiting,
    weight: usize,
    /// The room that it takes beyond the queue's own.
    _beyond: Option<OwnedSemaphorePermit>,
}

/// All links and their queues. One lock decides both whether a pair has a link and whether its
/// queue is empty, so that a stanza that arrives while a link ends is never lost.
#[derive(Debug)]
pub(super) struct Links {
    queues: Mutex<HashMap<Pair, Arc<Queue>>>,
    len_max: usize,
    beyond: Arc<Semaphore>,
}

/// What became of a stanza given to [`Links::push`].
#[derive(Debug)]
pub(super) enum Pushed {
    /// Queued; the link of this pair is at work.
    Queued,
    /// Queued; a link must be started for this queue.
    Started(Arc<Queue>),
    /// The queue of this pair is full; here is the stanza.
    QueueFull(Waiting),
    /// There are too many links; here is the stanza.
    TooManyLinks(Waiting),
}

impl Links {
    pub(super) fn new(len_max: usize) -> Self {
        let beyond = Arc::new(Semaphore::new(ANSWERS_BYTES_MAX));
        Self { queues: Mutex::default(), len_max, beyond }
    }

    pub(super) fn push(&self, pair: &Pair, waiting: Waiting) -> Pushed {
        let mut queues = self.queues.lock();
        let links = queues.len();
        match queues.entry(pair.clone()) {
            Entry::Occupied(entry) => match entry.get().push(waiting) {
                None => Pushed::Queued,
                Some(back) => Pushed::QueueFull(back),
            },
            Entry::Vacant(_) if links >= LINKS_MAX => Pushed::TooManyLinks(waiting),
            Entry::Vacant(entry) => {
                let queue = Arc::new(Queue::new(self.len_max, Arc::clone(&self.beyond)));
                match queue.push(waiting) {
                    None => Pushed::Started(Arc::clone(entry.insert(queue))),
                    Some(back) => Pushed::QueueFull(back),
                }
            }
        }
    }

    /// True if a link of this pair is at work.
    pub(super) fn has(&self, pair: &Pair) -> bool {
        self.queues.lock().contains_key(pair)
    }

    /// Takes the pair out if its queue is empty, and says whether it was. If so, the link must end:
    /// the next stanza starts another.
    pub(super) fn end_if_empty(&self, pair: &Pair) -> bool {
        let mut queues = self.queues.lock();
        let is_empty = queues.get(pair).is_none_or(|queue| queue.is_empty());
        if is_empty {
            queues.remove(pair);
        }
        is_empty
    }
}

impl Queue {
    fn new(len_max: usize, beyond: Arc<Semaphore>) -> Self {
        Self { waiting: Mutex::default(), len_max, beyond, arrived: Notify::new() }
    }

    /// Gives the stanza back if the queue is full.
    fn push(&self, waiting: Waiting) -> Option<Waiting> {
        let weight = waiting.stanza.weight();
        let mut queue = self.waiting.lock();
        let too_heavy = !queue.items.is_empty() && queue.bytes + weight > QUEUE_BYTES_MAX;
        let mut beyond = None;
        if too_heavy || queue.items.len() >= self.len_max {
            beyond = self.room_beyond(&waiting.stanza, weight);
            if beyond.is_none() {
                return Some(waiting);
            }
        }
        queue.bytes += weight;
        queue.items.push_back(Item { waiting, weight, _beyond: beyond });
        self.arrived.notify_one();
        None
    }

    fn room_beyond(&self, stanza: &Stanza, weight: usize) -> Option<OwnedSemaphorePermit> {
        let weight = u32::try_from(weight).ok().filter(|_| stanza.is_answer())?;
        Arc::clone(&self.beyond).try_acquire_many_owned(weight).ok()
    }

    pub(super) fn pop(&self) -> Option<Waiting> {
        let mut queue = self.waiting.lock();
        let Item { waiting, weight, .. } = queue.items.pop_front()?;
        queue.bytes -= weight;
        Some(waiting)
    }

    /// Puts back what was taken, in its order, before all that came later.
    pub(super) fn put_back(&self, taken: Vec<Waiting>) {
        let mut queue = self.waiting.lock();
        for waiting in taken.into_iter().rev() {
            let weight = waiting.stanza.weight();
            queue.bytes += weight;
            queue.items.push_front(Item { waiting, weight, _beyond: None });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.lock().items.is_empty()
    }

    /// Waits until something may have arrived. Cancel-safe; may also return without cause.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Pair {
        Pair {
            local: Local("ours.example".parse().unwrap()),
            remote: Remote("them.example".parse().unwrap()),
        }
    }

    fn waiting(id: &str) -> Waiting {
        let element: gatehouse_xmpp::Element =
            format!("<message xmlns='jabber:client' id='{id}'/>").parse().unwrap();
        Waiting { stanza: Stanza::from_element(element).unwrap(), receipt: None, retried: false }
    }

    fn ids(queue: &Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop())
            .map(|one| one.stanza.id().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn a_full_queue_hands_the_stanza_back() {
        let links = Links::new(2);
        let Pushed::Started(queue) = links.push(&pair(), waiting("a")) else { panic!("no link") };
        assert!(matches!(links.push(&pair(), waiting("b")), Pushed::Queued));
        let Pushed::QueueFull(back) = links.push(&pair(), waiting("c")) else { panic!("queued") };
        assert_eq!(back.stanza.id(), Some("c"));
        assert_eq!(ids(&queue), ["a", "b"]);
    }

    #[test]
    fn a_heavy_queue_is_full_and_one_stanza_always_fits() {
        let heavy = |id: &str| {
            let body = "x".repeat(QUEUE_BYTES_MAX);
            let text =
                format!("<message xmlns='jabber:client' id='{id}'><body>{body}</body></message>");
            let stanza = Stanza::from_element(text.parse().unwrap()).unwrap();
            Waiting { stanza, receipt: None, retried: false }
        };
        let links = Links::new(100);
        let Pushed::Started(queue) = links.push(&pair(), heavy("a")) else { panic!("no link") };
        assert!(matches!(links.push(&pair(), waiting("b")), Pushed::QueueFull(_)));
        let taken = queue.pop().unwrap();
        assert!(matches!(links.push(&pair(), waiting("b")), Pushed::Queued));
        queue.put_back(vec![taken]);
        assert!(matches!(links.push(&pair(), waiting("c")), Pushed::QueueFull(_)));
        assert_eq!(ids(&queue), ["a", "b"]);
        assert!(matches!(links.push(&pair(), heavy("d")), Pushed::Queued));
    }

    #[test]
    fn an_answer_finds_room_beyond_a_full_queue_as_long_as_there_is_some() {
        let error = |id: &str| {
            let text = format!("<message xmlns='jabber:client' type='error' id='{id}'/>");
            let stanza = Stanza::from_element(text.parse().unwrap()).unwrap();
            Waiting { stanza, receipt: None, retried: false }
        };
        let links = Links::new(1);
        let Pushed::Started(queue) = links.push(&pair(), waiting("a")) else { panic!("no link") };
        assert!(matches!(links.push(&pair(), error("b")), Pushed::Queued));
        assert!(matches!(links.push(&pair(), waiting("c")), Pushed::QueueFull(_)));
        let taken = Arc::clone(&links.beyond)
            .try_acquire_many_owned(u32::try_from(links.beyond.available_permits()).unwrap());
        assert!(matches!(links.push(&pair(), error("d")), Pushed::QueueFull(_)));
        drop(taken);
        assert!(matches!(links.push(&pair(), error("e")), Pushed::Queued));
        assert_eq!(ids(&queue), ["a", "b", "e"]);
        assert_eq!(links.beyond.available_permits(), ANSWERS_BYTES_MAX, "room comes back");
    }

    #[test]
    fn a_link_ends_only_when_nothing_waits() {
        let links = Links::new(2);
        let Pushed::Started(queue) = links.push(&pair(), waiting("a")) else { panic!("no link") };
        assert!(!links.end_if_empty(&pair()));
        assert_eq!(ids(&queue), ["a"]);
        assert!(links.has(&pair()) && links.end_if_empty(&pair()) && !links.has(&pair()));
        assert!(matches!(links.push(&pair(), waiting("b")), Pushed::Started(_)));
    }

    #[test]
    fn what_is_put_back_goes_first() {
        let links = Links::new(3);
        let Pushed::Started(queue) = links.push(&pair(), waiting("a")) else { panic!("no link") };
        links.push(&pair(), waiting("b"));
        let taken = vec![queue.pop().unwrap(), queue.pop().unwrap()];
        links.push(&pair(), waiting("c"));
        queue.put_back(taken);
        assert_eq!(ids(&queue), ["a", "b", "c"]);
    }
}

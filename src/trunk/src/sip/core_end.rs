use std::collections::BTreeMap;
use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::task::Poll;

use gatehouse_sip::Message;
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tracing::debug;

use super::queue::{Parcel, Queue};
use super::{FromNode, NotSent};

/// A core node's end of the SIP trunk.
#[derive(Debug)]
pub struct SipCoreEnd {
    /// Sends to the edges.
    pub edges: SipEdges,
    /// What the edges send, each edge's in order.
    pub incoming: mpsc::Receiver<FromEdge>,
}

/// A message of an edge.
#[derive(Debug)]
pub struct FromEdge {
    /// The edge, so that the answer goes back the same way.
    pub edge: Arc<str>,
    /// The message.
    pub message: Message,
}

impl Parcel for FromEdge {
    fn new(edge: Arc<str>, message: Message) -> Self {
        Self { edge, message }
    }

    fn into_message(self) -> Message {
        self.message
    }
}

/// Which edge a message takes.
#[derive(Clone, Copy, Debug)]
pub enum Edge<'a> {
    /// This one; another one if it is gone: any edge can bring a response home.
    Named(&'a str),
    /// One of those that are up, the same for the same text (a Call-ID) while none comes or goes.
    For(&'a str),
}

/// The links to the edges; cheap to clone.
#[derive(Clone, Debug)]
pub struct SipEdges {
    links: Arc<RwLock<BTreeMap<Arc<str>, Link>>>,
    generation: Arc<watch::Sender<u64>>,
}

#[derive(Clone, Debug)]
struct Link {
    id: u64,
    queue: Queue<FromNode>,
}

impl Default for SipEdges {
    fn default() -> Self {
        Self { links: Arc::default(), generation: Arc::new(watch::Sender::new(0)) }
    }
}

impl SipEdges {
    /// Hands a message to an edge. Never waits: a full queue is an edge that does not read.
    pub fn send(&self, edge: Edge<'_>, message: Message) -> Result<(), NotSent> {
        let Some((name, queue)) = self.choose(edge) else {
            return Err(NotSent {
                name: "the edge".to_owned(),
                reason: "no edge is connected",
                message: Box::new(message),
            });
        };
        queue.try_send(message).map_err(|back| {
            let (reason, message) = *back;
            NotSent { name: name.to_string(), reason, message: Box::new(message) }
        })
    }

    /// Ends when one of these edges has room for a message, or is gone.
    pub fn room(&self, edges: &[Arc<str>]) -> impl Future<Output = ()> + use<> {
        let links = self.links.read();
        let queues = edges.iter().map(|edge| links.get(edge).map(|link| link.queue.clone()));
        let wait = |queue: Option<Queue<FromNode>>| {
            Box::pin(async move {
                if let Some(queue) = queue {
                    queue.room().await;
                }
            })
        };
        let mut waits: Vec<_> = queues.map(wait).collect();
        poll_fn(move |cx| {
            let is_ready = waits.iter_mut().any(|wait| wait.as_mut().poll(cx).is_ready());
            if is_ready { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    /// Hands the answers that a broken link has not sent to another edge: any can bring them home. What
    /// was asked has failed, and is not asked twice.
    pub(crate) fn send_again(&self, edge: &str, mut queue: mpsc::Receiver<Message>) {
        queue.close();
        while let Ok(message) = queue.try_recv() {
            if message.status().is_some()
                && let Err(error) = self.send(Edge::Named(edge), message)
            {
                debug!(%error, "the answer of a broken link is lost");
            }
        }
    }

    /// Which link an edge has; another one after each loss, also one that nobody has noticed.
    pub fn link(&self, edge: &str) -> Option<u64> {
        self.links.read().get(edge).map(|link| link.id)
    }

    /// The edges whose links are up.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.links.read().keys().map(Arc::clone).collect()
    }

    /// The edge that [`Edge::For`] this text would be, if any is up.
    pub fn edge_for(&self, key: &str) -> Option<Arc<str>> {
        self.choose(Edge::For(key)).map(|(name, _)| name)
    }

    /// Changes whenever a link comes or goes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Rendezvous hashing: when an edge goes, only what it had moves.
    fn choose(&self, edge: Edge<'_>) -> Option<(Arc<str>, Queue<FromNode>)> {
        let links = self.links.read();
        let key = match edge {
            Edge::Named(name) => {
                if let Some((name, link)) = links.get_key_value(name) {
                    return Some((Arc::clone(name), link.queue.clone()));
                }
                name
            }
            Edge::For(key) => key,
        };
        let weight = |name: &str| {
            let mut hasher = DefaultHasher::new();
            (key, name).hash(&mut hasher);
            hasher.finish()
        };
        links
            .iter()
            .max_by_key(|(name, _)| weight(name))
            .map(|(name, link)| (Arc::clone(name), link.queue.clone()))
    }

    /// An edge's link is up; the one it had is replaced.
    pub(crate) fn up(&self, edge: Arc<str>, id: u64, queue: Queue<FromNode>) {
        self.links.write().insert(edge, Link { id, queue });
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// A link is down, unless another took its place.
    pub(crate) fn down(&self, edge: &str, id: u64) {
        let mut links = self.links.write();
        if links.get(edge).is_some_and(|link| link.id == id) {
            links.remove(edge);
        }
        drop(links);
        self.generation.send_modify(|generation| *generation += 1);
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_sip::{Method, Status, Uri};

    use super::*;

    fn message() -> Message {
        Message::request(Method::Options, Uri::parse("sip:them.example").unwrap())
    }

    #[test]
    fn an_answer_takes_another_edge_only_when_its_own_is_gone() {
        let edges = SipEdges::default();
        assert!(edges.send(Edge::For("call"), message()).is_err(), "there is no edge");
        let (one, mut at_one) = mpsc::channel(4);
        let (two, mut at_two) = mpsc::channel(4);
        edges.up("one".into(), 1, Queue::Wire(one));
        edges.up("two".into(), 1, Queue::Wire(two));
        edges.send(Edge::Named("one"), message()).unwrap();
        assert!(at_one.try_recv().is_ok() && at_two.try_recv().is_err());
        edges.down("one", 1);
        edges.send(Edge::Named("one"), message()).unwrap();
        assert!(at_two.try_recv().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_no_room_is_waited_for() {
        let edges = SipEdges::default();
        let (one, mut at_one) = mpsc::channel(1);
        let (two, _at_two) = mpsc::channel(1);
        edges.up("one".into(), 1, Queue::Wire(one));
        edges.up("two".into(), 1, Queue::Wire(two));
        let names: Vec<Arc<str>> = vec!["one".into(), "two".into()];
        for name in &names {
            edges.send(Edge::Named(name), message()).unwrap();
            let back = edges.send(Edge::Named(name), message()).unwrap_err();
            assert!(back.is_full());
        }
        let soon = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(soon, edges.room(&names)).await.is_err());
        at_one.recv().await.unwrap();
        tokio::time::timeout(soon, edges.room(&names)).await.unwrap();
        edges.send(Edge::Named("one"), message()).unwrap();
        // One that is gone has nothing to wait for.
        edges.down("two", 1);
        tokio::time::timeout(soon, edges.room(&names)).await.unwrap();
        edges.down("one", 1);
        assert!(!edges.send(Edge::Named("one"), message()).unwrap_err().is_full());
    }

    #[test]
    fn answers_that_a_broken_link_has_not_sent_take_another_edge() {
        let edges = SipEdges::default();
        let (one, at_one) = mpsc::channel(4);
        let (two, mut at_two) = mpsc::channel(4);
        edges.up("one".into(), 1, Queue::Wire(one));
        edges.up("two".into(), 1, Queue::Wire(two));
        for _ in 0..2 {
            edges.send(Edge::Named("one"), message()).unwrap();
            let answer = Message::response_to(&message(), Status::of(200), Some("ours"));
            edges.send(Edge::Named("one"), answer).unwrap();
        }
        assert_eq!((edges.link("one"), edges.link("three")), (Some(1), None));
        edges.down("one", 1);
        edges.send_again("one", at_one);
        for _ in 0..2 {
            assert!(at_two.try_recv().unwrap().status().is_some());
        }
        assert!(at_two.try_recv().is_err(), "a request is not sent twice");
        // Nobody is left.
        edges.down("two", 1);
        edges.send_again("two", at_two);
    }

    #[test]
    fn a_link_that_took_over_is_not_taken_down_with_the_old_one() {
        let edges = SipEdges::default();
        let (one, _at_one) = mpsc::channel(4);
        edges.up("one".into(), 1, Queue::Wire(one.clone()));
        edges.up("one".into(), 2, Queue::Wire(one));
        edges.down("one", 1);
        assert!(!edges.names().is_empty());
        edges.down("one", 2);
        assert!(edges.names().is_empty());
    }

    #[test]
    fn calls_spread_and_each_stays_where_it_is() {
        let edges = SipEdges::default();
        let (one, mut at_one) = mpsc::channel(128);
        let (two, mut at_two) = mpsc::channel(128);
        edges.up("one".into(), 1, Queue::Wire(one));
        edges.up("two".into(), 1, Queue::Wire(two));
        for call in 0..64 {
            for _ in 0..2 {
                edges.send(Edge::For(&format!("call {call}")), message()).unwrap();
            }
        }
        let count = |receiver: &mut mpsc::Receiver<Message>| {
            let mut count = 0;
            while receiver.try_recv().is_ok() {
                count += 1;
            }
            count
        };
        let (first, second) = (count(&mut at_one), count(&mut at_two));
        assert_eq!(first + second, 128);
        assert!(first % 2 == 0 && first > 20 && second > 20, "{first} and {second}");
    }
}

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_sip::Message;
use gatehouse_types::Domain;
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use super::link::QUEUE_LEN_MAX;
use super::queue::{FULL, Parcel, Queue};
use super::{FromEdge, NotSent};
use crate::dispatch::Dispatch;
use crate::{CoreNode, NoObserver, TrunkObserver};

/// Places in a node's queue that no new request takes.
const FOR_ANSWERS: usize = QUEUE_LEN_MAX / 4;
const ABSENT: &str = "it is not connected";

/// The edge's end of the SIP trunk.
#[derive(Debug)]
pub struct SipEdgeEnd {
    /// Sends to the nodes.
    pub nodes: SipNodes,
    /// What the nodes send, each node's in order.
    pub incoming: mpsc::Receiver<FromNode>,
}

/// A message of a core node.
#[derive(Debug)]
pub struct FromNode {
    /// The name in the node's trunk certificate; `core` in one process.
    pub node: Arc<str>,
    /// The message.
    pub message: Message,
}

impl Parcel for FromNode {
    fn new(node: Arc<str>, message: Message) -> Self {
        Self { node, message }
    }

    fn into_message(self) -> Message {
        self.message
    }
}

/// A core node whose link is up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// The name in its trunk certificate.
    pub name: Arc<str>,
    /// The IM domains it serves, as it announced them on the trunk for XMPP; `None` in one process,
    /// where it serves all of ours.
    pub domains: Option<Arc<[Domain]>>,
}

/// The links to the core nodes; cheap to clone.
#[derive(Clone)]
pub struct SipNodes {
    links: Arc<RwLock<BTreeMap<Arc<str>, Link>>>,
    generation: Arc<watch::Sender<u64>>,
    /// Knows what the nodes announced.
    announced: Option<Arc<Dispatch>>,
    /// The domains that each node may serve and speak for; `None` in one process, where the only
    /// one may all.
    may: Option<Arc<Rights>>,
    /// Hears of nodes that overstep.
    observer: Arc<dyn TrunkObserver>,
}

/// Node by node.
type Rights = HashMap<Arc<str>, Arc<HashSet<Domain>>>;

impl SipEdgeEnd {
    /// The same, where only these nodes may serve anything, and each only its domains. For tests of
    /// what happens between several of them: on a real trunk that is the rows of
    /// [`ListenConfig`](crate::ListenConfig).
    pub fn with_rights(mut self, cores: Vec<CoreNode>) -> Self {
        let rights = cores.into_iter().map(|core| {
            let may: HashSet<Domain> = core.domains.into_iter().collect();
            (Arc::from(core.name.as_str()), Arc::new(may))
        });
        self.nodes.may = Some(Arc::new(rights.collect()));
        self
    }
}

#[derive(Clone, Debug)]
struct Link {
    /// Tells a link from the one that took its place.
    id: u64,
    queue: Queue<FromEdge>,
}

impl Default for SipNodes {
    fn default() -> Self {
        Self {
            links: Arc::default(),
            generation: Arc::new(watch::Sender::new(0)),
            announced: None,
            may: None,
            observer: Arc::new(NoObserver),
        }
    }
}

impl SipNodes {
    /// Of nodes that announce their domains on the trunk for XMPP.
    pub(crate) fn announced_on(
        dispatch: Arc<Dispatch>,
        cores: &[Domain],
        observer: Arc<dyn TrunkObserver>,
    ) -> Self {
        let rights = cores.iter().map(|core| {
            let may = dispatch.lane_of(core).and_then(|lane| dispatch.may(lane));
            (Arc::from(core.as_str()), may.unwrap_or_default())
        });
        let may = Some(Arc::new(rights.collect()));
        Self { announced: Some(dispatch), may, observer, ..Self::default() }
    }

    /// Notes that a node spoke, or answered, for somebody that it may not.
    pub fn overstepped(&self, node: &str, what: &str) {
        metrics::counter!("gatehouse_trunk_oversteps_total", "peer" => node.to_owned())
            .increment(1);
        self.observer.overstepped(node, what);
    }

    /// True if this node may serve `domain` and speak for it, whether or not its link is up.
    pub fn may_speak(&self, node: &str, domain: &Domain) -> bool {
        let Some(rights) = &self.may else { return true };
        rights.get(node).is_some_and(|may| may.contains(domain))
    }

    /// Hands a message to a node, if there is room at once.
    pub fn send(&self, node: &str, message: Message) -> Result<(), NotSent> {
        let sent = match self.queue(node) {
            None => Err(Box::new((ABSENT, message))),
            Some(queue) => queue.try_send(message),
        };
        sent.map_err(|back| not_sent(node, *back))
    }

    /// Hands a new request to a node. Never waits: a full queue is a node that does not read, and
    /// the request's sender is better told at once. The last quarter of the queue is not for these:
    /// whoever asks much takes no room from answers to what the node itself asked.
    pub fn offer(&self, node: &str, request: Message) -> Result<(), NotSent> {
        match self.queue(node) {
            Some(queue) if queue.free() <= FOR_ANSWERS => Err(not_sent(node, (FULL, request))),
            _ => self.send(node, request),
        }
    }

    /// Hands a message to a node that must not be lost, and waits for room up to `patience`. Those
    /// who wait get it in the order in which they came.
    pub async fn send_within(
        &self,
        node: &str,
        message: Message,
        patience: Duration,
    ) -> Result<(), NotSent> {
        let sent = match self.queue(node) {
            None => Err(Box::new((ABSENT, message))),
            Some(queue) => queue.send_within(message, patience).await,
        };
        sent.map_err(|back| not_sent(node, *back))
    }

    fn queue(&self, node: &str) -> Option<Queue<FromEdge>> {
        self.links.read().get(node).map(|link| link.queue.clone())
    }

    /// The nodes whose links are up, by name.
    pub fn list(&self) -> Vec<Node> {
        let names: Vec<Arc<str>> = self.links.read().keys().map(Arc::clone).collect();
        let node = |name: Arc<str>| Node { domains: self.domains_of(&name), name };
        names.into_iter().map(node).collect()
    }

    fn domains_of(&self, node: &str) -> Option<Arc<[Domain]>> {
        let Some(dispatch) = self.announced.as_ref() else {
            let may = self.may.as_ref()?.get(node).cloned().unwrap_or_default();
            return Some(may.iter().cloned().collect());
        };
        let lane = node.parse().ok().and_then(|name| dispatch.lane_of(&name));
        Some(lane.map(|lane| dispatch.domains_of(lane)).unwrap_or_default())
    }

    /// Changes whenever a link comes or goes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// A node's link is up; the one it had is replaced. Gives the number to take it down with.
    pub(crate) fn up(&self, node: Arc<str>, queue: Queue<FromEdge>) -> u64 {
        let mut id = 0;
        self.generation.send_modify(|generation| {
            *generation += 1;
            id = *generation;
            self.links.write().insert(node, Link { id, queue });
        });
        id
    }

    /// A link is down, unless another took its place.
    pub(crate) fn down(&self, node: &str, id: u64) {
        self.generation.send_modify(|generation| {
            *generation += 1;
            let mut links = self.links.write();
            if links.get(node).is_some_and(|link| link.id == id) {
                links.remove(node);
            }
        });
    }
}

fn not_sent(node: &str, (reason, message): (&'static str, Message)) -> NotSent {
    NotSent { name: node.to_owned(), reason, message: Box::new(message) }
}

impl fmt::Debug for SipNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SipNodes").field("may", &self.may).finish_non_exhaustive()
    }
}

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_types::{Domain, StreamLimits};
use gatehouse_xmpp::sm::Window;
use gatehouse_xmpp::trunk::{Pace, TrunkConfig};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::TrunkObserver;

/// What a core dials.
#[derive(Clone)]
pub struct DialConfig {
    /// Our node's name, as in our trunk certificate.
    pub own: Domain,
    /// Every edge; one connection is kept up to each.
    pub edges: Vec<EdgeAddress>,
    /// The IM domains that we serve: told to every edge, and again when they change. At most
    /// [`ANNOUNCED_MAX`](gatehouse_xmpp::trunk::ANNOUNCED_MAX).
    pub domains: watch::Receiver<Vec<Domain>>,
    /// Bounds and times.
    pub tuning: Tuning,
    /// Hears of connections.
    pub observer: Arc<dyn TrunkObserver>,
}

/// An edge that a core dials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EdgeAddress {
    /// The name that its trunk certificate must prove.
    pub name: Domain,
    /// `host:port`; the host may be a name or an address.
    pub address: String,
}

/// Whom an edge lets in.
pub struct ListenConfig {
    /// Our node's name, as in our trunk certificate.
    pub own: Domain,
    /// Bound sockets.
    pub listeners: Vec<TcpListener>,
    /// The cores that may connect, the preferred one first. Nobody else may.
    pub cores: Vec<CoreNode>,
    /// Bounds and times.
    pub tuning: Tuning,
    /// Hears of connections.
    pub observer: Arc<dyn TrunkObserver>,
}

/// A core that may connect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CoreNode {
    /// The name in its trunk certificate.
    pub name: Domain,
    /// The domains that it may announce, and that what it sends may be from. Whatever else it says
    /// does not count.
    pub domains: Vec<Domain>,
}

/// Bounds and times of a trunk. The defaults are right for a data centre.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Bounds of each stream.
    pub limits: StreamLimits,
    /// What may be under way to one node without an acknowledgement.
    pub window: Window,
    /// What may wait and be under way to all nodes together, in KiB; each stanza counts as at least
    /// one. `send` waits beyond that.
    pub queue_kib_max: u32,
    /// How long stanzas wait while no node is there before their authors are told.
    pub patience: Duration,
    /// How long a lost node's stanzas wait for it before another node takes over.
    pub failover_after: Duration,
    /// How long a session outlives its connection.
    pub resume_timeout: Duration,
    /// When acknowledgements are sent and asked for.
    pub pace: Pace,
    /// How long one name look-up, TCP connection or TLS handshake may take.
    pub connect_timeout: Duration,
    /// The longest pause between two attempts to reach a node.
    pub backoff_max: Duration,
    /// How long a connection lives on at shutdown to deliver what is left.
    pub farewell_max: Duration,
    /// Connections at a time, those that are still negotiating included.
    pub connections_max: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            limits: StreamLimits {
                setup_timeout: Duration::from_secs(10),
                ..StreamLimits::trunk()
            },
            window: Window::default(),
            queue_kib_max: 64 * 1024,
            patience: Duration::from_secs(30),
            failover_after: Duration::from_secs(5),
            resume_timeout: Duration::from_secs(60),
            pace: Pace::default(),
            connect_timeout: Duration::from_secs(5),
            backoff_max: Duration::from_secs(10),
            farewell_max: Duration::from_secs(3),
            connections_max: 64,
        }
    }
}

impl Tuning {
    /// What the machines need to know of it.
    pub(crate) fn streams(&self, own: &Domain, peers: &[Domain]) -> Arc<TrunkConfig> {
        Arc::new(TrunkConfig {
            own: own.clone(),
            peers: peers.to_vec(),
            limits: self.limits.clone(),
            window: self.window,
            resume_timeout: self.resume_timeout,
            pace: self.pace,
        })
    }
}

impl fmt::Debug for DialConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialConfig")
            .field("own", &self.own)
            .field("edges", &self.edges)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ListenConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenConfig")
            .field("own", &self.own)
            .field("cores", &self.cores)
            .finish_non_exhaustive()
    }
}

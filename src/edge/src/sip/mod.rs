//! SIP with partners: the listener on 5061, connections out, and the proxy between them and the
//! core nodes (docs/decisions/0009).
//!
//! **Invariants.** A request reaches a node only with a permit for its pair of domains, asked for
//! each request. No dialog and no transaction is kept: what a restart would lose travels sealed in
//! the messages. Of the inside nothing leaves but what [`scrub`] lists.

mod answer;
mod connection;
mod face;
mod inbound;
mod ladder;
mod listed;
mod nodes;
mod outbound;
mod partner;
mod pat;
mod routing;
mod scrub;
mod shaper;
mod shared;
mod sparing;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::{BoxedIo, Tasks, now, serve};
use gatehouse_policy::{PeerRate, Policy};
use gatehouse_resolve::Resolver;
use gatehouse_telemetry::{Reach, StreamKind, Streams};
use gatehouse_tls::{Acceptor, Connector};
use gatehouse_trunk::sip::SipEdgeEnd;
use gatehouse_types::{Chain, Domain, Local, Secret};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time;
use tracing::{Span, debug, error, info, warn};

use self::connection::{Connections, PartnerConnection};
use self::face::Face;
use self::ladder::Ladder;
use self::listed::Listed;
use self::outbound::Pairs;
use self::partner::Partner;
use self::pat::Pat;
use self::routing::Routing;
use self::shaper::Shaper;
use self::shared::SipEdge;
use self::sparing::Paces;
use crate::PrivateTargets;
use crate::random::Random;
use crate::warnings::Warnings;

/// How long a partner's TLS handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Answers of our own that may wait for room at their nodes: a core has no more transactions.
const LATE_ANSWERS_MAX: usize = 20_000;

/// Settings of SIP at the edge.
#[derive(Clone, Debug)]
pub struct SipConfig {
    /// Our IM domains.
    pub domains: Vec<Local<Domain>>,
    /// The label of the host that partners see, directly in each domain: `sip` for
    /// `sip.ours.example`.
    pub host_label: String,
    /// The port that partners see.
    pub public_port: u16,
    /// Shared by all edges, newest first, each at least 32 bytes: they seal the PAT tokens.
    pub token_secrets: Vec<Secret<Vec<u8>>>,
    /// The core nodes that take new sessions, the preferred one first.
    pub routing_nodes: Vec<String>,
    /// How many edges send to the same partners: each takes its part of the pace that the policy sets.
    pub edges: NonZeroU32,
    /// Connections at a time, for each listener.
    pub connections_max: usize,
    /// Whether a partner's DNS may lead to addresses that are not on the public Internet.
    pub private_targets: PrivateTargets,
}

/// What SIP at the edge stands on, made by `main`.
#[derive(Debug)]
pub struct SipParts {
    /// Settings.
    pub config: SipConfig,
    /// Port 5061; none if we only send.
    pub listeners: Vec<TcpListener>,
    /// Ports of single nodes, for partners that insist on ports (static PAT): a new session that
    /// arrives there goes to the node of that name, and to no other.
    pub node_listeners: Vec<(String, TcpListener)>,
    /// No ALPN.
    pub acceptor: Acceptor,
    /// No ALPN.
    pub connector: Connector,
    /// DNS.
    pub resolver: Resolver,
    /// The policy in force.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// Where the connections are listed.
    pub streams: Streams,
    /// Where the status learns how fast partners are sent things.
    pub reach: Reach,
    /// The edge's end of the SIP trunk.
    pub trunk: SipEdgeEnd,
}

/// Starts the listeners and the proxy; returns at once.
pub fn start(parts: SipParts, tasks: &Tasks) {
    let SipParts { config, listeners, node_listeners, acceptor, connector, .. } = parts;
    let SipParts { resolver, policy, streams, reach, trunk, .. } = parts;
    let random = match Random::from_system() {
        Ok(random) => random,
        Err(error) => {
            error!(%error, "SIP does not start");
            return;
        }
    };
    let faces = config.domains.iter().filter_map(|local| {
        let face = Face::of(local, &config.host_label, config.public_port)?;
        Some((local.0.clone(), face))
    });
    let faces: HashMap<Domain, Face> = faces.collect();
    let secrets: Vec<&[u8]> =
        config.token_secrets.iter().map(|secret| secret.reveal().as_slice()).collect();
    let pat = match Pat::new(&secrets) {
        Ok(pat) => pat,
        Err(error) => {
            error!(%error, "SIP does not start: the secrets of its tokens cannot be used");
            return;
        }
    };
    let order = config.routing_nodes.iter().map(|name| Arc::from(name.as_str())).collect();
    let edge = Arc::new(SipEdge {
        face_hosts: faces.values().map(|face| face.host().to_string()).collect(),
        faces,
        policy,
        resolver,
        acceptor,
        connector,
        streams,
        nodes: trunk.nodes,
        routing: Mutex::new(Routing::new(order)),
        pat,
        connections: Connections::default(),
        pairs: Pairs::default(),
        rate: PeerRate::new(now),
        ladder: Mutex::new(Ladder::default()),
        shaper: Mutex::new(Shaper::new(config.edges)),
        late_answers: Arc::new(Semaphore::new(LATE_ANSWERS_MAX)),
        random,
        peer_warnings: Warnings::default(),
        domain_warnings: Warnings::default(),
        node_warnings: Warnings::default(),
        tasks: tasks.clone(),
        config,
    });
    reach.ask_pace(Arc::new(Paces(Arc::downgrade(&edge))));
    tasks.spawn(Span::none(), nodes::run(Arc::clone(&edge), trunk.incoming));
    let shared = listeners.into_iter().map(|listener| (None, listener));
    let own = node_listeners.into_iter().map(|(node, listener)| (Some(node), listener));
    for (node, listener) in shared.chain(own) {
        let node: Option<Arc<str>> = node.map(Arc::from);
        if let Ok(address) = listener.local_addr() {
            let node = node.as_deref();
            info!(listen.addr = %address, peer.node = node, "listening for SIP partners");
        }
        let connections_max = edge.config.connections_max;
        let edge = Arc::clone(&edge);
        let accept = serve(listener, connections_max, tasks.clone(), move |tcp, peer| {
            // Boxed: what waits for it would else hold room for it twice.
            Box::pin(accept(Arc::clone(&edge), tcp, peer, node.clone()))
        });
        tasks.spawn(Span::none(), accept);
    }
}

/// Serves one connection that a partner opened.
async fn accept(edge: Arc<SipEdge>, tcp: TcpStream, address: SocketAddr, node: Option<Arc<str>>) {
    let stop = edge.tasks.stop();
    let shaken = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        // What a handshake takes is given back after it.
        shaken = Box::pin(time::timeout(HANDSHAKE_MAX, edge.acceptor.accept(tcp, None))) => shaken,
    };
    let (io, facts) = match shaken {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            metrics::counter!("gatehouse_sip_tls_failures_total").increment(1);
            debug!(peer.addr = %address, error = %Chain(&error), "no TLS with a SIP partner");
            return;
        }
        Err(_) => {
            debug!(peer.addr = %address, "no TLS with a SIP partner: it took too long");
            return;
        }
    };
    let partner = Partner::new(&facts.presented);
    if !partner.is_trusted() && edge.peer_warnings.may_warn(address.ip(), now()) {
        // It may still ask: each of its requests is refused, with a reason that it can show.
        warn!(peer.addr = %address, "a SIP peer showed no certificate that is trusted here");
    }
    let listed = Listed::of(&edge, StreamKind::SipIn, address, facts.version);
    let (mut connection, _) = PartnerConnection::new(edge, address, partner, listed);
    connection.node = node;
    let io: BoxedIo = Box::new(io);
    connection.run(io).await;
}

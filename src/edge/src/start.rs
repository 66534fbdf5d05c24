use std::collections::HashSet;
use std::sync::Arc;

use gatehouse_net::{Tasks, now, serve};
use gatehouse_policy::PeerRate;
use gatehouse_resolve::Transport;
use gatehouse_xmpp::dialback::DialbackSecret;
use gatehouse_xmpp::s2s::{InitiatorConfig, ReceiverConfig};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Span, error, info};

use crate::dialback::Turns;
use crate::gate::PolicyGate;
use crate::outbound::Pool;
use crate::places::Places;
use crate::random::Random;
use crate::shared::Edge;
use crate::warnings::Warnings;
use crate::{EdgeParts, bounce, inbound};

/// Open streams from one domain outside: this part of all connections, and never fewer than a
/// cluster needs that has one from each of its nodes to each of our domains.
const STREAMS_PER_DOMAIN_PART: usize = 16;
const STREAMS_PER_DOMAIN_MIN: usize = 64;

/// Answers of our own that wait for the pool.
const ANSWERS_LEN_MAX: usize = 256;

/// Starts every listener and the outbound pool; returns at once.
pub fn start(parts: EdgeParts, tasks: &Tasks) {
    let EdgeParts { config, starttls_listeners, direct_tls_listeners, policy, trunk, .. } = parts;
    let random = match Random::from_system() {
        Ok(random) => random,
        Err(error) => {
            error!(%error, "the edge does not start");
            return;
        }
    };
    let secret = DialbackSecret::new(config.dialback_secret.reveal().clone());
    let domains: HashSet<_> = config.domains.iter().map(|domain| domain.0.clone()).collect();
    let streams_per_domain =
        STREAMS_PER_DOMAIN_MIN.max(config.connections_max / STREAMS_PER_DOMAIN_PART);
    let (answers, own_answers) = mpsc::channel(ANSWERS_LEN_MAX);
    let (bounces, waiting_bounces) = bounce::queue();
    let hand_over = bounce::hand_over(waiting_bounces, trunk.sender.clone(), tasks.stop());
    tasks.spawn(Span::none(), hand_over);
    let edge = Arc::new(Edge {
        domains: Arc::new(domains),
        receiver: Arc::new(ReceiverConfig {
            limits: config.limits.clone(),
            dialback_secret: secret.clone(),
            bidi: config.bidi,
        }),
        initiator: Arc::new(InitiatorConfig {
            limits: config.limits.clone(),
            dialback_secret: secret,
            bidi: config.bidi,
        }),
        config,
        policy,
        starttls_acceptor: parts.starttls_acceptor,
        direct_acceptor: parts.direct_acceptor,
        starttls_connector: parts.starttls_connector,
        direct_connector: parts.direct_connector,
        resolver: parts.resolver,
        streams: parts.streams,
        core: trunk.sender,
        answers,
        bounces,
        rate: PeerRate::new(now),
        random,
        inbound_streams: Places::new(streams_per_domain),
        returns: Arc::default(),
        drained: CancellationToken::new(),
        verifications: Turns::new(),
        peer_warnings: Warnings::default(),
        domain_warnings: Warnings::default(),
        tasks: tasks.clone(),
    });
    let pool = Pool::new(Arc::clone(&edge));
    parts.reach.ask(pool.reach_source());
    tasks.spawn(Span::none(), pool.run(trunk.incoming, own_answers));
    let gate = Arc::new(PolicyGate::new(Arc::clone(&edge.domains), edge.policy.clone()));
    for listener in starttls_listeners {
        listen(&edge, &gate, listener, Transport::StartTls);
    }
    for listener in direct_tls_listeners {
        listen(&edge, &gate, listener, Transport::DirectTls);
    }
}

fn listen(edge: &Arc<Edge>, gate: &Arc<PolicyGate>, listener: TcpListener, transport: Transport) {
    if let Ok(address) = listener.local_addr() {
        info!(listen.addr = %address, ?transport, "listening for servers");
    }
    let (edge, gate) = (Arc::clone(edge), Arc::clone(gate));
    let (connections_max, tasks) = (edge.config.connections_max, edge.tasks.clone());
    let accept = serve(listener, connections_max, tasks.clone(), move |tcp, peer| {
        inbound::run(Arc::clone(&edge), Arc::clone(&gate), transport, tcp, peer)
    });
    tasks.spawn(Span::none(), accept);
}

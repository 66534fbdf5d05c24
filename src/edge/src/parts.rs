use std::sync::Arc;

use gatehouse_policy::Policy;
use gatehouse_resolve::Resolver;
use gatehouse_telemetry::{Reach, Streams};
use gatehouse_tls::{Acceptor, Connector};
use gatehouse_trunk::Trunk;
use gatehouse_types::{Domain, Local, Secret, StreamLimits};
use gatehouse_xmpp::s2s::Bidi;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::PrivateTargets;

/// Settings of the edge.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// Our IM domains.
    pub domains: Vec<Local<Domain>>,
    /// Bounds of each stream.
    pub limits: StreamLimits,
    /// Shared by all edges, at least 32 bytes.
    pub dialback_secret: Secret<Vec<u8>>,
    /// Connections at a time, for each listener.
    pub connections_max: usize,
    /// Stanzas that wait for one pair of domains while its stream is made.
    pub queue_len_max: usize,
    /// How long one target may take, from TCP to an open stream.
    pub target_timeout: std::time::Duration,
    /// How long a stanza may wait for its stream before it is bounced.
    pub connect_timeout: std::time::Duration,
    /// Whether a partner's DNS may lead to addresses that are not on the public Internet.
    pub private_targets: PrivateTargets,
    /// Whether one stream may carry stanzas in both directions (XEP-0288).
    pub bidi: Bidi,
}

/// What the edge stands on, made by `main`: sockets are bound, keys are read.
#[derive(Debug)]
pub struct EdgeParts {
    /// Settings.
    pub config: EdgeConfig,
    /// Port 5269.
    pub starttls_listeners: Vec<TcpListener>,
    /// Port 5270.
    pub direct_tls_listeners: Vec<TcpListener>,
    /// For STARTTLS (no ALPN).
    pub starttls_acceptor: Acceptor,
    /// For direct TLS (ALPN `xmpp-server`).
    pub direct_acceptor: Acceptor,
    /// For STARTTLS.
    pub starttls_connector: Connector,
    /// For direct TLS.
    pub direct_connector: Connector,
    /// DNS.
    pub resolver: Resolver,
    /// The policy in force; a change reaches open streams.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// The live streams.
    pub streams: Streams,
    /// Where the status learns which partners could not be reached.
    pub reach: Reach,
    /// The edge's end of the trunk.
    pub trunk: Trunk,
}

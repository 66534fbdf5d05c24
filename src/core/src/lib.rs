//! The inside role: router, sessions, presence, rosters, offline messages, the core's end of the
//! trunk.

mod subscription;

use gatehouse_net::Tasks;
use gatehouse_store::{OfflineLimits, Store};
use gatehouse_telemetry::Streams;
use gatehouse_tls::Acceptor;
use gatehouse_trunk::Trunk;
use gatehouse_types::{Domain, Local, Secret, StreamLimits};
use tokio::net::TcpListener;

/// Settings of the core.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// Our IM domains.
    pub domains: Vec<Local<Domain>>,
    /// Bounds of each client's stream.
    pub limits: StreamLimits,
    /// Connections at a time, for each listener.
    pub connections_max: usize,
    /// Sessions of one account at a time.
    pub sessions_per_account_max: usize,
    /// Contacts of one account.
    pub contacts_max: usize,
    /// Caps on offline messages.
    pub offline: OfflineLimits,
    /// Makes the salt that unknown users are shown.
    pub decoy_secret: Secret<Vec<u8>>,
}

/// What the core stands on, made by `main`.
#[derive(Debug)]
pub struct CoreParts {
    /// Settings.
    pub config: CoreConfig,
    /// Port 5222.
    pub starttls_listeners: Vec<TcpListener>,
    /// Port 5223.
    pub direct_tls_listeners: Vec<TcpListener>,
    /// For STARTTLS (no ALPN).
    pub starttls_acceptor: Acceptor,
    /// For direct TLS (ALPN `xmpp-client`).
    pub direct_acceptor: Acceptor,
    /// Accounts and what belongs to them.
    pub store: Store,
    /// The live streams.
    pub streams: Streams,
    /// The core's end of the trunk.
    pub trunk: Trunk,
}

/// Starts every listener and the router; returns at once.
pub fn start(parts: CoreParts, tasks: &Tasks) {
    let _ = (parts, tasks);
    todo!()
}

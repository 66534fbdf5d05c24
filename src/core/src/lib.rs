//! The inside role: router, sessions, presence, rosters, offline messages, the core's end of the
//! trunk.

mod account;
mod acknowledging;
mod away;
mod backlog;
mod bind;
mod carbons;
mod delivery;
mod ended;
mod entry;
mod held;
mod inbound;
mod incoming;
mod iq;
mod listener;
mod login;
mod management;
mod offline;
mod outbound;
mod outbox;
mod pep;
mod presence;
mod probe;
mod recent;
mod refusal;
mod resume;
mod roster;
mod router;
mod services;
mod session;
mod sip;
mod stale;
mod stamp;
mod subscription;
mod subscriptions;
mod sweep;
mod unread;
mod watchers;
mod wishes;
mod writing;
mod xml;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use gatehouse_net::Tasks;
use gatehouse_store::{OfflineLimits, Store};
use gatehouse_telemetry::Streams;
use gatehouse_tls::Acceptor;
use gatehouse_trunk::Trunk;
use gatehouse_types::{Domain, Local, Secret, StreamLimits};
use gatehouse_xmpp::C2sConfig;
use tokio::net::TcpListener;
use tracing::info_span;

use self::listener::{ClientPorts, PortKind};
use self::login::{FailedLogins, Strangers};
use self::router::Router;
pub use self::sip::{InsideParts, SipGatewayParts};
use self::stamp::WallClock;
use self::unread::Unread;

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
    /// Contacts of one account; none are allowed with 0.
    pub contacts_max: usize,
    /// Contacts of one account that see its presence.
    pub watchers_max: usize,
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
    /// The SIP gateway, if there is one.
    pub sip: Option<SipGatewayParts>,
}

/// Starts every listener and the router; returns at once.
pub fn start(parts: CoreParts, tasks: &Tasks) {
    let Trunk { sender, incoming } = parts.trunk;
    let config = C2sConfig {
        domains: parts.config.domains.clone(),
        limits: parts.config.limits.clone(),
        decoy_secret: parts.config.decoy_secret.clone(),
    };
    let (port, gateway) = parts.sip.map(sip::port).unzip();
    let router = Router::new(parts.config, parts.store, sender, port, WallClock::system());
    if let Some(gateway) = gateway {
        sip::start(gateway, &router, tasks);
    }
    incoming::start(&router, incoming, tasks);
    held::start(&router, tasks);
    stale::start(&router, tasks);
    let unread = Unread::start(&router, info_span!("c2s.unread"), tasks);
    let ports = Arc::new(ClientPorts {
        router,
        unread,
        config: Arc::new(config),
        starttls: parts.starttls_acceptor,
        direct: parts.direct_acceptor,
        failed_logins: FailedLogins::default(),
        strangers: Strangers::default(),
        streams: parts.streams,
        tasks: tasks.clone(),
    });
    for listener in parts.starttls_listeners {
        ports.start(listener, PortKind::StartTls);
    }
    for listener in parts.direct_tls_listeners {
        ports.start(listener, PortKind::Direct);
    }
}

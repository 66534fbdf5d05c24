use std::net::SocketAddr;
use std::sync::Arc;

use gatehouse_config::{NodePort, Roles, Settings};
use gatehouse_core::{CoreConfig, CoreParts, InsideParts};
use gatehouse_edge::{Bidi, EdgeConfig, EdgeParts, PrivateTargets, SipParts};
use gatehouse_net::Tasks;
use gatehouse_policy::{InsideSip, Policy};
use gatehouse_resolve::Resolver;
use gatehouse_store::{OfflineLimits, Store};
use gatehouse_telemetry::{Reach, Streams};
use gatehouse_tls::{Acceptor, Connector, Keys, Roots};
use gatehouse_trunk::Trunk;
use gatehouse_trunk::sip::{SipCoreEnd, SipEdgeEnd};
use gatehouse_types::{Domain, Local, Secret, StreamLimits};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::bind;
use crate::commands::Failure;
use crate::setup::Setup;
use crate::{certificates, files, random, sip, trunk};

/// ALPN of direct TLS (XEP-0368).
const ALPN_CLIENT: &str = "xmpp-client";
const ALPN_SERVER: &str = "xmpp-server";

/// What both roles and the reloader share.
pub(super) struct Shared {
    pub(super) keys: Keys,
    pub(super) roots: Roots,
    pub(super) policy: watch::Sender<Arc<Policy>>,
    /// What a core says on the trunk that it serves.
    pub(super) domains: watch::Sender<Vec<Domain>>,
    /// SIP of the inside.
    pub(super) inside: watch::Sender<Arc<InsideSip>>,
    streams: Streams,
}

impl Shared {
    pub(super) fn prepare(
        setup: &Setup,
        policy: Policy,
        streams: Streams,
    ) -> Result<Self, Failure> {
        certificates::ensure(setup)?;
        let keys = Keys::empty();
        keys.replace(certificates::load(setup)?).map_err(|error| Failure::from(&error))?;
        let roots = Roots::new(&certificates::trust(setup)?, certificates::system_roots(setup))
            .map_err(|error| Failure::from(&error))?;
        let domains = watch::Sender::new(setup.settings.domains.clone());
        let inside = watch::Sender::new(Arc::new(setup.settings.sip.inside.clone()));
        let policy = watch::Sender::new(Arc::new(policy));
        Ok(Self { keys, roots, policy, domains, inside, streams })
    }
}

/// Opens every port of the roles, then starts them. Gives the store, to be closed at the end.
pub(super) async fn start(
    setup: &Setup,
    shared: Shared,
    reach: Reach,
    tasks: &Tasks,
) -> Result<Option<Store>, Failure> {
    let has_sip = sip::is_on(&setup.settings, &shared.policy.borrow());
    let store = match setup.settings.roles {
        Roles::EdgeAndCore => {
            let (core_end, edge_end) = gatehouse_trunk::in_process();
            let (sip_core, sip_edge) = has_sip.then(gatehouse_trunk::sip::in_process).unzip();
            let edge = edge_parts(setup, &shared, reach, edge_end)?;
            let sip = sip_parts(setup, &shared, &edge, sip_edge)?;
            let core = core_parts(setup, &shared, core_end, sip_core).await?;
            let store = core.store.clone();
            start_edge(edge, sip, tasks);
            gatehouse_core::start(core, tasks);
            Some(store)
        }
        Roles::Edge => {
            let listeners = bind_all(&setup.settings.listen.trunk, "listen.trunk")?;
            let (end, sip_end) =
                trunk::listen(setup, listeners, has_sip, shared.streams.clone(), tasks)?;
            let edge = edge_parts(setup, &shared, reach, end)?;
            let sip = sip_parts(setup, &shared, &edge, sip_end)?;
            start_edge(edge, sip, tasks);
            None
        }
        Roles::Core => {
            let domains = shared.domains.subscribe();
            let (end, sip_end) =
                trunk::dial(setup, domains, has_sip, shared.streams.clone(), tasks)?;
            let core = core_parts(setup, &shared, end, sip_end).await?;
            let store = core.store.clone();
            gatehouse_core::start(core, tasks);
            Some(store)
        }
    };
    Ok(store)
}

fn start_edge(edge: EdgeParts, sip: Option<SipParts>, tasks: &Tasks) {
    gatehouse_edge::start(edge, tasks);
    if let Some(sip) = sip {
        gatehouse_edge::start_sip(sip, tasks);
    }
}

/// Nothing where no SIP is spoken.
fn sip_parts(
    setup: &Setup,
    shared: &Shared,
    edge: &EdgeParts,
    trunk: Option<SipEdgeEnd>,
) -> Result<Option<SipParts>, Failure> {
    let Some(trunk) = trunk else { return Ok(None) };
    let settings = &setup.settings;
    let secrets = files::sip_secrets(&settings.data)?;
    let node_port = |port: &NodePort| -> Result<(String, TcpListener), Failure> {
        Ok((port.node.to_string(), bind(port.address, "sip.node-ports")?))
    };
    // Partners of this kind know no ALPN.
    let acceptor = Acceptor::new(&shared.keys, &shared.roots, &[]);
    let connector = Connector::new(&shared.keys, &shared.roots, &[]);
    Ok(Some(SipParts {
        config: sip::edge_config(settings, local(&settings.domains), secrets),
        listeners: bind_all(&settings.listen.sip, "listen.sip")?,
        node_listeners: settings.sip.node_ports.iter().map(node_port).collect::<Result<_, _>>()?,
        acceptor: acceptor.map_err(|error| Failure::from(&error))?,
        connector: connector.map_err(|error| Failure::from(&error))?,
        resolver: edge.resolver.clone(),
        policy: shared.policy.subscribe(),
        streams: shared.streams.clone(),
        reach: edge.reach.clone(),
        trunk,
    }))
}

fn edge_parts(
    setup: &Setup,
    shared: &Shared,
    reach: Reach,
    trunk: Trunk,
) -> Result<EdgeParts, Failure> {
    let settings = &setup.settings;
    let acceptor = |alpn: &[&str]| {
        Acceptor::new(&shared.keys, &shared.roots, alpn).map_err(|error| Failure::from(&error))
    };
    let connector = |alpn: &[&str]| {
        Connector::new(&shared.keys, &shared.roots, alpn).map_err(|error| Failure::from(&error))
    };
    Ok(EdgeParts {
        config: EdgeConfig {
            domains: local(&settings.domains),
            limits: StreamLimits {
                stanza_bytes_max: settings.limits.server_stanza_bytes_max,
                idle_timeout: settings.s2s.idle_timeout,
                ..StreamLimits::default()
            },
            dialback_secret: files::dialback_secret(&settings.data)?,
            connections_max: settings.limits.connections_max,
            queue_len_max: settings.s2s.queue_len_max,
            target_timeout: settings.s2s.target_timeout,
            connect_timeout: settings.s2s.connect_timeout,
            private_targets: if settings.s2s.private_targets {
                PrivateTargets::Allow
            } else {
                PrivateTargets::Refuse
            },
            bidi: if settings.s2s.bidi { Bidi::Wanted } else { Bidi::Off },
        },
        starttls_listeners: bind_all(&settings.listen.s2s, "listen.s2s")?,
        direct_tls_listeners: bind_all(&settings.listen.s2s_direct_tls, "listen.s2s-direct-tls")?,
        starttls_acceptor: acceptor(&[])?,
        direct_acceptor: acceptor(&[ALPN_SERVER])?,
        starttls_connector: connector(&[])?,
        direct_connector: connector(&[ALPN_SERVER])?,
        resolver: resolver(settings)?,
        policy: shared.policy.subscribe(),
        streams: shared.streams.clone(),
        reach,
        trunk,
    })
}

async fn core_parts(
    setup: &Setup,
    shared: &Shared,
    trunk: Trunk,
    sip: Option<SipCoreEnd>,
) -> Result<CoreParts, Failure> {
    let settings = &setup.settings;
    let acceptor = |alpn: &[&str]| {
        Acceptor::new(&shared.keys, &shared.roots, alpn)
            .and_then(Acceptor::with_resumption)
            .map_err(|error| Failure::from(&error))
    };
    let store = Store::open(&setup.database()).await.map_err(|error| Failure::from(&error))?;
    let decoy =
        store.secret("decoy", random::bytes()?).await.map_err(|error| Failure::from(&error))?;
    let sip = match sip {
        None => None,
        Some(end) => {
            let inside = Some(inside_parts(setup, shared)?);
            Some(sip::gateway_parts(settings, shared.policy.subscribe(), end, inside))
        }
    };
    Ok(CoreParts {
        config: core_config(settings, Secret::new(decoy)),
        starttls_listeners: bind_all(&settings.listen.c2s, "listen.c2s")?,
        direct_tls_listeners: bind_all(&settings.listen.c2s_direct_tls, "listen.c2s-direct-tls")?,
        starttls_acceptor: acceptor(&[])?,
        direct_acceptor: acceptor(&[ALPN_CLIENT])?,
        store,
        streams: shared.streams.clone(),
        trunk,
        sip,
    })
}

/// SIP of the inside goes with the gateway, so that a reload can bring some.
fn inside_parts(setup: &Setup, shared: &Shared) -> Result<InsideParts, Failure> {
    let settings = &setup.settings;
    let acceptor = Acceptor::new(&shared.keys, &shared.roots, &[]);
    let connector = Connector::new(&shared.keys, &shared.roots, &[]);
    let own = settings.domains.first().cloned();
    Ok(InsideParts {
        settings: shared.inside.subscribe(),
        tls_listeners: bind_all(&settings.listen.sip_inside_tls, "listen.sip-inside-tls")?,
        tcp_listeners: bind_all(&settings.listen.sip_inside_tcp, "listen.sip-inside-tcp")?,
        acceptor: acceptor.map_err(|error| Failure::from(&error))?,
        connector: connector.map_err(|error| Failure::from(&error))?,
        resolver: resolver(settings)?,
        // There is one: reading the settings made sure.
        own: own.unwrap_or_else(|| settings.edge_host.clone()),
        connections_max: settings.limits.connections_max,
    })
}

fn resolver(settings: &Settings) -> Result<Resolver, Failure> {
    let resolver = if settings.dns_servers.is_empty() {
        Resolver::system()
    } else {
        Resolver::with_servers(&settings.dns_servers)
    };
    let resolver = resolver.map_err(|error| Failure::from(&error))?;
    let trusted: &[_] = if settings.dns_trust_ad { &settings.dns_servers } else { &[] };
    Ok(resolver.trusting_ad(trusted))
}

fn core_config(settings: &Settings, decoy_secret: Secret<Vec<u8>>) -> CoreConfig {
    CoreConfig {
        domains: local(&settings.domains),
        limits: StreamLimits {
            stanza_bytes_max: settings.limits.client_stanza_bytes_max,
            ..StreamLimits::client()
        },
        connections_max: settings.limits.connections_max,
        sessions_per_account_max: settings.limits.sessions_per_account_max,
        contacts_max: settings.limits.contacts_per_account_max,
        watchers_max: settings.limits.watchers_per_account_max,
        offline: OfflineLimits {
            per_account: settings.offline.per_account_max,
            per_node: settings.offline.per_node_max,
        },
        decoy_secret,
    }
}

fn local(domains: &[Domain]) -> Vec<Local<Domain>> {
    domains.iter().cloned().map(Local).collect()
}

fn bind_all(addresses: &[SocketAddr], setting: &str) -> Result<Vec<TcpListener>, Failure> {
    addresses.iter().map(|address| bind(*address, setting)).collect()
}

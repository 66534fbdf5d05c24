use std::net::SocketAddr;

use gatehouse_identity::{AuthenticatedPeer, KeyPin, TlsFacts};
use gatehouse_net::{Connection, connect};
use gatehouse_policy::{Conditions, Route, RouteHost, RouteTransport};
use gatehouse_resolve::{Endpoint, Host, Place, ResolveError, Transport};
use gatehouse_types::{Domain, Local, Remote};
use gatehouse_xmpp::s2s::{Purpose, S2sInitiator, Terms};
use tokio::time::{self, Instant};
use tracing::debug;

use super::failure::{AttemptError, DialFailure, FailedTarget, Stage};
use super::race::first_connected;
use super::target::{Attempt, Target};
use crate::gate::terms;
use crate::shared::Edge;

/// Whom to dial, as whom, and for what.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) local: Local<Domain>,
    pub(crate) remote: Remote<Domain>,
    pub(crate) purpose: Purpose,
    pub(crate) terms: Terms,
    /// Where, if an administrator says so and not DNS.
    route: Vec<Route>,
    /// The keys that prove the partner, if policy names them.
    pub(super) pins: Vec<KeyPin>,
}

/// What a call came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A stream that takes stanzas.
    Open(Box<OpenStream>),
    /// The authoritative server's answer about a dialback key.
    Verdict {
        /// True if it made the key.
        valid: bool,
    },
}

/// A stream that takes stanzas.
#[derive(Debug)]
pub(crate) struct OpenStream {
    pub(crate) connection: Connection<S2sInitiator>,
    pub(crate) peer: AuthenticatedPeer,
    pub(crate) host: Host,
    pub(crate) address: SocketAddr,
    /// What the handshake told; nothing without TLS.
    pub(crate) facts: Option<TlsFacts>,
}

impl Call {
    /// A call that keeps to what policy says about the two domains.
    pub(crate) fn new(
        local: Local<Domain>,
        remote: Remote<Domain>,
        purpose: Purpose,
        conditions: Conditions,
    ) -> Self {
        let terms = terms(&conditions);
        let Conditions { route, pins, .. } = conditions;
        Self { local, remote, purpose, terms, route, pins }
    }

    /// Tries every target that policy or DNS names, one after the other, until one answers or the
    /// time is up. Any failure, silence included, moves on to the next target.
    pub(crate) async fn dial(&self, edge: &Edge) -> Result<Outcome, DialFailure> {
        let mut failed = Vec::new();
        let tried = self.try_all(edge, &mut failed);
        match time::timeout(edge.config.connect_timeout, tried).await {
            Ok(Some(Ok(outcome))) => Ok(outcome),
            Ok(Some(Err(failure))) => Err(failure),
            Ok(None) => Err(DialFailure::Targets { failed }),
            Err(_) => Err(DialFailure::OutOfTime { failed, timeout: edge.config.connect_timeout }),
        }
    }

    /// `None` if every target failed.
    async fn try_all(
        &self,
        edge: &Edge,
        failed: &mut Vec<FailedTarget>,
    ) -> Option<Result<Outcome, DialFailure>> {
        let endpoints = match self.endpoints(edge).await {
            Ok(endpoints) => endpoints,
            Err(error) => return Some(Err(DialFailure::Resolve(error))),
        };
        let mut kept_out = Vec::new();
        for mut endpoint in endpoints {
            self.keep_out_private(edge, &mut endpoint, &mut kept_out);
            if let Some(outcome) = self.try_endpoint(edge, endpoint, failed).await {
                return Some(Ok(outcome));
            }
        }
        if failed.is_empty() && !kept_out.is_empty() {
            return Some(Err(DialFailure::Private { targets: kept_out }));
        }
        None
    }

    /// True if an administrator says where, and not DNS.
    pub(super) fn is_routed(&self) -> bool {
        !self.route.is_empty()
    }

    async fn endpoints(&self, edge: &Edge) -> Result<Vec<Endpoint>, ResolveError> {
        if self.route.is_empty() {
            let mut pick = |max| edge.random.up_to(max);
            return edge.resolver.xmpp_server(&self.remote.0, &mut pick).await;
        }
        let places: Vec<Place> = self.route.iter().map(place).collect();
        edge.resolver.places(&self.remote.0, &places).await
    }

    /// Takes addresses that may not be dialled out of what DNS said. A route is our own
    /// administrator's word: it may lead inside.
    fn keep_out_private(
        &self,
        edge: &Edge,
        endpoint: &mut Endpoint,
        kept_out: &mut Vec<(Host, SocketAddr)>,
    ) {
        if !self.route.is_empty() {
            return;
        }
        let Endpoint { host, addresses, .. } = endpoint;
        addresses.retain(|address| {
            let may_pass = edge.config.private_targets.let_pass(address.ip());
            if !may_pass {
                metrics::counter!("gatehouse_s2s_private_targets_total").increment(1);
                debug!(peer.domain = %self.remote, peer.addr = %address, %host, "not dialled: a private address");
                kept_out.push((host.clone(), *address));
            }
            may_pass
        });
    }

    /// Whichever address takes the connection first negotiates; should it fail at that, the others
    /// get their chance. `None` if nothing came of any.
    async fn try_endpoint(
        &self,
        edge: &Edge,
        endpoint: Endpoint,
        failed: &mut Vec<FailedTarget>,
    ) -> Option<Outcome> {
        if endpoint.addresses.is_empty() {
            return None;
        }
        let tlsa = self.tlsa(edge, &endpoint).await;
        let Endpoint { host, mut addresses, transport } = endpoint;
        let timeout = edge.config.target_timeout;
        let mut fail = |address: SocketAddr, error: AttemptError| {
            let target = Target { host: host.clone(), address, transport };
            let failure = FailedTarget { target, error };
            debug!(peer.domain = %self.remote, peer.addr = %address, "{failure}");
            failed.push(failure);
        };
        let tlsa = match tlsa {
            Ok(tlsa) => tlsa,
            Err(error) => {
                // All of them are one host, which must not be used.
                if let Some(first) = addresses.first() {
                    fail(*first, error);
                }
                return None;
            }
        };
        while !addresses.is_empty() {
            let deadline = Instant::now() + timeout;
            let mut refused = Vec::new();
            let connecting =
                first_connected(&addresses, |address| connect(address, timeout), &mut refused);
            let connected = time::timeout_at(deadline, connecting).await;
            addresses.retain(|address| refused.iter().all(|(refused, _)| refused != address));
            for (address, error) in refused {
                fail(address, AttemptError::Connect(error));
            }
            let (address, tcp) = match connected {
                Ok(connected) => connected?,
                Err(_) => {
                    let stage = Stage::Connect;
                    for address in addresses {
                        fail(address, AttemptError::Silent { stage, timeout });
                    }
                    return None;
                }
            };
            addresses.retain(|other| *other != address);
            let target = Target { host: host.clone(), address, transport };
            match Attempt::new(edge, self, &target, tlsa.as_ref()).run(tcp, deadline).await {
                Ok(outcome) => return Some(outcome),
                Err(error) => fail(address, error),
            }
        }
        None
    }
}

fn place(route: &Route) -> Place {
    Place {
        host: match &route.host {
            RouteHost::Name(name) => Host::Name(name.clone()),
            RouteHost::Address(address) => Host::Address(*address),
        },
        port: route.port,
        transport: match route.transport {
            RouteTransport::StartTls => Transport::StartTls,
            RouteTransport::DirectTls => Transport::DirectTls,
        },
    }
}

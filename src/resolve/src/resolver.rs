use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use gatehouse_types::Domain;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::time::Instant;

use crate::endpoint::interleave;
use crate::lookup::{HostAnswer, SrvAnswer, addresses, services};
use crate::order::{Service, in_order};
use crate::{Endpoint, Host, Place, ResolveError, ResolverSetupError, Transport};

/// Where servers listen that have no SRV records (RFC 6120, section 3.2.2).
const FALLBACK_PORT: u16 = 5269;

/// How many endpoints of one domain are tried.
pub(crate) const ENDPOINTS_MAX: usize = 16;

/// How long everything that is asked about one domain may take.
pub(crate) const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one question may take; it is asked again once.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// "No such records" is believed no longer than this, so that a partner who has just published its
/// records need not wait.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(30);

/// A record is believed no longer than this, whatever its TTL says.
const POSITIVE_TTL_MAX: Duration = Duration::from_secs(3600);

/// The resolver, with a cache; cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    pub(crate) inner: TokioResolver,
    /// Name servers whose AD bit counts; empty means nobody's.
    pub(crate) validating: Arc<[SocketAddr]>,
}

impl Resolver {
    /// The system's resolver: `/etc/resolv.conf` and `/etc/hosts`.
    pub fn system() -> Result<Self, ResolverSetupError> {
        let mut builder = TokioResolver::builder_tokio()
            .map_err(|error| ResolverSetupError(format!("/etc/resolv.conf: {error}")))?;
        bound(builder.options_mut());
        let inner = builder.build().map_err(|error| ResolverSetupError(error.to_string()))?;
        Ok(Self { inner, validating: Arc::default() })
    }

    /// These name servers and no others, over UDP and TCP.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, ResolverSetupError> {
        if servers.is_empty() {
            return Err(ResolverSetupError("no name server is given".into()));
        }
        let servers = servers.iter().map(|server| {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut config.connections {
                connection.port = server.port();
            }
            config
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        bound(builder.options_mut());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        let inner = builder.build().map_err(|error| ResolverSetupError(error.to_string()))?;
        Ok(Self { inner, validating: Arc::default() })
    }

    /// Where to dial for XMPP server-to-server with `domain`: at most 16 endpoints, in the order
    /// to try them. Takes at most five seconds.
    ///
    /// `_xmpps-server._tcp` and `_xmpp-server._tcp` are asked at the same time and taken as one
    /// set (XEP-0368); without any such record the domain's own addresses at port 5269 are used.
    /// `pick(max)` draws from `0..=max` for the weights (RFC 2782); pass randomness.
    pub async fn xmpp_server(
        &self,
        domain: &Domain,
        pick: &mut (dyn FnMut(u32) -> u32 + Send),
    ) -> Result<Vec<Endpoint>, ResolveError> {
        let deadline = Instant::now() + TOTAL_TIMEOUT;
        let (direct, starttls) = tokio::join!(
            services(&self.inner, Transport::DirectTls, domain, deadline),
            services(&self.inner, Transport::StartTls, domain, deadline),
        );
        let found = match (direct, starttls) {
            (SrvAnswer::Found(mut one), SrvAnswer::Found(other)) => {
                one.extend(other);
                one
            }
            (SrvAnswer::Found(one), _) | (_, SrvAnswer::Found(one)) => one,
            // Nothing, but one of them might have had something: that is not "no".
            (SrvAnswer::Failed(reason), _) | (_, SrvAnswer::Failed(reason)) => {
                return Err(ResolveError::Failed { domain: domain.clone(), reason });
            }
            (SrvAnswer::Refused, _) | (_, SrvAnswer::Refused) => {
                return Err(ResolveError::NoService(domain.clone()));
            }
            (SrvAnswer::Absent, SrvAnswer::Absent) => return self.fallback(domain, deadline).await,
        };
        let mut ordered = in_order(found, pick);
        ordered.truncate(ENDPOINTS_MAX);
        self.with_addresses(domain, ordered, deadline).await
    }

    /// Where to dial for `domain` when its SRV records do not count: at these places, in this order
    /// (at most 16 of them). Takes at most five seconds.
    pub async fn places(
        &self,
        domain: &Domain,
        places: &[Place],
    ) -> Result<Vec<Endpoint>, ResolveError> {
        let deadline = Instant::now() + TOTAL_TIMEOUT;
        let places = places.get(..ENDPOINTS_MAX).unwrap_or(places);
        let answers = join_all(places.iter().map(|place| async move {
            match &place.host {
                Host::Address(address) => HostAnswer::Found(vec![*address]),
                Host::Name(name) => addresses(&self.inner, name, deadline).await,
            }
        }))
        .await;
        let mut endpoints = Vec::new();
        let mut failure = None;
        for (place, answer) in places.iter().zip(answers) {
            match answer {
                HostAnswer::Found(addresses) => endpoints.push(Endpoint {
                    host: place.host.clone(),
                    addresses: interleave(addresses, place.port),
                    transport: place.transport,
                }),
                HostAnswer::Absent => {}
                HostAnswer::Failed(reason) => failure = Some(reason),
            }
        }
        match (endpoints.is_empty(), failure) {
            (false, _) => Ok(endpoints),
            (true, Some(reason)) => Err(ResolveError::Failed { domain: domain.clone(), reason }),
            (true, None) => Err(ResolveError::NoRoute(domain.clone())),
        }
    }

    /// Forgets all that name servers have said so far.
    pub fn clear_cache(&self) {
        self.inner.clear_cache();
    }

    async fn fallback(
        &self,
        domain: &Domain,
        deadline: Instant,
    ) -> Result<Vec<Endpoint>, ResolveError> {
        match addresses(&self.inner, domain, deadline).await {
            HostAnswer::Found(addresses) => Ok(vec![Endpoint {
                host: Host::Name(domain.clone()),
                addresses: interleave(addresses, FALLBACK_PORT),
                transport: Transport::StartTls,
            }]),
            HostAnswer::Absent => Err(ResolveError::NotFound(domain.clone())),
            HostAnswer::Failed(reason) => {
                Err(ResolveError::Failed { domain: domain.clone(), reason })
            }
        }
    }

    pub(crate) async fn with_addresses(
        &self,
        domain: &Domain,
        ordered: Vec<Service>,
        deadline: Instant,
    ) -> Result<Vec<Endpoint>, ResolveError> {
        let answers =
            join_all(ordered.iter().map(|one| addresses(&self.inner, &one.host, deadline))).await;
        let mut endpoints = Vec::new();
        let mut failure = None;
        for (service, answer) in ordered.into_iter().zip(answers) {
            match answer {
                HostAnswer::Found(addresses) => endpoints.push(Endpoint {
                    host: Host::Name(service.host),
                    addresses: interleave(addresses, service.port),
                    transport: service.transport,
                }),
                HostAnswer::Absent => {}
                HostAnswer::Failed(reason) => failure = Some(reason),
            }
        }
        match (endpoints.is_empty(), failure) {
            (false, _) => Ok(endpoints),
            (true, Some(reason)) => Err(ResolveError::Failed { domain: domain.clone(), reason }),
            (true, None) => Err(ResolveError::NoAddress(domain.clone())),
        }
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

fn bound(options: &mut ResolverOpts) {
    options.timeout = QUESTION_TIMEOUT;
    options.attempts = 1;
    // If the first family fails, its error is the one that is told: see `HostAnswer`.
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
    options.positive_max_ttl = Some(POSITIVE_TTL_MAX);
    options.cache_size = 4096;
}

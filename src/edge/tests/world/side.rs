use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gatehouse_edge::{EdgeConfig, EdgeParts, PrivateTargets};
use gatehouse_net::Tasks;
use gatehouse_policy::Policy;
use gatehouse_resolve::Resolver;
use gatehouse_telemetry::{Reach, Status, StreamKind, StreamState, Streams};
use gatehouse_testkit::{TestCa, TestCertificate};
use gatehouse_tls::{Acceptor, Connector, KeyEntry, Keys, Roots, SystemRoots};
use gatehouse_trunk::Trunk;
use gatehouse_types::{Domain, Local, Secret, StreamLimits};
use gatehouse_xmpp::s2s::Bidi;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time;

/// ALPN of direct TLS.
const ALPN: &str = "xmpp-server";

/// The ports of one side, bound before anything else so that DNS can name them.
pub(crate) struct Ports {
    starttls: Option<TcpListener>,
    direct: Option<TcpListener>,
}

impl Ports {
    pub(crate) async fn both() -> Self {
        Self { starttls: Some(port().await), direct: Some(port().await) }
    }

    pub(crate) async fn only_starttls() -> Self {
        Self { starttls: Some(port().await), direct: None }
    }

    pub(crate) async fn only_direct() -> Self {
        Self { starttls: None, direct: Some(port().await) }
    }

    pub(crate) fn starttls(&self) -> Option<SocketAddr> {
        self.starttls.as_ref().map(|listener| listener.local_addr().unwrap())
    }

    pub(crate) fn direct(&self) -> Option<SocketAddr> {
        self.direct.as_ref().map(|listener| listener.local_addr().unwrap())
    }
}

pub(crate) async fn port() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// What one side is made of.
pub(crate) struct SideConfig {
    pub(crate) domain: &'static str,
    pub(crate) certificate: TestCertificate,
    pub(crate) policy: Policy,
    pub(crate) target_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) queue_len_max: usize,
    pub(crate) connections_max: usize,
    pub(crate) private_targets: PrivateTargets,
    pub(crate) limits: StreamLimits,
    pub(crate) bidi: Bidi,
}

impl SideConfig {
    /// A side with a good certificate and the open policy.
    pub(crate) fn new(domain: &'static str, ca: &TestCa) -> Self {
        Self::with_certificate(domain, ca.issue_for(domain))
    }

    pub(crate) fn with_certificate(domain: &'static str, certificate: TestCertificate) -> Self {
        Self {
            domain,
            certificate,
            policy: Policy::open_with_certificate(),
            target_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            queue_len_max: 256,
            connections_max: 64,
            private_targets: PrivateTargets::Allow,
            limits: StreamLimits::default(),
            bidi: Bidi::Off,
        }
    }

    pub(crate) fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }
}

/// A running edge, seen from its core.
pub(crate) struct Side {
    pub(crate) core: Trunk,
    pub(crate) streams: Streams,
    pub(crate) reach: Reach,
    pub(crate) policy: watch::Sender<Arc<Policy>>,
    pub(crate) roots: Roots,
    pub(crate) tasks: Tasks,
}

impl Side {
    pub(crate) fn start(
        config: SideConfig,
        ports: Ports,
        ca: &TestCa,
        resolver: &Resolver,
    ) -> Self {
        let (core, edge) = gatehouse_trunk::in_process();
        let (policy, tasks) = (watch::Sender::new(Arc::new(config.policy)), Tasks::default());
        let (streams, reach) = (Streams::default(), Reach::default());
        let (keys, roots) = keys(config.domain, &config.certificate, ca);
        let parts = EdgeParts {
            config: EdgeConfig {
                domains: vec![Local(config.domain.parse().unwrap())],
                limits: config.limits,
                dialback_secret: Secret::new(config.domain.repeat(8).into_bytes()),
                connections_max: config.connections_max,
                queue_len_max: config.queue_len_max,
                target_timeout: config.target_timeout,
                connect_timeout: config.connect_timeout,
                private_targets: config.private_targets,
                bidi: config.bidi,
            },
            starttls_listeners: ports.starttls.into_iter().collect(),
            direct_tls_listeners: ports.direct.into_iter().collect(),
            starttls_acceptor: Acceptor::new(&keys, &roots, &[]).unwrap(),
            direct_acceptor: Acceptor::new(&keys, &roots, &[ALPN]).unwrap(),
            starttls_connector: Connector::new(&keys, &roots, &[]).unwrap(),
            direct_connector: Connector::new(&keys, &roots, &[ALPN]).unwrap(),
            resolver: resolver.clone(),
            policy: policy.subscribe(),
            streams: streams.clone(),
            reach: reach.clone(),
            trunk: edge,
        };
        gatehouse_edge::start(parts, &tasks);
        Self { core, streams, reach, policy, roots, tasks }
    }

    /// The open stream of this kind; waits for it.
    pub(crate) async fn stream(&self, kind: StreamKind) -> Status {
        let find = || {
            self.streams
                .list()
                .into_iter()
                .find(|status| status.info.kind == kind && status.info.state == StreamState::Open)
        };
        let wait = async {
            loop {
                if let Some(status) = find() {
                    return status;
                }
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        time::timeout(Duration::from_secs(10), wait).await.expect("no such stream")
    }

    /// Waits until no stream of this kind is left.
    pub(crate) async fn no_stream(&self, kind: StreamKind) {
        let wait = async {
            while self.streams.list().iter().any(|status| status.info.kind == kind) {
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        time::timeout(Duration::from_secs(10), wait).await.expect("the stream is still there");
    }
}

pub(crate) fn keys(domain: &str, certificate: &TestCertificate, ca: &TestCa) -> (Keys, Roots) {
    let keys = Keys::empty();
    let domains: Vec<Domain> = vec![domain.parse().unwrap()];
    keys.replace(vec![KeyEntry {
        domains,
        chain_pem: certificate.chain_pem.clone(),
        key_pem: certificate.key_pem.clone(),
    }])
    .unwrap();
    (keys, Roots::new(&[ca.root_pem().to_owned()], SystemRoots::Ignore).unwrap())
}

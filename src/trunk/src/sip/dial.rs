use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_identity::prove;
use gatehouse_net::{BoxedIo, Tasks};
use gatehouse_tls::Connector;
use gatehouse_types::{Chain, Domain, Remote};
use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, info_span, warn};

use super::link::{self, LinkEnd, QUEUE_LEN_MAX};
use super::queue::Queue;
use super::{FromEdge, SipCoreEnd, SipEdges};
use crate::{EdgeAddress, TrunkObserver, random};

/// How long a name look-up, a TCP connection or a handshake may take.
const STEP_MAX: Duration = Duration::from_secs(5);

/// The first pause after a loss, and the longest: partners wait for answers.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Addresses of one host that are tried.
const ADDRESSES_MAX: usize = 4;

/// The core's end: keeps one SIP link up to each edge, on the trunk's own port. `connector` shows
/// our trunk certificate and trusts the trunk's authority alone; make it with [`ALPN`](super::ALPN).
/// `observer` hears of the links.
pub fn dial(
    own: &Domain,
    edges: Vec<EdgeAddress>,
    connector: &Connector,
    observer: &Arc<dyn TrunkObserver>,
    tasks: &Tasks,
) -> SipCoreEnd {
    let links = SipEdges::default();
    let (sender, incoming) = mpsc::channel(QUEUE_LEN_MAX);
    for edge in edges {
        let span = info_span!("sip-trunk", peer.node = %edge.name);
        let dialler = Dialler {
            own: own.clone(),
            name: edge.name.as_str().into(),
            edge,
            connector: connector.clone(),
            links: links.clone(),
            incoming: sender.clone(),
            observer: Arc::clone(observer),
            stop: tasks.stop(),
        };
        tasks.spawn(span, dialler.keep_up());
    }
    SipCoreEnd { edges: links, incoming }
}

struct Dialler {
    own: Domain,
    name: Arc<str>,
    edge: EdgeAddress,
    connector: Connector,
    links: SipEdges,
    incoming: mpsc::Sender<FromEdge>,
    observer: Arc<dyn TrunkObserver>,
    stop: CancellationToken,
}

impl Dialler {
    async fn keep_up(self) {
        let (mut pause, mut told) = (BACKOFF_MIN, String::new());
        let mut id = 0;
        while !self.stop.is_cancelled() {
            let Some(reached) = self.stop.run_until_cancelled(self.reach()).await else { return };
            match reached {
                Ok((io, address, tls)) => {
                    id += 1;
                    (pause, told) = (BACKOFF_MIN, String::new());
                    info!(peer.addr = %address, "SIP link to the edge is up");
                    self.observer.up(&self.name, &address.to_string(), tls);
                    let end = self.carry(io, id).await;
                    self.observer.down(&self.name, &end.to_string());
                    info!(reason = %Chain(&end), "SIP link to the edge is down");
                }
                // The same failure is told once.
                Err(reason) if reason == told => debug!(reason, "still no SIP link to the edge"),
                Err(reason) => {
                    warn!(peer.addr = %self.edge.address, reason, "no SIP link to the edge; trying on");
                    told = reason;
                }
            }
            let wait = random::jitter(pause);
            pause = (pause * 2).min(BACKOFF_MAX);
            if self.stop.run_until_cancelled(time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    async fn carry(&self, io: BoxedIo, id: u64) -> LinkEnd {
        let (sender, mut queue) = mpsc::channel(QUEUE_LEN_MAX);
        self.links.up(Arc::clone(&self.name), id, Queue::Wire(sender));
        let end =
            link::run(io, &self.name, &mut queue, &self.incoming, &*self.observer, &self.stop)
                .await;
        self.links.down(&self.name, id);
        self.links.send_again(&self.name, queue);
        end
    }

    /// A connection with TLS to one of the edge's addresses, whose certificate is the edge's.
    async fn reach(&self) -> Result<Reached, String> {
        let address = &self.edge.address;
        let found = within(lookup_host(address)).await;
        let addresses = found.map_err(|error| format!("cannot look up {address}: {error}"))?;
        let mut failure = format!("{address} has no address");
        for address in addresses.take(ADDRESSES_MAX) {
            match self.connect(address).await {
                Ok((io, tls)) => return Ok((io, address, tls)),
                Err(error) => failure = format!("cannot connect to {address}: {error}"),
            }
        }
        Err(failure)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<(BoxedIo, &'static str)> {
        let tcp = gatehouse_net::connect(address, STEP_MAX).await?;
        let (io, facts) = within(self.connector.connect(tcp, &self.edge.name, &self.own)).await?;
        prove(&facts.presented, &Remote(self.edge.name.clone())).map_err(io::Error::other)?;
        Ok((Box::new(io), facts.version.as_str()))
    }
}

/// The connection, where it leads, and its TLS version.
type Reached = (BoxedIo, SocketAddr, &'static str);

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    time::timeout(STEP_MAX, work)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))?
}

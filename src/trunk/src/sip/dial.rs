use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_identity::prove;
use gatehouse_net::{BoxedIo, Tasks};
use gatehouse_tls::{Connector, speaks_none_of_ours};
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

/// The longest pause after an edge said that it speaks no SIP: it says so until somebody changes its
/// settings and restarts it.
const NO_SIP_MAX: Duration = Duration::from_secs(60);

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
        let (mut pauses, mut told) = (Pauses::default(), String::new());
        let mut id = 0;
        while !self.stop.is_cancelled() {
            let reaching = reach(&self.edge, &self.own, &self.connector);
            let Some(reached) = self.stop.run_until_cancelled(reaching).await else { return };
            let wait = match reached {
                Ok((io, address, tls)) => {
                    id += 1;
                    (pauses, told) = (Pauses::default(), String::new());
                    info!(peer.addr = %address, "SIP link to the edge is up");
                    self.observer.up(&self.name, &address.to_string(), tls);
                    let end = self.carry(io, id).await;
                    self.observer.down(&self.name, &end.to_string());
                    info!(reason = %Chain(&end), "SIP link to the edge is down");
                    pauses.next(BACKOFF_MAX)
                }
                Err(NotReached { reason, speaks_no_sip }) => {
                    // The same failure is told once.
                    if reason == told {
                        debug!(reason, "still no SIP link to the edge");
                    } else {
                        warn!(peer.addr = %self.edge.address, reason, "no SIP link to the edge; trying on");
                        told = reason;
                    }
                    pauses.next(if speaks_no_sip { NO_SIP_MAX } else { BACKOFF_MAX })
                }
            };
            let wait = random::jitter(wait);
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
}

/// A connection with TLS to one of the edge's addresses, whose certificate is the edge's.
pub(crate) async fn reach(
    edge: &EdgeAddress,
    own: &Domain,
    connector: &Connector,
) -> Result<Reached, NotReached> {
    let address = &edge.address;
    let found = within(lookup_host(address)).await;
    let addresses = found.map_err(|error| NotReached {
        reason: format!("cannot look up {address}: {error}"),
        speaks_no_sip: false,
    })?;
    let mut failure =
        NotReached { reason: format!("{address} has no address"), speaks_no_sip: false };
    for address in addresses.take(ADDRESSES_MAX) {
        match connect(edge, own, connector, address).await {
            Ok((io, tls)) => return Ok((io, address, tls)),
            Err(error) if speaks_none_of_ours(&error) => {
                return Err(NotReached {
                    reason: format!(
                        "the edge at {address} speaks no SIP: set `listen.sip` there, if it is to; it is asked again once a minute"
                    ),
                    speaks_no_sip: true,
                });
            }
            Err(error) => failure.reason = format!("cannot connect to {address}: {error}"),
        }
    }
    Err(failure)
}

async fn connect(
    edge: &EdgeAddress,
    own: &Domain,
    connector: &Connector,
    address: SocketAddr,
) -> io::Result<(BoxedIo, &'static str)> {
    let tcp = gatehouse_net::connect(address, STEP_MAX).await?;
    let (io, facts) = within(connector.connect(tcp, &edge.name, own)).await?;
    prove(&facts.presented, &Remote(edge.name.clone())).map_err(io::Error::other)?;
    Ok((Box::new(io), facts.version.as_str()))
}

/// The connection, where it leads, and its TLS version.
type Reached = (BoxedIo, SocketAddr, &'static str);

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct NotReached {
    pub(crate) reason: String,
    /// It is there, and refuses SIP.
    pub(crate) speaks_no_sip: bool,
}

/// How long to wait after each failure.
#[derive(Debug)]
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(BACKOFF_MIN)
    }
}

impl Pauses {
    /// Twice as long as the last one, and no longer than `most`.
    fn next(&mut self, most: Duration) -> Duration {
        let pause = self.0.min(most);
        self.0 = pause * 2;
        pause
    }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    time::timeout(STEP_MAX, work)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_without_sip_is_asked_less_and_less_and_one_that_is_away_is_not_missed() {
        let mut pauses = Pauses::default();
        let mut passed = Duration::ZERO;
        let count = std::iter::from_fn(|| {
            passed += pauses.next(NO_SIP_MAX);
            (passed < Duration::from_secs(3600)).then_some(())
        });
        let count = count.count();
        assert!((60..75).contains(&count), "{count} in an hour");
        assert_eq!(pauses.next(NO_SIP_MAX), NO_SIP_MAX);
        // It is restarted: with SIP, perhaps.
        assert_eq!(pauses.next(BACKOFF_MAX), BACKOFF_MAX);
    }
}

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_net::{Connection, Tasks, now};
use gatehouse_tls::Connector;
use gatehouse_types::Domain;
use gatehouse_xmpp::trunk::{TrunkConfig, TrunkEnd};
use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::time;
use tracing::{debug, info_span, warn};

use crate::dispatch::Dispatch;
use crate::stream::{Hub, Link, Stream};
use crate::sweep::sweep;
use crate::{DialConfig, EdgeAddress, Trunk, TrunkSender, random};

/// The first pause after a loss; the next ones double.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// A node that was there this recently is tried often: it is probably starting again.
const RECENTLY: Duration = Duration::from_secs(15);

/// The longest pause while it is.
const BACKOFF_MAX_RECENTLY: Duration = Duration::from_millis(500);

/// Addresses of one host that are tried.
const ADDRESSES_MAX: usize = 4;

/// A failure that does not change is told again after this.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// The core's end: keeps one connection up to each edge. `connector` shows our trunk certificate
/// and trusts the trunk's authority alone; make it with [`ALPN`](crate::ALPN).
pub fn dial(config: DialConfig, connector: Connector, tasks: &Tasks) -> Trunk {
    let DialConfig { own, edges, domains, tuning, observer } = config;
    let (incoming_sender, incoming) =
        mpsc::channel((tuning.window.len_max + 1) * edges.len().max(1));
    let names = edges.iter().map(|edge| edge.name.clone()).collect();
    let streams = tuning.streams(&own, &[]);
    let dispatch = Dispatch::to_edges(names, tuning, tasks.stop());
    let hub = Arc::new(Hub {
        dispatch: Arc::new(dispatch),
        incoming: incoming_sender,
        observer,
        announces: Some(domains),
        stop: tasks.stop(),
    });
    for (lane, edge) in edges.into_iter().enumerate() {
        let span = info_span!("trunk", peer.node = %edge.name);
        let dialler = Dialler {
            hub: Arc::clone(&hub),
            lane,
            edge,
            own: own.clone(),
            streams: Arc::clone(&streams),
            connector: connector.clone(),
        };
        tasks.spawn(span, dialler.keep_up());
    }
    tasks.spawn(info_span!("trunk sweep"), sweep(Arc::clone(&hub)));
    Trunk { sender: TrunkSender::over(Arc::clone(&hub.dispatch)), incoming }
}

/// Keeps the connection to one edge up.
struct Dialler {
    hub: Arc<Hub>,
    lane: usize,
    edge: EdgeAddress,
    own: Domain,
    streams: Arc<TrunkConfig>,
    connector: Connector,
}

impl Dialler {
    async fn keep_up(self) {
        let mut pause = BACKOFF_MIN;
        let mut seen_at: Option<Instant> = None;
        let mut told: Option<(String, Instant)> = None;
        while !self.hub.stop.is_cancelled() {
            match self.serve().await {
                Ok(()) => {
                    (pause, seen_at, told) = (BACKOFF_MIN, Some(now()), None);
                }
                Err(reason) => self.tell(reason, &mut told),
            }
            let recently = seen_at.is_some_and(|seen_at| now() - seen_at < RECENTLY);
            let longest =
                if recently { BACKOFF_MAX_RECENTLY } else { self.hub.dispatch.tuning.backoff_max };
            let wait = random::jitter(pause.min(longest));
            pause = (pause * 2).min(self.hub.dispatch.tuning.backoff_max);
            if self.hub.stop.run_until_cancelled(time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// The same failure is told once a minute.
    fn tell(&self, reason: String, told: &mut Option<(String, Instant)>) {
        let address = &self.edge.address;
        let again =
            told.as_ref().is_some_and(|(before, at)| *before == reason && now() - *at < TELL_AGAIN);
        if again {
            debug!(peer.addr = %address, reason, "the edge still cannot be reached");
            return;
        }
        warn!(peer.addr = %address, reason, "cannot reach the edge; trying on");
        *told = Some((reason, now()));
    }

    /// One connection, from look-up to end. Fails, in words, if stanzas never flowed.
    async fn serve(&self) -> Result<(), String> {
        let stop = &self.hub.stop;
        let Some(reached) = stop.run_until_cancelled(self.reach()).await else { return Ok(()) };
        let (io, facts, address) = reached?;
        let link =
            Link { peer: self.edge.name.clone(), address: address.to_string(), tls: facts.version };
        let seed = random::seed().map_err(|error| error.to_string())?;
        let dispatch = &self.hub.dispatch;
        let ticket = dispatch.queue_up(self.lane).ok_or("no such lane")?;
        let lease = ticket.turn().await;
        let parked = dispatch.unpark(self.lane).unwrap_or_default();
        let machine = TrunkEnd::dialler(
            Arc::clone(&self.streams),
            self.edge.name.clone(),
            parked.session,
            facts,
            seed,
            now(),
        );
        let connection = Connection::new(machine, io, self.streams.limits.write_timeout);
        let stream = Stream::new(&self.hub, link, self.lane, lease, connection, parked.receipts);
        match stream.run().await {
            (_, true) => Ok(()),
            (ending, false) => Err(ending.to_string()),
        }
    }

    /// A connection with TLS to one of the edge's addresses.
    async fn reach(&self) -> Result<Reached, String> {
        let limit = self.hub.dispatch.tuning.connect_timeout;
        let found = within(limit, lookup_host(&self.edge.address)).await;
        let addresses: Vec<SocketAddr> = found
            .map_err(|error| format!("cannot look up {}: {error}", self.edge.address))?
            .take(ADDRESSES_MAX)
            .collect();
        let mut failure = format!("{} has no address", self.edge.address);
        for address in addresses {
            match self.connect(address, limit).await {
                Ok((io, facts)) => return Ok((io, facts, address)),
                Err(error) => failure = format!("cannot connect to {address}: {error}"),
            }
        }
        Err(failure)
    }

    async fn connect(
        &self,
        address: SocketAddr,
        limit: Duration,
    ) -> io::Result<(gatehouse_net::BoxedIo, gatehouse_identity::TlsFacts)> {
        let tcp = gatehouse_net::connect(address, limit).await?;
        let shaken = self.connector.connect(tcp, &self.edge.name, &self.own);
        let (io, facts) = within(limit, shaken).await?;
        Ok((Box::new(io), facts))
    }
}

type Reached = (gatehouse_net::BoxedIo, gatehouse_identity::TlsFacts, SocketAddr);

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    time::timeout(limit, work)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))?
}

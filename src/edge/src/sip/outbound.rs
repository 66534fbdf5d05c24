//! Connections that we open to partners: one for each pair of domains, made when it is needed.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_identity::SipCertificate;
use gatehouse_net::{BoxedIo, connect};
use gatehouse_policy::{SipConditions, SipMode};
use gatehouse_resolve::{Endpoint, Host, Place, ResolveError, Transport};
use gatehouse_telemetry::StreamKind;
use gatehouse_types::{Chain, Domain};
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{self, Instant};
use tracing::{debug, info, info_span, warn};

use super::answer::Refused;
use super::connection::{Handle, Outgoing, PartnerConnection};
use super::listed::Listed;
use super::partner::Partner;
use super::shared::{Pair, SipEdge};
use crate::outbound::first_connected;

/// Messages of one pair of domains that wait for a connection.
const QUEUE_LEN_MAX: usize = 512;
/// Pairs of domains at a time.
const PAIRS_MAX: usize = 10_000;
/// A pair that has sent nothing for so long, and has no connection, is forgotten.
const IDLE_MAX: Duration = Duration::from_secs(120);
/// How long one target may take, and all of them: well below timer F of the node (32 s).
const TARGET_MAX: Duration = Duration::from_secs(5);
const TOTAL_MAX: Duration = Duration::from_secs(20);
/// A partner that could not be reached is not tried again before.
const REMEMBERED: Duration = Duration::from_secs(5);
/// After this long the next request takes a new connection: certificates expire, and DNS and the
/// authorities that we trust change.
const PROVED_FOR: Duration = Duration::from_secs(3600);
/// The port of a host that an administrator named without one.
const PORT: u16 = 5061;

/// Where what is to be sent to each pair of domains is queued.
#[derive(Debug, Default)]
pub(crate) struct Pairs(Mutex<HashMap<Pair, mpsc::Sender<Box<Outgoing>>>>);

/// Queues a message for a partner; its node hears if that is not possible.
pub(crate) fn send(edge: &Arc<SipEdge>, pair: Pair, outgoing: Box<Outgoing>) {
    let mut pairs = edge.pairs.0.lock();
    let outgoing = match pairs.get(&pair) {
        None => outgoing,
        Some(queue) => match queue.try_send(outgoing) {
            Ok(()) => return,
            Err(TrySendError::Closed(outgoing)) => outgoing,
            Err(TrySendError::Full(outgoing)) => {
                drop(pairs);
                return fail(edge, outgoing, &busy("the partner does not keep up"));
            }
        },
    };
    pairs.retain(|_, queue| !queue.is_closed());
    if pairs.len() >= PAIRS_MAX {
        drop(pairs);
        return fail(edge, outgoing, &busy("too many partners at a time"));
    }
    let (queue, receiver) = mpsc::channel(QUEUE_LEN_MAX);
    // There is room for one.
    let _ = queue.try_send(outgoing);
    pairs.insert(pair.clone(), queue);
    drop(pairs);
    let span = info_span!("sip-out", peer.domain = %pair.remote, local.domain = %pair.local);
    let sender = Sender { edge: Arc::clone(edge), pair, handle: None, made: None };
    edge.tasks.spawn(span, sender.run(receiver));
}

fn busy(reason: &str) -> Refused {
    Refused::new(503, "busy", reason).retry_after(5)
}

/// Tells the node that its message does not go out.
pub(crate) fn fail(edge: &Arc<SipEdge>, outgoing: Box<Outgoing>, refused: &Refused) {
    if let Some(owed) = outgoing.owed {
        edge.tell_node(&owed, refused);
    }
}

/// Sends what is queued for one pair of domains, in order.
struct Sender {
    edge: Arc<SipEdge>,
    pair: Pair,
    handle: Option<Handle>,
    /// What the policy said when the connection was made, and when that was.
    made: Option<(SipConditions, Instant)>,
}

impl Sender {
    async fn run(mut self, mut queue: mpsc::Receiver<Box<Outgoing>>) {
        let stop = self.edge.tasks.stop();
        let mut failed: Option<(Instant, Refused)> = None;
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => None,
                next = time::timeout(IDLE_MAX, queue.recv()) => match next {
                    Ok(next) => next,
                    // As long as its connection lives, the next message takes it.
                    Err(_) if self.handle.as_ref().is_some_and(|handle| !handle.is_gone()) => {
                        continue;
                    }
                    Err(_) => None,
                },
            };
            let Some(outgoing) = next else { break };
            if let Some((at, refused)) = &failed
                && at.elapsed() < REMEMBERED
            {
                fail(&self.edge, outgoing, refused);
                continue;
            }
            match self.deliver(outgoing).await {
                Ok(()) => failed = None,
                Err(back) => {
                    let (outgoing, refused) = *back;
                    fail(&self.edge, outgoing, &refused);
                    failed = Some((Instant::now(), refused));
                }
            }
        }
        queue.close();
        while let Ok(outgoing) = queue.try_recv() {
            // What came while we closed goes to a new sender; while stopping, its node hears.
            if stop.is_cancelled() {
                fail(&self.edge, outgoing, &busy("the edge is stopping"));
            } else {
                send(&self.edge, self.pair.clone(), outgoing);
            }
        }
    }

    async fn deliver(
        &mut self,
        outgoing: Box<Outgoing>,
    ) -> Result<(), Box<(Box<Outgoing>, Refused)>> {
        let mut outgoing = outgoing;
        // Twice: an old connection may turn out to be gone.
        for _ in 0..2 {
            let conditions = match self.conditions() {
                Ok(conditions) => conditions,
                Err(refused) => return Err(Box::new((outgoing, refused))),
            };
            // A connection that was made on other grounds, or to another host, is not for this.
            let stands = self
                .made
                .as_ref()
                .is_some_and(|(then, at)| *then == conditions && at.elapsed() < PROVED_FOR);
            let handle = self.handle.take().filter(|handle| stands && !handle.is_gone());
            let handle = match handle {
                Some(handle) => handle,
                None => match self.dial(&conditions).await {
                    Ok(handle) => {
                        self.made = Some((conditions, Instant::now()));
                        handle
                    }
                    Err(refused) => return Err(Box::new((outgoing, refused))),
                },
            };
            match handle.send(outgoing) {
                Ok(()) => {
                    self.handle = Some(handle);
                    return Ok(());
                }
                Err(back) if handle.is_gone() => outgoing = back,
                Err(back) => {
                    self.handle = Some(handle);
                    fail(&self.edge, back, &busy("the partner does not keep up"));
                    return Ok(());
                }
            }
        }
        Err(Box::new((outgoing, busy("the connection broke at once"))))
    }

    /// What the policy says now.
    fn conditions(&self) -> Result<SipConditions, Refused> {
        let Pair { local, remote } = &self.pair;
        let conditions = self.edge.policy().sip_conditions(local, remote);
        conditions.map_err(|denial| Refused::new(403, denial.as_str(), denial.to_string()))
    }

    async fn dial(&self, conditions: &SipConditions) -> Result<Handle, Refused> {
        let Pair { local, remote } = &self.pair;
        let attempt = time::timeout(TOTAL_MAX, self.try_all(conditions));
        let failure = match attempt.await {
            Ok(Ok(handle)) => return Ok(handle),
            Ok(Err(failure)) => failure,
            Err(_) => Refused::new(504, "silent", "no target answered in time"),
        };
        metrics::counter!("gatehouse_sip_dial_failures_total").increment(1);
        warn!(
            peer.domain = %remote, local.domain = %local, reason = failure.reason,
            "cannot reach a SIP partner"
        );
        Err(failure)
    }

    async fn try_all(&self, conditions: &SipConditions) -> Result<Handle, Refused> {
        let found = self
            .endpoints(conditions)
            .await
            .map_err(|error| Refused::new(504, "dns", Chain(&error).to_string()))?;
        let by_dns = conditions.route.is_none();
        let mut failures = Vec::new();
        for mut endpoint in found.endpoints {
            let Host::Name(host) = endpoint.host.clone() else { continue };
            if by_dns {
                let pass = &self.edge.config.private_targets;
                endpoint.addresses.retain(|address| pass.let_pass(address.ip()));
                if endpoint.addresses.is_empty() {
                    failures.push(format!(
                        "{host}: every address is private, and private targets are not allowed"
                    ));
                    continue;
                }
            }
            match self.try_endpoint(&host, &endpoint, conditions, &found.federation_hosts).await {
                Ok(handle) => return Ok(handle),
                Err(failure) => {
                    debug!(peer.domain = %self.pair.remote, %host, failure, "a target failed");
                    failures.push(format!("{host}: {failure}"));
                }
            }
        }
        Err(Refused::new(504, "unreachable", failures.join("; ")))
    }

    /// Where to go, and the hosts that DNS names for the proof.
    async fn endpoints(&self, conditions: &SipConditions) -> Result<Found, ResolveError> {
        let (edge, remote) = (&self.edge, &self.pair.remote.0);
        let named = match (&conditions.route, &conditions.host, conditions.mode) {
            (Some(route), _, _) => Some((route.host.clone(), route.port)),
            (None, Some(host), SipMode::Direct | SipMode::Provider) => Some((host.clone(), PORT)),
            _ => None,
        };
        let Some((host, port)) = named else {
            let mut pick = |max| edge.random.up_to(max);
            let endpoints = edge.resolver.sip_server(remote, &mut pick).await?;
            let federation_hosts = edge.resolver.sip_federation_hosts(remote).await?;
            return Ok(Found { endpoints, federation_hosts });
        };
        let host = Host::Name(host);
        let place = Place { host, port, transport: Transport::DirectTls };
        let endpoints = edge.resolver.places(remote, &[place]).await?;
        let federation_hosts = if conditions.needs_srv() {
            edge.resolver.sip_federation_hosts(remote).await?
        } else {
            Vec::new()
        };
        Ok(Found { endpoints, federation_hosts })
    }

    async fn try_endpoint(
        &self,
        host: &Domain,
        endpoint: &Endpoint,
        conditions: &SipConditions,
        federation_hosts: &[Domain],
    ) -> Result<Handle, String> {
        let edge = &self.edge;
        let mut refused = Vec::new();
        let attempt = async {
            let connecting = first_connected(
                &endpoint.addresses,
                |address| connect(address, TARGET_MAX),
                &mut refused,
            );
            let Some((address, tcp)) = connecting.await else {
                return Err("no address takes our connection".to_owned());
            };
            // SNI and verification are for the host that DNS or policy named.
            let shaken = edge.connector.connect(tcp, host, &self.pair.local.0).await;
            let (io, facts) = shaken.map_err(|error: io::Error| Chain(&error).to_string())?;
            let certificate = SipCertificate::read(&facts.presented);
            let grounds = conditions.grounds(federation_hosts);
            let peer = certificate
                .prove(&self.pair.remote, &grounds)
                .map_err(|error| Chain(&error).to_string())?;
            let permit = edge.policy().decide_sip(&self.pair.local, peer);
            let permit = permit.map_err(|denial| denial.to_string())?;
            let mut listed = Listed::of(edge, StreamKind::SipOut, address, facts.version);
            listed.proved(&permit);
            let partner = Partner::new(&facts.presented);
            Ok((Box::new(io) as BoxedIo, address, partner, listed))
        };
        let (io, address, partner, listed): (BoxedIo, SocketAddr, Partner, Listed) =
            match time::timeout(TARGET_MAX, attempt).await {
                Ok(connected) => connected?,
                Err(_) => return Err(format!("no answer within {} s", TARGET_MAX.as_secs())),
            };
        info!(peer.domain = %self.pair.remote, peer.addr = %address, %host, "SIP connection to a partner is up");
        let (connection, handle) =
            PartnerConnection::new(Arc::clone(edge), address, partner, listed);
        let span = info_span!("sip", peer.addr = %address, direction = "out");
        edge.tasks.spawn(span, connection.run(io));
        Ok(handle)
    }
}

/// What DNS and policy say about where a partner is.
struct Found {
    endpoints: Vec<Endpoint>,
    federation_hosts: Vec<Domain>,
}

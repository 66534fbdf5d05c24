use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_identity::AuthenticatedPeer;
use gatehouse_net::{Connection, Step, Tasks, now, serve};
use gatehouse_tls::Acceptor;
use gatehouse_types::{Chain, Domain};
use gatehouse_xmpp::trunk::{TrunkConfig, TrunkEnd, TrunkEvent};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time;
use tracing::{debug, info_span, warn};

use crate::dispatch::Dispatch;
use crate::lane::{Lease, Parked};
use crate::parcel::Parcel;
use crate::receipt::Receipts;
use crate::sip::{self, SipDoor, SipEdgeEnd};
use crate::stream::{Ending, Hub, Link, Stream};
use crate::sweep::sweep;
use crate::{ListenConfig, NoObserver, Trunk, TrunkObserver, TrunkSender, random};

/// Refusals are logged no more often than this; what was left out is counted in the next line.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The edge's end: waits for the cores. `acceptor` shows our trunk certificate and trusts the
/// trunk's authority alone; make it with [`ALPN`](crate::ALPN).
pub fn listen(config: ListenConfig, acceptor: Acceptor, tasks: &Tasks) -> Trunk {
    // Without its protocol in `acceptor`, nobody comes to the door for SIP.
    open(config, acceptor, Arc::new(NoObserver), tasks).0
}

/// The same, and a core that asks for [`sip::ALPN`] gets a SIP link on the same port, of which
/// `observer` hears; make `acceptor` with [`ALPN`](crate::ALPN) and [`sip::ALPN`].
pub fn listen_with_sip(
    config: ListenConfig,
    acceptor: Acceptor,
    observer: Arc<dyn TrunkObserver>,
    tasks: &Tasks,
) -> (Trunk, SipEdgeEnd) {
    open(config, acceptor, observer, tasks)
}

fn open(
    config: ListenConfig,
    acceptor: Acceptor,
    sip_observer: Arc<dyn TrunkObserver>,
    tasks: &Tasks,
) -> (Trunk, SipEdgeEnd) {
    let ListenConfig { own, listeners, cores, tuning, observer } = config;
    let (incoming_sender, incoming) =
        mpsc::channel((tuning.window.len_max + 1) * cores.len().max(1));
    let names: Vec<Domain> = cores.iter().map(|core| core.name.clone()).collect();
    let streams = tuning.streams(&own, &names);
    let connections_max = tuning.connections_max;
    let dispatch = Arc::new(Dispatch::to_cores(cores, tuning, tasks.stop()));
    let (sip, sip_end) = SipDoor::new(names, Arc::clone(&dispatch), sip_observer, tasks.stop());
    let hub = Arc::new(Hub {
        dispatch,
        incoming: incoming_sender,
        observer,
        announces: None,
        stop: tasks.stop(),
    });
    let doorman = Arc::new(Doorman {
        hub: Arc::clone(&hub),
        own,
        streams,
        acceptor,
        sip,
        refusals: Mutex::default(),
    });
    for listener in listeners {
        let doorman = Arc::clone(&doorman);
        let accept = serve(listener, connections_max, tasks.clone(), move |tcp, peer| {
            let doorman = Arc::clone(&doorman);
            async move { doorman.receive(tcp, peer).await }
        });
        tasks.spawn(info_span!("trunk listener"), accept);
    }
    tasks.spawn(info_span!("trunk sweep"), sweep(Arc::clone(&hub)));
    (Trunk { sender: TrunkSender::over(Arc::clone(&hub.dispatch)), incoming }, sip_end)
}

/// Lets cores in, and nobody else.
struct Doorman {
    hub: Arc<Hub>,
    own: Domain,
    streams: Arc<TrunkConfig>,
    acceptor: Acceptor,
    sip: SipDoor,
    refusals: Mutex<Refusals>,
}

#[derive(Default)]
struct Refusals {
    told_at: Option<Instant>,
    untold: u64,
}

/// Who came in, and what it may serve.
struct Guest {
    name: Domain,
    lane: usize,
    lease: Lease,
    receipts: Arc<Receipts>,
}

impl Doorman {
    async fn receive(&self, tcp: TcpStream, address: SocketAddr) {
        let limit = self.hub.dispatch.tuning.connect_timeout;
        let shaken =
            time::timeout(limit, self.acceptor.accept_protocol(tcp, Some(&self.own))).await;
        let (io, facts, protocol) = match shaken {
            Ok(Ok(done)) => done,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                // A probe, of a load balancer perhaps: nobody needs to look.
                count_refusal("tls");
                debug!(peer.addr = %address, "the peer hung up before the TLS handshake was done");
                return;
            }
            Ok(Err(error)) => return self.refuse(address, "tls", &Chain(&error).to_string()),
            Err(_elapsed) => return self.refuse(address, "tls", "no TLS handshake in time"),
        };
        if protocol.as_deref() == Some(sip::ALPN) {
            if let Err(reason) = self.sip.serve(Box::new(io), &facts, address).await {
                self.refuse(address, "sip", &reason);
            }
            return;
        }
        let tls = facts.version;
        let Ok(seed) = random::seed() else { return };
        let machine = TrunkEnd::acceptor(Arc::clone(&self.streams), facts, seed, now());
        let mut connection =
            Connection::new(machine, Box::new(io), self.streams.limits.write_timeout);
        let welcome = self.hub.stop.run_until_cancelled(self.welcome(&mut connection)).await;
        let guest = match welcome {
            Some(Ok(guest)) => guest,
            Some(Err(reason)) => return self.refuse(address, "negotiation", &reason),
            None => return,
        };
        let stream = Stream::new(
            &self.hub,
            Link { peer: guest.name, address: address.to_string(), tls },
            guest.lane,
            guest.lease,
            connection,
            guest.receipts,
        );
        stream.run().await;
    }

    /// Negotiates until the peer has a session, or says why it gets none.
    async fn welcome(
        &self,
        connection: &mut Connection<TrunkEnd<Parcel>>,
    ) -> Result<Guest, String> {
        // A session that the peer asked for by a wrong name waits here until it asks for a new one.
        let mut kept: Option<(Lease, usize, Parked)> = None;
        let outcome = loop {
            match connection.next().await {
                Ok(Step::Event(TrunkEvent::Resume { peer, id })) => {
                    let (lease, lane, parked) = self.take_over(&peer).await?;
                    if parked.session.id.as_deref() == Some(&*id) {
                        let Parked { session, receipts } = parked;
                        if let Err(session) = connection.machine_mut().resume(session, now()) {
                            // It broke off while we decided.
                            kept = Some((lease, lane, Parked { session, receipts }));
                            continue;
                        }
                        return Ok(Guest { name: peer.domain().0.clone(), lane, lease, receipts });
                    }
                    kept = Some((lease, lane, parked));
                    connection.machine_mut().refuse_resume(now());
                }
                Ok(Step::Event(TrunkEvent::Enable(peer))) => {
                    let (lease, lane, parked) = match kept.take() {
                        Some(kept) => kept,
                        None => self.take_over(&peer).await?,
                    };
                    let Parked { session, receipts } = parked;
                    if let Err(session) = connection.machine_mut().admit(session, now()) {
                        kept = Some((lease, lane, Parked { session, receipts }));
                        continue;
                    }
                    let receipts = Arc::default();
                    return Ok(Guest { name: peer.domain().0.clone(), lane, lease, receipts });
                }
                Ok(Step::Event(TrunkEvent::Closed(reason))) => break Ending::Closed(reason),
                Ok(Step::Event(_) | Step::Upgrade) => {}
                Ok(Step::Closed) => {
                    break Ending::Closed(gatehouse_xmpp::stream::CloseReason::Disconnected);
                }
                Err(error) => break Ending::Broken(error),
            }
        };
        if let Some((_lease, lane, parked)) = kept {
            self.hub.dispatch.park(lane, parked);
        }
        // Lets the peer hear why, where it may.
        while matches!(connection.next().await, Ok(Step::Event(_) | Step::Upgrade)) {}
        Err(outcome.to_string())
    }

    /// The peer's lane, once its last connection has put it down.
    async fn take_over(&self, peer: &AuthenticatedPeer) -> Result<(Lease, usize, Parked), String> {
        let name = &peer.domain().0;
        let dispatch = &self.hub.dispatch;
        let unknown = || format!("{name} is not one of the cores that this edge lets in");
        let lane = dispatch.lane_of(name).ok_or_else(unknown)?;
        let lease = dispatch.queue_up(lane).ok_or_else(unknown)?.turn().await;
        Ok((lease, lane, dispatch.unpark(lane).unwrap_or_default()))
    }

    fn refuse(&self, address: SocketAddr, stage: &'static str, reason: &str) {
        count_refusal(stage);
        let mut refusals = self.refusals.lock();
        if refusals.told_at.is_some_and(|told_at| now() - told_at < TELL_EVERY) {
            refusals.untold += 1;
            return;
        }
        let untold = std::mem::take(&mut refusals.untold);
        refusals.told_at = Some(now());
        warn!(peer.addr = %address, reason, untold, "refused a connection to the trunk");
    }
}

fn count_refusal(stage: &'static str) {
    metrics::counter!("gatehouse_trunk_refused_total", "stage" => stage).increment(1);
}

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_identity::TlsVersion;
use gatehouse_net::{Connection, ConnectionError, Step, now};
use gatehouse_types::{Chain, Domain, Machine as _};
use gatehouse_xmpp::Stanza;
use gatehouse_xmpp::stream::CloseReason;
use gatehouse_xmpp::trunk::{Continuity, TrunkEnd, TrunkEvent};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::watch;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::dispatch::Dispatch;
use crate::give_back::{Reason, give_back, not_yours};
use crate::lane::{Lease, Parked};
use crate::node::Announced;
use crate::parcel::Parcel;
use crate::receipt::Receipts;
use crate::{Transfer, TrunkObserver};

/// At shutdown, a connection that has had nothing to do for this long says farewell.
const QUIET: Duration = Duration::from_millis(300);

/// Domains that are named in the log.
const NAMED_MAX: usize = 10;

/// How long a peer may take to read our last words.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// What every stream of a trunk works with.
pub(crate) struct Hub {
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) incoming: mpsc::Sender<Transfer>,
    pub(crate) observer: Arc<dyn TrunkObserver>,
    /// A core's domains.
    pub(crate) announces: Option<watch::Receiver<Vec<Domain>>>,
    pub(crate) stop: CancellationToken,
}

/// How a stream ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The protocol says so.
    Closed(CloseReason),
    /// The connection broke.
    Broken(ConnectionError),
    /// A newer connection of the same node took over.
    Replaced,
}

/// Whom a connection leads to.
pub(crate) struct Link {
    pub(crate) peer: Domain,
    pub(crate) address: String,
    pub(crate) tls: TlsVersion,
}

/// One connection that serves one lane.
pub(crate) struct Stream<'a> {
    hub: &'a Hub,
    peer: Domain,
    address: String,
    tls: TlsVersion,
    lane: usize,
    lease: Lease,
    connection: Connection<TrunkEnd<Parcel>>,
    receipts: Arc<Receipts>,
    counters: Counters,
    /// What came in and found the queue full.
    held: Option<Transfer>,
    /// Bounces of stanzas that cannot be sent here.
    returned: VecDeque<Transfer>,
    phase: Phase,
    active_at: Instant,
    /// A core's domains, for this edge.
    announces: Option<watch::Receiver<Vec<Domain>>>,
    /// The domains that the peer may speak for; `None` means any.
    may: Option<Arc<HashSet<Domain>>>,
}

/// What is counted for each stanza, looked up once.
struct Counters {
    sent: metrics::Counter,
    received: metrics::Counter,
    acknowledged: metrics::Counter,
}

impl Counters {
    fn of(peer: &Domain) -> Self {
        let of = |name: &'static str| metrics::counter!(name, "peer" => peer.to_string());
        Self {
            sent: of("gatehouse_trunk_sent_total"),
            received: of("gatehouse_trunk_received_total"),
            acknowledged: of("gatehouse_trunk_acknowledged_total"),
        }
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Phase {
    Negotiating,
    Open,
    /// Told to stop; what is left is delivered until then.
    Leaving(Instant),
    /// Farewell is said.
    Left,
}

enum Stir {
    Revoked,
    Stop,
    Quiet,
    Work,
    Announce,
    Step(Result<Step<TrunkEvent<Parcel>>, ConnectionError>),
}

impl<'a> Stream<'a> {
    pub(crate) fn new(
        hub: &'a Hub,
        link: Link,
        lane: usize,
        lease: Lease,
        connection: Connection<TrunkEnd<Parcel>>,
        receipts: Arc<Receipts>,
    ) -> Self {
        let Link { peer, address, tls } = link;
        Self {
            hub,
            counters: Counters::of(&peer),
            peer,
            address,
            tls,
            lane,
            lease,
            connection,
            receipts,
            held: None,
            returned: VecDeque::new(),
            phase: Phase::Negotiating,
            active_at: now(),
            announces: hub.announces.clone(),
            may: hub.dispatch.may(lane),
        }
    }

    /// Carries stanzas both ways until the stream ends, then leaves the session for the next one.
    /// True if stanzas ever flowed.
    pub(crate) async fn run(mut self) -> (Ending, bool) {
        let ending = self.carry().await;
        let opened = self.phase != Phase::Negotiating;
        self.put_down(&ending).await;
        if matches!(ending, Ending::Closed(_)) {
            // Our last words, where the peer still listens.
            let last = async { while let Ok(Step::Event(_)) = self.connection.next().await {} };
            let _ = time::timeout(LAST_WORDS_MAX, last).await;
        }
        if opened {
            let reason = ending.to_string();
            info!(peer.node = %self.peer, peer.addr = %self.address, reason, "trunk down");
            metrics::gauge!("gatehouse_trunk_up", "peer" => self.peer.to_string()).set(0.0);
            self.hub.observer.down(self.peer.as_str(), &reason);
        }
        (ending, opened)
    }

    async fn carry(&mut self) -> Ending {
        let bell = self.hub.dispatch.bell(self.lane);
        loop {
            self.feed();
            let quiet_at = self.quiet_at();
            let receipts = Arc::clone(&self.receipts);
            let stir = tokio::select! {
                biased;
                () = self.lease.revoked() => Stir::Revoked,
                () = self.hub.stop.cancelled(), if self.may_stop() => Stir::Stop,
                () = quiet(quiet_at) => Stir::Quiet,
                room = self.hub.incoming.reserve(), if self.is_waiting() => {
                    let transfer = self.held.take().or_else(|| self.returned.pop_front());
                    if let (Ok(room), Some(transfer)) = (room, transfer) {
                        room.send(transfer);
                    }
                    self.connection.machine_mut().forgive_silence(now());
                    Stir::Work
                }
                () = bell.notified() => Stir::Work,
                () = receipts.news() => Stir::Work,
                () = changed(&mut self.announces) => Stir::Announce,
                step = self.connection.next(), if self.held.is_none() => Stir::Step(step),
            };
            if let Some(ending) = self.heed(stir) {
                return ending;
            }
        }
    }

    /// True if something waits for room in the role's queue.
    fn is_waiting(&self) -> bool {
        self.held.is_some() || !self.returned.is_empty()
    }

    /// Gives the machine what it may send and what was done with.
    fn feed(&mut self) {
        let now = now();
        self.settle_receipts(now);
        if !matches!(self.phase, Phase::Open | Phase::Leaving(_)) {
            return;
        }
        // Bounces that nobody takes must not pile up.
        while self.returned.is_empty()
            && !self.connection.is_congested()
            && self.connection.machine().has_room()
        {
            let Some(parcel) = self.hub.dispatch.next(self.lane) else { return };
            self.active_at = now;
            if let Err(parcel) = self.connection.machine_mut().send(parcel, now) {
                warn!(peer.node = %self.peer, "a stanza is too long for the trunk: its author is told");
                self.hub.dispatch.delivered(std::slice::from_ref(&parcel));
                self.returned.extend(give_back(&parcel.stanza, Reason::TooLong));
                continue;
            }
            self.counters.sent.increment(1);
            self.hub.observer.sent(self.peer.as_str());
        }
    }

    /// Tells the machine what was done with. Once the role has stopped taking, receipts mean
    /// nothing: those of stanzas that still waited for it are dropped with its queue.
    fn settle_receipts(&mut self, now: Instant) {
        let done = self.receipts.take();
        if self.hub.incoming.is_closed() {
            return;
        }
        for number in done {
            self.connection.machine_mut().handled(number, now);
            self.active_at = now;
        }
    }

    fn heed(&mut self, stir: Stir) -> Option<Ending> {
        match stir {
            Stir::Work => {}
            Stir::Announce => self.announce(),
            Stir::Revoked => return Some(Ending::Replaced),
            Stir::Stop if self.phase == Phase::Open => {
                self.phase = Phase::Leaving(now() + self.hub.dispatch.tuning.farewell_max);
            }
            Stir::Stop => self.connection.machine_mut().handle_shutdown(now()),
            Stir::Quiet => self.leave(),
            Stir::Step(Ok(Step::Event(event))) => return self.take_all(event),
            // A trunk has TLS from its first byte.
            Stir::Step(Ok(Step::Upgrade | Step::Closed)) => {
                return Some(Ending::Closed(CloseReason::Disconnected));
            }
            Stir::Step(Err(error)) => return Some(Ending::Broken(error)),
        }
        None
    }

    /// What came in one read is taken in one turn, as far as the role has room.
    fn take_all(&mut self, first: TrunkEvent<Parcel>) -> Option<Ending> {
        let mut next = Some(first);
        while let Some(event) = next {
            if let Some(ending) = self.take(event) {
                return Some(ending);
            }
            let has_room = self.held.is_none();
            next = has_room.then(|| self.connection.machine_mut().poll_event()).flatten();
        }
        None
    }

    fn take(&mut self, event: TrunkEvent<Parcel>) -> Option<Ending> {
        self.active_at = now();
        match event {
            TrunkEvent::Opened { session, resent } => self.open(session, resent),
            TrunkEvent::Stanza { stanza, number } => {
                self.counters.received.increment(1);
                self.hub.observer.received(self.peer.as_str());
                let transfer = Transfer { stanza, receipt: self.receipts.receipt(number) };
                if !self.may_bring(&transfer.stanza) {
                    // With the receipt goes the acknowledgement: its author was told.
                    self.refuse(&transfer.stanza);
                    return None;
                }
                match self.hub.incoming.try_send(transfer) {
                    // Where nobody takes it, it is not acknowledged and comes again.
                    Ok(()) | Err(TrySendError::Closed(_)) => {}
                    Err(TrySendError::Full(transfer)) => {
                        // Nothing is read until it is taken: the peer's window fills.
                        self.held = Some(transfer);
                    }
                }
            }
            TrunkEvent::Acknowledged(parcels) => {
                self.counters.acknowledged.increment(parcels.len() as u64);
                self.hub.dispatch.delivered(&parcels);
            }
            TrunkEvent::Announced(domains) => self.note_domains(domains),
            TrunkEvent::Refused(parcel) => {
                self.hub.dispatch.delivered(std::slice::from_ref(&parcel));
                self.return_refused(&parcel);
            }
            TrunkEvent::Discarded(reason) => {
                count("gatehouse_trunk_discarded_total", &self.peer, 1);
                warn!(peer.node = %self.peer, reason, "the trunk brought what cannot be delivered");
            }
            TrunkEvent::Closed(reason) => return Some(Ending::Closed(reason)),
            // Only before a lane is chosen.
            TrunkEvent::Enable(_) | TrunkEvent::Resume { .. } => {}
        }
        None
    }

    fn open(&mut self, session: Continuity, resent: usize) {
        let session = match session {
            Continuity::Resumed => "resumed",
            Continuity::New => {
                // Receipts of the old session mean nothing in this one.
                self.receipts = Arc::default();
                "new"
            }
        };
        self.phase = Phase::Open;
        self.hub.dispatch.up(self.lane);
        let peer = self.peer.to_string();
        metrics::gauge!("gatehouse_trunk_up", "peer" => peer.clone()).set(1.0);
        metrics::counter!("gatehouse_trunk_opened_total", "peer" => peer, "session" => session)
            .increment(1);
        count("gatehouse_trunk_resent_total", &self.peer, resent);
        info!(peer.node = %self.peer, peer.addr = %self.address, session, resent, "trunk up");
        let tls = match self.tls {
            TlsVersion::Tls12 => "TLSv1.2",
            TlsVersion::Tls13 => "TLSv1.3",
        };
        self.hub.observer.up(self.peer.as_str(), &self.address, tls);
        self.announce();
    }

    /// Tells the edge which domains we serve.
    fn announce(&mut self) {
        if let Some(announces) = &mut self.announces {
            let domains = announces.borrow_and_update().clone();
            self.connection.machine_mut().announce(&domains);
        }
    }

    /// True if the peer may speak for the domain that a stanza is from.
    fn may_bring(&self, stanza: &Stanza) -> bool {
        let Some(may) = &self.may else { return true };
        stanza.from().is_some_and(|from| may.contains(from.domain()))
    }

    /// The peer speaks for a domain that is not its own. Who sent the stanza hears of it there, and
    /// nobody else: the domain that it is said to be from knows nothing of it.
    fn refuse(&mut self, stanza: &Stanza) {
        count("gatehouse_trunk_oversteps_total", &self.peer, 1);
        let domain = stanza.from().map(|from| from.domain().to_string()).unwrap_or_default();
        if let Some(untold) = self.hub.dispatch.overstepped(self.lane, now()) {
            warn!(peer.node = %self.peer, domain, untold, "refused: a core sends for a domain that its row in trunk.cores does not name");
        } else {
            debug!(peer.node = %self.peer, domain, stanza.id = %stanza.trace(), "refused: a core sends for a domain that is not its own");
        }
        let what = format!("it sent for {domain}, which its row in trunk.cores does not name");
        self.hub.observer.overstepped(self.peer.as_str(), &what);
        let machine = self.connection.machine_mut();
        if let Some(answer) = not_yours(stanza)
            && machine.has_room()
        {
            // As short as it is, it fits.
            let _ = machine.send(Parcel::answer(answer), now());
        }
    }

    fn note_domains(&self, domains: Vec<Domain>) {
        let Announced { foreign, shared, is_news } =
            self.hub.dispatch.announced(self.lane, domains, now());
        let names: Vec<_> = foreign.iter().take(NAMED_MAX).map(Domain::as_str).collect();
        let names = names.join(", ");
        if is_news {
            warn!(peer.node = %self.peer, domains = names, len = foreign.len(), "a core announces domains that its row in trunk.cores does not name: they do not count");
        }
        if !foreign.is_empty() {
            count("gatehouse_trunk_oversteps_total", &self.peer, 1);
            let what = format!("it announced {names}, which its row in trunk.cores does not name");
            self.hub.observer.overstepped(self.peer.as_str(), &what);
        }
        for (domain, preferred) in shared.iter().take(NAMED_MAX) {
            warn!(peer.node = %self.peer, %domain, %preferred, "two cores announce the same domain: it goes to the one that stands first in trunk.cores");
        }
        let serves = self.hub.dispatch.domains_of(self.lane);
        info!(peer.node = %self.peer, domains = serves.len(), "the core says what it serves");
        self.hub.observer.serves(self.peer.as_str(), &serves);
    }

    fn return_refused(&mut self, parcel: &Parcel) {
        warn!(peer.node = %self.peer, stanza.id = parcel.stanza.id(), "a stanza was not sent: the peer refuses to read it");
        self.returned.extend(give_back(&parcel.stanza, Reason::Refused));
    }

    fn may_stop(&self) -> bool {
        matches!(self.phase, Phase::Negotiating | Phase::Open)
            && !self.connection.machine().is_closed()
    }

    fn quiet_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Leaving(latest) => Some(latest.min(self.active_at + QUIET)),
            _ => None,
        }
    }

    /// Says farewell, unless something is still to be delivered and there is time.
    fn leave(&mut self) {
        let Phase::Leaving(latest) = self.phase else { return };
        let owed = self.connection.machine().is_owed() || !self.hub.dispatch.is_idle(self.lane);
        if owed && now() < latest {
            self.active_at = now();
            return;
        }
        self.phase = Phase::Left;
        self.connection.machine_mut().handle_shutdown(now());
    }

    /// Passes on what has come, and leaves the rest for the next connection.
    async fn put_down(&mut self, ending: &Ending) {
        if let Some(transfer) = self.held.take() {
            pass_on(&self.hub.incoming, transfer).await;
        }
        while let Some(event) = self.connection.machine_mut().poll_event() {
            self.take(event);
            if let Some(transfer) = self.held.take() {
                pass_on(&self.hub.incoming, transfer).await;
            }
        }
        self.settle_receipts(now());
        let mut session = self.connection.machine_mut().take_session();
        let refused = matches!(ending, Ending::Closed(CloseReason::PeerRefused(_)));
        if refused
            && self.phase != Phase::Negotiating
            && let Some(parcel) = self.hub.dispatch.refused(self.lane, &mut session)
        {
            self.return_refused(&parcel);
        }
        let receipts = Arc::clone(&self.receipts);
        self.hub.dispatch.park(self.lane, Parked { session, receipts });
        self.hub.dispatch.lost(self.lane, now());
        for transfer in std::mem::take(&mut self.returned) {
            pass_on(&self.hub.incoming, transfer).await;
        }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed(reason) => f.write_str(&describe(reason)),
            Self::Broken(error) => write!(f, "{}", Chain(error)),
            Self::Replaced => f.write_str("a newer connection took over"),
        }
    }
}

fn describe(reason: &CloseReason) -> String {
    match reason {
        CloseReason::PeerClosed => "the peer said farewell".to_owned(),
        CloseReason::Disconnected => "the peer closed the connection".to_owned(),
        CloseReason::Shutdown => "this node is stopping".to_owned(),
        CloseReason::Idle => "the peer did not answer".to_owned(),
        CloseReason::SetupTimeout => "the negotiation took too long".to_owned(),
        CloseReason::WeRefused(error) => format!("refused by us: {error}"),
        CloseReason::PeerRefused(error) => format!("refused by the peer: {error}"),
        CloseReason::NoAgreement(why) => why.clone(),
    }
}

/// A slow role is waited for; its queue holds what came, in order.
async fn pass_on(incoming: &mpsc::Sender<Transfer>, transfer: Transfer) {
    // If the role is gone, it is not acknowledged and comes again.
    let _ = incoming.send(transfer).await;
}

/// For ever where nothing is announced, and once nothing can change any more.
async fn changed(announces: &mut Option<watch::Receiver<Vec<Domain>>>) {
    let is_over = match announces {
        Some(announces) => announces.changed().await.is_err(),
        None => true,
    };
    if is_over {
        std::future::pending().await
    }
}

async fn quiet(at: Option<Instant>) {
    match at {
        Some(at) => time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn count(name: &'static str, peer: &Domain, len: usize) {
    if len > 0 {
        metrics::counter!(name, "peer" => peer.to_string()).increment(len as u64);
    }
}

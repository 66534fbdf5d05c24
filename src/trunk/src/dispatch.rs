use std::collections::{HashMap, HashSet};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_net::now;
use gatehouse_types::Domain;
use gatehouse_xmpp::Stanza;
use gatehouse_xmpp::sm::Session;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::give_back::Reason;
use crate::lane::{Lane, Parked, Presence, Ticket};
use crate::node::{Announced, Node};
use crate::parcel::{Pair, Parcel, weigh};
use crate::{CoreNode, Receipt, Tuning, Unreachable, spread, sweep};

/// Streams in a row that may end by a stream error with the same stanza the oldest.
const REFUSALS_MAX: u32 = 3;

/// Who gets which stanza, and what waits for whom.
///
/// A pair of domains is pinned to its node while any of its stanzas is under way, so that order is
/// kept even while nodes come and go.
pub(crate) struct Dispatch {
    /// The other role: `edge` or `core`.
    role: &'static str,
    choice: Choice,
    pub(crate) tuning: Tuning,
    budget: Arc<Semaphore>,
    state: Mutex<State>,
    /// Rings when a stanza that found no node should look again.
    changed: watch::Sender<()>,
    stop: CancellationToken,
}

/// How a node is chosen for a pair that is not pinned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Choice {
    /// Pairs are shared out among all that are there.
    Shared,
    /// The first that is there and serves the domain a stanza is for.
    ByDomain,
}

struct State {
    lanes: Vec<Lane>,
    /// Since when nodes are waited for that never were there.
    started_at: Instant,
    /// When a node was lost last.
    lost_at: Option<Instant>,
    /// Of the next parcel.
    number: u64,
    pins: HashMap<Pair, Pin>,
}

struct Pin {
    lane: usize,
    /// Stanzas of the pair that wait or are under way.
    stanzas: usize,
}

impl Dispatch {
    /// Of a core: to each of these edges.
    pub(crate) fn to_edges(names: Vec<Domain>, tuning: Tuning, stop: CancellationToken) -> Self {
        let lanes = names.into_iter().map(|name| Lane::new(name, None)).collect();
        Self::new("edge", Choice::Shared, lanes, tuning, stop)
    }

    /// Of an edge: to each of these cores, as far as it may serve.
    pub(crate) fn to_cores(cores: Vec<CoreNode>, tuning: Tuning, stop: CancellationToken) -> Self {
        let lane = |core: CoreNode| {
            let may: HashSet<Domain> = core.domains.into_iter().collect();
            Lane::new(core.name, Some(Arc::new(may)))
        };
        let lanes = cores.into_iter().map(lane).collect();
        Self::new("core", Choice::ByDomain, lanes, tuning, stop)
    }

    fn new(
        role: &'static str,
        choice: Choice,
        lanes: Vec<Lane>,
        tuning: Tuning,
        stop: CancellationToken,
    ) -> Self {
        Self {
            role,
            choice,
            budget: Arc::new(Semaphore::new(tuning.queue_kib_max as usize)),
            tuning,
            state: Mutex::new(State {
                lanes,
                started_at: now(),
                lost_at: None,
                number: 0,
                pins: HashMap::new(),
            }),
            changed: watch::Sender::new(()),
            stop,
        }
    }

    /// Takes `stanza` for delivery, or says why not after the patience of the trunk. That counts
    /// from when the last node was lost, so that a trunk that is down holds nobody up for longer.
    pub(crate) async fn send(&self, stanza: Stanza, receipt: Receipt) -> Result<(), Unreachable> {
        let latest = now() + self.patience_of_senders();
        let mut changed = self.changed.subscribe();
        let weight = weigh(&stanza).min(self.tuning.queue_kib_max);
        let pair = Pair::of(&stanza);
        let mut room = pin!(Arc::clone(&self.budget).acquire_many_owned(weight));
        let room = loop {
            tokio::select! {
                biased;
                room = &mut room => match room {
                    Ok(room) => break room,
                    Err(_closed) => return self.unreachable("it has stopped".to_owned(), stanza),
                },
                // A node was lost or came back: there is more or less time than we thought.
                _ = changed.changed() => {}
                () = time::sleep_until(self.deadline(&pair, latest)) => {
                    let reason = format!("the queue was full for {}", self.patience());
                    return self.unreachable(reason, stanza);
                }
            }
        };
        let mut parcel = self.parcel(stanza, receipt.holding(room));
        loop {
            parcel = match self.place(parcel, now()) {
                Ok(()) => return Ok(()),
                Err(parcel) => parcel,
            };
            tokio::select! {
                _ = changed.changed() => {}
                () = self.stop.cancelled() => {
                    return self.unreachable("this node is stopping".to_owned(), parcel.stanza);
                }
                () = time::sleep_until(self.deadline(&pair, latest)) => {
                    let reason = format!("none that serves this domain was there for {}", self.patience());
                    return self.unreachable(reason, parcel.stanza);
                }
            }
        }
    }

    /// How long a stanza may wait that finds no node. Older ones wait on a lane for one that is lost,
    /// and are given back by the sweep: so that authors are told in order, that comes first.
    fn patience_of_senders(&self) -> Duration {
        self.tuning.patience + 2 * sweep::EVERY
    }

    /// When a stanza is given up that may wait until `latest`.
    fn deadline(&self, pair: &Pair, latest: Instant) -> time::Instant {
        let given_up = self.alone_since(pair).map(|since| since + self.patience_of_senders());
        time::Instant::from_std(given_up.map_or(latest, |given_up| given_up.min(latest)))
    }

    /// Since when nobody is there who would take this pair's stanzas; `None` if somebody is.
    fn alone_since(&self, pair: &Pair) -> Option<Instant> {
        let state = self.state.lock();
        let mut since = state.started_at;
        for lane in state.lanes.iter().filter(|lane| self.serves(lane, pair)) {
            match lane.presence {
                Presence::Up => return None,
                Presence::Lost { since: lost } => since = since.max(lost),
                Presence::Unseen => {}
            }
        }
        Some(since)
    }

    /// True if this node takes stanzas of this pair when it is there.
    fn serves(&self, lane: &Lane, pair: &Pair) -> bool {
        match self.choice {
            Choice::Shared => true,
            Choice::ByDomain => pair.to.as_ref().is_some_and(|to| lane.domains.contains(to)),
        }
    }

    /// Why a stanza goes back for which no node was there.
    pub(crate) fn away(&self) -> Reason {
        match self.choice {
            Choice::Shared => Reason::NoEdge,
            Choice::ByDomain => Reason::NoCore,
        }
    }

    fn patience(&self) -> String {
        format!("{} s", self.tuning.patience.as_secs())
    }

    fn parcel(&self, stanza: Stanza, receipt: Receipt) -> Parcel {
        let mut state = self.state.lock();
        state.number += 1;
        Parcel::new(stanza, state.number, receipt)
    }

    /// Takes `stanza` for delivery if a node is there and there is room; never waits.
    pub(crate) fn try_send(&self, stanza: Stanza) -> Result<(), Unreachable> {
        let weight = weigh(&stanza).min(self.tuning.queue_kib_max);
        let Ok(room) = Arc::clone(&self.budget).try_acquire_many_owned(weight) else {
            return self.unreachable("the queue is full".to_owned(), stanza);
        };
        match self.place(self.parcel(stanza, Receipt::default().holding(room)), now()) {
            Ok(()) => Ok(()),
            Err(parcel) => self.unreachable("none is there".to_owned(), parcel.stanza),
        }
    }

    /// Passes a stanza of one core on to another if that one is there and there is room; never waits.
    /// The receipt comes back with what is not taken.
    pub(crate) fn pass_on(
        &self,
        stanza: Stanza,
        receipt: Receipt,
    ) -> Result<(), (Unreachable, Receipt)> {
        let Pair { from: Some(from), to: Some(to) } = Pair::of(&stanza) else {
            return self.not_passed_on("it is from nobody, or for nobody", stanza, receipt);
        };
        // It would only come back.
        let serves_both = |lane: &Lane| lane.domains.contains(&from) && lane.domains.contains(&to);
        if self.state.lock().lanes.iter().any(serves_both) {
            return self.not_passed_on("one core serves both domains", stanza, receipt);
        }
        let weight = weigh(&stanza).min(self.tuning.queue_kib_max);
        let Ok(room) = Arc::clone(&self.budget).try_acquire_many_owned(weight) else {
            return self.not_passed_on("the queue is full", stanza, receipt);
        };
        match self.place(self.parcel(stanza, receipt.holding(room)), now()) {
            Ok(()) => Ok(()),
            Err(parcel) => {
                let Parcel { stanza, receipt, .. } = parcel;
                self.not_passed_on("none that serves this domain is there", stanza, receipt)
            }
        }
    }

    fn not_passed_on(
        &self,
        reason: &str,
        stanza: Stanza,
        receipt: Receipt,
    ) -> Result<(), (Unreachable, Receipt)> {
        let unreachable = self.unreachable(reason.to_owned(), stanza);
        unreachable.map_err(|unreachable| (unreachable, receipt))
    }

    fn unreachable(&self, reason: String, stanza: Stanza) -> Result<(), Unreachable> {
        metrics::counter!("gatehouse_trunk_unreachable_total", "role" => self.role).increment(1);
        Err(Unreachable { role: self.role, reason, stanza: Box::new(stanza) })
    }

    /// Puts `parcel` on its lane, or hands it back if that node is not there.
    #[expect(clippy::result_large_err, reason = "it goes back to where it came from, once")]
    fn place(&self, parcel: Parcel, now: Instant) -> Result<(), Parcel> {
        let mut state = self.state.lock();
        let lane = match state.pins.get(&parcel.pair) {
            // A pair whose domain has moved waits until all before it has arrived.
            Some(pin) => Some(pin.lane).filter(|lane| {
                self.is_usable(&state, *lane, now)
                    && state.lanes.get(*lane).is_some_and(|lane| self.serves(lane, &parcel.pair))
            }),
            None => self.choose(&state, &parcel.pair, now),
        };
        match lane {
            Some(lane) => {
                state.put(lane, parcel);
                Ok(())
            }
            None => Err(parcel),
        }
    }

    /// Which node a pair's stanzas go to. The one place that knows: where several nodes serve one
    /// domain, this is where the address decides.
    fn choose(&self, state: &State, pair: &Pair, now: Instant) -> Option<usize> {
        let lanes = state.lanes.iter().enumerate();
        let mut usable = lanes
            .filter(|(place, lane)| self.serves(lane, pair) && self.is_usable(state, *place, now));
        match self.choice {
            Choice::ByDomain => usable.next(),
            Choice::Shared => {
                usable.max_by_key(|(_, lane)| spread::score(pair, lane.name.as_str()))
            }
        }
        .map(|(place, _)| place)
    }

    /// Notes which domains a node serves; says what of that does not count.
    pub(crate) fn announced(&self, lane: usize, domains: Vec<Domain>, now: Instant) -> Announced {
        let mut announced = Announced::default();
        let mut served: Vec<Domain> = Vec::new();
        let may = self.may(lane).unwrap_or_default();
        for domain in domains {
            if !may.contains(&domain) {
                announced.foreign.push(domain);
            } else if !served.contains(&domain) {
                served.push(domain);
            }
        }
        let mut state = self.state.lock();
        for domain in &served {
            let mut others = state.lanes.iter().enumerate().filter(|(place, other)| {
                *place != lane && other.presence == Presence::Up && other.domains.contains(domain)
            });
            if let Some((place, other)) = others.next() {
                let preferred = if place < lane {
                    Some(other.name.clone())
                } else {
                    state.lanes.get(lane).map(|lane| lane.name.clone())
                };
                announced.shared.extend(preferred.map(|preferred| (domain.clone(), preferred)));
            }
        }
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.domains = served.into();
            announced.is_news = lane.oversteps.announced(&announced.foreign, now);
        }
        drop(state);
        self.changed.send_replace(());
        announced
    }

    /// The domains that a node may serve and speak for; `None` if it may speak for anybody.
    pub(crate) fn may(&self, lane: usize) -> Option<Arc<HashSet<Domain>>> {
        self.state.lock().lanes.get(lane)?.may.clone()
    }

    /// A node sent a stanza for a domain that is not its own. Gives how many the log did not hear of
    /// before this one, if it is to hear of this one.
    pub(crate) fn overstepped(&self, lane: usize, now: Instant) -> Option<u64> {
        self.state.lock().lanes.get_mut(lane)?.oversteps.stanza(now)
    }

    pub(crate) fn domains_of(&self, lane: usize) -> Arc<[Domain]> {
        let state = self.state.lock();
        state.lanes.get(lane).map(|lane| Arc::clone(&lane.domains)).unwrap_or_default()
    }

    /// The nodes that are there, in the order of the settings.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let state = self.state.lock();
        let there = state.lanes.iter().filter(|lane| lane.presence == Presence::Up);
        there
            .map(|lane| Node { name: lane.name.clone(), domains: Arc::clone(&lane.domains) })
            .collect()
    }

    /// A node that was lost a moment ago counts as there: it will probably be back, and its pairs
    /// need not move.
    fn is_usable(&self, state: &State, lane: usize, now: Instant) -> bool {
        match state.lanes.get(lane).map(|lane| lane.presence) {
            Some(Presence::Up) => true,
            Some(Presence::Lost { since }) => {
                !self.stop.is_cancelled()
                    && now.saturating_duration_since(since) < self.tuning.failover_after
            }
            Some(Presence::Unseen) | None => false,
        }
    }

    /// The next stanza for this lane.
    pub(crate) fn next(&self, lane: usize) -> Option<Parcel> {
        self.state.lock().lanes.get_mut(lane)?.pending.pop_front()
    }

    /// True if nothing waits on this lane.
    pub(crate) fn is_idle(&self, lane: usize) -> bool {
        self.state.lock().lanes.get(lane).is_none_or(|lane| lane.pending.is_empty())
    }

    /// These were delivered.
    pub(crate) fn delivered(&self, parcels: &[Parcel]) {
        let mut state = self.state.lock();
        for parcel in parcels {
            state.unpin(&parcel.pair);
        }
        drop(state);
        if self.changed.receiver_count() > 0 {
            // A pair whose domain has moved may go on now.
            self.changed.send_replace(());
        }
    }

    pub(crate) fn lane_of(&self, node: &Domain) -> Option<usize> {
        self.state.lock().lanes.iter().position(|lane| lane.name == *node)
    }

    pub(crate) fn bell(&self, lane: usize) -> Arc<Notify> {
        self.state.lock().lanes.get(lane).map(|lane| Arc::clone(&lane.bell)).unwrap_or_default()
    }

    pub(crate) fn queue_up(&self, lane: usize) -> Option<Ticket> {
        self.state.lock().lanes.get(lane).map(Lane::queue_up)
    }

    /// What the last connection left.
    pub(crate) fn unpark(&self, lane: usize) -> Option<Parked> {
        self.state.lock().lanes.get_mut(lane)?.parked.take()
    }

    /// What a connection leaves, for the next one.
    pub(crate) fn park(&self, lane: usize, parked: Parked) {
        if let Some(lane) = self.state.lock().lanes.get_mut(lane) {
            lane.parked = Some(parked);
        }
    }

    pub(crate) fn up(&self, lane: usize) {
        let mut state = self.state.lock();
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.presence = Presence::Up;
        }
        drop(state);
        self.changed.send_replace(());
    }

    pub(crate) fn lost(&self, lane: usize, now: Instant) {
        let mut state = self.state.lock();
        if let Some(lane) = state.lanes.get_mut(lane)
            && lane.presence == Presence::Up
        {
            lane.presence = Presence::Lost { since: now };
            state.lost_at = Some(now);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// When a node was lost last.
    pub(crate) fn lost_at(&self) -> Option<Instant> {
        self.state.lock().lost_at
    }

    /// The peer ended a stream by a stream error. Gives back the oldest stanza that it had not
    /// taken, once that was the oldest so often that it must be what the peer cannot read: sent
    /// again with every new session, it would stop the lane for ever.
    pub(crate) fn refused(&self, lane: usize, session: &mut Session<Parcel>) -> Option<Parcel> {
        if session.id.is_some() {
            // It goes on, and the peer named the one that it cannot read.
            return None;
        }
        let mut state = self.state.lock();
        let lane = state.lanes.get_mut(lane)?;
        let number = session.outbound.iter().next()?.number;
        let times = match lane.suspect {
            Some((suspect, times)) if suspect == number => times + 1,
            _ => 1,
        };
        lane.suspect = Some((number, times));
        if times < REFUSALS_MAX {
            return None;
        }
        lane.suspect = None;
        let parcel = session.outbound.pop_oldest()?;
        state.unpin(&parcel.pair);
        Some(parcel)
    }

    /// Moves what waits for a node that stays away to others. Where there is no other, gives it
    /// back once the patience is over.
    pub(crate) fn sweep(&self, now: Instant) -> Vec<Parcel> {
        let mut given_back = Vec::new();
        let mut state = self.state.lock();
        let mut changed = false;
        for lane in 0..state.lanes.len() {
            let Some(Presence::Lost { since }) = state.lanes.get(lane).map(|lane| lane.presence)
            else {
                continue;
            };
            if self.is_usable(&state, lane, now) || state.lanes.get(lane).is_none_or(Lane::is_held)
            {
                continue;
            }
            let away = now.saturating_duration_since(since);
            let moves = state.lanes.get(lane).is_some_and(|lane| {
                lane.waiting().any(|parcel| self.choose(&state, &parcel.pair, now).is_some())
            });
            if moves || away >= self.tuning.patience {
                let moved = self.move_away(&mut state, lane, now);
                changed |= moved;
            }
            if away >= self.tuning.patience
                && let Some(lane) = state.lanes.get_mut(lane)
            {
                let parcels = std::mem::take(&mut lane.pending);
                for parcel in &parcels {
                    state.unpin(&parcel.pair);
                }
                given_back.extend(parcels);
            }
            if away >= self.tuning.resume_timeout
                && let Some(lane) = state.lanes.get_mut(lane)
            {
                lane.pending = lane.clear();
                lane.parked = None;
            }
        }
        drop(state);
        if changed || !given_back.is_empty() {
            self.changed.send_replace(());
        }
        given_back
    }

    /// Gives each parcel of this lane to who takes it now; the others stay, for a new session.
    fn move_away(&self, state: &mut State, from: usize, now: Instant) -> bool {
        let parcels = state.lanes.get_mut(from).map(Lane::clear).unwrap_or_default();
        for parcel in &parcels {
            state.unpin(&parcel.pair);
        }
        let mut moved = 0;
        for parcel in parcels {
            // All of a pair's stanzas were on the old lane, so all go to one new one, in order.
            match self.choose(state, &parcel.pair, now) {
                Some(lane) => {
                    moved += 1;
                    state.put(lane, parcel);
                }
                None => state.put(from, parcel),
            }
        }
        metrics::counter!("gatehouse_trunk_moved_total").increment(moved);
        moved > 0
    }

    /// How many stanzas are on their way through here.
    #[cfg(test)]
    pub(crate) fn pinned(&self) -> usize {
        self.state.lock().pins.values().map(|pin| pin.stanzas).sum()
    }
}

impl State {
    fn put(&mut self, lane: usize, parcel: Parcel) {
        let pin = self.pins.entry(parcel.pair.clone()).or_insert(Pin { lane, stanzas: 0 });
        pin.stanzas += 1;
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.pending.push_back(parcel);
            lane.bell.notify_one();
        }
    }

    fn unpin(&mut self, pair: &Pair) {
        if let Some(pin) = self.pins.get_mut(pair) {
            pin.stanzas = pin.stanzas.saturating_sub(1);
            if pin.stanzas == 0 {
                self.pins.remove(pair);
            }
        }
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch").field("role", &self.role).finish_non_exhaustive()
    }
}

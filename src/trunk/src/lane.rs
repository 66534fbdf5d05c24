use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use gatehouse_types::Domain;
use gatehouse_xmpp::sm::Session;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, watch};

use crate::overstep::Oversteps;
use crate::parcel::Parcel;
use crate::receipt::Receipts;

/// All that is to go to one node.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) name: Domain,
    /// The domains that it announced, as far as it may; of an edge, none.
    pub(crate) domains: Arc<[Domain]>,
    /// The domains that it may announce and speak for; `None` for an edge, which brings what
    /// everybody outside sends.
    pub(crate) may: Option<Arc<HashSet<Domain>>>,
    /// What it did that it may not.
    pub(crate) oversteps: Oversteps,
    pub(crate) presence: Presence,
    /// Not sent yet.
    pub(crate) pending: VecDeque<Parcel>,
    /// What the last connection left.
    pub(crate) parked: Option<Parked>,
    /// The oldest stanza when the last stream ended by a stream error, and how many streams in a
    /// row did so with the same one.
    pub(crate) suspect: Option<(u64, u32)>,
    /// Rings when something is pending.
    pub(crate) bell: Arc<Notify>,
    turn: Arc<Mutex<()>>,
    newest: watch::Sender<u64>,
}

/// Whether a node is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Presence {
    /// It never was.
    Unseen,
    /// It is.
    Up,
    /// It was.
    Lost {
        /// Until then.
        since: Instant,
    },
}

/// What outlives a connection.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    pub(crate) session: Session<Parcel>,
    pub(crate) receipts: Arc<Receipts>,
}

impl Lane {
    pub(crate) fn new(name: Domain, may: Option<Arc<HashSet<Domain>>>) -> Self {
        Self {
            name,
            domains: Arc::default(),
            may,
            oversteps: Oversteps::default(),
            presence: Presence::Unseen,
            pending: VecDeque::new(),
            parked: None,
            suspect: None,
            bell: Arc::default(),
            turn: Arc::default(),
            newest: watch::Sender::new(0),
        }
    }

    /// Everything that is not delivered, oldest first; a session that held some of it is over.
    pub(crate) fn clear(&mut self) -> VecDeque<Parcel> {
        let mut all = VecDeque::new();
        if self.parked.as_ref().is_some_and(|parked| !parked.session.outbound.is_empty()) {
            let parked = self.parked.take().unwrap_or_default();
            all.extend(parked.session.outbound.into_items());
        }
        all.append(&mut self.pending);
        all
    }

    /// Everything that is not delivered and not in the hands of a connection, oldest first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Parcel> {
        let parked = self.parked.iter().flat_map(|parked| parked.session.outbound.iter());
        parked.chain(&self.pending)
    }

    /// True while a connection serves this lane, or negotiates to: it may hold stanzas that are
    /// nowhere else.
    pub(crate) fn is_held(&self) -> bool {
        self.turn.try_lock().is_err()
    }

    /// A ticket for the next turn; the one whose turn it is hears of it.
    pub(crate) fn queue_up(&self) -> Ticket {
        let mut number = 0;
        self.newest.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        Ticket { number, newest: self.newest.subscribe(), turn: Arc::clone(&self.turn) }
    }
}

/// A connection's claim to be the one that serves a lane.
pub(crate) struct Ticket {
    number: u64,
    newest: watch::Receiver<u64>,
    turn: Arc<Mutex<()>>,
}

impl Ticket {
    /// Waits until the connection before has put down what it had.
    pub(crate) async fn turn(self) -> Lease {
        let turn = self.turn.lock_owned().await;
        Lease { number: self.number, newest: self.newest, _turn: turn }
    }
}

/// The right to serve a lane: one connection at a time, and a newer one replaces it.
pub(crate) struct Lease {
    number: u64,
    newest: watch::Receiver<u64>,
    _turn: OwnedMutexGuard<()>,
}

impl Lease {
    /// Waits until a newer connection wants the lane.
    pub(crate) async fn revoked(&mut self) {
        let number = self.number;
        if self.newest.wait_for(|newest| *newest > number).await.is_err() {
            std::future::pending().await
        }
    }
}

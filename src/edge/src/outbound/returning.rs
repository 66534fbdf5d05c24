//! Streams that partners opened to us and on which we may answer (XEP-0288): instead of dialling,
//! the link of a pair lends its queue to such a stream.

use std::collections::{HashMap, VecDeque};
use std::future::{Future as _, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use gatehouse_net::{Connection, now};
use gatehouse_telemetry::StreamHandle;
use gatehouse_xmpp::S2sReceiver;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::carry::{BATCH_LEN_MAX, Carried};
use super::held::Held;
use super::queue::{Pair, Queue, Waiting};

/// Pairs of domains that one stream may carry: the machine bounds them, too.
const LOANS_MAX: usize = 64;

/// The inbound streams that take stanzas, by pair of domains, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Returns(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    next: u64,
    streams: HashMap<Pair, Vec<(u64, mpsc::Sender<Loan>)>>,
}

/// A queue that a stream may empty until it ends.
#[derive(Debug)]
struct Loan {
    pair: Pair,
    queue: Arc<Queue>,
    done: oneshot::Sender<Carried>,
}

/// A stream's place among the [`Returns`] of a pair; dropping it gives it up.
#[derive(Debug)]
struct Listed {
    returns: Arc<Returns>,
    pair: Pair,
    number: u64,
}

impl Returns {
    fn list(self: &Arc<Self>, pair: Pair, lender: mpsc::Sender<Loan>) -> Listed {
        let mut known = self.0.lock();
        let number = known.next;
        known.next += 1;
        known.streams.entry(pair.clone()).or_default().push((number, lender));
        Listed { returns: Arc::clone(self), pair, number }
    }

    /// True if a stream of the partner takes stanzas of this pair.
    pub(super) fn has(&self, pair: &Pair) -> bool {
        self.0.lock().streams.contains_key(pair)
    }

    /// Lends the queue of a pair to a stream of the partner. What came of it is told once the stream
    /// has ended; `None` if there is no such stream.
    pub(super) fn lend(
        &self,
        pair: &Pair,
        queue: &Arc<Queue>,
    ) -> Option<oneshot::Receiver<Carried>> {
        let known = self.0.lock();
        let streams = known.streams.get(pair)?;
        streams.iter().find_map(|(_, lender)| {
            let (done, carried) = oneshot::channel();
            let loan = Loan { pair: pair.clone(), queue: Arc::clone(queue), done };
            lender.try_send(loan).ok().map(|()| carried)
        })
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut known = self.returns.0.lock();
        if let Some(streams) = known.streams.get_mut(&self.pair) {
            streams.retain(|(number, _)| *number != self.number);
            if streams.is_empty() {
                known.streams.remove(&self.pair);
            }
        }
    }
}

/// What goes back on one stream that a partner opened. Dropping it gives everything back that is
/// not known to be safe.
#[derive(Debug, Default)]
pub(crate) struct Back {
    /// Where queues come from; made only for streams that need it, because most do not.
    loans: Option<(mpsc::Sender<Loan>, mpsc::Receiver<Loan>)>,
    listed: Vec<Listed>,
    legs: Vec<Leg>,
    /// Whose turn is next.
    turn: usize,
    /// Over all legs, because a partner acknowledges by the stream; each with its leg.
    held: Held<(usize, Waiting)>,
    reason: Option<String>,
}

/// A pair of domains whose queue we have.
#[derive(Debug)]
struct Leg {
    queue: Arc<Queue>,
    delivered_any: bool,
    done: oneshot::Sender<Carried>,
}

impl Back {
    /// Stanzas of this pair may go back from here on: policy has allowed the pair.
    pub(crate) fn open(&mut self, returns: &Arc<Returns>, pair: Pair) {
        let (lender, _) = self.loans.get_or_insert_with(|| mpsc::channel(LOANS_MAX));
        self.listed.push(returns.list(pair, lender.clone()));
    }

    /// Takes no further queue.
    pub(crate) fn close(&mut self) {
        self.listed.clear();
    }

    /// True if a queue is lent to this stream.
    pub(crate) fn is_used(&self) -> bool {
        !self.legs.is_empty()
    }

    /// True if nothing waits, and all that was sent is safe.
    pub(crate) fn is_done(&self) -> bool {
        self.held.is_empty() && self.legs.iter().all(|leg| leg.queue.is_empty())
    }

    /// True if something was sent that may not have left yet.
    pub(crate) fn is_sending(&self) -> bool {
        self.held.unflushed() > 0
    }

    /// Waits until there may be something to send. Cancel-safe; may also return without cause.
    pub(crate) async fn news(&mut self) {
        let Self { loans, legs, .. } = self;
        let mut arrivals: Vec<_> = legs.iter().map(|leg| Box::pin(leg.queue.arrived())).collect();
        let loan = poll_fn(|cx| {
            if let Some((_, loans)) = loans
                && let Poll::Ready(Some(loan)) = loans.poll_recv(cx)
            {
                return Poll::Ready(Some(loan));
            }
            if arrivals.iter_mut().any(|arrived| arrived.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await;
        drop(arrivals);
        if let Some(Loan { pair, queue, done }) = loan {
            debug!(
                peer.domain = %pair.remote, local.domain = %pair.local, direction = "in",
                "stanzas go back on a stream of the partner"
            );
            legs.push(Leg { queue, delivered_any: false, done });
        }
    }

    /// Gives the machine what waits, as far as the peer keeps up; each pair gets its turn.
    pub(crate) fn send(&mut self, connection: &mut Connection<S2sReceiver>) {
        let mut empty = 0;
        for _ in 0..BATCH_LEN_MAX {
            let machine = connection.machine();
            if !machine.takes_stanzas()
                || !machine.has_room()
                || connection.is_congested()
                || self.held.unflushed() >= 4 * BATCH_LEN_MAX
            {
                return;
            }
            let waiting = loop {
                if empty >= self.legs.len() {
                    return;
                }
                self.turn = (self.turn + 1) % self.legs.len();
                match self.legs.get(self.turn).and_then(|leg| leg.queue.pop()) {
                    Some(waiting) => break waiting,
                    None => empty += 1,
                }
            };
            empty = 0;
            debug!(
                stanza.id = %waiting.stanza.trace(), kind = ?waiting.stanza.kind(),
                "a stanza goes to the partner, on its own stream"
            );
            let sent = connection.machine_mut().send(&waiting.stanza, now());
            self.held.push((self.turn, waiting), sent);
        }
    }

    /// All that was sent has been handed to the operating system.
    pub(crate) fn flushed(&mut self, handle: &StreamHandle) {
        let safe = self.held.flushed();
        self.safe(safe, handle);
    }

    /// The partner has acknowledged the oldest `len` that it counts.
    pub(crate) fn acknowledged(&mut self, len: usize, handle: &StreamHandle) {
        let safe = self.held.acknowledged(len);
        self.safe(safe, handle);
    }

    fn safe(&mut self, safe: Vec<(usize, Waiting)>, handle: &StreamHandle) {
        for (leg, _) in safe {
            handle.stanza_out();
            if let Some(leg) = self.legs.get_mut(leg) {
                leg.delivered_any = true;
            }
        }
    }

    /// The stream takes nothing more: each link gets back what is not known to be safe.
    pub(crate) fn end(&mut self, reason: &str) {
        self.listed.clear();
        // A link whose queue was not even taken learns from the dropped loan.
        self.loans = None;
        let mut held: Vec<VecDeque<Waiting>> = Vec::new();
        held.resize_with(self.legs.len(), VecDeque::new);
        for (leg, waiting) in std::mem::take(&mut self.held).into_items() {
            if let Some(held) = held.get_mut(leg) {
                held.push_back(waiting);
            }
        }
        for (Leg { delivered_any, done, .. }, held) in self.legs.drain(..).zip(held) {
            // A link waits for this as long as its queue is lent.
            let _ = done.send(Carried { delivered_any, held, reason: reason.to_owned() });
        }
    }

    /// Why the stream ends, should it end without further notice.
    pub(crate) fn note(&mut self, reason: &str) {
        self.reason.get_or_insert_with(|| reason.to_owned());
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        let reason = self.reason.take();
        self.end(reason.as_deref().unwrap_or("the stream ended"));
    }
}

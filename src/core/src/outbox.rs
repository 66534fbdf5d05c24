//! What waits to be written to one client, and who answers for it until it is.

mod pipe;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::held::Held;
use crate::resume::HandOver;
use crate::sip::Answer;
use gatehouse_net::now;
use gatehouse_trunk::Receipt;
use gatehouse_xmpp::{Stanza, StanzaCondition, StreamCondition, StreamError};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time;

use self::pipe::{Giver, Taker, pipe};

/// How long a full outbox may slow its senders down before the client is cut off. The client
/// has stopped reading some time before: the socket and the outbox are full by then.
const STALLED: Duration = Duration::from_secs(5);

/// A stanza on its way to one client.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) stanza: Arc<Stanza>,
    /// Shared by all the copies that went to several resources of one user.
    pub(crate) copies: Copies,
    /// The key of the stored message that this is; the store answers for it.
    pub(crate) offline: Option<i64>,
    /// It is a carbon: a copy of what went to somebody else.
    pub(crate) is_extra: bool,
}

impl Outgoing {
    /// A stanza for one client alone.
    pub(crate) fn new(stanza: Stanza) -> Self {
        Self { stanza: Arc::new(stanza), copies: Copies::default(), offline: None, is_extra: false }
    }
}

/// What is owed for a stanza until it is safe: to the trunk its receipt, which acknowledges the stanza
/// once it is released or nobody has it any more; and what the store holds of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owed(Option<Arc<Mutex<Debt>>>);

/// Who hears that a stanza is safe, once this is dropped.
#[derive(Debug)]
enum Credit {
    /// The other end of the trunk, or the client that sent it.
    Receipt(#[expect(dead_code, reason = "it is dropped when its time has come")] Receipt),
    /// A SIP partner.
    Sip(Answer),
}

#[derive(Debug, Default)]
struct Debt {
    receipt: Option<Credit>,
    held: Option<Held>,
    /// What the receipt is for.
    stanza: Option<Arc<Stanza>>,
}

impl Owed {
    pub(crate) fn new(receipt: Receipt) -> Self {
        Self::to(Credit::Receipt(receipt))
    }

    /// A SIP partner waits for its answer.
    pub(crate) fn answer(answer: Answer) -> Self {
        Self::to(Credit::Sip(answer))
    }

    fn to(credit: Credit) -> Self {
        let debt = Debt { receipt: Some(credit), ..Debt::default() };
        Self(Some(Arc::new(Mutex::new(debt))))
    }

    /// The stanza is not taken: a SIP partner hears why.
    pub(crate) fn refuse(&self, condition: StanzaCondition) {
        if let Some(owed) = &self.0 {
            let credit = owed.lock().receipt.take();
            match credit {
                Some(Credit::Sip(answer)) => answer.refuse(condition),
                Some(Credit::Receipt(_)) | None => {}
            }
        }
    }

    /// The store has a message to a SIP partner, until this is released. Whoever else waited has been
    /// relieved.
    #[must_use]
    pub(crate) fn held(self, held: Held) -> Self {
        match &self.0 {
            Some(owed) => {
                let mut owed = owed.lock();
                owed.held = Some(held);
                drop((owed.receipt.take(), owed.stanza.take()));
            }
            None => {
                let debt = Debt { held: Some(held), ..Debt::default() };
                return Self(Some(Arc::new(Mutex::new(debt))));
            }
        }
        self
    }

    /// True while the store has a message to a SIP partner, which this is about.
    pub(crate) fn is_outgoing(&self) -> bool {
        let is_outgoing =
            |owed: &Arc<Mutex<Debt>>| owed.lock().held.as_ref().is_some_and(Held::is_outgoing);
        self.0.as_ref().is_some_and(is_outgoing)
    }

    /// Leaves a message to a SIP partner in the store, for the next start; false if it is not there.
    pub(crate) fn keep(&self) -> bool {
        let held = self.0.as_ref().and_then(|owed| owed.lock().held.take_if(|it| it.is_outgoing()));
        held.map(Held::keep).is_some()
    }

    /// A share of it for the trunk, which drops it once the stanza is safe there.
    pub(crate) fn until_dropped(self) -> Receipt {
        self.0.map_or_else(Receipt::default, |debt| Receipt::sharing(debt))
    }

    /// The stanza is safe, or has been waited for long enough.
    pub(crate) fn release(&self) {
        if let Some(owed) = &self.0 {
            drop(std::mem::take(&mut *owed.lock()));
        }
    }

    /// The receipt has been waited for long enough.
    pub(crate) fn release_receipt(&self) {
        if let Some(owed) = &self.0 {
            let mut owed = owed.lock();
            drop((owed.receipt.take(), owed.stanza.take()));
        }
    }

    /// This is what is under way to sessions.
    pub(crate) fn is_for(&self, stanza: &Arc<Stanza>) {
        if let Some(owed) = &self.0 {
            owed.lock().stanza = Some(Arc::clone(stanza));
        }
    }

    /// What is under way to sessions, unless it is safe.
    pub(crate) fn stanza(&self) -> Option<Arc<Stanza>> {
        let debt = self.0.as_ref()?.lock();
        if debt.receipt.is_some() && debt.held.is_none() { debt.stanza.clone() } else { None }
    }

    /// The store has the stanza; the receipt can go. If it was safe by then, the store need not keep
    /// it.
    pub(crate) fn hold(&self, held: Held) {
        if let Some(owed) = &self.0 {
            let mut owed = owed.lock();
            if owed.receipt.take().is_some() {
                owed.held = Some(held);
            }
        }
    }

    /// True while somebody else answers for the stanza too and it is not released.
    pub(crate) fn is_held_elsewhere(&self) -> bool {
        let waits =
            |owed: &Arc<Mutex<Debt>>| Arc::strong_count(owed) > 1 && owed.lock().receipt.is_some();
        self.0.as_ref().is_some_and(waits)
    }
}

/// The copies of one stanza. If none of them reaches its client, the one that fails last is routed
/// again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copies(Arc<Fate>);

#[derive(Debug, Default)]
struct Fate {
    written: AtomicBool,
    owed: Mutex<Owed>,
}

impl Copies {
    /// Of a stanza that something is owed for until one copy is written.
    pub(crate) fn owing(owed: Owed) -> Self {
        Self(Arc::new(Fate { written: AtomicBool::new(false), owed: Mutex::new(owed) }))
    }

    /// One copy has left for its client.
    pub(crate) fn written(self) {
        self.0.written.store(true, Ordering::Release);
        self.0.owed.lock().release();
    }

    /// This copy will not be written. Gives what is owed if no other copy was or can be.
    pub(crate) fn lost(self) -> Option<Owed> {
        let fate = Arc::into_inner(self.0)?;
        (!fate.written.into_inner()).then(|| fate.owed.into_inner())
    }

    /// True if one copy was written, or the store has the stanza.
    pub(crate) fn is_safe(&self) -> bool {
        let is_held = |owed: &Owed| owed.0.as_ref().is_some_and(|debt| debt.lock().held.is_some());
        self.0.written.load(Ordering::Acquire) || is_held(&self.0.owed.lock())
    }

    /// The store has the stanza, until a copy is written or what is owed is released.
    pub(crate) fn hold(&self, held: Held) {
        let mut owed = self.0.owed.lock();
        let debt = owed.0.get_or_insert_default();
        {
            let mut debt = debt.lock();
            debt.held = Some(held);
            drop(debt.receipt.take());
        }
        if self.0.written.load(Ordering::Acquire) {
            owed.release();
        }
    }
}

/// A place in a queue, and what is in it.
#[derive(Debug)]
struct Place {
    item: Outgoing,
    _room: OwnedSemaphorePermit,
}

/// The sending side of a session: its queue, and a way to end it.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Giver<Place>,
    /// For those who can wait.
    room: Arc<Semaphore>,
    /// For those who cannot, once there is no room.
    reserve: Arc<Semaphore>,
    /// Since when there has been no room, as far as those know who cannot wait.
    full_since: Mutex<Option<Instant>>,
    kick: Giver<StreamError>,
    want: Giver<HandOver>,
    gone: AtomicBool,
    /// The session holds what it took from the queue, and does not know it to be written.
    unwritten: AtomicBool,
}

/// The session's own side of its outbox.
#[derive(Debug)]
pub(crate) struct OutboxReceiver {
    pub(crate) queue: Queue,
    pub(crate) kicked: Taker<StreamError>,
    /// Another connection wants the session.
    pub(crate) wanted: Taker<HandOver>,
}

/// What waits for a session, oldest first.
#[derive(Debug)]
pub(crate) struct Queue {
    places: Taker<Place>,
    room: Arc<Semaphore>,
}

/// Both sides of an outbox of `len_max` stanzas, and as many from those who cannot wait.
pub(crate) fn outbox(len_max: usize) -> (Outbox, OutboxReceiver) {
    let len_max = len_max.max(1);
    let (queue, places) = pipe(len_max * 2);
    let (kick, kicked) = pipe(1);
    let (want, wanted) = pipe(1);
    let [room, reserve] = [(); 2].map(|()| Arc::new(Semaphore::new(len_max)));
    let receiver =
        OutboxReceiver { queue: Queue { places, room: Arc::clone(&room) }, kicked, wanted };
    let [gone, unwritten] = [(); 2].map(|()| AtomicBool::new(false));
    let full_since = Mutex::default();
    (Outbox { queue, room, reserve, full_since, kick, want, gone, unwritten }, receiver)
}

impl Queue {
    /// The next stanza; `None` once the queue is closed and empty.
    pub(crate) async fn recv(&mut self) -> Option<Outgoing> {
        self.places.recv().await.map(|place| place.item)
    }

    /// The next stanza, if it is there.
    pub(crate) fn try_recv(&mut self) -> Option<Outgoing> {
        self.places.try_recv().ok().map(|place| place.item)
    }

    /// Takes nothing more; what is there can still be received.
    pub(crate) fn close(&mut self) {
        self.room.close();
        self.places.close();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Whoever waits for room waits no longer.
        self.close();
    }
}

impl Outbox {
    /// Queues a stanza; waits a little while the queue is full, then gives up on the client. Gives
    /// the stanza back if the session is over.
    pub(crate) async fn send(&self, item: Outgoing) -> Result<(), Outgoing> {
        if self.is_gone() {
            return Err(item);
        }
        match time::timeout(STALLED, Arc::clone(&self.room).acquire_owned()).await {
            Ok(Ok(room)) => self.put(item, room),
            Ok(Err(_closed)) => Err(item),
            Err(_elapsed) => {
                self.end_stalled();
                Err(item)
            }
        }
    }

    /// The same without any wait, for senders that hold up many others: there is a reserve for
    /// them. A client that leaves no room in it, or has left none beside it for some time, is cut
    /// off.
    pub(crate) fn offer(&self, item: Outgoing) -> Result<(), Outgoing> {
        if self.is_gone() {
            return Err(item);
        }
        if let Ok(room) = Arc::clone(&self.room).try_acquire_owned() {
            *self.full_since.lock() = None;
            return self.put(item, room);
        }
        let since = *self.full_since.lock().get_or_insert_with(now);
        if now().saturating_duration_since(since) < STALLED
            && let Ok(room) = Arc::clone(&self.reserve).try_acquire_owned()
        {
            return self.put(item, room);
        }
        self.end_stalled();
        Err(item)
    }

    fn put(&self, item: Outgoing, room: OwnedSemaphorePermit) -> Result<(), Outgoing> {
        // There is a place for each permit.
        self.queue
            .try_send(Place { item, _room: room })
            .map_err(|refused| refused.into_inner().item)
    }

    fn end_stalled(&self) {
        self.end(StreamError::new(
            StreamCondition::ResourceConstraint,
            "the client does not read what is sent to it",
        ));
    }

    /// Ends the session with `error`; from now on it takes nothing more.
    pub(crate) fn end(&self, error: StreamError) {
        self.gone.store(true, Ordering::Release);
        // A full channel means that the session was told before.
        let _ = self.kick.try_send(error);
    }

    /// Wants the session for another connection. `None` if it is over, or wanted already.
    pub(crate) fn hand_over(&self, to: HandOver) -> Option<()> {
        if self.is_gone() {
            return None;
        }
        self.want.try_send(to).ok()
    }

    /// Takes nothing more; the session ends by itself.
    pub(crate) fn close(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// How many stanzas can be queued without a wait.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.room.available_permits()
    }

    /// Whether the session holds something that it took and that is not known to be written.
    pub(crate) fn set_unwritten(&self, unwritten: bool) {
        self.unwritten.store(unwritten, Ordering::Release);
    }

    /// True if everything that was queued was written.
    pub(crate) fn is_done(&self) -> bool {
        self.queue.is_empty() && !self.unwritten.load(Ordering::Acquire)
    }

    /// True once the session's task is over, or died.
    pub(crate) fn is_left(&self) -> bool {
        self.kick.is_closed()
    }

    /// True once nobody reads the queue any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// True once nothing more is taken.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire) || self.queue.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lost_copy_is_routed_again() {
        let one = Copies::default();
        let other = one.clone();
        assert!(one.lost().is_none());
        assert!(other.lost().is_some());
    }

    #[test]
    fn a_written_copy_answers_for_the_others() {
        let one = Copies::default();
        let other = one.clone();
        one.written();
        assert!(other.lost().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut_off() {
        let stanza = || {
            let element = "<presence xmlns='jabber:client'/>".parse().unwrap();
            Outgoing::new(Stanza::from_element(element).unwrap())
        };
        let (outbox, mut receiver) = outbox(1);
        assert!(outbox.send(stanza()).await.is_ok());
        assert!(!outbox.is_gone());
        assert!(outbox.send(stanza()).await.is_err());
        assert!(outbox.is_gone());
        assert!(receiver.kicked.recv().await.is_some());
        // What was queued is still there to be routed again; nothing is added.
        assert!(receiver.queue.recv().await.is_some());
        assert!(outbox.send(stanza()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_wait_uses_a_reserve_for_a_while() {
        let stanza = || {
            let element = "<presence xmlns='jabber:client'/>".parse().unwrap();
            Outgoing::new(Stanza::from_element(element).unwrap())
        };
        let (busy, mut receiver) = outbox(2);
        for _ in 0..4 {
            assert!(busy.offer(stanza()).is_ok());
        }
        // It reads: no harm was done, and those who can wait wait for room of their own.
        for _ in 0..4 {
            assert!(receiver.queue.try_recv().is_some());
        }
        assert!(busy.offer(stanza()).is_ok() && busy.send(stanza()).await.is_ok());
        // It does not read, and the reserve is not used up; but that lasts too long.
        assert!(busy.offer(stanza()).is_ok());
        time::advance(STALLED).await;
        assert!(busy.offer(stanza()).is_err() && busy.is_gone());

        // It does not read, and there is too much of it.
        let (flooded, mut receiver) = outbox(2);
        while flooded.offer(stanza()).is_ok() {}
        assert!(receiver.kicked.recv().await.is_some());
        assert_eq!(std::iter::from_fn(|| receiver.queue.try_recv()).count(), 4);
    }
}

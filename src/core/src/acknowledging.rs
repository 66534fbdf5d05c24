//! What a client that counts has sent, until it is safe: only then is it acknowledged (XEP-0198). What a
//! core that is killed had in its memory alone, its client has still and sends again.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::{ConnectionError, now};
use gatehouse_trunk::{Receipt, Receipts};
use gatehouse_types::Machine as _;
use gatehouse_xmpp::sm::{Arrival, InboundCount};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::outbox::Owed;
use crate::session::Client;

/// How long a client that asks waits for what is not safe yet. Then it is told what is, for it may ask
/// to hear whether we are there; and from then on whenever that is more.
const ASKED_MAX: Duration = Duration::from_millis(250);
/// How many stanzas of one client may be on their way to safety. Then nothing more is read from it.
const OPEN_LEN_MAX: usize = 4096;

/// What was taken from a client, and how much of it is safe.
#[derive(Debug, Default)]
pub(crate) struct Acknowledging {
    count: InboundCount,
    receipts: Arc<Receipts>,
    /// The client asked, and was not told yet of all that it had sent; then it hears what there is.
    asked: Option<Pin<Box<Sleep>>>,
    /// What it was told since it asked.
    told: Option<u32>,
    /// In one process: when the edge stops, what it had not sent yet is dropped, and with it the receipts.
    /// From then on they mean nothing.
    stop: Option<CancellationToken>,
}

impl Acknowledging {
    /// Receipts count until `stop`, if that is given.
    pub(crate) fn new(stop: Option<CancellationToken>) -> Self {
        Self { stop, ..Self::default() }
    }

    /// The connection is over, on which the client sent `taken` in all. When it comes back it is told so,
    /// that it does not send again what is on its way from here: all that counts as safe.
    pub(crate) fn go_on(&mut self, taken: u32) {
        let stop = self.stop.take();
        *self = Self { count: InboundCount::starting_at(taken.into()), stop, ..Self::default() };
    }

    /// Takes one more. The client has sent `sent` by now; what we do not know of those was answered by
    /// its stream, and is safe.
    pub(crate) fn take(&mut self, sent: u32) -> Receipt {
        self.catch_up(sent.wrapping_sub(1));
        match self.count.arrived() {
            Arrival::New(number) => self.receipts.receipt(number),
            // Never: nothing is ever announced as sent again.
            Arrival::Repeated => Receipt::default(),
        }
    }

    /// The client asks, having sent `sent`. What it is to be told at once; otherwise it is
    /// [`due`](Self::due).
    pub(crate) fn ask(&mut self, sent: u32) -> Option<u32> {
        self.catch_up(sent);
        self.settle();
        self.told = None;
        if self.count.open_len() == 0 {
            self.asked = None;
            return Some(self.count.h());
        }
        if self.asked.is_none() {
            self.asked = Some(Self::late());
        }
        None
    }

    /// Waits until a client that asked is to be told something: all is safe, or it has waited long
    /// enough to be told what is.
    pub(crate) async fn due(&mut self) -> u32 {
        loop {
            let Some(late) = &mut self.asked else { return std::future::pending().await };
            let is_late = tokio::select! {
                () = late.as_mut() => true,
                () = self.receipts.news() => false,
            };
            self.settle();
            let h = self.count.h();
            if self.count.open_len() == 0 {
                self.asked = None;
                return h;
            }
            if is_late {
                self.asked = Some(Self::late());
                if self.told.replace(h) != Some(h) {
                    return h;
                }
            }
        }
    }

    /// How many were taken in all.
    pub(crate) fn taken(&self) -> u32 {
        self.count.next()
    }

    /// What is safe by now.
    pub(crate) fn h(&mut self) -> u32 {
        self.settle();
        self.count.h()
    }

    /// True while nothing more may be taken.
    fn is_full(&mut self) -> bool {
        self.settle();
        self.count.open_len() >= OPEN_LEN_MAX
    }

    fn late() -> Pin<Box<Sleep>> {
        Box::pin(sleep_until(Instant::from_std(now() + ASKED_MAX)))
    }

    /// All before the client's next stanza that were not given to us are safe.
    fn catch_up(&mut self, sent: u32) {
        let missing = sent.wrapping_sub(self.count.next());
        // It never counts back; if it did, that would be nearly once around.
        if missing <= u32::MAX / 2 {
            self.count.skipped(missing);
        }
    }

    fn settle(&mut self) {
        let safe = self.receipts.take();
        // Looked at after they were taken: what was dropped because of the stop came after it.
        if self.stop.as_ref().is_some_and(CancellationToken::is_cancelled) {
            return;
        }
        for number in safe {
            self.count.handled(number);
        }
    }
}

impl Client {
    /// Of a client that begins to count.
    pub(crate) fn acknowledging(&self) -> Acknowledging {
        let is_one_process = !self.ports.router.trunk().is_remote();
        Acknowledging::new(is_one_process.then(|| self.ports.tasks.stop()))
    }

    /// What is owed for the stanza that was just reported, if its client counts.
    pub(crate) fn owed(&mut self) -> Owed {
        let sent = self.connection.machine().sent_by_then();
        let managed = self.bound.as_mut().and_then(|bound| bound.managed.as_mut());
        managed.map_or_else(Owed::default, |managed| Owed::new(managed.acknowledging.take(sent)))
    }

    /// Waits while too much of what the client sent is not safe yet. Not once its stream is over: when we
    /// stop, it may never be.
    pub(crate) async fn wait_for_safety(&mut self) -> Result<(), ConnectionError> {
        while !self.connection.machine().is_closed()
            && let Some(managed) = self.bound.as_mut().and_then(|bound| bound.managed.as_mut())
            && managed.acknowledging.is_full()
        {
            let receipts = Arc::clone(&managed.acknowledging.receipts);
            Box::pin(self.while_writing(async move { receipts.news().await })).await?;
        }
        Ok(())
    }

    /// The client asks how much is safe.
    pub(crate) fn ack_requested(&mut self) {
        let sent = self.connection.machine().sent_by_then();
        let managed = self.bound.as_mut().and_then(|bound| bound.managed.as_mut());
        if let Some(h) = managed.and_then(|managed| managed.acknowledging.ask(sent)) {
            self.connection.machine_mut().acknowledge(h, now());
        }
    }

    /// Before we end the stream, the client hears what is safe: all else it sends again, and some of it
    /// would arrive twice (XEP-0198, section 4).
    pub(crate) fn acknowledge_last(&mut self) {
        let managed = self.bound.as_mut().and_then(|bound| bound.managed.as_mut());
        if let Some(h) = managed.map(|managed| managed.acknowledging.h()) {
            self.connection.machine_mut().acknowledge(h, now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whether it is due, and what the client is told then.
    async fn due_within(acknowledging: &mut Acknowledging, wait: Duration) -> Option<u32> {
        tokio::time::timeout(wait, acknowledging.due()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_hears_once_all_is_safe_or_after_a_moment() {
        const MOMENT: Duration = Duration::from_millis(10);
        let mut it = Acknowledging::default();
        assert_eq!(it.ask(0), Some(0));
        let (first, second) = (it.take(1), it.take(2));
        assert_eq!(due_within(&mut it, ASKED_MAX * 2).await, None, "nobody asked");
        assert_eq!(it.ask(2), None);
        assert_eq!(due_within(&mut it, MOMENT).await, None);
        drop(first);
        assert_eq!(due_within(&mut it, MOMENT).await, None, "one is not safe yet");
        assert_eq!(due_within(&mut it, ASKED_MAX).await, Some(1));
        assert_eq!(due_within(&mut it, ASKED_MAX * 3).await, None, "that it knows");
        // It asks again because it wants to hear whether we are there.
        assert_eq!(it.ask(2), None);
        assert_eq!(due_within(&mut it, ASKED_MAX).await, Some(1));
        drop(second);
        assert_eq!(due_within(&mut it, MOMENT).await, Some(2));
        assert_eq!(due_within(&mut it, ASKED_MAX * 2).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_stream_answered_itself_is_safe() {
        let mut it = Acknowledging::default();
        it.go_on(u32::MAX - 1);
        // One was answered by the stream, before it and behind it.
        let receipt = it.take(0);
        assert_eq!((it.ask(1), it.h()), (None, u32::MAX));
        drop(receipt);
        assert_eq!(it.ask(1), Some(1));
        // That the client goes back cannot be, and is no reason to count for ever.
        assert_eq!(it.ask(0), Some(1));
    }

    #[test]
    fn what_is_dropped_because_the_edge_stops_is_not_safe() {
        let stop = CancellationToken::new();
        let mut it = Acknowledging::new(Some(stop.clone()));
        let (first, second) = (it.take(1), it.take(2));
        drop(first);
        assert_eq!(it.h(), 1);
        stop.cancel();
        drop(second);
        assert_eq!(it.h(), 1);
    }

    #[test]
    fn only_so_much_may_be_unsafe() {
        let mut it = Acknowledging::default();
        let mut receipts = Vec::new();
        while !it.is_full() {
            receipts.push(it.take(u32::try_from(receipts.len() + 1).unwrap()));
        }
        assert_eq!(receipts.len(), OPEN_LEN_MAX);
        receipts.swap_remove(0);
        assert!(!it.is_full());
    }
}

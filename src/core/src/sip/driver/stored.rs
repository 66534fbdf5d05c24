//! What lasts beyond this process: read at the start, left behind at the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gatehouse_bridge::{Record, RecordKey, Way};
use gatehouse_net::now;
use gatehouse_store::OutgoingMessage;
use gatehouse_trunk::sip::FromEdge;
use gatehouse_types::Chain;
use gatehouse_xmpp::{Element, Stanza};
use tokio::time;
use tracing::{debug, error, info, warn};

use super::Driver;
use crate::held::Held;
use crate::outbox::Owed;
use crate::sip::keep;

/// How long the last BYEs may take at shutdown.
const FAREWELL: Duration = Duration::from_millis(500);
/// Messages of before the start that are read at a time.
const RECOVERED_PAGE: u32 = 256;

/// After the store failed, and at most.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How far the messages of before the start were read.
#[derive(Debug)]
pub(super) struct Recovery {
    last: i64,
    count: u64,
    /// What is to be sent back, as soon as everything was read once.
    too_old: BTreeSet<i64>,
    /// When to go on; never, once it is over.
    at: Option<Instant>,
    pause: Duration,
}

impl Recovery {
    pub(super) fn begin(now: Instant) -> Self {
        let too_old = BTreeSet::new();
        Self { last: 0, count: 0, too_old, at: Some(now), pause: RETRY_MIN }
    }

    /// When to call [`Driver::recover_page`].
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    fn has_failed(&self) -> bool {
        self.pause > RETRY_MIN
    }

    fn failed(&mut self, now: Instant) {
        self.at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(RETRY_MAX);
    }
}

impl Driver {
    /// What was stored, as if it had never been away.
    pub(super) async fn revive(&mut self) {
        let records = match self.router.store.sip_records().await {
            Ok(records) => records,
            Err(error) => {
                error!(error = %Chain(&error), "the stored SIP subscriptions cannot be read");
                return;
            }
        };
        let (count, now_ms) = (records.len(), self.router.clock.now_ms());
        for record in records {
            let left = u64::try_from(record.expires_ms - now_ms).unwrap_or_default();
            let key = RecordKey(record.key);
            let record = Record { key: key.clone(), value: Bytes::from(record.value) };
            if let Err(error) = self.gateway.revive(&record, Duration::from_millis(left), now()) {
                warn!(%error, "a stored SIP subscription was left out");
                self.records.forget(key).await;
            }
        }
        for domain in self.gateway.partners() {
            self.attempts_by_xmpp.speaks_sip(domain);
        }
        if count > 0 {
            info!(count, "SIP subscriptions are renewed");
        }
    }

    /// Messages of users that had no answer when the core of before ended.
    ///
    /// Those that may still be sent come first, all of them: what users say now may be stored only
    /// after that, and so comes behind them. Those that are too old are sent back after that, a few at a
    /// time, so that they are in nobody's way.
    pub(super) async fn recover(&mut self) {
        while self.wishes.is_some() && !self.recovery.has_failed() {
            self.recover_page().await;
        }
    }

    /// The same in the midst of other work: what is too old, and all if the store had failed.
    pub(super) async fn go_on_recovering(&mut self) {
        let may_be_sent = self.wishes.is_some();
        self.recover_page().await;
        if may_be_sent {
            self.enforce();
        }
    }

    async fn recover_page(&mut self) {
        let page = match self.router.store.outgoing(self.recovery.last, RECOVERED_PAGE).await {
            Ok(page) => page,
            Err(error) => {
                error!(error = %Chain(&error), "the stored messages to SIP partners cannot be read; they stay stored, and it is tried again");
                self.recovery.failed(now());
                return;
            }
        };
        self.recovery.pause = RETRY_MIN;
        let Some(newest) = page.last() else {
            self.read_to_the_end();
            return;
        };
        self.recovery.last = newest.id;
        let within = self.parts.config.deliver_within;
        for message in page {
            let id = message.id;
            if self.wishes.is_none() {
                // New ones are in between.
                if self.recovery.too_old.remove(&id) {
                    self.recover_one(message);
                }
                continue;
            }
            self.recovery.count += 1;
            if self.age_of(&message) < within {
                self.recover_one(message);
            } else {
                self.recovery.too_old.insert(id);
            }
        }
        self.recovery.at = Some(now());
        if self.wishes.is_none() && self.recovery.too_old.is_empty() {
            self.recovery.at = None;
        }
    }

    fn read_to_the_end(&mut self) {
        let count = self.recovery.count;
        let Some(wishes) = self.wishes.take() else {
            self.recovery.at = None;
            return;
        };
        if count > 0 {
            metrics::counter!("gatehouse_sip_outgoing_recovered_total").increment(count);
            info!(
                count,
                "messages to SIP partners that had no answer when the core ended are sent again, or sent back"
            );
        }
        keep::start(&self.router, wishes, &self.tasks);
        let oldest = self.recovery.too_old.first().copied();
        self.recovery.last = oldest.map_or(0, |id| id - 1);
        self.recovery.at = oldest.map(|_| now());
    }

    fn age_of(&self, message: &OutgoingMessage) -> Duration {
        let age_ms = self.router.clock.now_ms().saturating_sub(message.received_ms);
        Duration::from_millis(u64::try_from(age_ms).unwrap_or_default())
    }

    fn recover_one(&mut self, message: OutgoingMessage) {
        let held = Held::outgoing(message.id, Arc::clone(&self.router.done));
        let read = message.stanza.parse::<Element>().ok();
        let Some(Ok(stanza)) = read.map(Stanza::from_element) else {
            warn!(message.id, "a stored message to a SIP partner cannot be read; it is removed");
            return;
        };
        let age = self.age_of(&message);
        let inside = self.inside.changes();
        let is_inside = stanza.to().is_some_and(|to| {
            inside.borrow().takes(crate::sip::user_of(to).as_deref(), to.domain())
        });
        let way = if is_inside { Way::Inside } else { Way::Outside };
        let receipt = self.note_owed(Owed::default().held(held));
        self.gateway.recover((stanza, receipt), way, age, now());
    }

    /// BYE to everybody. Messages without an answer and subscriptions stay stored for the next start.
    pub(super) async fn leave(mut self) {
        self.gateway.handle_shutdown(now());
        // What users sent before they could know.
        self.stanzas.close();
        while let Ok((stanza, owed)) = self.stanzas.try_recv() {
            self.take(stanza, owed);
        }
        let answers = Arc::clone(&self.answers);
        let farewell = async {
            loop {
                self.settle().await;
                let is_out = self.windows.is_empty() && self.late.is_empty();
                if is_out && self.transactions.is_empty() && !self.lanes.are_late() {
                    return;
                }
                tokio::select! {
                    event = self.inside.next() => self.hear_inside(event),
                    () = self.lanes.room(), if self.lanes.are_late() => self.lanes.catch_up(),
                    () = self.parts.trunk.edges.room(&self.late.edges()), if !self.late.is_empty() => {
                        self.send_late();
                    }
                    outcomes = answers.next() => {
                        for (key, outcome) in outcomes {
                            self.gateway.delivered(key, outcome, now());
                        }
                    }
                    from = self.parts.trunk.incoming.recv() => {
                        let Some(FromEdge { edge, message }) = from else { return };
                        self.hear(&edge, message);
                    }
                }
            }
        };
        if time::timeout(FAREWELL, farewell).await.is_err() {
            debug!("stopping: not every partner answered our BYE");
        }
        self.gateway.handle_shutdown(now());
        self.settle().await;
        self.lanes.leave();
        self.router.let_go().await;
    }
}

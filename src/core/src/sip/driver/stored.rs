//! What lasts beyond this process: read at the start, left behind at the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gatehouse_bridge::{Record, RecordKey};
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

    /// Messages of users that had no answer when the core of before ended. After this, new ones may be
    /// stored.
    pub(super) async fn recover(&mut self) {
        let (mut count, mut last) = (0_u64, 0);
        loop {
            let page = match self.router.store.outgoing(last, RECOVERED_PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    error!(error = %Chain(&error), "the stored messages to SIP partners cannot be read; they stay stored");
                    break;
                }
            };
            let Some(newest) = page.last() else { break };
            last = newest.id;
            for message in page {
                count += 1;
                self.recover_one(message);
            }
        }
        if count > 0 {
            metrics::counter!("gatehouse_sip_outgoing_recovered_total").increment(count);
            info!(
                count,
                "messages to SIP partners that had no answer when the core ended are sent again, or sent back"
            );
        }
        if let Some(wishes) = self.wishes.take() {
            keep::start(&self.router, wishes, &self.tasks);
        }
    }

    fn recover_one(&mut self, message: OutgoingMessage) {
        let held = Held::outgoing(message.id, Arc::clone(&self.router.done));
        let read = message.stanza.parse::<Element>().ok();
        let Some(Ok(stanza)) = read.map(Stanza::from_element) else {
            warn!(message.id, "a stored message to a SIP partner cannot be read; it is removed");
            return;
        };
        let age_ms = self.router.clock.now_ms().saturating_sub(message.received_ms);
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or_default());
        let receipt = self.note_owed(Owed::default().held(held));
        self.gateway.recover(stanza, receipt, age, now());
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
                        let flow = self.flows.of(&edge);
                        self.transactions.receive(flow, message, now());
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

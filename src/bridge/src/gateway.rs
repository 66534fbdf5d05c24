//! The one machine.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use gatehouse_sip::{Message, Seed};
use gatehouse_xmpp::{Stanza, StanzaCondition};

use crate::{
    Effect, Failure, GatewayConfig, InvalidRecord, OutgoingId, Receipt, Record, RequestKey,
};

/// All IM sessions and presence subscriptions with SIP partners.
///
/// Call a `handle_*`, then drain [`poll_effect`](Self::poll_effect). `now` never runs backwards.
/// The owner has checked before that the partner may speak for the domain in From, and that policy
/// allows the two to talk.
#[derive(Debug)]
pub struct Gateway {
    config: GatewayConfig,
    seed: Seed,
    effects: VecDeque<Effect>,
}

/// How much the gateway holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct GatewayStatus {
    /// IM sessions.
    pub sessions: usize,
    /// Contacts that local users watch.
    pub watching: usize,
    /// Subscriptions of partners to local users.
    pub watched: usize,
    /// Messages of local users without an answer yet.
    pub queued: usize,
}

impl Gateway {
    /// Without any session yet.
    pub fn new(config: GatewayConfig, seed: Seed) -> Self {
        Self { config, seed, effects: VecDeque::new() }
    }

    /// Takes a stanza from a local user to a user of a SIP partner. Each receipt is released once.
    pub fn handle_stanza(&mut self, stanza: Stanza, receipt: Receipt, now: Instant) {
        let _ = (stanza, receipt, now);
    }

    /// Takes a request of a partner, ACK excluded, CANCEL excluded.
    pub fn handle_request(&mut self, key: RequestKey, request: Message, now: Instant) {
        let _ = (key, request, now);
    }

    /// Takes the ACK of a 2xx of ours.
    pub fn handle_ack(&mut self, ack: &Message, now: Instant) {
        let _ = (ack, now);
    }

    /// The partner gave a request up (CANCEL). It is answered as if it had not.
    pub fn handle_cancelled(&mut self, key: RequestKey, now: Instant) {
        let _ = (key, now);
    }

    /// Takes an answer to a request of ours.
    pub fn handle_response(&mut self, id: OutgoingId, response: Message, now: Instant) {
        let _ = (id, response, now);
    }

    /// There will be no answer to a request of ours.
    pub fn handle_failure(&mut self, id: OutgoingId, failure: Failure, now: Instant) {
        let _ = (id, failure, now);
    }

    /// What became of an [`Effect::Deliver`]: the router took the message, or says why it did not.
    pub fn delivered(&mut self, key: RequestKey, taken: Result<(), StanzaCondition>, now: Instant) {
        let _ = (key, taken, now);
    }

    /// Takes back what was stored before a restart; `left` is what is left of its time (zero, if it
    /// is over: it is renewed or forgotten).
    ///
    /// # Errors
    /// If it was not written by this program; the record is best taken away.
    pub fn revive(
        &mut self,
        record: &Record,
        left: Duration,
        now: Instant,
    ) -> Result<(), InvalidRecord> {
        let _ = (record, left, now);
        Ok(())
    }

    /// The settings were changed. What is under way keeps the old ones.
    pub fn reconfigure(&mut self, config: GatewayConfig) {
        self.config = config;
    }

    /// Ends all IM sessions with BYE and bounces what waits; subscriptions stay, for the next start.
    pub fn handle_shutdown(&mut self, now: Instant) {
        let _ = now;
    }

    /// The moment given by [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = (&mut self.seed, now);
    }

    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// How much there is.
    pub fn status(&self) -> GatewayStatus {
        GatewayStatus::default()
    }
}

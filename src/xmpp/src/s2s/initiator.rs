use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gatehouse_identity::TlsFacts;
use gatehouse_types::{Domain, Local, Machine, Remote, StreamLimits};

use super::{DialbackQuestion, S2sEvent, Terms};
use crate::dialback::DialbackSecret;
use crate::{Entry, Seed, Stanza};

/// What all initiators share.
#[derive(Clone, Debug)]
pub struct InitiatorConfig {
    /// Bounds.
    pub limits: StreamLimits,
    /// For making dialback keys.
    pub dialback_secret: DialbackSecret,
}

/// Why we dial.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// To send stanzas.
    Stanzas,
    /// To ask an authoritative server about a key (XEP-0220, section 2.3); no authentication.
    VerifyKey(DialbackQuestion),
}

/// The initiating side of an S2S stream: we dialled the partner.
///
/// The responder is always verified: with [`Terms`] that ask for a certificate the stream opens
/// only if the responder's certificate proves its domain.
pub struct S2sInitiator {}

impl S2sInitiator {
    /// A connection from `from` to `to` that has just been made.
    pub fn new(
        config: Arc<InitiatorConfig>,
        from: Local<Domain>,
        to: Remote<Domain>,
        purpose: Purpose,
        terms: Terms,
        entry: Entry,
        seed: Seed,
        now: Instant,
    ) -> Self {
        let _ = (config, from, to, purpose, terms, entry, seed, now);
        todo!()
    }

    /// The upgrade that [`Machine::wants_upgrade`] asked for is done.
    pub fn handle_tls(&mut self, facts: TlsFacts, now: Instant) {
        let _ = (facts, now);
        todo!()
    }

    /// Writes a stanza; only once opened. The bytes are in the next `poll_transmit`.
    pub fn send(&mut self, stanza: &Stanza, now: Instant) {
        let _ = (stanza, now);
        todo!()
    }
}

impl Machine for S2sInitiator {
    type Event = S2sEvent;

    fn handle_data(&mut self, _data: &[u8], _now: Instant) {
        todo!()
    }

    fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }

    fn handle_eof(&mut self, _now: Instant) {
        todo!()
    }

    fn handle_shutdown(&mut self, _now: Instant) {
        todo!()
    }

    fn poll_event(&mut self) -> Option<S2sEvent> {
        todo!()
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        todo!()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    fn wants_upgrade(&self) -> bool {
        todo!()
    }

    fn is_closed(&self) -> bool {
        todo!()
    }
}

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gatehouse_identity::TlsFacts;
use gatehouse_types::{Machine, StreamId, StreamLimits};

use super::{DialbackAnswer, DialbackQuestion, Gate, S2sEvent};
use crate::dialback::DialbackSecret;
use crate::{Entry, Seed, StreamError};

/// What all receivers share.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// Bounds.
    pub limits: StreamLimits,
    /// For answering `db:verify`.
    pub dialback_secret: DialbackSecret,
}

/// The receiving side of an S2S stream: the partner dialled us.
pub struct S2sReceiver {}

impl S2sReceiver {
    /// A stream that has just been accepted. `seed` makes the stream ids.
    pub fn new(
        config: Arc<ReceiverConfig>,
        gate: Arc<dyn Gate>,
        entry: Entry,
        seed: Seed,
        now: Instant,
    ) -> Self {
        let _ = (config, gate, entry, seed, now);
        todo!()
    }

    /// The upgrade that [`Machine::wants_upgrade`] asked for is done.
    pub fn handle_tls(&mut self, facts: TlsFacts, now: Instant) {
        let _ = (facts, now);
        todo!()
    }

    /// Answers [`S2sEvent::VerifyKey`].
    pub fn dialback_answer(
        &mut self,
        question: &DialbackQuestion,
        answer: DialbackAnswer,
        now: Instant,
    ) {
        let _ = (question, answer, now);
        todo!()
    }

    /// Ends the stream with `error` (policy was reloaded, the partner is too fast, ...).
    pub fn close_with(&mut self, error: StreamError, now: Instant) {
        let _ = (error, now);
        todo!()
    }

    /// The id of the current stream.
    pub fn stream_id(&self) -> &StreamId {
        todo!()
    }
}

impl Machine for S2sReceiver {
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

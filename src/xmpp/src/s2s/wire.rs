use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use gatehouse_identity::{AuthenticatedPeer, IdentityError, TlsFacts, prove};
use gatehouse_types::{Domain, Local, Remote, StreamLimits};
use minidom::Element;

use super::{Gate, S2sEvent};
use crate::framing::{
    ContentNamespace, Frame, Framer, Leftover, StreamHeader, write_element, write_error,
    write_footer, write_header,
};
use crate::sm::HandledCountTooHigh;
use crate::stream::CloseReason;
use crate::{Stanza, StreamCondition, StreamError};

/// Bytes in, bytes out, events out: what both ends of an S2S stream have.
pub(super) struct Wire {
    framer: Framer,
    out: BytesMut,
    events: VecDeque<S2sEvent>,
    voice: Voice,
    /// Why the stream ends, if the peer acknowledged what it was never sent.
    too_high: Option<HandledCountTooHigh>,
}

/// What we may still write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Voice {
    /// Our header comes first, even before an error.
    BeforeHeader,
    /// Anything.
    Free,
    /// Nothing: the next bytes are TLS.
    Muted,
    /// Nothing: our footer is out.
    Spent,
}

impl Wire {
    pub(super) fn new(limits: &StreamLimits) -> Self {
        Self {
            framer: Framer::new(limits, ContentNamespace::Server),
            out: BytesMut::new(),
            events: VecDeque::new(),
            voice: Voice::BeforeHeader,
            too_high: None,
        }
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        self.framer.push(data);
    }

    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, StreamError> {
        self.framer.next_frame()
    }

    pub(super) fn dialback_declared(&self) -> bool {
        self.framer.dialback_declared()
    }

    pub(super) fn allow_bytes(&mut self, max: usize) {
        self.framer.set_element_bytes_max(max);
    }

    pub(super) fn restart(&mut self, leftover: Leftover) {
        self.framer.restart(leftover);
        self.voice = Voice::BeforeHeader;
    }

    /// Refuses bytes that came in the clear behind the last word before TLS: whoever stands
    /// between could have added them.
    pub(super) fn check_leftover(&self) -> Result<(), StreamError> {
        if self.framer.has_leftover() {
            let text = "nothing may follow in the clear once TLS is agreed";
            return Err(StreamError::new(StreamCondition::PolicyViolation, text));
        }
        Ok(())
    }

    /// The last word before TLS is written.
    pub(super) fn mute(&mut self) {
        self.voice = Voice::Muted;
    }

    pub(super) fn write(&mut self, element: &Element) {
        write_element(&mut self.out, ContentNamespace::Server, element);
    }

    /// Returns how many bytes the stanza takes; none if they are more than `bytes_max`, and then
    /// nothing is written.
    pub(super) fn write_stanza(&mut self, stanza: &Stanza, bytes_max: usize) -> Option<usize> {
        let before = self.out.len();
        stanza.write(&mut self.out, None);
        let bytes = self.out.len() - before;
        if bytes > bytes_max {
            self.out.truncate(before);
            return None;
        }
        Some(bytes)
    }

    pub(super) fn write_header(&mut self, header: &StreamHeader) {
        write_header(&mut self.out, ContentNamespace::Server, header);
        self.voice = Voice::Free;
    }

    /// The stream error to come has a condition of its own (XEP-0198, section 4).
    pub(super) fn note_too_high(&mut self, error: HandledCountTooHigh) {
        self.too_high = Some(error);
    }

    /// Ends our half of the stream, once, with the words that `reason` asks for.
    pub(super) fn say_farewell(&mut self, reason: &CloseReason) {
        let error = match reason {
            CloseReason::WeRefused(error) => Some(error.clone()),
            CloseReason::Shutdown => Some(StreamError::new(
                StreamCondition::SystemShutdown,
                "this server is going down; try again later",
            )),
            CloseReason::SetupTimeout => Some(StreamError::new(
                StreamCondition::ConnectionTimeout,
                "the stream was not authenticated in time",
            )),
            CloseReason::PeerClosed
            | CloseReason::Disconnected
            | CloseReason::Idle
            | CloseReason::PeerRefused(_)
            | CloseReason::NoAgreement(_) => None,
        };
        match (self.voice, error) {
            (Voice::Muted | Voice::Spent, _) | (Voice::BeforeHeader, None) => {}
            (Voice::BeforeHeader, Some(error)) => {
                self.write_header(&StreamHeader::default());
                write_error(&mut self.out, &error);
                write_footer(&mut self.out);
            }
            (Voice::Free, error) => {
                match (error, self.too_high.take()) {
                    (Some(_), Some(too_high)) => self.write(&too_high.to_element()),
                    (Some(error), None) => write_error(&mut self.out, &error),
                    (None, _) => {}
                }
                write_footer(&mut self.out);
            }
        }
        self.voice = Voice::Spent;
    }

    pub(super) fn tell(&mut self, event: S2sEvent) {
        self.events.push_back(event);
    }

    pub(super) fn next_event(&mut self) -> Option<S2sEvent> {
        let event = self.events.pop_front();
        if event.is_none() {
            // An idle stream keeps no room.
            self.events = VecDeque::new();
        }
        event
    }

    pub(super) fn next_bytes(&mut self) -> Option<Bytes> {
        // All of it, so that an idle stream keeps no room.
        (!self.out.is_empty()).then(|| std::mem::take(&mut self.out).freeze())
    }
}

/// What carries a stream.
#[derive(Clone, Debug)]
pub(super) enum Channel {
    /// TCP.
    Plain,
    /// TLS, with what the other side showed.
    Tls(TlsFacts),
}

impl Channel {
    /// What the certificate says about `claim`; nothing without TLS.
    pub(super) fn judge(
        &self,
        claim: &Remote<Domain>,
    ) -> Option<Result<AuthenticatedPeer, IdentityError>> {
        match self {
            Self::Plain => None,
            Self::Tls(facts) => Some(prove(&facts.presented, claim)),
        }
    }

    /// The same, with the gate's say.
    pub(super) fn judge_by(
        &self,
        gate: &dyn Gate,
        claim: &Remote<Domain>,
        to: &Local<Domain>,
    ) -> Option<Result<AuthenticatedPeer, IdentityError>> {
        match self {
            Self::Plain => None,
            Self::Tls(facts) => Some(gate.prove(&facts.presented, claim, to)),
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

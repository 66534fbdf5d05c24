//! Stream management (XEP-0198), from the receiver's side.

use std::time::{Duration, Instant};

use minidom::Element;

use super::{S2sReceiver, State};
use crate::StreamError;
use crate::s2s::S2sEvent;
use crate::s2s::management::{Heard, Management, refusal};
use crate::stream::CloseReason;

impl S2sReceiver {
    /// The stanza with this number, from [`S2sEvent::Stanza`], is handed on, stored or answered: the
    /// peer need not keep it any longer (XEP-0198).
    pub fn handled(&mut self, number: u64, now: Instant) {
        let Some(management) = &mut self.management else { return };
        if matches!(self.state, State::Closed) {
            return;
        }
        management.handled(number, &mut self.wire, now);
        self.settle_if_done();
    }

    pub(super) fn on_management(&mut self, element: &Element) -> Result<(), StreamError> {
        match &mut self.management {
            None if element.name() == "enable" => {
                let patience = self.config.limits.write_timeout;
                self.management = Some(Management::grant(&mut self.wire, patience));
            }
            None => self.wire.write(&refusal("unexpected-request")),
            Some(management) => {
                if let Heard::Acknowledged(len @ 1..) =
                    management.heard(element, &mut self.wire, self.last_heard)?
                {
                    self.wire.tell(S2sEvent::Acknowledged(len));
                }
            }
        }
        Ok(())
    }

    /// Ends the stream once all that was taken is done with; at once if that is so.
    pub(super) fn settle_or_close(&mut self, reason: CloseReason, now: Instant) {
        let open = self.management.as_ref().is_some_and(|management| management.open_len() > 0);
        match self.state {
            State::Open { .. } if open => {
                self.questions.clear();
                let until = now + self.settle_timeout();
                self.state = State::Settling { reason, until };
            }
            _ => self.close(reason),
        }
    }

    pub(super) fn settle_if_done(&mut self) {
        let open = self.management.as_ref().map_or(0, Management::open_len);
        if let State::Settling { reason, .. } = &self.state
            && open == 0
        {
            let reason = reason.clone();
            self.state = State::Closed;
            self.finish(reason);
        }
    }

    /// How long a stream that ends may wait for the core: less than a peer waits for the last
    /// acknowledgement.
    pub(super) fn settle_timeout(&self) -> Duration {
        self.config.limits.write_timeout / 3
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if let Some(Err(gone)) = self.management.as_mut().map(|it| it.tick(&mut self.wire, now)) {
            self.close(CloseReason::WeRefused(gone.into()));
        }
    }

    /// The last word of a stream with stream management is an acknowledgement.
    pub(super) fn say_farewell(&mut self, reason: &CloseReason) {
        if let Some(mut management) = self.management.take() {
            management.acknowledge(&mut self.wire);
        }
        self.wire.say_farewell(reason);
    }
}

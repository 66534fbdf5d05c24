//! Stanzas that come in on an open stream, whoever opened it.

use std::time::Instant;

use gatehouse_types::{Domain, Jid, StreamId, TraceId};
use minidom::Element;
use rxml::xml_ncname;

use super::S2sEvent;
use super::management::Management;
use super::pairs::Pairs;
use super::wire::Wire;
use crate::framing::RawStanza;
use crate::stanza::InvalidStanza;
use crate::{ErrorKind, Stanza, StanzaCondition, StreamCondition, StreamError, ns};

/// What a machine lends while it takes a stanza.
pub(super) struct Intake<'a> {
    pub(super) wire: &'a mut Wire,
    pub(super) management: Option<&'a mut Management>,
    pub(super) pairs: &'a Pairs,
    /// For the ids of the stanzas, together with their number.
    pub(super) stream_id: &'a StreamId,
    pub(super) stanzas: &'a mut u64,
    pub(super) now: Instant,
}

impl Intake<'_> {
    /// Hands on a stanza between an open pair; between another one it ends the stream.
    pub(super) fn take(
        mut self,
        stanza: RawStanza,
        serves: impl Fn(&Domain) -> bool,
    ) -> Result<(), StreamError> {
        let mut stanza = match Stanza::from_raw(stanza) {
            Ok(stanza) => stanza,
            Err(refused) => {
                self.on_malformed(refused.1, &refused.0)?;
                // It gets no further than this.
                if let Some(management) = self.management
                    && let Some(number) = management.arrived()
                {
                    management.handled(number, self.wire, self.now);
                }
                return Ok(());
            }
        };
        self.check_addresses(&stanza, serves)?;
        *self.stanzas += 1;
        stanza.set_trace(TraceId::of(self.stream_id, *self.stanzas));
        let number = self.management.and_then(Management::arrived);
        self.wire.tell(S2sEvent::Stanza(stanza, number));
        Ok(())
    }

    /// The partner's server let a user write an address that we cannot read; it may follow newer
    /// or laxer rules than we do.
    fn on_malformed(
        &mut self,
        mut element: Element,
        error: &InvalidStanza,
    ) -> Result<(), StreamError> {
        let reason = error.to_string();
        element.attrs_mut().remove(rxml::Namespace::none(), xml_ncname!("to"));
        // If it still cannot be read, it is `from`, and there is nobody to answer.
        let stanza = Stanza::from_element(element).ok();
        let Some((stanza, from)) =
            stanza.as_ref().and_then(|stanza| Some((stanza, stanza.from()?)))
        else {
            self.wire.tell(S2sEvent::Malformed { answer: None, reason });
            return Ok(());
        };
        let Some(local) = self.pairs.local_for(from.domain()) else {
            let text = format!("{} was not proved on this stream", from.domain());
            return Err(StreamError::new(StreamCondition::InvalidFrom, text));
        };
        let text = "the address in `to` is malformed";
        let mut answer = stanza.bounce(ErrorKind::Modify, StanzaCondition::JidMalformed, text);
        if let Some(answer) = &mut answer {
            answer.set_from(Some(Jid::of_domain(local.0.clone())));
        }
        self.wire.tell(S2sEvent::Malformed { answer: answer.map(Box::new), reason });
        Ok(())
    }

    fn check_addresses(
        &self,
        stanza: &Stanza,
        serves: impl Fn(&Domain) -> bool,
    ) -> Result<(), StreamError> {
        let (Some(from), Some(to)) = (stanza.from(), stanza.to()) else {
            // RFC 6120, section 4.9.3.7.
            let text = "a stanza between servers needs `from` and `to`";
            return Err(StreamError::new(StreamCondition::ImproperAddressing, text));
        };
        let (from, to) = (from.domain(), to.domain());
        if self.pairs.contains(from, to) {
            return Ok(());
        }
        let (condition, text) = if !self.pairs.proves(from) {
            (StreamCondition::InvalidFrom, format!("{from} was not proved on this stream"))
        } else if !serves(to) {
            (StreamCondition::HostUnknown, format!("{to} is not served here"))
        } else {
            (StreamCondition::NotAuthorized, format!("{from} has not asked to talk to {to} here"))
        };
        Err(StreamError::new(condition, text))
    }
}

pub(super) fn is_stanza(element: &Element) -> bool {
    element.has_ns(ns::CLIENT) && matches!(element.name(), "message" | "presence" | "iq")
}

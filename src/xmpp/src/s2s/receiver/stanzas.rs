//! Stanzas on an open stream.

use gatehouse_types::{Jid, TraceId};
use minidom::Element;
use rxml::xml_ncname;

use super::{S2sReceiver, is_stanza};
use crate::s2s::S2sEvent;
use crate::s2s::management::Management;
use crate::s2s::pairs::Pairs;
use crate::stanza::InvalidStanza;
use crate::{ErrorKind, Stanza, StanzaCondition, StreamCondition, StreamError};

impl S2sReceiver {
    /// Hands on a stanza between an open pair; anything else ends the stream.
    pub(super) fn on_stanza(&mut self, pairs: &Pairs, element: Element) -> Result<(), StreamError> {
        if !is_stanza(&element) {
            return Err(StreamCondition::UnsupportedStanzaType.into());
        }
        let mut stanza = match Stanza::read(element) {
            Ok(stanza) => stanza,
            Err(refused) => {
                self.on_malformed(pairs, refused.1, &refused.0)?;
                // It gets no further than this.
                if let Some(management) = &mut self.management
                    && let Some(number) = management.arrived()
                {
                    management.handled(number, &mut self.wire, self.last_heard);
                }
                return Ok(());
            }
        };
        self.check_addresses(pairs, &stanza)?;
        self.stanzas += 1;
        stanza.set_trace(TraceId::of(&self.stream_id, self.stanzas));
        let number = self.management.as_mut().and_then(Management::arrived);
        self.wire.tell(S2sEvent::Stanza(stanza, number));
        Ok(())
    }

    /// The partner's server let a user write an address that we cannot read; it may follow newer
    /// or laxer rules than we do.
    fn on_malformed(
        &mut self,
        pairs: &Pairs,
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
        let Some(local) = pairs.local_for(from.domain()) else {
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

    fn check_addresses(&self, pairs: &Pairs, stanza: &Stanza) -> Result<(), StreamError> {
        let (Some(from), Some(to)) = (stanza.from(), stanza.to()) else {
            // RFC 6120, section 4.9.3.7.
            let text = "a stanza between servers needs `from` and `to`";
            return Err(StreamError::new(StreamCondition::ImproperAddressing, text));
        };
        let (from, to) = (from.domain(), to.domain());
        if pairs.contains(from, to) {
            return Ok(());
        }
        let (condition, text) = if !pairs.proves(from) {
            (StreamCondition::InvalidFrom, format!("{from} was not proved on this stream"))
        } else if !self.gate.serves(to) {
            (StreamCondition::HostUnknown, format!("{to} is not served here"))
        } else {
            (StreamCondition::NotAuthorized, format!("{from} has not asked to talk to {to} here"))
        };
        Err(StreamError::new(condition, text))
    }
}

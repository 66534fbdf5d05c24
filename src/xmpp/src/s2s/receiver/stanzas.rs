//! Stanzas on an open stream.

use minidom::Element;

use super::{S2sReceiver, is_stanza};
use crate::s2s::S2sEvent;
use crate::s2s::pairs::Pairs;
use crate::{Stanza, StreamCondition, StreamError};

impl S2sReceiver {
    /// Hands on a stanza between an open pair; anything else ends the stream.
    pub(super) fn on_stanza(&mut self, pairs: &Pairs, element: Element) -> Result<(), StreamError> {
        if !is_stanza(&element) {
            return Err(StreamCondition::UnsupportedStanzaType.into());
        }
        let stanza = Stanza::from_element(element).map_err(|error| {
            StreamError::new(StreamCondition::ImproperAddressing, error.to_string())
        })?;
        self.check_addresses(pairs, &stanza)?;
        self.wire.tell(S2sEvent::Stanza(stanza));
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

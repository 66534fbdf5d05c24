//! The shape of IQ stanzas (RFC 6120, section 8.2.3), checked before anything looks inside.

use gatehouse_xmpp::{Stanza, StanzaKind};

use crate::refusal::Refusal;

/// Refuses an IQ without a known type, without an id, or with the wrong number of payloads.
pub(crate) fn check_shape(stanza: &Stanza) -> Result<(), Refusal> {
    if stanza.kind() != StanzaKind::Iq {
        return Ok(());
    }
    if stanza.id().is_none() {
        return Err(Refusal::bad_request("An iq needs an id."));
    }
    let payloads = stanza.payloads().count();
    match stanza.type_() {
        Some("get" | "set") if payloads == 1 => Ok(()),
        Some("get" | "set") => {
            Err(Refusal::bad_request("A request has exactly one element inside."))
        }
        Some("result") if payloads <= 1 => Ok(()),
        Some("result") => Err(Refusal::bad_request("A result has at most one element inside.")),
        Some("error") => Ok(()),
        _ => Err(Refusal::bad_request("An iq is of type get, set, result or error.")),
    }
}

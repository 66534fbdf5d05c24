//! Ping (XEP-0199).

use gatehouse_xmpp::{Element, ns};

use super::Answer;
use crate::refusal::Refusal;

pub(super) fn answer(query: &Element) -> Answer {
    if query.is("ping", ns::PING) { Ok(None) } else { Err(Refusal::unavailable()) }
}

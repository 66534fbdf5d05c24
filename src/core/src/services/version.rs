//! Software version (XEP-0092). The operating system is nobody's business.

use gatehouse_xmpp::{Element, ns};

use super::Answer;
use crate::refusal::Refusal;
use crate::xml;

pub(super) fn answer(query: &Element) -> Answer {
    if !query.is("query", ns::VERSION) {
        return Err(Refusal::unavailable());
    }
    let mut answer = xml::element("query", ns::VERSION);
    answer.append_child(xml::text("name", ns::VERSION, "Gatehouse"));
    answer.append_child(xml::text("version", ns::VERSION, env!("CARGO_PKG_VERSION")));
    Ok(Some(answer))
}

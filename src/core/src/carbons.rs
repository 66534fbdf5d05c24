//! Copies of a conversation for the user's other clients (XEP-0280).

use std::collections::VecDeque;
use std::sync::Arc;

use gatehouse_types::Jid;
use gatehouse_xmpp::parsers::minidom::rxml::xml_ncname;
use gatehouse_xmpp::{Stanza, StanzaKind, ns};
use parking_lot::Mutex;

use crate::account::{Account, Session};
use crate::outbox::{Copies, Outgoing, Owed};
use crate::refusal::Refusal;
use crate::router::{Origin, Router};
use crate::xml;

/// Processing hints (XEP-0334).
const HINTS: &str = "urn:xmpp:hints";
/// Messages remembered, for the errors that may answer them.
const REMEMBERED_MAX: usize = 32;

/// To whom the account's clients have lately sent messages that others got copies of, with their ids.
#[derive(Debug, Default)]
pub(crate) struct Copied(Mutex<VecDeque<(Jid, String)>>);

impl Copied {
    fn remember(&self, stanza: &Stanza) {
        let (Some(to), Some(id)) = (stanza.to(), stanza.id()) else { return };
        let mut copied = self.0.lock();
        if copied.len() >= REMEMBERED_MAX {
            copied.pop_front();
        }
        copied.push_back((to.to_bare(), id.to_owned()));
    }

    /// True if this error answers one of them (XEP-0280, section 6.1).
    fn is_about_one(&self, error: &Stanza) -> bool {
        let (Some(from), Some(id)) = (error.from(), error.id()) else { return false };
        self.0.lock().iter().any(|(to, known)| known == id && to.same_bare(from))
    }
}

/// Which way the message went.
#[derive(Clone, Copy)]
enum Way {
    Sent,
    Received,
}

/// XEP-0280, section 6.1. A message with anything about carbons in it is private, or a carbon.
fn is_eligible(stanza: &Stanza) -> bool {
    let by_type = match stanza.type_() {
        Some("chat") => true,
        Some("groupchat" | "headline" | "error") => false,
        _ => stanza.payloads().any(|payload| payload.is("body", ns::CLIENT)),
    };
    by_type
        && !stanza
            .payloads()
            .any(|payload| payload.has_ns(ns::CARBONS) || payload.is("no-copy", HINTS))
}

/// The copy for `session`, from the account itself.
fn carbon(session: &Session, stanza: &Stanza, way: Way) -> Option<Stanza> {
    let name = match way {
        Way::Sent => "sent",
        Way::Received => "received",
    };
    let mut forwarded = xml::element("forwarded", ns::FORWARD);
    forwarded.append_child(stanza.to_element());
    let mut copy = xml::element(name, ns::CARBONS);
    copy.append_child(forwarded);
    let mut message = xml::element("message", ns::CLIENT);
    if let Some(kind) = stanza.type_() {
        xml::set(&mut message, xml_ncname!("type"), kind);
    }
    message.append_child(copy);
    let mut carbon = Stanza::from_element(message).ok()?;
    carbon.set_from(Some(session.account.jid.clone()));
    carbon.set_to(Some(session.jid.clone()));
    carbon.set_trace(stanza.trace());
    Some(carbon)
}

/// The message that this is the carbon of, if it was one for the account itself.
pub(crate) fn original(carbon: &Stanza) -> Option<Stanza> {
    let received = carbon.element().get_child("received", ns::CARBONS)?;
    let message = received.get_child("forwarded", ns::FORWARD)?.get_child("message", ns::CLIENT)?;
    Stanza::from_element(message.clone()).ok()
}

/// `<enable/>` and `<disable/>` (XEP-0280, sections 4 and 5); `None` for anything else.
pub(crate) fn switch(session: &Session, stanza: &Stanza) -> Option<Result<(), Refusal>> {
    let payload = stanza.element().children().find(|child| child.has_ns(ns::CARBONS))?;
    let wanted = match (payload.name(), stanza.type_()) {
        ("enable", Some("set")) => true,
        ("disable", Some("set")) => false,
        _ => return Some(Err(Refusal::bad_request("Carbons are switched on or off."))),
    };
    session.with(|state| state.carbons = wanted);
    Some(Ok(()))
}

impl Router {
    /// A client of ours sends a message: the account's others get copies.
    pub(crate) async fn copy_sent(&self, session: &Session, stanza: &Stanza) {
        let account = &session.account;
        if stanza.to().is_none_or(|to| to.same_bare(&account.jid)) || !is_eligible(stanza) {
            return;
        }
        let others = account.wanting_carbons(|other| other.id != session.id);
        if others.is_empty() {
            return;
        }
        account.copied.remember(stanza);
        let origin = Origin::Here(Owed::default());
        for other in others {
            send(&other, stanza, Way::Sent, Copies::default(), &origin).await;
        }
    }

    /// Clients of ours are sent a message: the account's others get copies. If it reaches none of the
    /// clients that it was for, a copy that reached another will do.
    pub(crate) async fn copy_received(
        &self,
        account: &Account,
        reached: &[Arc<Session>],
        stanza: &Stanza,
        (copies, origin): (&Copies, &Origin),
    ) {
        if stanza.kind() != StanzaKind::Message {
            return;
        }
        let others = account.wanting_carbons(|other| {
            let has_it = reached.iter().any(|session| session.id == other.id);
            !has_it && stanza.from() != Some(&other.jid)
        });
        if others.is_empty() {
            return;
        }
        let is_error = stanza.type_() == Some("error");
        if is_eligible(stanza) || (is_error && account.copied.is_about_one(stanza)) {
            for other in others {
                send(&other, stanza, Way::Received, copies.clone(), origin).await;
            }
        }
    }
}

async fn send(session: &Session, stanza: &Stanza, way: Way, copies: Copies, origin: &Origin) {
    let Some(carbon) = carbon(session, stanza, way) else { return };
    let item = Outgoing { is_extra: true, copies, ..Outgoing::new(carbon) };
    // A copy that finds its session gone is nobody's.
    let _ = match origin {
        Origin::Trunk(_) => session.outbox.offer(item),
        Origin::Here(_) | Origin::Gateway(_) | Origin::Leftover(_) => {
            session.outbox.send(item).await
        }
    };
}

//! The XMPP side: whom a stanza is for, and how stanzas to local users are made.

use gatehouse_types::Jid;
use gatehouse_xmpp::parsers::minidom::rxml::{Namespace, NcNameStr, xml_ncname};
use gatehouse_xmpp::{Element, ErrorKind, Stanza, StanzaCondition, ns};

use crate::availability::{Availability, Show};

/// Chat states (XEP-0085).
const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// Delivery receipts (XEP-0184).
const RECEIPTS: &str = "urn:xmpp:receipts";

/// A local user and a remote one, both without resource.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Pair {
    pub(crate) local: Jid,
    pub(crate) remote: Jid,
}

/// Text of a message on its way to a local user.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) type_: &'a str,
    pub(crate) id: &'a str,
    pub(crate) body: &'a str,
    pub(crate) subject: Option<&'a str>,
    pub(crate) thread: Option<&'a str>,
    pub(crate) lang: Option<&'a str>,
}

/// A message with text.
pub(crate) fn message(from: &Jid, to: &Jid, content: &Incoming<'_>) -> Option<Stanza> {
    let mut element = Element::bare("message", ns::CLIENT);
    set(&mut element, xml_ncname!("type"), content.type_);
    set(&mut element, xml_ncname!("id"), content.id);
    if let Some(lang) = content.lang.filter(|lang| is_language(lang)) {
        element.attrs_mut().insert(Namespace::XML, xml_ncname!("lang").to_owned(), lang.to_owned());
    }
    let mut child = |name: &str, text: Option<&str>| {
        if let Some(text) = text {
            element.append_child(Element::builder(name, ns::CLIENT).append(text).build());
        }
    };
    child("subject", content.subject);
    child("body", Some(content.body));
    child("thread", content.thread);
    if content.type_ == "chat" {
        element.append_child(Element::bare("active", CHAT_STATES));
    }
    addressed(element, from, to)
}

/// A message with nothing but a chat state: `composing`, `active`, `gone`.
pub(crate) fn chat_state(
    from: &Jid,
    to: &Jid,
    state: &str,
    thread: Option<&str>,
) -> Option<Stanza> {
    let mut element = Element::bare("message", ns::CLIENT);
    set(&mut element, xml_ncname!("type"), "chat");
    element.append_child(Element::bare(state, CHAT_STATES));
    if let Some(thread) = thread {
        element.append_child(Element::builder("thread", ns::CLIENT).append(thread).build());
    }
    addressed(element, from, to)
}

/// The delivery receipt that the author of `message` asked for, if so (XEP-0184).
pub(crate) fn receipt(message: &Stanza, id: &str) -> Option<Stanza> {
    if !message.element().has_child("request", RECEIPTS) {
        return None;
    }
    let mut element = Element::bare("message", ns::CLIENT);
    set(&mut element, xml_ncname!("id"), id);
    let mut received = Element::bare("received", RECEIPTS);
    set(&mut received, xml_ncname!("id"), message.id()?);
    element.append_child(received);
    addressed(element, message.to()?, message.from()?)
}

/// A presence without content: `subscribe`, `subscribed`, `unsubscribed`, `probe`.
pub(crate) fn presence(from: &Jid, to: &Jid, type_: &str) -> Option<Stanza> {
    let mut element = Element::bare("presence", ns::CLIENT);
    set(&mut element, xml_ncname!("type"), type_);
    addressed(element, from, to)
}

/// The presence of one device of `from`, as it is shown to a local user.
pub(crate) fn availability(from: &Jid, to: &Jid, device: &Availability) -> Option<Stanza> {
    let mut element = Element::bare("presence", ns::CLIENT);
    if !device.available {
        set(&mut element, xml_ncname!("type"), "unavailable");
    }
    let mut child = |name: &str, text: &str| {
        element.append_child(Element::builder(name, ns::CLIENT).append(text).build());
    };
    if let Some(show) = device.show {
        child("show", show.as_str());
    }
    if let Some(status) = &device.status {
        child("status", status);
    }
    if let Some(priority) = device.priority {
        child("priority", &priority.to_string());
    }
    let with_resource =
        device.resource.as_deref().and_then(|resource| from.with_resource(resource).ok());
    addressed(element, with_resource.as_ref().unwrap_or(from), to)
}

/// A failed request for presence.
pub(crate) fn presence_error(
    from: &Jid,
    to: &Jid,
    (kind, condition, text): (ErrorKind, StanzaCondition, &str),
) -> Option<Stanza> {
    presence(to, from, "subscribe")?.bounce(kind, condition, text)
}

/// Reads the presence that a local user's device sends.
pub(crate) fn read_availability(stanza: &Stanza) -> Availability {
    let child = |name: &str| {
        stanza.element().get_child(name, ns::CLIENT).map(|child| child.text().trim().to_owned())
    };
    let available = stanza.type_().is_none();
    Availability {
        resource: stanza.from().and_then(Jid::resource).map(Into::into),
        available,
        show: child("show").as_deref().and_then(Show::parse).filter(|_| available),
        status: child("status")
            .map(|status| status.chars().take(200).collect::<String>())
            .filter(|status| !status.is_empty())
            .map(Into::into),
        priority: child("priority").and_then(|priority| priority.parse().ok()),
    }
}

/// What a message of a local user says.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) body: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) thread: Option<String>,
    pub(crate) lang: Option<String>,
    /// The name of the chat state.
    pub(crate) state: Option<String>,
}

/// Reads a message of a local user.
pub(crate) fn said(message: &Stanza) -> Said {
    let element = message.element();
    let child = |name: &str| {
        element.get_child(name, ns::CLIENT).map(Element::text).filter(|text| !text.is_empty())
    };
    let lang = element.attr_ns(&Namespace::XML, "lang").filter(|lang| is_language(lang));
    Said {
        body: child("body"),
        subject: child("subject"),
        thread: child("thread").filter(|thread| thread.len() <= 256),
        lang: lang.map(str::to_owned),
        state: element
            .children()
            .find(|child| child.has_ns(CHAT_STATES))
            .map(|child| child.name().to_owned()),
    }
}

/// RFC 5646 in its outline; a value that may go into a header.
fn is_language(lang: &str) -> bool {
    (1..=35).contains(&lang.len()) && lang.bytes().all(|b| b == b'-' || b.is_ascii_alphanumeric())
}

fn addressed(element: Element, from: &Jid, to: &Jid) -> Option<Stanza> {
    let mut stanza = Stanza::from_element(element).ok()?;
    stanza.set_from(Some(from.clone()));
    stanza.set_to(Some(to.clone()));
    Some(stanza)
}

fn set(element: &mut Element, name: &NcNameStr, value: &str) {
    element.attrs_mut().insert(Namespace::NONE, name.to_owned(), value.to_owned());
}

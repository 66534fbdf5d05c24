//! The SIP side: how requests and answers of ours are made.

use gatehouse_sip::{HeaderName, Message, Method, NameAddr, Scheme, Status, Uri};
use gatehouse_types::Jid;

use crate::address;

/// What we understand, for Allow.
pub(crate) const ALLOW: &str =
    "INVITE, ACK, BYE, CANCEL, MESSAGE, INFO, UPDATE, OPTIONS, SUBSCRIBE, NOTIFY";
/// Presence documents.
pub(crate) const PIDF: &str = "application/pidf+xml";
/// What we offer to receive. Only what needs no conversion: Lync turns rich text into it.
pub(crate) const ACCEPT_TYPES: [&str; 2] = ["text/plain", gatehouse_sip::composing::ISCOMPOSING];

/// A request outside any dialog.
pub(crate) fn initial(method: Method, from: &Jid, to: &Jid, tag: &str, call_id: &str) -> Message {
    let target = address::to_uri(&to.to_bare());
    let mut request = Message::request(method.clone(), target.clone());
    put(&mut request, HeaderName::MaxForwards, "70");
    let from = NameAddr::new(address::to_uri(from)).with_tag(tag);
    put(&mut request, HeaderName::From, from.to_string());
    put(&mut request, HeaderName::To, NameAddr::new(target).to_string());
    put(&mut request, HeaderName::CallId, call_id);
    put(&mut request, HeaderName::CSeq, format!("1 {method}"));
    request
}

/// Adds a header. What holds a line end is left out: it can only be somebody's attempt.
pub(crate) fn put(message: &mut Message, name: HeaderName, value: impl Into<String>) {
    let _ = message.headers.push(name, value);
}

/// Where we want to be reached.
pub(crate) fn put_contact(message: &mut Message, user: &Jid, host: &str) {
    let user = address::to_uri(&user.to_bare()).user.unwrap_or_default();
    put(message, HeaderName::Contact, format!("<sip:{user}@{host};transport=tls>"));
}

/// A final answer. A failure of our own making carries `why` for the partner's helpdesk: without
/// it, a Lync user is told that the previous hop gave no reason.
pub(crate) fn answer(request: &Message, status: Status, tag: &str, why: Option<&str>) -> Message {
    let mut response = Message::response_to(request, status, Some(tag));
    if status.code() == 405 || status.code() == 501 {
        put(&mut response, HeaderName::Allow, ALLOW);
    }
    if let Some(why) = why {
        // 1027: cannot route this type of SIP request; the sentence says which.
        let value = format!("1027;reason=\"{}\"", why.replace(['"', '\\'], "'"));
        put(&mut response, HeaderName::MsDiagnosticsPublic, value);
    }
    response
}

/// The person behind an address.
pub(crate) fn person(address: &NameAddr) -> Result<Jid, address::AddressError> {
    address::to_jid(&address.uri)
}

/// True if a request asks for something that only a `sips:` address may be used for.
pub(crate) fn is_sips(uri: &Uri) -> bool {
    uri.scheme == Scheme::Sips
}

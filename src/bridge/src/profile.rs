//! Kinds of partners, and how they are told apart.

use gatehouse_sip::{HeaderName, Message, Method};

/// What kind of software a partner runs.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Profile {
    /// Lync, Skype for Business, Office 365: IM in sessions (`m=message`), typing by INFO, one
    /// tuple in a presence document.
    #[default]
    Lync,
    /// RFC 3428, RFC 3994, RFC 8048: pager-mode messages up to 1300 bytes, typing by MESSAGE, one
    /// tuple for each device. Sessions where the partner opens one.
    Standard,
}

/// What Microsoft's clients and servers call themselves.
const MICROSOFT: [&str; 6] = ["rtc/", "uccapi/", "uccp/", "lcs/", "lync", "skype for business"];

/// What a message tells of who made it; `None` if it could be either.
pub fn detect(message: &Message) -> Option<Profile> {
    let headers = &message.headers;
    let agent = headers
        .get(&HeaderName::UserAgent)
        .or_else(|| headers.get(&HeaderName::Server))
        .map(|agent| agent.to_ascii_lowercase());
    if agent.is_some_and(|agent| MICROSOFT.iter().any(|name| agent.contains(name))) {
        return Some(Profile::Lync);
    }
    let own_headers = headers.iter().any(|header| {
        header.name.as_str().get(..3).is_some_and(|head| head.eq_ignore_ascii_case("ms-"))
            // Servers of other makers write this one to please Microsoft's.
            && header.name != HeaderName::MsDiagnosticsPublic
    });
    let gruu = message
        .contacts()
        .is_ok_and(|list| list.iter().any(|contact| contact.uri.params.has("gruu")));
    let allow = headers.list(&HeaderName::Allow);
    let allows = |method: &Method| allow.iter().any(|name| name == method.as_str());
    if own_headers || gruu || allows(&Method::Benotify) {
        return Some(Profile::Lync);
    }
    (!allow.is_empty() && allows(&Method::Message) && !allows(&Method::Info))
        .then_some(Profile::Standard)
}

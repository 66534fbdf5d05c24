use aws_lc_rs::digest;

use crate::{HeaderName, InvalidMessage, Message, Method, Via};

/// Names a client transaction (RFC 3261 section 17.1.3).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClientKey {
    /// The branch of our Via.
    pub branch: String,
    /// CSeq's method.
    pub method: Method,
}

/// Names a server transaction (RFC 3261 section 17.2.3): branch, sent-by and method, or what
/// stands for the branch where a peer writes none.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ServerKey {
    /// The [`Flow`](super::Flow) it came on: no other peer can touch it, however well it guesses.
    pub flow: u64,
    /// The top Via's branch, or a digest of what RFC 2543 compares.
    pub branch: String,
    /// Its sent-by.
    pub sent_by: String,
    /// The method; INVITE for its ACK.
    pub method: Method,
}

/// What every branch of RFC 3261 starts with.
pub(super) const COOKIE: &str = "z9hG4bK";

impl ServerKey {
    /// The key of a request; for a CANCEL, that of the INVITE it is about.
    pub(super) fn of(flow: u64, request: &Message, top: &Via) -> Result<Self, InvalidMessage> {
        let method = match request.method() {
            None | Some(Method::Ack | Method::Cancel) => Method::Invite,
            Some(method) => method,
        };
        let sent_by = match top.port {
            Some(port) => format!("{}:{port}", host(top)),
            None => host(top),
        };
        let branch = match top.branch() {
            // The magic compares without case, like every token of a parameter.
            Some(branch) if has_cookie(branch) => branch.to_owned(),
            _ => Self::old(request, top)?,
        };
        Ok(Self { flow, branch, sent_by, method })
    }

    /// What stands for a branch where there is none of RFC 3261: Request-URI, From's tag, Call-ID,
    /// CSeq's number and the top Via. To's tag is left out, so that the ACK finds its INVITE.
    fn old(request: &Message, top: &Via) -> Result<String, InvalidMessage> {
        let mut text = String::new();
        if let Some(uri) = request.uri() {
            text += &uri.to_string();
        }
        for part in [
            request.from()?.tag().unwrap_or_default(),
            &request.call_id()?,
            &request.cseq()?.number.to_string(),
            &top.to_string(),
        ] {
            text.push('\n');
            text += part;
        }
        Ok(hex(&text))
    }
}

/// What names a request however it came (RFC 3261 section 8.2.2.2); `None` inside a dialog.
pub(super) fn merge_key(request: &Message) -> Option<String> {
    if request.to().ok()?.tag().is_some() {
        return None;
    }
    let (from, cseq) = (request.from().ok()?, request.cseq().ok()?);
    Some(format!(
        "{}\n{}\n{} {}",
        from.tag().unwrap_or_default(),
        request.call_id().ok()?,
        cseq.number,
        cseq.method
    ))
}

/// The tag of an answer given without state (RFC 3261 section 8.2.7): the same each time.
pub(super) fn stateless_tag(request: &Message) -> String {
    let mut text = request.headers.get(&HeaderName::CallId).unwrap_or_default().into_owned();
    text.push('\n');
    text += &request.headers.get(&HeaderName::From).unwrap_or_default();
    let mut tag = hex(&text);
    tag.truncate(16);
    tag
}

pub(super) fn has_cookie(branch: &str) -> bool {
    branch
        .get(..COOKIE.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(COOKIE) && branch.len() > COOKIE.len())
}

fn host(via: &Via) -> String {
    match &via.host {
        crate::Host::Name(name) | crate::Host::Opaque(name) => name.to_ascii_lowercase(),
        crate::Host::V4(address) => address.to_string(),
        crate::Host::V6(address) => format!("[{address}]"),
    }
}

fn hex(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(64);
    for byte in digest::digest(&digest::SHA256, text.as_bytes()).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

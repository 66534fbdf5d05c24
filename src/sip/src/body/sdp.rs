//! Session descriptions of IM sessions (`m=message … sip null`, MS-CONFIM); others are told apart
//! and refused.

/// What an offer or answer asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImSession {
    /// Media types that may be sent, from `a=accept-types`; empty means any.
    pub accept_types: Vec<String>,
}

/// Why an offer cannot be taken: answer 488.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "each says what it is")]
pub enum SdpError {
    #[error("not a session description: {0}")]
    Malformed(&'static str),
    #[error("no m=message line")]
    NoMessage,
    #[error("media other than messages")]
    OtherMedia,
}

/// Reads at most 8 KiB.
pub fn parse(body: &[u8]) -> Result<ImSession, SdpError> {
    let _ = body;
    todo!()
}

/// What we offer. No address of ours is in it: `host` is the public name of the edge.
pub fn offer(host: &str, accept_types: &[&str]) -> String {
    let _ = (host, accept_types);
    todo!()
}

/// What we answer: as the offer, with our user's address in the m-line.
pub fn answer(host: &str, user: &str, accept_types: &[&str]) -> String {
    let _ = (host, user, accept_types);
    todo!()
}

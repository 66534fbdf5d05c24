use bytes::Bytes;

use crate::{
    CSeq, ContentType, Event, Headers, Method, NameAddr, Status, SubscriptionState, Uri, Via,
    Warning,
};

/// A request or a response: start line, ordered headers, body. Writes itself out as it came in,
/// but for unfolding, trimming, long header names and the Content-Length, which is always the
/// body's own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// The first line.
    pub start: Start,
    /// The header fields.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
}

/// The first line.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "the names are those of the grammar")]
pub enum Start {
    Request { method: Method, uri: Uri },
    Response { status: Status, reason: String },
}

/// Why a message, or one of its headers, is not what it must be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct InvalidMessage {
    /// Which part: `CSeq`, `Request-URI`.
    pub what: &'static str,
    /// What is wrong with it, without the bytes of the peer.
    pub why: String,
    /// What a request with this fault is answered (400, 414, 416, 505, ...).
    pub status: Status,
}

impl Message {
    /// A request with nothing but its start line.
    pub fn request(method: Method, uri: Uri) -> Self {
        Self {
            start: Start::Request { method, uri },
            headers: Headers::default(),
            body: Bytes::new(),
        }
    }

    /// The response to this request (RFC 3261 section 8.2.6): all Vias, From, To (with `tag` added
    /// where it has none), Call-ID and CSeq are copied; Record-Route too for 101 to 299.
    pub fn response_to(request: &Self, status: Status, tag: Option<&str>) -> Self {
        let _ = (request, status, tag);
        todo!()
    }

    /// Checks what every receiver must check before it acts (RFC 3261 sections 8.1.1, 8.2 and
    /// 16.3): the mandatory headers once each, CSeq's method, Max-Forwards, a readable top Via.
    pub fn check(&self) -> Result<(), InvalidMessage> {
        todo!()
    }

    /// The method: of a response, the one in CSeq.
    pub fn method(&self) -> Option<Method> {
        todo!()
    }

    /// The status of a response.
    pub fn status(&self) -> Option<Status> {
        todo!()
    }

    /// The reason phrase of a response.
    pub fn reason(&self) -> Option<&str> {
        todo!()
    }

    /// The Request-URI.
    pub fn uri(&self) -> Option<&Uri> {
        todo!()
    }

    /// From.
    pub fn from(&self) -> Result<NameAddr, InvalidMessage> {
        todo!()
    }

    /// To.
    pub fn to(&self) -> Result<NameAddr, InvalidMessage> {
        todo!()
    }

    /// Call-ID, at most 256 bytes.
    pub fn call_id(&self) -> Result<String, InvalidMessage> {
        todo!()
    }

    /// CSeq.
    pub fn cseq(&self) -> Result<CSeq, InvalidMessage> {
        todo!()
    }

    /// Every Via, topmost first, over all lines.
    pub fn vias(&self) -> Result<Vec<Via>, InvalidMessage> {
        todo!()
    }

    /// Every Contact. `*` is left out.
    pub fn contacts(&self) -> Result<Vec<NameAddr>, InvalidMessage> {
        todo!()
    }

    /// Every Route, topmost first.
    pub fn routes(&self) -> Result<Vec<NameAddr>, InvalidMessage> {
        todo!()
    }

    /// Every Record-Route, topmost first. Microsoft writes header parameters after the bracket.
    pub fn record_routes(&self) -> Result<Vec<NameAddr>, InvalidMessage> {
        todo!()
    }

    /// Event.
    pub fn event(&self) -> Result<Option<Event>, InvalidMessage> {
        todo!()
    }

    /// Expires, in seconds; a number over 2^32 is read as 2^32 - 1.
    pub fn expires(&self) -> Result<Option<u32>, InvalidMessage> {
        todo!()
    }

    /// Subscription-State.
    pub fn subscription_state(&self) -> Result<Option<SubscriptionState>, InvalidMessage> {
        todo!()
    }

    /// Content-Type.
    pub fn content_type(&self) -> Result<Option<ContentType>, InvalidMessage> {
        todo!()
    }

    /// Every Warning that can be read.
    pub fn warnings(&self) -> Vec<Warning> {
        todo!()
    }

    /// Puts a body in, with its Content-Type.
    pub fn set_body(&mut self, content_type: &str, body: impl Into<Bytes>) {
        let _ = (content_type, body.into());
        todo!()
    }

    /// The bytes for the wire, with the right Content-Length.
    pub fn to_bytes(&self) -> Bytes {
        todo!()
    }
}

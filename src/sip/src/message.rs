use bytes::{BufMut as _, Bytes, BytesMut};

use crate::grammar::{breaks_lines, is_space, is_token, seconds, trim};

use crate::{
    CSeq, ContentType, Event, HeaderName, Headers, Method, NameAddr, Status, SubscriptionState,
    Uri, Via, Warning,
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

impl InvalidMessage {
    /// What is answered 400.
    pub(crate) fn new(what: &'static str, why: impl Into<String>) -> Self {
        Self { what, why: why.into(), status: Status::of(400) }
    }

    /// The same about a certain header.
    fn in_header(self, what: &'static str) -> Self {
        Self { what, ..self }
    }
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
        let mut response = Self {
            start: Start::Response { status, reason: status.reason().to_owned() },
            headers: Headers::default(),
            body: Bytes::new(),
        };
        response.headers.copy(&request.headers, &HeaderName::Via);
        if (101..300).contains(&status.code()) {
            response.headers.copy(&request.headers, &HeaderName::RecordRoute);
        }
        response.headers.copy(&request.headers, &HeaderName::From);
        let tagged = tag.filter(|tag| is_token(tag)).and_then(|tag| {
            let to = request.to().ok().filter(|to| to.tag().is_none())?;
            Some(to.with_tag(tag).to_string())
        });
        match tagged {
            // What was read has nothing in it that breaks a line.
            Some(to) => drop(response.headers.push(HeaderName::To, to)),
            None => response.headers.copy(&request.headers, &HeaderName::To),
        }
        response.headers.copy(&request.headers, &HeaderName::CallId);
        response.headers.copy(&request.headers, &HeaderName::CSeq);
        response
    }

    /// Checks what every receiver must check before it acts (RFC 3261 sections 8.1.1, 8.2 and
    /// 16.3): the mandatory headers once each, CSeq's method, Max-Forwards, a readable top Via.
    pub fn check(&self) -> Result<(), InvalidMessage> {
        for name in [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq] {
            self.once(&name)?;
        }
        for name in [HeaderName::MaxForwards, HeaderName::Event, HeaderName::ContentType] {
            if self.headers.count(&name) > 1 {
                return Err(InvalidMessage::new(known_name(&name), "stands there twice"));
            }
        }
        if self.vias()?.is_empty() {
            return Err(InvalidMessage::new("Via", "is missing"));
        }
        self.from()?;
        self.to()?;
        self.call_id()?;
        let cseq = self.cseq()?;
        self.contacts()?;
        self.routes()?;
        self.record_routes()?;
        self.expires()?;
        self.max_forwards()?;
        if self.headers.get(&HeaderName::Date).is_some_and(|date| !trim(&date).ends_with(" GMT")) {
            return Err(InvalidMessage::new("Date", "is not in GMT"));
        }
        if let Start::Request { method, uri } = &self.start {
            if cseq.method != *method {
                return Err(InvalidMessage::new("CSeq", "names another method"));
            }
            if uri.headers.is_some() {
                return Err(InvalidMessage::new("Request-URI", "has headers in it"));
            }
        }
        Ok(())
    }

    /// The method: of a response, the one in CSeq.
    pub fn method(&self) -> Option<Method> {
        match &self.start {
            Start::Request { method, .. } => Some(method.clone()),
            Start::Response { .. } => self.cseq().ok().map(|cseq| cseq.method),
        }
    }

    /// The status of a response.
    pub fn status(&self) -> Option<Status> {
        match &self.start {
            Start::Response { status, .. } => Some(*status),
            Start::Request { .. } => None,
        }
    }

    /// The reason phrase of a response.
    pub fn reason(&self) -> Option<&str> {
        match &self.start {
            Start::Response { reason, .. } => Some(reason),
            Start::Request { .. } => None,
        }
    }

    /// The Request-URI.
    pub fn uri(&self) -> Option<&Uri> {
        match &self.start {
            Start::Request { uri, .. } => Some(uri),
            Start::Response { .. } => None,
        }
    }

    /// From.
    pub fn from(&self) -> Result<NameAddr, InvalidMessage> {
        NameAddr::parse(&self.once(&HeaderName::From)?).map_err(|e| e.in_header("From"))
    }

    /// To.
    pub fn to(&self) -> Result<NameAddr, InvalidMessage> {
        NameAddr::parse(&self.once(&HeaderName::To)?).map_err(|e| e.in_header("To"))
    }

    /// Call-ID, at most 256 bytes.
    pub fn call_id(&self) -> Result<String, InvalidMessage> {
        let id = self.once(&HeaderName::CallId)?;
        let good = !id.is_empty() && id.len() <= CALL_ID_MAX && !id.contains(is_space);
        good.then_some(id).ok_or_else(|| InvalidMessage::new("Call-ID", "is no word, or too long"))
    }

    /// CSeq.
    pub fn cseq(&self) -> Result<CSeq, InvalidMessage> {
        CSeq::parse(&self.once(&HeaderName::CSeq)?)
    }

    /// Every Via, topmost first, over all lines.
    pub fn vias(&self) -> Result<Vec<Via>, InvalidMessage> {
        self.headers.list(&HeaderName::Via).iter().map(|via| Via::parse(via)).collect()
    }

    /// The topmost Via; `None` if there is none.
    pub fn top_via(&self) -> Result<Option<Via>, InvalidMessage> {
        self.headers.first(&HeaderName::Via).map(|via| Via::parse(&via)).transpose()
    }

    /// Every Contact. `*` is left out.
    pub fn contacts(&self) -> Result<Vec<NameAddr>, InvalidMessage> {
        let contacts = self.headers.list(&HeaderName::Contact);
        let parse = |text: &String| NameAddr::parse(text).map_err(|e| e.in_header("Contact"));
        contacts.iter().filter(|contact| *contact != "*").map(parse).collect()
    }

    /// Every Route, topmost first.
    pub fn routes(&self) -> Result<Vec<NameAddr>, InvalidMessage> {
        self.addresses(&HeaderName::Route)
    }

    /// Every Record-Route, topmost first. Microsoft writes header parameters after the bracket.
    pub fn record_routes(&self) -> Result<Vec<NameAddr>, InvalidMessage> {
        self.addresses(&HeaderName::RecordRoute)
    }

    /// Event.
    pub fn event(&self) -> Result<Option<Event>, InvalidMessage> {
        self.headers.get(&HeaderName::Event).map(|text| Event::parse(&text)).transpose()
    }

    /// Expires, in seconds; a number over 2^32 is read as 2^32 - 1.
    pub fn expires(&self) -> Result<Option<u32>, InvalidMessage> {
        let number = |text: &str| {
            seconds(trim(text)).ok_or_else(|| InvalidMessage::new("Expires", "is no number"))
        };
        self.headers.get(&HeaderName::Expires).map(|text| number(&text)).transpose()
    }

    /// Subscription-State.
    pub fn subscription_state(&self) -> Result<Option<SubscriptionState>, InvalidMessage> {
        let state = self.headers.get(&HeaderName::SubscriptionState);
        state.map(|text| SubscriptionState::parse(&text)).transpose()
    }

    /// Content-Type.
    pub fn content_type(&self) -> Result<Option<ContentType>, InvalidMessage> {
        let kind = self.headers.get(&HeaderName::ContentType);
        kind.map(|text| ContentType::parse(&text)).transpose()
    }

    /// Every Warning that can be read.
    pub fn warnings(&self) -> Vec<Warning> {
        let warnings = self.headers.list(&HeaderName::Warning);
        warnings.iter().filter_map(|text| Warning::parse(text).ok()).collect()
    }

    /// Puts a body in, with its Content-Type.
    pub fn set_body(&mut self, content_type: &str, body: impl Into<Bytes>) {
        self.body = body.into();
        // What would break the line is left out; the type of a body is never from outside.
        let clean: String =
            content_type.chars().filter(|c| !matches!(c, '\r' | '\n' | '\0')).collect();
        drop(self.headers.set(HeaderName::ContentType, clean));
    }

    /// The bytes for the wire, with the right Content-Length.
    pub fn to_bytes(&self) -> Bytes {
        let start = match &self.start {
            Start::Request { method, uri } => format!("{method} {uri} SIP/2.0\r\n"),
            Start::Response { status, reason } => {
                let unbroken = |c: char| u8::try_from(c).map_or(true, |byte| !breaks_lines(byte));
                let reason: String = reason.chars().filter(|c| unbroken(*c)).collect();
                format!("SIP/2.0 {status} {reason}\r\n")
            }
        };
        let head: usize =
            self.headers.iter().map(|h| h.name.as_str().len() + h.value.len() + 4).sum();
        let mut out = BytesMut::with_capacity(start.len() + head + 32 + self.body.len());
        out.put_slice(start.as_bytes());
        let length = self.body.len().to_string();
        let mut has_length = false;
        for header in self.headers.iter() {
            let mut value: &[u8] = &header.value;
            if header.name == HeaderName::ContentLength {
                if std::mem::replace(&mut has_length, true) {
                    continue;
                }
                value = length.as_bytes();
            }
            for part in [header.name.as_str().as_bytes(), b": ", value, b"\r\n"] {
                out.put_slice(part);
            }
        }
        if !has_length {
            out.put_slice(format!("Content-Length: {length}\r\n").as_bytes());
        }
        out.put_slice(b"\r\n");
        out.put_slice(&self.body);
        out.freeze()
    }

    /// Max-Forwards, 0 to 255. A request without is allowed (RFC 3261 section 16.3).
    pub fn max_forwards(&self) -> Result<Option<u8>, InvalidMessage> {
        let number = |text: &str| {
            let number = seconds(trim(text)).and_then(|number| u8::try_from(number).ok());
            number.ok_or_else(|| InvalidMessage::new("Max-Forwards", "is not 0 to 255"))
        };
        self.headers.get(&HeaderName::MaxForwards).map(|text| number(&text)).transpose()
    }

    /// The value of a header that must be there, and only once.
    fn once(&self, name: &HeaderName) -> Result<String, InvalidMessage> {
        let mut values = self.headers.get_all(name);
        match (values.next(), values.next()) {
            (None, _) => Err(InvalidMessage::new(known_name(name), "is missing")),
            (Some(_), Some(_)) => Err(InvalidMessage::new(known_name(name), "stands there twice")),
            (Some(value), None) => Ok(value.into_owned()),
        }
    }

    fn addresses(&self, name: &HeaderName) -> Result<Vec<NameAddr>, InvalidMessage> {
        let parse =
            |text: &String| NameAddr::parse(text).map_err(|e| e.in_header(known_name(name)));
        self.headers.list(name).iter().map(parse).collect()
    }
}

/// The longest Call-ID taken.
const CALL_ID_MAX: usize = 256;

/// For errors.
fn known_name(name: &HeaderName) -> &'static str {
    match name {
        HeaderName::From => "From",
        HeaderName::To => "To",
        HeaderName::CallId => "Call-ID",
        HeaderName::CSeq => "CSeq",
        HeaderName::MaxForwards => "Max-Forwards",
        HeaderName::Event => "Event",
        HeaderName::ContentType => "Content-Type",
        HeaderName::Route => "Route",
        HeaderName::RecordRoute => "Record-Route",
        _ => "a header",
    }
}

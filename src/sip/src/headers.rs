use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::{Host, InvalidMessage, Method, Params};

/// The name of a header field. Compact forms are known by their long names; names compare without
/// case.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "the names are those on the wire")]
pub enum HeaderName {
    Accept,
    Allow,
    AllowEvents,
    CallId,
    Contact,
    ContentLength,
    ContentType,
    CSeq,
    Event,
    Expires,
    From,
    MaxForwards,
    MinExpires,
    PAssertedIdentity,
    ProxyRequire,
    RecordRoute,
    Require,
    RetryAfter,
    Route,
    Server,
    SubscriptionState,
    Subject,
    Supported,
    To,
    Unsupported,
    UserAgent,
    Via,
    Warning,
    MsDiagnostics,
    MsDiagnosticsPublic,
    /// As received.
    Other(Box<str>),
}

impl HeaderName {
    /// Any spelling, compact forms too; `None` if it is no token.
    pub fn parse(text: &str) -> Option<Self> {
        let _ = text;
        todo!()
    }

    /// The long name.
    pub fn as_str(&self) -> &str {
        todo!()
    }
}

/// One header field: a name and the bytes of its value, unfolded and trimmed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// The name.
    pub name: HeaderName,
    /// The value; never CR, LF or NUL in it. May not be UTF-8.
    pub value: Bytes,
}

/// Header fields in the order they came in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// The first value of this name, with bytes that are not UTF-8 replaced.
    pub fn get(&self, name: &HeaderName) -> Option<Cow<'_, str>> {
        let _ = name;
        todo!()
    }

    /// Every value of this name, one per field line, in order. For headers that hold lists see
    /// [`list`](Self::list).
    pub fn get_all(&self, name: &HeaderName) -> impl Iterator<Item = Cow<'_, str>> {
        let _ = name;
        std::iter::empty()
    }

    /// Every element of the comma-separated lists of this name, over all its lines, in order;
    /// quotes and angle brackets are respected.
    pub fn list(&self, name: &HeaderName) -> Vec<String> {
        let _ = name;
        todo!()
    }

    /// Appends a line.
    ///
    /// # Errors
    /// If the value holds CR, LF or NUL: a header is never a way to write another one.
    pub fn push(
        &mut self,
        name: HeaderName,
        value: impl Into<String>,
    ) -> Result<(), InvalidMessage> {
        let _ = (name, value.into());
        todo!()
    }

    /// Puts a line before the first of its name (Via, Record-Route), or appends.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_first(
        &mut self,
        name: HeaderName,
        value: impl Into<String>,
    ) -> Result<(), InvalidMessage> {
        let _ = (name, value.into());
        todo!()
    }

    /// Replaces all lines of this name by one.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn set(
        &mut self,
        name: HeaderName,
        value: impl Into<String>,
    ) -> Result<(), InvalidMessage> {
        let _ = (name, value.into());
        todo!()
    }

    /// Takes out all lines of this name.
    pub fn remove(&mut self, name: &HeaderName) {
        let _ = name;
        todo!()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        self.0.iter()
    }

    /// Keeps what `keep` says.
    pub fn retain(&mut self, keep: impl FnMut(&Header) -> bool) {
        self.0.retain(keep);
    }
}

/// One Via (RFC 3261 section 20.42). A missing branch is allowed: Lync writes such.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Via {
    /// `TLS`, `TCP`, `UDP` or another, in upper case.
    pub transport: String,
    /// The sent-by host.
    pub host: Host,
    /// The sent-by port.
    pub port: Option<u16>,
    /// `branch`, `received`, `rport`, `alias` and so on.
    pub params: Params,
}

impl Via {
    /// Parses one element of a Via header.
    pub fn parse(text: &str) -> Result<Self, InvalidMessage> {
        let _ = text;
        todo!()
    }

    /// The `branch` parameter.
    pub fn branch(&self) -> Option<&str> {
        self.params.get("branch")
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        todo!()
    }
}

/// The CSeq header: number below 2^31, and method.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CSeq {
    /// The number.
    pub number: u32,
    /// The method.
    pub method: Method,
}

/// The Event header (RFC 6665).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// `presence` and so on.
    pub package: String,
    /// The `id` parameter.
    pub id: Option<String>,
}

/// The Subscription-State header (RFC 6665 section 4.1.3).
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "the names are those on the wire")]
pub enum SubscriptionState {
    Active {
        expires: Option<u32>,
    },
    Pending {
        expires: Option<u32>,
    },
    /// `reason` in lower case: `rejected`, `timeout`, `deactivated`, `probation`, `giveup`,
    /// `noresource`, `invariant`.
    Terminated {
        reason: Option<String>,
        retry_after: Option<u32>,
    },
}

impl fmt::Display for SubscriptionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        todo!()
    }
}

/// A media type with its parameters; type and subtype in lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContentType {
    /// `text/plain`.
    pub essence: String,
    /// `charset`, `boundary`, `msgr` and so on.
    pub params: Params,
}

impl ContentType {
    /// Parses the value of a Content-Type header or of a line in Accept.
    pub fn parse(text: &str) -> Result<Self, InvalidMessage> {
        let _ = text;
        todo!()
    }
}

/// One Warning (RFC 3261 section 20.43).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// 300 to 399.
    pub code: u16,
    /// Who warns.
    pub agent: String,
    /// For people.
    pub text: String,
}

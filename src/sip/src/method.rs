use std::fmt;

/// A method name (RFC 3261 section 25.1: any token; compared case-sensitively).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[allow(missing_docs, reason = "the names are those on the wire")]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Message,
    Subscribe,
    Notify,
    /// Microsoft: a NOTIFY that is never answered (MS-SIP 4.4).
    Benotify,
    Info,
    Update,
    Refer,
    Prack,
    Publish,
    Register,
    /// Microsoft.
    Service,
    /// Any other token.
    Other(Box<str>),
}

impl Method {
    /// As it stands on the wire.
    pub fn as_str(&self) -> &str {
        todo!()
    }

    /// Parses a token; `None` if it is none, or longer than 32 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let _ = text;
        todo!()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

use crate::grammar::is_token;

/// The name of a header field. Compact forms are known by their long names; names compare without
/// case.
#[derive(Clone, Debug, Eq)]
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
    Date,
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

/// Every name we act on, with its compact form (RFC 3261 section 7.3.3 and its extensions).
const KNOWN: [(HeaderName, &str, &str); 31] = [
    (HeaderName::Accept, "Accept", ""),
    (HeaderName::Allow, "Allow", ""),
    (HeaderName::AllowEvents, "Allow-Events", "u"),
    (HeaderName::CallId, "Call-ID", "i"),
    (HeaderName::Contact, "Contact", "m"),
    (HeaderName::ContentLength, "Content-Length", "l"),
    (HeaderName::ContentType, "Content-Type", "c"),
    (HeaderName::CSeq, "CSeq", ""),
    (HeaderName::Date, "Date", ""),
    (HeaderName::Event, "Event", "o"),
    (HeaderName::Expires, "Expires", ""),
    (HeaderName::From, "From", "f"),
    (HeaderName::MaxForwards, "Max-Forwards", ""),
    (HeaderName::MinExpires, "Min-Expires", ""),
    (HeaderName::PAssertedIdentity, "P-Asserted-Identity", ""),
    (HeaderName::ProxyRequire, "Proxy-Require", ""),
    (HeaderName::RecordRoute, "Record-Route", ""),
    (HeaderName::Require, "Require", ""),
    (HeaderName::RetryAfter, "Retry-After", ""),
    (HeaderName::Route, "Route", ""),
    (HeaderName::Server, "Server", ""),
    (HeaderName::SubscriptionState, "Subscription-State", ""),
    (HeaderName::Subject, "Subject", "s"),
    (HeaderName::Supported, "Supported", "k"),
    (HeaderName::To, "To", "t"),
    (HeaderName::Unsupported, "Unsupported", ""),
    (HeaderName::UserAgent, "User-Agent", ""),
    (HeaderName::Via, "Via", "v"),
    (HeaderName::Warning, "Warning", ""),
    (HeaderName::MsDiagnostics, "ms-diagnostics", ""),
    (HeaderName::MsDiagnosticsPublic, "ms-diagnostics-public", ""),
];

/// Compact forms of names that we only pass on.
const COMPACT: [(&str, &str); 9] = [
    ("a", "Accept-Contact"),
    ("b", "Referred-By"),
    ("d", "Request-Disposition"),
    ("e", "Content-Encoding"),
    ("j", "Reject-Contact"),
    ("n", "Identity-Info"),
    ("r", "Refer-To"),
    ("x", "Session-Expires"),
    ("y", "Identity"),
];

impl HeaderName {
    /// Any spelling, compact forms too; `None` if it is no token.
    pub fn parse(text: &str) -> Option<Self> {
        let known = KNOWN.iter().find(|(_, long, short)| {
            text.eq_ignore_ascii_case(long) || (text.len() == 1 && text.eq_ignore_ascii_case(short))
        });
        if let Some((name, _, _)) = known {
            return Some(name.clone());
        }
        let long = COMPACT.iter().find(|(short, _)| text.eq_ignore_ascii_case(short));
        let name = long.map_or(text, |(_, long)| long);
        is_token(name).then(|| Self::Other(name.into()))
    }

    /// The long name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Accept => "Accept",
            Self::Allow => "Allow",
            Self::AllowEvents => "Allow-Events",
            Self::CallId => "Call-ID",
            Self::Contact => "Contact",
            Self::ContentLength => "Content-Length",
            Self::ContentType => "Content-Type",
            Self::CSeq => "CSeq",
            Self::Date => "Date",
            Self::Event => "Event",
            Self::Expires => "Expires",
            Self::From => "From",
            Self::MaxForwards => "Max-Forwards",
            Self::MinExpires => "Min-Expires",
            Self::PAssertedIdentity => "P-Asserted-Identity",
            Self::ProxyRequire => "Proxy-Require",
            Self::RecordRoute => "Record-Route",
            Self::Require => "Require",
            Self::RetryAfter => "Retry-After",
            Self::Route => "Route",
            Self::Server => "Server",
            Self::SubscriptionState => "Subscription-State",
            Self::Subject => "Subject",
            Self::Supported => "Supported",
            Self::To => "To",
            Self::Unsupported => "Unsupported",
            Self::UserAgent => "User-Agent",
            Self::Via => "Via",
            Self::Warning => "Warning",
            Self::MsDiagnostics => "ms-diagnostics",
            Self::MsDiagnosticsPublic => "ms-diagnostics-public",
            Self::Other(name) => name,
        }
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Other(_), _) | (_, Self::Other(_)) => {
                self.as_str().eq_ignore_ascii_case(other.as_str())
            }
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_in_every_spelling() {
        for (name, long, short) in &KNOWN {
            assert_eq!(name.as_str(), *long);
            for spelling in [(*long).to_owned(), long.to_uppercase(), (*short).to_owned()] {
                if !spelling.is_empty() {
                    assert_eq!(HeaderName::parse(&spelling).as_ref(), Some(name), "{spelling}");
                }
            }
        }
        for (short, long) in COMPACT {
            assert_eq!(HeaderName::parse(short), HeaderName::parse(long));
        }
        assert_eq!(HeaderName::parse("X-a"), Some(HeaderName::Other("x-A".into())));
        for none in ["", "a b", "é", "a:", "Via\r\nX"] {
            assert_eq!(HeaderName::parse(none), None);
        }
    }
}

//! What all streams share: how they are entered, how they end.

use gatehouse_identity::TlsFacts;
use minidom::Element;

use crate::ns;

/// How the transport was opened.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Plain TCP; STARTTLS must follow (RFC 6120, section 5).
    StartTls,
    /// TLS from the first byte (XEP-0368).
    Direct(TlsFacts),
}

/// A stream error condition (RFC 6120, section 4.9.3).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum StreamCondition {
    BadFormat,
    BadNamespacePrefix,
    Conflict,
    ConnectionTimeout,
    HostGone,
    HostUnknown,
    ImproperAddressing,
    InternalServerError,
    InvalidFrom,
    InvalidNamespace,
    InvalidXml,
    NotAuthorized,
    NotWellFormed,
    PolicyViolation,
    RemoteConnectionFailed,
    Reset,
    ResourceConstraint,
    RestrictedXml,
    SystemShutdown,
    UndefinedCondition,
    UnsupportedEncoding,
    UnsupportedFeature,
    UnsupportedStanzaType,
    UnsupportedVersion,
}

/// A stream error: a condition and a sentence for the person who reads the log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}{}", .condition.as_str(), .text.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
pub struct StreamError {
    /// The condition.
    pub condition: StreamCondition,
    /// The sentence.
    pub text: Option<String>,
}

impl StreamError {
    /// An error with a sentence.
    pub fn new(condition: StreamCondition, text: impl Into<String>) -> Self {
        Self { condition, text: Some(text.into()) }
    }

    /// Reads a peer's `<stream:error/>`; `None` if `element` is something else. The text is cut to
    /// what a log line can take, and holds no control characters.
    pub fn from_element(element: &Element) -> Option<Self> {
        if !element.is("error", ns::STREAM) {
            return None;
        }
        let own = || element.children().filter(|child| child.has_ns(ns::STREAM_ERRORS));
        let condition = own()
            .find(|child| child.name() != "text")
            .map_or(StreamCondition::UndefinedCondition, |child| {
                StreamCondition::from_name(child.name())
            });
        let text = own().find(|child| child.name() == "text").map(|child| readable(&child.text()));
        Some(Self { condition, text })
    }
}

/// A peer's words, cut to what a log line can take, without control characters.
pub(crate) fn readable(text: &str) -> String {
    text.chars()
        .take(PEER_TEXT_CHARS_MAX)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect()
}

/// How much of a peer's words we repeat.
const PEER_TEXT_CHARS_MAX: usize = 256;

impl From<StreamCondition> for StreamError {
    fn from(condition: StreamCondition) -> Self {
        Self { condition, text: None }
    }
}

/// Why a stream is over. A closed set beside its text: the kind is a metric label.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CloseReason {
    /// The peer said `</stream:stream>`.
    PeerClosed,
    /// The peer closed the transport without a farewell.
    Disconnected,
    /// We closed it because we are going down or were told to.
    Shutdown,
    /// Silence for too long once open.
    Idle,
    /// It did not get through the negotiation in time.
    SetupTimeout,
    /// We sent this stream error.
    WeRefused(StreamError),
    /// The peer sent this stream error.
    PeerRefused(StreamError),
    /// Neither side offered a way on that the other accepts (authentication, TLS).
    NoAgreement(String),
}

impl StreamCondition {
    /// The element name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadFormat => "bad-format",
            Self::BadNamespacePrefix => "bad-namespace-prefix",
            Self::Conflict => "conflict",
            Self::ConnectionTimeout => "connection-timeout",
            Self::HostGone => "host-gone",
            Self::HostUnknown => "host-unknown",
            Self::ImproperAddressing => "improper-addressing",
            Self::InternalServerError => "internal-server-error",
            Self::InvalidFrom => "invalid-from",
            Self::InvalidNamespace => "invalid-namespace",
            Self::InvalidXml => "invalid-xml",
            Self::NotAuthorized => "not-authorized",
            Self::NotWellFormed => "not-well-formed",
            Self::PolicyViolation => "policy-violation",
            Self::RemoteConnectionFailed => "remote-connection-failed",
            Self::Reset => "reset",
            Self::ResourceConstraint => "resource-constraint",
            Self::RestrictedXml => "restricted-xml",
            Self::SystemShutdown => "system-shutdown",
            Self::UndefinedCondition => "undefined-condition",
            Self::UnsupportedEncoding => "unsupported-encoding",
            Self::UnsupportedFeature => "unsupported-feature",
            Self::UnsupportedStanzaType => "unsupported-stanza-type",
            Self::UnsupportedVersion => "unsupported-version",
        }
    }

    /// The condition of that element name; unknown names are `undefined-condition`.
    pub fn from_name(name: &str) -> Self {
        ALL.into_iter()
            .find(|condition| condition.as_str() == name)
            .unwrap_or(Self::UndefinedCondition)
    }
}

const ALL: [StreamCondition; 24] = [
    StreamCondition::BadFormat,
    StreamCondition::BadNamespacePrefix,
    StreamCondition::Conflict,
    StreamCondition::ConnectionTimeout,
    StreamCondition::HostGone,
    StreamCondition::HostUnknown,
    StreamCondition::ImproperAddressing,
    StreamCondition::InternalServerError,
    StreamCondition::InvalidFrom,
    StreamCondition::InvalidNamespace,
    StreamCondition::InvalidXml,
    StreamCondition::NotAuthorized,
    StreamCondition::NotWellFormed,
    StreamCondition::PolicyViolation,
    StreamCondition::RemoteConnectionFailed,
    StreamCondition::Reset,
    StreamCondition::ResourceConstraint,
    StreamCondition::RestrictedXml,
    StreamCondition::SystemShutdown,
    StreamCondition::UndefinedCondition,
    StreamCondition::UnsupportedEncoding,
    StreamCondition::UnsupportedFeature,
    StreamCondition::UnsupportedStanzaType,
    StreamCondition::UnsupportedVersion,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_is_found_by_its_name() {
        for condition in ALL {
            assert_eq!(StreamCondition::from_name(condition.as_str()), condition);
        }
        assert_eq!(StreamCondition::from_name("nonsense"), StreamCondition::UndefinedCondition);
    }

    #[test]
    fn a_peers_words_are_cut_and_cleaned() {
        let text = format!(
            "<error xmlns='{}'><policy-violation xmlns='{1}'/><text xmlns='{1}'>a&#10;{2}</text></error>",
            ns::STREAM,
            ns::STREAM_ERRORS,
            "x".repeat(1000)
        );
        let error = StreamError::from_element(&text.parse().unwrap()).unwrap();
        assert_eq!(error.condition, StreamCondition::PolicyViolation);
        assert_eq!(error.text.unwrap(), format!("a {}", "x".repeat(254)));
    }
}

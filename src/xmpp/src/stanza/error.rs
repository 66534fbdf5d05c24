//! Errors of stanzas (RFC 6120, section 8.3).

use minidom::Element;
use rxml::{Namespace, xml_ncname};

use crate::ns;

/// The error types of RFC 6120, section 8.3.2.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum ErrorKind {
    Auth,
    Cancel,
    Continue,
    Modify,
    Wait,
}

/// The conditions of RFC 6120, section 8.3.3.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum StanzaCondition {
    BadRequest,
    Conflict,
    FeatureNotImplemented,
    Forbidden,
    Gone,
    InternalServerError,
    ItemNotFound,
    JidMalformed,
    NotAcceptable,
    NotAllowed,
    NotAuthorized,
    PolicyViolation,
    RecipientUnavailable,
    Redirect,
    RegistrationRequired,
    RemoteServerNotFound,
    RemoteServerTimeout,
    ResourceConstraint,
    ServiceUnavailable,
    SubscriptionRequired,
    UndefinedCondition,
    UnexpectedRequest,
}

impl StanzaCondition {
    /// The element name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::Conflict => "conflict",
            Self::FeatureNotImplemented => "feature-not-implemented",
            Self::Forbidden => "forbidden",
            Self::Gone => "gone",
            Self::InternalServerError => "internal-server-error",
            Self::ItemNotFound => "item-not-found",
            Self::JidMalformed => "jid-malformed",
            Self::NotAcceptable => "not-acceptable",
            Self::NotAllowed => "not-allowed",
            Self::NotAuthorized => "not-authorized",
            Self::PolicyViolation => "policy-violation",
            Self::RecipientUnavailable => "recipient-unavailable",
            Self::Redirect => "redirect",
            Self::RegistrationRequired => "registration-required",
            Self::RemoteServerNotFound => "remote-server-not-found",
            Self::RemoteServerTimeout => "remote-server-timeout",
            Self::ResourceConstraint => "resource-constraint",
            Self::ServiceUnavailable => "service-unavailable",
            Self::SubscriptionRequired => "subscription-required",
            Self::UndefinedCondition => "undefined-condition",
            Self::UnexpectedRequest => "unexpected-request",
        }
    }

    /// The condition of that element name; unknown names are `undefined-condition`.
    pub fn from_name(name: &str) -> Self {
        CONDITIONS
            .into_iter()
            .find(|condition| condition.as_str() == name)
            .unwrap_or(Self::UndefinedCondition)
    }
}

const CONDITIONS: [StanzaCondition; 22] = [
    StanzaCondition::BadRequest,
    StanzaCondition::Conflict,
    StanzaCondition::FeatureNotImplemented,
    StanzaCondition::Forbidden,
    StanzaCondition::Gone,
    StanzaCondition::InternalServerError,
    StanzaCondition::ItemNotFound,
    StanzaCondition::JidMalformed,
    StanzaCondition::NotAcceptable,
    StanzaCondition::NotAllowed,
    StanzaCondition::NotAuthorized,
    StanzaCondition::PolicyViolation,
    StanzaCondition::RecipientUnavailable,
    StanzaCondition::Redirect,
    StanzaCondition::RegistrationRequired,
    StanzaCondition::RemoteServerNotFound,
    StanzaCondition::RemoteServerTimeout,
    StanzaCondition::ResourceConstraint,
    StanzaCondition::ServiceUnavailable,
    StanzaCondition::SubscriptionRequired,
    StanzaCondition::UndefinedCondition,
    StanzaCondition::UnexpectedRequest,
];

impl ErrorKind {
    /// The value of the `type` attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Continue => "continue",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }
}

/// `<error/>` of a stanza (RFC 6120, section 8.3.2).
pub(crate) fn error_element(kind: ErrorKind, condition: StanzaCondition, text: &str) -> Element {
    let sentence = Element::builder("text", ns::STANZA_ERRORS)
        .attr_ns(Namespace::XML, xml_ncname!("lang").to_owned(), "en")
        .append(text)
        .build();
    Element::builder("error", ns::CLIENT)
        .attr(xml_ncname!("type").to_owned(), kind.as_str())
        .append(Element::bare(condition.as_str(), ns::STANZA_ERRORS))
        .append(sentence)
        .build()
}

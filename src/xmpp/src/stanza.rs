//! Stanzas: kept as they came, addressed once.

use gatehouse_types::{InvalidJid, Jid};
use minidom::Element;

/// The three kinds (RFC 6120, section 8).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum StanzaKind {
    /// `<message/>`
    Message,
    /// `<presence/>`
    Presence,
    /// `<iq/>`
    Iq,
}

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

/// One stanza in `jabber:client`, whatever stream it came from, with its addresses read.
///
/// Payloads are kept as they came. The addresses and the element always agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Stanza {
    kind: StanzaKind,
    from: Option<Jid>,
    to: Option<Jid>,
    element: Element,
}

/// A first-level element that is no stanza.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidStanza {
    /// Another name or namespace.
    #[error("`{0}` is not a stanza")]
    NotAStanza(String),
    /// `from` or `to` cannot be read.
    #[error("the address in `{attribute}` is malformed")]
    Address {
        /// `from` or `to`.
        attribute: &'static str,
        /// Why.
        source: InvalidJid,
    },
}

impl Stanza {
    /// Reads the kind and addresses of `element`, which is in `jabber:client`.
    pub fn from_element(element: Element) -> Result<Self, InvalidStanza> {
        let _ = element;
        todo!()
    }

    /// The kind.
    pub fn kind(&self) -> StanzaKind {
        self.kind
    }

    /// The sender, if stated.
    pub fn from(&self) -> Option<&Jid> {
        self.from.as_ref()
    }

    /// The recipient, if stated.
    pub fn to(&self) -> Option<&Jid> {
        self.to.as_ref()
    }

    /// The `id` attribute.
    pub fn id(&self) -> Option<&str> {
        self.element.attr("id")
    }

    /// The `type` attribute, as written (an absent one means `normal`, `available`).
    pub fn type_(&self) -> Option<&str> {
        self.element.attr("type")
    }

    /// The element.
    pub fn element(&self) -> &Element {
        &self.element
    }

    /// The element, to change payloads. Change addresses with the setters only.
    pub fn payload_mut(&mut self) -> &mut Element {
        &mut self.element
    }

    /// The element, given away.
    pub fn into_element(self) -> Element {
        self.element
    }

    /// Sets or removes `from`.
    pub fn set_from(&mut self, from: Option<Jid>) {
        let _ = from;
        todo!()
    }

    /// Sets or removes `to`.
    pub fn set_to(&mut self, to: Option<Jid>) {
        let _ = to;
        todo!()
    }

    /// True for errors and IQ results: what must never be bounced (RFC 6120, section 8.3.1).
    pub fn is_answer(&self) -> bool {
        matches!((self.kind, self.type_()), (_, Some("error")) | (StanzaKind::Iq, Some("result")))
    }

    /// The error to send back to the author, or `None` where nothing may be answered (errors, IQ
    /// results, presence that is not a request). Addresses swapped, id kept, the payload not
    /// repeated.
    pub fn bounce(&self, kind: ErrorKind, condition: StanzaCondition, text: &str) -> Option<Self> {
        let _ = (kind, condition, text);
        todo!()
    }

    /// An IQ result to this IQ request, with `payload`. `None` if this is no IQ request.
    pub fn result(&self, payload: Option<Element>) -> Option<Self> {
        let _ = payload;
        todo!()
    }
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
}

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

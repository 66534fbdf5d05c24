use crate::{StreamCondition, StreamError};

/// What is wrong with a token (RFC 6120, sections 4.9.3 and 11).
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    condition: StreamCondition,
    text: &'static str,
    /// The first bytes of the token are enough to know, whatever follows.
    pub(super) is_hopeless: bool,
}

impl Fault {
    /// Not UTF-8.
    pub(super) const ENCODING: Self =
        Self::new(StreamCondition::UnsupportedEncoding, "a stream is in UTF-8");
    /// Control characters and the like (XML 1.0, section 2.2).
    pub(super) const NO_CHARACTER: Self = Self::malformed("a stream holds what XML cannot hold");

    /// XML, or namespaces in it, does not allow it.
    pub(super) const fn malformed(text: &'static str) -> Self {
        Self::new(StreamCondition::NotWellFormed, text)
    }

    /// XML has it, XMPP does not: comments, processing instructions, DTDs, and references to
    /// entities other than the predefined ones (RFC 6120, section 11.1).
    pub(super) const fn restricted(text: &'static str) -> Self {
        Self::new(StreamCondition::RestrictedXml, text)
    }

    /// A limit of ours on names and values.
    pub(super) const fn too_long(text: &'static str) -> Self {
        Self::new(StreamCondition::PolicyViolation, text)
    }

    /// The beginning of a token that cannot be one.
    pub(super) const fn hopeless(self) -> Self {
        Self { is_hopeless: true, ..self }
    }

    const fn new(condition: StreamCondition, text: &'static str) -> Self {
        Self { condition, text, is_hopeless: false }
    }
}

impl From<Fault> for StreamError {
    fn from(fault: Fault) -> Self {
        Self::new(fault.condition, fault.text)
    }
}

/// `what` is more than `max` of `unit`: a limit of ours.
pub(super) fn over_limit(what: &str, max: usize, unit: &str) -> StreamError {
    StreamError::new(
        StreamCondition::PolicyViolation,
        format!("{what} has more than {max} {unit}, the limit here"),
    )
}

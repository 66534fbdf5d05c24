use rxml::Error;

use crate::{StreamCondition, StreamError};

/// The stream error for what `rxml` refused (RFC 6120, sections 4.9.3 and 11).
pub(super) fn stream_error(error: Error) -> StreamError {
    let condition = match error {
        // Its names for what is too long for one token.
        Error::RestrictedXml("long name or reference" | "event too long") => {
            return too_long("a name or an attribute");
        }
        Error::RestrictedXml("only utf-8 encoding is allowed") | Error::InvalidUtf8Byte(_) => {
            StreamCondition::UnsupportedEncoding
        }
        // RFC 6120, section 11.1: comments, processing instructions, DTDs, and references to
        // entities other than the predefined ones.
        Error::RestrictedXml(_) | Error::UndeclaredEntity => StreamCondition::RestrictedXml,
        // Its word for `<!` and anything but a comment or CDATA: a DTD.
        Error::InvalidSyntax("malformed cdata or comment section start") => {
            StreamCondition::RestrictedXml
        }
        Error::InvalidEof(_)
        | Error::InvalidChar(..)
        | Error::UnexpectedChar(..)
        | Error::UnexpectedByte(..)
        | Error::InvalidSyntax(_)
        | Error::UnexpectedToken(..)
        | Error::DuplicateAttribute
        | Error::ElementMismatch
        | Error::MultiColonName(_)
        | Error::EmptyNamePart(_)
        | Error::UndeclaredNamespacePrefix(_)
        | Error::ReservedNamespacePrefix
        | Error::ReservedNamespaceName
        | Error::InvalidLocalName(_)
        | Error::EmptyNamespaceUri => StreamCondition::NotWellFormed,
    };
    StreamError::new(condition, error.to_string())
}

fn too_long(what: &str) -> StreamError {
    StreamError::new(StreamCondition::PolicyViolation, format!("{what} is too long"))
}

/// `what` is more than `max` of `unit`: a limit of ours.
pub(super) fn over_limit(what: &str, max: usize, unit: &str) -> StreamError {
    StreamError::new(
        StreamCondition::PolicyViolation,
        format!("{what} has more than {max} {unit}, the limit here"),
    )
}

//! Errors, both ways (RFC 7247 section 7).

use gatehouse_sip::{Message, Status};
use gatehouse_xmpp::{ErrorKind, StanzaCondition};

/// Whom the failed stanza was addressed to: some conditions mean one device, or the person.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Addressed {
    /// The person.
    Bare,
    /// One device.
    Full,
}

/// Longest text taken over from a partner, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// The SIP status of an XMPP condition (RFC 7247 table 1).
pub fn to_status(condition: StanzaCondition, addressed: Addressed) -> Status {
    let by_address = |full, bare| match addressed {
        Addressed::Full => full,
        Addressed::Bare => bare,
    };
    Status::of(match condition {
        StanzaCondition::BadRequest
        | StanzaCondition::Conflict
        | StanzaCondition::JidMalformed
        | StanzaCondition::SubscriptionRequired
        | StanzaCondition::UndefinedCondition => 400,
        StanzaCondition::FeatureNotImplemented => by_address(405, 501),
        StanzaCondition::Forbidden => by_address(403, 603),
        // 301 needs the new address; we never pass one on.
        StanzaCondition::Gone => 410,
        StanzaCondition::InternalServerError | StanzaCondition::ResourceConstraint => 500,
        StanzaCondition::ItemNotFound => by_address(404, 604),
        StanzaCondition::NotAcceptable => by_address(406, 606),
        StanzaCondition::NotAllowed | StanzaCondition::PolicyViolation => 403,
        StanzaCondition::NotAuthorized => 401,
        StanzaCondition::RecipientUnavailable => by_address(480, 600),
        StanzaCondition::Redirect => 302,
        StanzaCondition::RegistrationRequired => 407,
        StanzaCondition::RemoteServerNotFound => 404,
        StanzaCondition::RemoteServerTimeout => 408,
        // 503 is about a whole server: a proxy would stop sending us anything.
        StanzaCondition::ServiceUnavailable => 403,
        StanzaCondition::UnexpectedRequest => 491,
    })
}

/// The XMPP condition of a SIP status (RFC 7247 table 2), with the error type that RFC 6120
/// recommends for it. Only a failure has one; anything below 300 is read as 500.
pub fn from_status(status: Status) -> (ErrorKind, StanzaCondition) {
    use StanzaCondition as Xmpp;
    let condition = match status.code() {
        301 | 410 => Xmpp::Gone,
        300..=379 | 381..=399 => Xmpp::Redirect,
        380 | 406 | 415 | 416 | 421 | 482 | 483 | 488 | 505 | 606 => Xmpp::NotAcceptable,
        401 => Xmpp::NotAuthorized,
        403 => Xmpp::Forbidden,
        404 | 481 | 484 | 485 | 604 => Xmpp::ItemNotFound,
        405 | 420 | 439 | 501 => Xmpp::FeatureNotImplemented,
        407 => Xmpp::RegistrationRequired,
        408 | 504 => Xmpp::RemoteServerTimeout,
        413 | 414 | 440 | 489 | 513 => Xmpp::PolicyViolation,
        423 => Xmpp::ResourceConstraint,
        430 | 480 | 486 | 487 => Xmpp::RecipientUnavailable,
        491 => Xmpp::UnexpectedRequest,
        400..=499 => Xmpp::BadRequest,
        502 => Xmpp::RemoteServerNotFound,
        600..=699 => Xmpp::RecipientUnavailable,
        _ => Xmpp::InternalServerError,
    };
    (kind_of(condition), condition)
}

/// What a failed request means to an XMPP user: as [`from_status`], but for Lync's content filter
/// (606 with Warning 309), which is a policy and not an absence.
pub fn from_response(response: &Message) -> (ErrorKind, StanzaCondition, String) {
    let status = response.status().unwrap_or(Status::of(500));
    if status.code() == 606
        && let Some(warning) = response.warnings().into_iter().find(|warning| warning.code == 309)
    {
        let condition = StanzaCondition::PolicyViolation;
        return (kind_of(condition), condition, plain(&warning.text));
    }
    let (kind, condition) = from_status(status);
    // RFC 7247 section 7.1: `gone` would carry an address in its text.
    let text = match response.reason().map(plain).filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    };
    (kind, condition, text)
}

/// The type that RFC 6120 section 8.3.3 recommends.
pub fn kind_of(condition: StanzaCondition) -> ErrorKind {
    match condition {
        StanzaCondition::BadRequest
        | StanzaCondition::JidMalformed
        | StanzaCondition::NotAcceptable
        | StanzaCondition::PolicyViolation
        | StanzaCondition::Redirect => ErrorKind::Modify,
        StanzaCondition::Forbidden
        | StanzaCondition::NotAuthorized
        | StanzaCondition::RegistrationRequired
        | StanzaCondition::SubscriptionRequired => ErrorKind::Auth,
        StanzaCondition::RecipientUnavailable
        | StanzaCondition::RemoteServerTimeout
        | StanzaCondition::ResourceConstraint
        | StanzaCondition::UnexpectedRequest => ErrorKind::Wait,
        StanzaCondition::Conflict
        | StanzaCondition::FeatureNotImplemented
        | StanzaCondition::Gone
        | StanzaCondition::InternalServerError
        | StanzaCondition::ItemNotFound
        | StanzaCondition::NotAllowed
        | StanzaCondition::RemoteServerNotFound
        | StanzaCondition::ServiceUnavailable
        | StanzaCondition::UndefinedCondition => ErrorKind::Cancel,
    }
}

/// A partner chose these words: so many of them, and nothing that XML cannot hold.
pub(crate) fn plain(text: &str) -> String {
    let is_text = |sign: &char| !sign.is_control() && !matches!(sign, '\u{fffe}' | '\u{ffff}');
    text.chars().filter(is_text).take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use StanzaCondition as Xmpp;

    use super::*;

    /// RFC 7247 table 1: condition, status for a full address, status for a bare one.
    #[test]
    fn conditions_become_statuses() {
        for (condition, full, bare) in [
            (Xmpp::BadRequest, 400, 400),
            (Xmpp::Conflict, 400, 400),
            (Xmpp::FeatureNotImplemented, 405, 501),
            (Xmpp::Forbidden, 403, 603),
            (Xmpp::Gone, 410, 410),
            (Xmpp::InternalServerError, 500, 500),
            (Xmpp::ItemNotFound, 404, 604),
            (Xmpp::JidMalformed, 400, 400),
            (Xmpp::NotAcceptable, 406, 606),
            (Xmpp::NotAllowed, 403, 403),
            (Xmpp::NotAuthorized, 401, 401),
            (Xmpp::PolicyViolation, 403, 403),
            (Xmpp::RecipientUnavailable, 480, 600),
            (Xmpp::Redirect, 302, 302),
            (Xmpp::RegistrationRequired, 407, 407),
            (Xmpp::RemoteServerNotFound, 404, 404),
            (Xmpp::RemoteServerTimeout, 408, 408),
            (Xmpp::ResourceConstraint, 500, 500),
            (Xmpp::ServiceUnavailable, 403, 403),
            (Xmpp::SubscriptionRequired, 400, 400),
            (Xmpp::UndefinedCondition, 400, 400),
            (Xmpp::UnexpectedRequest, 491, 491),
        ] {
            assert_eq!(to_status(condition, Addressed::Full).code(), full, "{condition:?}");
            assert_eq!(to_status(condition, Addressed::Bare).code(), bare, "{condition:?}");
        }
    }

    /// RFC 7247 table 2, with its defaults.
    #[test]
    fn statuses_become_conditions() {
        let table: [(&[u16], Xmpp); 17] = [
            (&[300, 302, 305, 399], Xmpp::Redirect),
            (&[301, 410], Xmpp::Gone),
            (&[380, 406, 415, 416, 421, 482, 483, 488, 505, 606], Xmpp::NotAcceptable),
            (&[400, 402, 493, 499], Xmpp::BadRequest),
            (&[401], Xmpp::NotAuthorized),
            (&[403], Xmpp::Forbidden),
            (&[404, 481, 484, 485, 604], Xmpp::ItemNotFound),
            (&[405, 420, 439, 501], Xmpp::FeatureNotImplemented),
            (&[407], Xmpp::RegistrationRequired),
            (&[408, 504], Xmpp::RemoteServerTimeout),
            (&[413, 414, 440, 489, 513], Xmpp::PolicyViolation),
            (&[423], Xmpp::ResourceConstraint),
            (&[430, 480, 486, 487, 600, 603, 699], Xmpp::RecipientUnavailable),
            (&[491], Xmpp::UnexpectedRequest),
            (&[500, 503, 599], Xmpp::InternalServerError),
            (&[502], Xmpp::RemoteServerNotFound),
            (&[200], Xmpp::InternalServerError),
        ];
        for (codes, condition) in table {
            for code in codes {
                assert_eq!(from_status(Status::of(*code)).1, condition, "{code}");
            }
        }
    }

    #[test]
    fn what_a_partner_says_is_cut_and_cleaned() {
        assert_eq!(plain("a\r\nb\u{0}c\u{ffff}d\u{fffe}"), "abcd");
        assert_eq!(plain(&"x".repeat(500)).len(), 200);
    }
}

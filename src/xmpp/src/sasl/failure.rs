/// Why a try to authenticate failed, in the words of RFC 6120, section 6.5.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// The client said `<abort/>`.
    Aborted,
    /// It tried before TLS.
    EncryptionRequired,
    /// What should be base64 is not.
    IncorrectEncoding,
    /// It wants to act as someone else.
    InvalidAuthzid,
    /// It chose what was not offered.
    InvalidMechanism,
    /// The mechanism's syntax or order of steps is broken.
    MalformedRequest,
    /// No such account, or the proof is wrong: nobody is told which.
    NotAuthorized,
    /// We cannot look up accounts at the moment.
    TemporaryAuth,
}

impl Failure {
    /// The element name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::EncryptionRequired => "encryption-required",
            Self::IncorrectEncoding => "incorrect-encoding",
            Self::InvalidAuthzid => "invalid-authzid",
            Self::InvalidMechanism => "invalid-mechanism",
            Self::MalformedRequest => "malformed-request",
            Self::NotAuthorized => "not-authorized",
            Self::TemporaryAuth => "temporary-auth-failure",
        }
    }
}

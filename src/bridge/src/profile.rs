//! Kinds of partners.

/// What kind of software a partner runs.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Profile {
    /// Lync, Skype for Business, Office 365: IM in sessions.
    #[default]
    Lync,
    /// RFC 3428 and RFC 3994: pager-mode messages.
    Standard,
}

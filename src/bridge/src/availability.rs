//! Availability, both ways.

/// How a busy SIP user looks to XMPP clients.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BusyAs {
    /// `<show>dnd</show>` (RFC 8048).
    #[default]
    Dnd,
    /// `<show>away</show>` with the status text "Busy", if the contact wrote none.
    AwayWithText,
}

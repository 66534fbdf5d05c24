use gatehouse_store::{Contact, Subscription};
use gatehouse_types::Jid;

/// Our view of the contact's presence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ours {
    /// We have no subscription.
    None,
    /// We asked and wait (`Pending Out`).
    Asked,
    /// We have one (`To`, `Both`).
    Granted,
}

/// The contact's view of our presence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Theirs {
    /// It has no subscription.
    None,
    /// It asked and waits (`Pending In`): the request as it came.
    Asked(String),
    /// It has one (`From`, `Both`).
    Granted,
}

/// A contact taken apart, so that each direction can be changed alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct State {
    pub(super) jid: Jid,
    pub(super) in_roster: bool,
    pub(super) name: Option<String>,
    pub(super) groups: Vec<String>,
    pub(super) approved: bool,
    pub(super) ours: Ours,
    pub(super) theirs: Theirs,
}

impl State {
    /// Nothing known of `jid`.
    fn unknown(jid: &Jid) -> Self {
        Self {
            jid: jid.to_bare(),
            in_roster: false,
            name: None,
            groups: Vec::new(),
            approved: false,
            ours: Ours::None,
            theirs: Theirs::None,
        }
    }

    /// What `current` says; a subscription that is there wins over one that is asked for.
    pub(super) fn of(current: Option<&Contact>, jid: &Jid) -> Self {
        let Some(contact) = current else {
            return Self::unknown(jid);
        };
        let ours = match (contact.subscription, contact.pending_out) {
            (Subscription::To | Subscription::Both, _) => Ours::Granted,
            (_, true) => Ours::Asked,
            (_, false) => Ours::None,
        };
        let theirs = match (contact.subscription, &contact.pending_in) {
            (Subscription::From | Subscription::Both, _) => Theirs::Granted,
            (_, Some(stanza)) => Theirs::Asked(stanza.clone()),
            (_, None) => Theirs::None,
        };
        Self {
            jid: contact.jid.clone(),
            in_roster: contact.in_roster,
            name: contact.name.clone(),
            groups: contact.groups.clone(),
            approved: contact.approved,
            ours,
            theirs,
        }
    }

    /// True if nothing is worth keeping: not in the roster, and no request waits.
    pub(super) fn is_forgettable(&self) -> bool {
        !self.in_roster && self.theirs == Theirs::None
    }

    /// The contact as it is stored.
    pub(super) fn into_contact(self) -> Contact {
        let subscription = match (self.ours, &self.theirs) {
            (Ours::Granted, Theirs::Granted) => Subscription::Both,
            (Ours::Granted, _) => Subscription::To,
            (_, Theirs::Granted) => Subscription::From,
            (_, _) => Subscription::None,
        };
        Contact {
            jid: self.jid,
            in_roster: self.in_roster,
            name: self.name,
            subscription,
            pending_out: self.ours == Ours::Asked,
            pending_in: match self.theirs {
                Theirs::Asked(stanza) => Some(stanza),
                Theirs::None | Theirs::Granted => None,
            },
            approved: self.approved,
            groups: self.groups,
        }
    }
}

use gatehouse_store::Contact;

use super::state::State;

/// The four presence stanzas that manage subscriptions (RFC 6121, section 3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// `subscribe`: the sender wants to see the recipient's presence.
    Subscribe,
    /// `subscribed`: the sender lets the recipient see its presence.
    Subscribed,
    /// `unsubscribe`: the sender no longer wants to see the recipient's presence.
    Unsubscribe,
    /// `unsubscribed`: the sender denies or ends the recipient's subscription.
    Unsubscribed,
}

impl Action {
    /// The value of the presence stanza's `type`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Subscribed => "subscribed",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsubscribed => "unsubscribed",
        }
    }

    /// The action of a presence `type`, if it is one of the four.
    pub(crate) fn from_type(presence_type: &str) -> Option<Self> {
        [Self::Subscribe, Self::Subscribed, Self::Unsubscribe, Self::Unsubscribed]
            .into_iter()
            .find(|action| action.as_str() == presence_type)
    }
}

/// What becomes of the stored contact. Store it before any effect is carried out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// Nothing; then there is no [`Effect::Push`] either.
    Unchanged,
    /// Store this, in place of what was there.
    Put(Contact),
    /// Remove it.
    Remove,
}

/// One thing to do. All stanzas to the contact are from the user's bare address unless it says
/// otherwise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effect {
    /// Send a generated subscription stanza to the contact, from the user's bare address. The user's
    /// interested resources are not told: this is our answer, not theirs.
    AutoReply(Action),
    /// Hand the inbound stanza to the user's resources: `subscribe` to the available ones, the
    /// others to the interested ones. Nobody there: nothing to do (a `subscribe` is kept in
    /// [`Contact::pending_in`] and shown at each log-in until it is answered).
    Deliver,
    /// Roster push of the contact as it is now (or `subscription='remove'`) to all interested
    /// resources of the user.
    Push,
    /// Send this subscription stanza on to the contact, `from` stamped with the user's bare address
    /// and `to` with the contact's. If it is the one the user sent, its payload is kept.
    Route(Action),
    /// Send the current presence of each available resource, from its full address.
    SendPresence,
    /// Send `unavailable` from the full address of each available resource.
    SendUnavailable,
}

/// What an event does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Outcome {
    /// To the stored contact.
    pub change: Change,
    /// To others, in this order.
    pub effects: Vec<Effect>,
}

impl Outcome {
    /// From `current` to `after`, with `effects`; forgets a contact that nothing is left of.
    pub(super) fn new(
        current: Option<&Contact>,
        after: State,
        effects: impl IntoIterator<Item = Effect>,
    ) -> Self {
        let change = match (current, after) {
            (None, after) if after.is_forgettable() => Change::Unchanged,
            (Some(_), after) if after.is_forgettable() => Change::Remove,
            (current, after) => {
                let contact = after.into_contact();
                if current == Some(&contact) { Change::Unchanged } else { Change::Put(contact) }
            }
        };
        Self { change, effects: effects.into_iter().collect() }
    }
}

use gatehouse_store::Contact;
use gatehouse_types::Jid;

use super::outcome::{Action, Effect, Outcome};
use super::state::{Ours, State, Theirs};

/// The contact's server brings `action` from `contact` for the user (RFC 6121, A.3).
///
/// `current` is what the store holds of the contact; `stanza` is the stanza as it came, kept when it
/// is a request that waits for an answer.
pub(crate) fn inbound(
    current: Option<&Contact>,
    contact: &Jid,
    action: Action,
    stanza: &str,
) -> Outcome {
    let before = State::of(current, contact);
    match action {
        Action::Subscribe => subscribe(current, before, stanza),
        Action::Subscribed => subscribed(current, before),
        Action::Unsubscribe => unsubscribe(current, before),
        Action::Unsubscribed => unsubscribed(current, before),
    }
}

/// RFC 6121, 3.1.3 and A.3.1.
fn subscribe(current: Option<&Contact>, before: State, stanza: &str) -> Outcome {
    match before.theirs {
        // Approved before it asked (3.4): the user is not bothered, its resources see the new state.
        Theirs::None if before.approved => Outcome::new(
            current,
            State { theirs: Theirs::Granted, ..before },
            [Effect::AutoReply(Action::Subscribed), Effect::Push, Effect::SendPresence],
        ),
        Theirs::None => Outcome::new(
            current,
            State { theirs: Theirs::Asked(stanza.to_owned()), ..before },
            [Effect::Deliver],
        ),
        // Shown already; the first request is the one that is kept.
        Theirs::Asked(_) => Outcome::new(current, before, []),
        // The contact has lost our answer. Without its presence it would be no better off.
        Theirs::Granted => Outcome::new(
            current,
            before,
            [Effect::AutoReply(Action::Subscribed), Effect::SendPresence],
        ),
    }
}

/// RFC 6121, 3.1.6 and A.3.3: only who was asked can grant.
fn subscribed(current: Option<&Contact>, before: State) -> Outcome {
    match before.ours {
        Ours::Asked => Outcome::new(
            current,
            State { ours: Ours::Granted, ..before },
            [Effect::Deliver, Effect::Push],
        ),
        Ours::None | Ours::Granted => Outcome::new(current, before, []),
    }
}

/// RFC 6121, 3.3.3 and A.3.2.
fn unsubscribe(current: Option<&Contact>, before: State) -> Outcome {
    match before.theirs {
        Theirs::None => Outcome::new(current, before, []),
        Theirs::Asked(_) => {
            Outcome::new(current, State { theirs: Theirs::None, ..before }, [Effect::Deliver])
        }
        Theirs::Granted => Outcome::new(
            current,
            State { theirs: Theirs::None, ..before },
            [Effect::Deliver, Effect::Push, Effect::SendUnavailable],
        ),
    }
}

/// RFC 6121, 3.2.3 and A.3.4.
fn unsubscribed(current: Option<&Contact>, before: State) -> Outcome {
    match before.ours {
        Ours::None => Outcome::new(current, before, []),
        Ours::Asked | Ours::Granted => Outcome::new(
            current,
            State { ours: Ours::None, ..before },
            [Effect::Deliver, Effect::Push],
        ),
    }
}

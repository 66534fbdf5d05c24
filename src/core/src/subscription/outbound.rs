use gatehouse_store::Contact;
use gatehouse_types::Jid;

use super::outcome::{Action, Effect, Outcome};
use super::state::{Ours, State, Theirs};

/// The user sends `action` to `contact` (RFC 6121, A.2, and 3.4 for pre-approval).
///
/// `current` is what the store holds of the contact.
pub(crate) fn outbound(current: Option<&Contact>, contact: &Jid, action: Action) -> Outcome {
    let before = State::of(current, contact);
    match action {
        Action::Subscribe => subscribe(current, before),
        Action::Subscribed => subscribed(current, before),
        Action::Unsubscribe => unsubscribe(current, before),
        Action::Unsubscribed => unsubscribed(current, before),
    }
}

/// RFC 6121, 3.1.2 and A.2.1: always sent on, so that a lost request can be repeated.
fn subscribe(current: Option<&Contact>, before: State) -> Outcome {
    let route = Effect::Route(Action::Subscribe);
    match before.ours {
        Ours::None => Outcome::new(
            current,
            State { in_roster: true, ours: Ours::Asked, ..before },
            [route, Effect::Push],
        ),
        Ours::Asked | Ours::Granted => Outcome::new(current, before, [route]),
    }
}

/// RFC 6121, 3.1.5 and A.2.3: sent on only if the contact asked, else it is a pre-approval (3.4.2).
fn subscribed(current: Option<&Contact>, before: State) -> Outcome {
    match before.theirs {
        Theirs::None if before.approved => Outcome::new(current, before, []),
        Theirs::None => Outcome::new(
            current,
            State { in_roster: true, approved: true, ..before },
            [Effect::Push],
        ),
        Theirs::Asked(_) => Outcome::new(
            current,
            State { in_roster: true, theirs: Theirs::Granted, ..before },
            [Effect::Route(Action::Subscribed), Effect::Push, Effect::SendPresence],
        ),
        Theirs::Granted => Outcome::new(current, before, []),
    }
}

/// RFC 6121, 3.3.2 and A.2.2: always sent on, so that both sides can be brought to agree.
fn unsubscribe(current: Option<&Contact>, before: State) -> Outcome {
    let route = Effect::Route(Action::Unsubscribe);
    match before.ours {
        Ours::None => Outcome::new(current, before, [route]),
        Ours::Asked | Ours::Granted => {
            Outcome::new(current, State { ours: Ours::None, ..before }, [route, Effect::Push])
        }
    }
}

/// RFC 6121, 3.2.2 and A.2.4: also takes a pre-approval back (3.4.2).
fn unsubscribed(current: Option<&Contact>, before: State) -> Outcome {
    let had_approval = before.approved;
    let route = Effect::Route(Action::Unsubscribed);
    let effects = match before.theirs {
        Theirs::None if had_approval => vec![Effect::Push],
        Theirs::None => vec![],
        // A request is not in the roster: nothing changes there unless an approval goes with it.
        Theirs::Asked(_) if had_approval => vec![route, Effect::Push],
        Theirs::Asked(_) => vec![route],
        // The last presence goes out while the contact still may see it.
        Theirs::Granted => vec![Effect::SendUnavailable, route, Effect::Push],
    };
    Outcome::new(current, State { approved: false, theirs: Theirs::None, ..before }, effects)
}

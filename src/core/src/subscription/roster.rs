use gatehouse_store::Contact;
use gatehouse_types::Jid;

use super::outcome::{Action, Change, Effect, Outcome};
use super::state::{Ours, State, Theirs};

/// The user asked to remove what is not in its roster: answer `item-not-found` (RFC 6121, 2.5.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotInRoster;

/// The user adds a contact or changes its name or groups (RFC 6121, 2.3 and 2.4).
///
/// The caller has checked the request (no duplicate or empty group, lengths, number of contacts).
/// A request that waits for an answer stays; so does every subscription.
pub(crate) fn roster_set(
    current: Option<&Contact>,
    contact: &Jid,
    name: Option<&str>,
    groups: &[String],
) -> Outcome {
    let after = State {
        in_roster: true,
        name: name.filter(|name| !name.is_empty()).map(str::to_owned),
        groups: groups.to_vec(),
        ..State::of(current, contact)
    };
    // Pushed even if nothing changed: a client waits for the push to see its request done.
    Outcome { change: Change::Put(after.into_contact()), effects: vec![Effect::Push] }
}

/// The user removes a contact (RFC 6121, 2.5): all subscriptions in both directions end.
pub(crate) fn roster_remove(current: Option<&Contact>) -> Result<Outcome, NotInRoster> {
    let Some(contact) = current.filter(|contact| contact.in_roster) else {
        return Err(NotInRoster);
    };
    let before = State::of(Some(contact), &contact.jid);
    let mut effects = Vec::new();
    if before.theirs == Theirs::Granted {
        effects.push(Effect::SendUnavailable);
    }
    if before.ours != Ours::None {
        effects.push(Effect::Route(Action::Unsubscribe));
    }
    // A request that waits is denied: nothing must be left of a contact that the user removed.
    if before.theirs != Theirs::None {
        effects.push(Effect::Route(Action::Unsubscribed));
    }
    effects.push(Effect::Push);
    Ok(Outcome { change: Change::Remove, effects })
}

use gatehouse_store::{Contact, Subscription};
use gatehouse_types::Jid;

use super::{Action, Change, Effect, NotInRoster, Outcome, inbound, outbound};
use super::{roster_remove, roster_set};

const REQUEST: &str = "<presence type='subscribe' id='first'/>";
const OTHER_REQUEST: &str = "<presence type='subscribe' id='second'/>";

fn jid() -> Jid {
    "romeo@theirs.example".parse().unwrap()
}

/// The contact in one of the nine states of RFC 6121, A.1, all in the roster.
fn in_state(subscription: Subscription, pending_out: bool, pending_in: bool) -> Contact {
    Contact {
        jid: jid(),
        in_roster: true,
        name: Some("Romeo".to_owned()),
        subscription,
        pending_out,
        pending_in: pending_in.then(|| REQUEST.to_owned()),
        approved: false,
        groups: vec!["Friends".to_owned()],
    }
}

/// In the order of RFC 6121.
fn states() -> [Contact; 9] {
    use Subscription::{Both, From, None, To};
    [
        in_state(None, false, false),
        in_state(None, true, false),
        in_state(None, false, true),
        in_state(None, true, true),
        in_state(To, false, false),
        in_state(To, false, true),
        in_state(From, false, false),
        in_state(From, true, false),
        in_state(Both, false, false),
    ]
}

/// The RFC's name of the state, with `approved` and with what is not in the roster in brackets.
fn name(contact: Option<&Contact>) -> String {
    let Some(contact) = contact else {
        return "(unknown)".to_owned();
    };
    let pending = match (contact.pending_out, contact.pending_in.is_some()) {
        (false, false) => "",
        (true, false) => "+Out",
        (false, true) => "+In",
        (true, true) => "+Out+In",
    };
    let approved = if contact.approved { " approved" } else { "" };
    let name = format!("{:?}{pending}{approved}", contact.subscription);
    if contact.in_roster { name } else { format!("({name})") }
}

/// What is stored after `outcome`.
fn after(current: Option<&Contact>, outcome: &Outcome) -> Option<Contact> {
    match &outcome.change {
        Change::Unchanged => current.cloned(),
        Change::Put(contact) => Some(contact.clone()),
        Change::Remove => None,
    }
}

fn effects(effects: &[Effect]) -> String {
    let words: Vec<String> = effects
        .iter()
        .map(|effect| match effect {
            Effect::AutoReply(action) => format!("reply:{}", action.as_str()),
            Effect::Deliver => "deliver".to_owned(),
            Effect::Push => "push".to_owned(),
            Effect::Route(action) => format!("route:{}", action.as_str()),
            Effect::SendPresence => "presence".to_owned(),
            Effect::SendUnavailable => "unavailable".to_owned(),
        })
        .collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

fn row(current: Option<&Contact>, outcome: &Outcome) -> String {
    let next = match after(current, outcome) {
        same if same.as_ref() == current => "=".to_owned(),
        next => name(next.as_ref()),
    };
    format!("{:<14} | {next:<14} | {}\n", name(current), effects(&outcome.effects))
}

fn table(step: impl Fn(&Contact) -> Outcome) -> String {
    states().iter().map(|state| row(Some(state), &step(state))).collect()
}

fn table_of_outbound(action: Action) -> String {
    table(|state| outbound(Some(state), &jid(), action))
}

fn table_of_inbound(action: Action) -> String {
    table(|state| inbound(Some(state), &jid(), action, OTHER_REQUEST))
}

/// Compares tables line by line, however they are aligned.
#[track_caller]
fn assert_table(table: &str, want: &str) {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(words).filter(|line| !line.is_empty()).collect()
    };
    assert_eq!(lines(table), lines(want), "\n{table}");
}

mod appendix_a2_outbound {
    use super::*;

    /// A.2.1: MUST be routed in every state.
    #[test]
    fn subscribe() {
        assert_table(
            &table_of_outbound(Action::Subscribe),
            "
            None           | None+Out       | route:subscribe push
            None+Out       | =              | route:subscribe
            None+In        | None+Out+In    | route:subscribe push
            None+Out+In    | =              | route:subscribe
            To             | =              | route:subscribe
            To+In          | =              | route:subscribe
            From           | From+Out       | route:subscribe push
            From+Out       | =              | route:subscribe
            Both           | =              | route:subscribe
            ",
        );
    }

    /// A.2.2: MUST be routed in every state.
    #[test]
    fn unsubscribe() {
        assert_table(
            &table_of_outbound(Action::Unsubscribe),
            "
            None           | =              | route:unsubscribe
            None+Out       | None           | route:unsubscribe push
            None+In        | =              | route:unsubscribe
            None+Out+In    | None+In        | route:unsubscribe push
            To             | None           | route:unsubscribe push
            To+In          | None+In        | route:unsubscribe push
            From           | =              | route:unsubscribe
            From+Out       | From           | route:unsubscribe push
            Both           | From           | route:unsubscribe push
            ",
        );
    }

    /// A.2.3: MUST be routed with a request pending, MUST NOT otherwise; then it is a pre-approval
    /// (3.4.2), unless the contact has the subscription already.
    #[test]
    fn subscribed() {
        assert_table(
            &table_of_outbound(Action::Subscribed),
            "
            None           | None approved     | push
            None+Out       | None+Out approved | push
            None+In        | From              | route:subscribed push presence
            None+Out+In    | From+Out          | route:subscribed push presence
            To             | To approved       | push
            To+In          | Both              | route:subscribed push presence
            From           | =                 | -
            From+Out       | =                 | -
            Both           | =                 | -
            ",
        );
    }

    /// A.2.4: MUST NOT be routed to whom nothing was granted or asked.
    #[test]
    fn unsubscribed() {
        assert_table(
            &table_of_outbound(Action::Unsubscribed),
            "
            None           | =              | -
            None+Out       | =              | -
            None+In        | None           | route:unsubscribed
            None+Out+In    | None+Out       | route:unsubscribed
            To             | =              | -
            To+In          | To             | route:unsubscribed
            From           | None           | unavailable route:unsubscribed push
            From+Out       | None+Out       | unavailable route:unsubscribed push
            Both           | To             | unavailable route:unsubscribed push
            ",
        );
    }
}

mod appendix_a3_inbound {
    use super::*;

    /// A.3.1: MUST be delivered once; who has the subscription gets the answer from the server.
    #[test]
    fn subscribe() {
        assert_table(
            &table_of_inbound(Action::Subscribe),
            "
            None           | None+In        | deliver
            None+Out       | None+Out+In    | deliver
            None+In        | =              | -
            None+Out+In    | =              | -
            To             | To+In          | deliver
            To+In          | =              | -
            From           | =              | reply:subscribed presence
            From+Out       | =              | reply:subscribed presence
            Both           | =              | reply:subscribed presence
            ",
        );
    }

    /// A.3.2: MUST be delivered when it ends something.
    #[test]
    fn unsubscribe() {
        assert_table(
            &table_of_inbound(Action::Unsubscribe),
            "
            None           | =              | -
            None+Out       | =              | -
            None+In        | None           | deliver
            None+Out+In    | None+Out       | deliver
            To             | =              | -
            To+In          | To             | deliver
            From           | None           | deliver push unavailable
            From+Out       | None+Out       | deliver push unavailable
            Both           | To             | deliver push unavailable
            ",
        );
    }

    /// A.3.3: MUST be delivered when we asked, MUST NOT otherwise: nobody puts itself in a roster.
    #[test]
    fn subscribed() {
        assert_table(
            &table_of_inbound(Action::Subscribed),
            "
            None           | =              | -
            None+Out       | To             | deliver push
            None+In        | =              | -
            None+Out+In    | To+In          | deliver push
            To             | =              | -
            To+In          | =              | -
            From           | =              | -
            From+Out       | Both           | deliver push
            Both           | =              | -
            ",
        );
    }

    /// A.3.4: MUST be delivered when it ends something.
    #[test]
    fn unsubscribed() {
        assert_table(
            &table_of_inbound(Action::Unsubscribed),
            "
            None           | =              | -
            None+Out       | None           | deliver push
            None+In        | =              | -
            None+Out+In    | None+In        | deliver push
            To             | None           | deliver push
            To+In          | None+In        | deliver push
            From           | =              | -
            From+Out       | From           | deliver push
            Both           | From           | deliver push
            ",
        );
    }
}

const ACTIONS: [Action; 4] =
    [Action::Subscribe, Action::Subscribed, Action::Unsubscribe, Action::Unsubscribed];

/// All eight stanzas, out and in, for one state.
fn all_stanzas(current: Option<&Contact>) -> String {
    let out = ACTIONS.map(|action| {
        let outcome = outbound(current, &jid(), action);
        format!("out {:<12} | {}", action.as_str(), row(current, &outcome))
    });
    let in_ = ACTIONS.map(|action| {
        let outcome = inbound(current, &jid(), action, REQUEST);
        format!("in  {:<12} | {}", action.as_str(), row(current, &outcome))
    });
    out.concat() + &in_.concat()
}

mod outside_the_roster {
    use super::*;

    #[test]
    fn an_unknown_contact() {
        assert_table(
            &all_stanzas(None),
            "
            out subscribe    | (unknown)      | None+Out       | route:subscribe push
            out subscribed   | (unknown)      | None approved  | push
            out unsubscribe  | (unknown)      | =              | route:unsubscribe
            out unsubscribed | (unknown)      | =              | -
            in  subscribe    | (unknown)      | (None+In)      | deliver
            in  subscribed   | (unknown)      | =              | -
            in  unsubscribe  | (unknown)      | =              | -
            in  unsubscribed | (unknown)      | =              | -
            ",
        );
    }

    /// It enters the roster only by what the user does, and leaves no trace when it is denied or
    /// taken back.
    #[test]
    fn a_request() {
        let stranger = Contact {
            in_roster: false,
            name: None,
            groups: vec![],
            ..in_state(Subscription::None, false, true)
        };
        assert_table(
            &all_stanzas(Some(&stranger)),
            "
            out subscribe    | (None+In)      | None+Out+In    | route:subscribe push
            out subscribed   | (None+In)      | From           | route:subscribed push presence
            out unsubscribe  | (None+In)      | =              | route:unsubscribe
            out unsubscribed | (None+In)      | (unknown)      | route:unsubscribed
            in  subscribe    | (None+In)      | =              | -
            in  subscribed   | (None+In)      | =              | -
            in  unsubscribe  | (None+In)      | (unknown)      | deliver
            in  unsubscribed | (None+In)      | =              | -
            ",
        );
    }

    #[test]
    fn a_new_contact_has_the_bare_address() {
        let full: Jid = "romeo@theirs.example/orchard".parse().unwrap();
        let outcome = outbound(None, &full, Action::Subscribe);
        assert_eq!(after(None, &outcome).unwrap().jid, jid());
        let outcome = inbound(None, &full, Action::Subscribe, REQUEST);
        assert_eq!(after(None, &outcome).unwrap().jid, jid());
    }
}

mod pre_approval {
    use super::*;

    fn approved(contact: Contact) -> Contact {
        Contact { approved: true, ..contact }
    }

    /// 3.4.2: a request is granted without asking; taking the approval back tells the contact
    /// nothing.
    #[test]
    fn of_a_contact_in_no_state() {
        assert_table(
            &all_stanzas(Some(&approved(in_state(Subscription::None, false, false)))),
            "
            out subscribe    | None approved  | None+Out approved | route:subscribe push
            out subscribed   | None approved  | =              | -
            out unsubscribe  | None approved  | =              | route:unsubscribe
            out unsubscribed | None approved  | None           | push
            in  subscribe    | None approved  | From approved  | reply:subscribed push presence
            in  subscribed   | None approved  | =              | -
            in  unsubscribe  | None approved  | =              | -
            in  unsubscribed | None approved  | =              | -
            ",
        );
    }

    #[test]
    fn outlives_what_the_contact_does_but_not_a_cancellation() {
        assert_table(
            &all_stanzas(Some(&approved(in_state(Subscription::Both, false, false)))),
            "
            out subscribe    | Both approved  | =              | route:subscribe
            out subscribed   | Both approved  | =              | -
            out unsubscribe  | Both approved  | From approved  | route:unsubscribe push
            out unsubscribed | Both approved  | To             | unavailable route:unsubscribed push
            in  subscribe    | Both approved  | =              | reply:subscribed presence
            in  subscribed   | Both approved  | =              | -
            in  unsubscribe  | Both approved  | To approved    | deliver push unavailable
            in  unsubscribed | Both approved  | From approved  | deliver push
            ",
        );
    }

    #[test]
    fn with_our_own_request_pending() {
        let waiting = approved(in_state(Subscription::None, true, false));
        let outcome = inbound(Some(&waiting), &jid(), Action::Subscribe, REQUEST);
        assert_table(
            &row(Some(&waiting), &outcome),
            "None+Out approved | From+Out approved | reply:subscribed push presence",
        );
        assert_eq!(after(Some(&waiting), &outcome).unwrap().pending_in, None);
    }
}

mod requests {
    use super::*;

    #[test]
    fn the_first_is_kept_as_it_came() {
        let first = after(None, &inbound(None, &jid(), Action::Subscribe, REQUEST));
        assert_eq!(first.as_ref().unwrap().pending_in.as_deref(), Some(REQUEST));
        let again = inbound(first.as_ref(), &jid(), Action::Subscribe, OTHER_REQUEST);
        assert_eq!(again, Outcome { change: Change::Unchanged, effects: vec![] });
    }

    #[test]
    fn answering_keeps_the_name_and_the_groups() {
        for action in [Action::Subscribed, Action::Unsubscribed] {
            let asked = in_state(Subscription::To, false, true);
            let answered = after(Some(&asked), &outbound(Some(&asked), &jid(), action)).unwrap();
            assert_eq!((answered.name, answered.groups), (asked.name, asked.groups));
            assert_eq!(answered.pending_in, None);
        }
    }
}

mod roster {
    use super::*;

    fn friends() -> Vec<String> {
        vec!["Friends".to_owned()]
    }

    #[test]
    fn setting_changes_no_subscription() {
        assert_table(
            &table(|state| roster_set(Some(state), &jid(), None, &[])),
            "
            None           | None           | push
            None+Out       | None+Out       | push
            None+In        | None+In        | push
            None+Out+In    | None+Out+In    | push
            To             | To             | push
            To+In          | To+In          | push
            From           | From           | push
            From+Out       | From+Out       | push
            Both           | Both           | push
            ",
        );
        for state in states() {
            let outcome = roster_set(Some(&state), &jid(), Some("R."), &[]);
            let want = Contact { name: Some("R.".to_owned()), groups: vec![], ..state };
            assert_eq!(outcome.change, Change::Put(want));
        }
    }

    #[test]
    fn setting_an_unknown_contact_adds_it() {
        let outcome = roster_set(None, &jid(), Some("Romeo"), &friends());
        let want = in_state(Subscription::None, false, false);
        assert_eq!(outcome, Outcome { change: Change::Put(want), effects: vec![Effect::Push] });
        let unnamed = after(None, &roster_set(None, &jid(), Some(""), &[])).unwrap();
        assert_eq!(unnamed.name, None);
    }

    #[test]
    fn setting_who_has_asked_keeps_the_request() {
        let stranger = after(None, &inbound(None, &jid(), Action::Subscribe, REQUEST)).unwrap();
        let outcome = roster_set(Some(&stranger), &jid(), Some("Romeo"), &friends());
        assert_eq!(outcome.change, Change::Put(in_state(Subscription::None, false, true)));
    }

    #[test]
    fn removing_ends_both_directions() {
        assert_table(
            &table(|state| roster_remove(Some(state)).unwrap()),
            "
            None           | (unknown)      | push
            None+Out       | (unknown)      | route:unsubscribe push
            None+In        | (unknown)      | route:unsubscribed push
            None+Out+In    | (unknown)      | route:unsubscribe route:unsubscribed push
            To             | (unknown)      | route:unsubscribe push
            To+In          | (unknown)      | route:unsubscribe route:unsubscribed push
            From           | (unknown)      | unavailable route:unsubscribed push
            From+Out       | (unknown)      | unavailable route:unsubscribe route:unsubscribed push
            Both           | (unknown)      | unavailable route:unsubscribe route:unsubscribed push
            ",
        );
    }

    #[test]
    fn only_what_is_in_the_roster_can_be_removed() {
        let stranger = after(None, &inbound(None, &jid(), Action::Subscribe, REQUEST));
        assert_eq!(roster_remove(None), Err(NotInRoster));
        assert_eq!(roster_remove(stranger.as_ref()), Err(NotInRoster));
    }
}

#[test]
fn types_are_the_four_of_the_rfc() {
    for action in ACTIONS {
        assert_eq!(Action::from_type(action.as_str()), Some(action));
    }
    for other in ["", "probe", "unavailable", "error", "Subscribe", "subscribe "] {
        assert_eq!(Action::from_type(other), None, "{other}");
    }
}

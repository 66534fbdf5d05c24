//! What holds whatever users and servers do, in any order.

use std::collections::VecDeque;

use gatehouse_store::{Contact, Subscription};
use gatehouse_types::Jid;
use proptest::prelude::*;

use super::{Action, Change, Effect, Outcome, inbound, outbound, roster_remove, roster_set};

/// What can happen to a contact.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The user sends a stanza.
    Out(Action),
    /// The user changes name and groups.
    Set,
    /// The user removes the contact.
    Remove,
    /// The contact's server brings a stanza.
    In(Action),
}

fn any_action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![
        Action::Subscribe,
        Action::Subscribed,
        Action::Unsubscribe,
        Action::Unsubscribed,
    ])
}

/// What a user can do.
fn any_deed() -> impl Strategy<Value = Event> {
    prop_oneof![6 => any_action().prop_map(Event::Out), 1 => Just(Event::Set), 1 => Just(Event::Remove)]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![any_deed(), any_action().prop_map(Event::In)]
}

/// One user with one contact.
#[derive(Clone, Debug, Default)]
struct User(Option<Contact>);

impl User {
    /// Lets `event` happen, checks the outcome, and returns the effects.
    fn meet(&mut self, event: Event) -> Vec<Effect> {
        let jid: Jid = "romeo@theirs.example".parse().unwrap();
        let current = self.0.as_ref();
        let outcome = match event {
            Event::Out(action) => outbound(current, &jid, action),
            Event::In(action) => inbound(current, &jid, action, "<presence type='subscribe'/>"),
            Event::Set => roster_set(current, &jid, Some("Romeo"), &["Friends".to_owned()]),
            Event::Remove => match roster_remove(current) {
                Ok(outcome) => outcome,
                Err(_) => return Vec::new(),
            },
        };
        let Outcome { change, effects } = outcome;
        let before = self.clone();
        match change {
            Change::Unchanged => assert!(!effects.contains(&Effect::Push)),
            Change::Put(contact) => self.0 = Some(contact),
            Change::Remove => {
                assert!(self.0.is_some(), "nothing to remove");
                self.0 = None;
            }
        }
        self.check_state();
        check_effects(event, &before, self, &effects);
        effects
    }

    /// One of the nine states, and nothing kept that means nothing.
    fn check_state(&self) {
        let Some(contact) = &self.0 else {
            return;
        };
        assert!(contact.jid.is_bare());
        assert!(!(self.sees() && contact.pending_out), "{contact:?}");
        assert!(!(self.is_seen() && contact.pending_in.is_some()), "{contact:?}");
        if !contact.in_roster {
            assert_eq!(contact.subscription, Subscription::None);
            assert!(!contact.pending_out && !contact.approved && contact.name.is_none());
            assert!(contact.pending_in.is_some() && contact.groups.is_empty());
        }
    }

    /// We have a subscription to the contact.
    fn sees(&self) -> bool {
        let subscription = self.0.as_ref().map(|contact| contact.subscription);
        matches!(subscription, Some(Subscription::To | Subscription::Both))
    }

    /// The contact has a subscription to us.
    fn is_seen(&self) -> bool {
        let subscription = self.0.as_ref().map(|contact| contact.subscription);
        matches!(subscription, Some(Subscription::From | Subscription::Both))
    }

    fn asks(&self) -> bool {
        self.0.as_ref().is_some_and(|contact| contact.pending_out)
    }

    fn is_asked(&self) -> bool {
        self.0.as_ref().is_some_and(|contact| contact.pending_in.is_some())
    }

    /// The roster item that clients see.
    fn item(&self) -> Option<Contact> {
        let contact = self.0.as_ref().filter(|contact| contact.in_roster)?;
        Some(Contact { pending_in: None, ..contact.clone() })
    }
}

fn check_effects(event: Event, before: &User, after: &User, effects: &[Effect]) {
    let has = |wanted: Effect| effects.contains(&wanted);
    if !matches!(event, Event::Set) {
        assert_eq!(has(Effect::Push), before.item() != after.item(), "push what has changed");
    }
    assert!(!has(Effect::SendPresence) || after.is_seen(), "presence without leave");
    let ended = before.is_seen() && !after.is_seen();
    assert_eq!(has(Effect::SendUnavailable), ended, "unavailable exactly when it ends");
    for effect in effects {
        match (event, effect) {
            (Event::In(_), Effect::Route(_)) => panic!("a stanza is not sent back: {effects:?}"),
            (Event::In(Action::Subscribe), Effect::AutoReply(Action::Subscribed)) => {}
            (_, Effect::AutoReply(_)) => panic!("an answer without a question: {effects:?}"),
            (Event::Out(_) | Event::Set | Event::Remove, Effect::Deliver) => {
                panic!("nothing came in: {effects:?}");
            }
            (_, _) => {}
        }
    }
}

/// Two users at two servers, each the other's contact, and what is on the way between them.
#[derive(Debug, Default)]
struct Pair {
    users: [User; 2],
    /// To the user of the same index, in order.
    links: [VecDeque<Action>; 2],
}

impl Pair {
    fn meet(&mut self, who: usize, event: Event) {
        for effect in self.users[who].meet(event) {
            if let Effect::Route(action) | Effect::AutoReply(action) = effect {
                self.links[1 - who].push_back(action);
            }
        }
    }

    /// Hands the oldest stanza that is on the way to `who` over.
    fn arrive(&mut self, who: usize) {
        if let Some(action) = self.links[who].pop_front() {
            self.meet(who, Event::In(action));
        }
    }

    /// Until nothing is on the way. Two servers must never keep each other busy.
    fn settle(&mut self) {
        let on_the_way = self.links[0].len() + self.links[1].len();
        // At most one answer for each.
        for _ in 0..=on_the_way {
            self.arrive(0);
            self.arrive(1);
        }
        assert!(self.links.iter().all(VecDeque::is_empty), "endless: {self:?}");
    }

    fn check_agreement(&self) {
        for (me, other) in [(0, 1), (1, 0)] {
            let (me, other) = (&self.users[me], &self.users[other]);
            assert_eq!((me.sees(), me.asks()), (other.is_seen(), other.is_asked()), "{self:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_sequence_leaves_the_nine_states(events in prop::collection::vec(any_event(), 0..40)) {
        let mut user = User::default();
        for event in events {
            user.meet(event);
        }
    }

    /// As long as each stanza arrives before the next deed, both sides believe the same.
    #[test]
    fn both_sides_agree(deeds in prop::collection::vec((0..2_usize, any_deed()), 0..40)) {
        let mut pair = Pair::default();
        for (who, deed) in deeds {
            pair.meet(who, deed);
            pair.settle();
            pair.check_agreement();
        }
    }

    /// When stanzas cross, the sides may differ: an answer does not say which request it is for. An
    /// `unsubscribe`, which is always sent on, brings them together again, and a new subscription
    /// works.
    #[test]
    fn crossing_stanzas_can_be_repaired(
        steps in prop::collection::vec((0..2_usize, prop::option::of(any_deed())), 0..60),
    ) {
        let mut pair = Pair::default();
        for (who, deed) in steps {
            match deed {
                Some(deed) => pair.meet(who, deed),
                None => pair.arrive(who),
            }
        }
        pair.settle();
        for who in [0, 1] {
            pair.meet(who, Event::Out(Action::Unsubscribe));
            pair.settle();
        }
        pair.check_agreement();
        for who in [0, 1] {
            pair.meet(who, Event::Out(Action::Subscribe));
            pair.settle();
            pair.meet(1 - who, Event::Out(Action::Subscribed));
            pair.settle();
        }
        pair.check_agreement();
        prop_assert!(pair.users.iter().all(|user| user.sees() && user.is_seen()));
    }
}

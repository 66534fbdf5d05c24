//! What a client is not sent at once: because nobody looks at it (XEP-0352), or because it is away
//! and may come back (XEP-0198).

use std::collections::{BTreeMap, HashMap};

use gatehouse_types::Jid;
use gatehouse_xmpp::{Element, Payload, Stanza, StanzaKind, ns};

use crate::outbox::Outgoing;

/// Chat states (XEP-0085).
const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// Processing hints (XEP-0334).
const HINTS: &str = "urn:xmpp:hints";
/// Stanza ids (XEP-0359).
const STANZA_IDS: &str = "urn:xmpp:sid:0";
/// Events of nodes, PEP's too (XEP-0060).
const EVENTS: &str = "http://jabber.org/protocol/pubsub#event";

/// Held back for a client that nobody looks at; one more, and all goes out.
const PASSING_LEN_MAX: usize = 256;
/// And their weight together: others choose how long their presence is.
const PASSING_WEIGHT_MAX: usize = 1 << 20;
/// Kept for a client that is away.
const AWAY_LEN_MAX: usize = 1000;
/// And their weight together.
const AWAY_WEIGHT_MAX: usize = 2 << 20;

/// What a later stanza replaces. Events replace each other if they are about the same item: each of
/// several bookmarks is worth knowing.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Key {
    Presence(Jid),
    ChatState(Jid),
    Event(Jid, String, Option<String>),
}

/// A stanza that waits.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) item: Outgoing,
    /// When it came, Unix milliseconds, if the client was away.
    pub(crate) at_ms: Option<i64>,
    key: Option<Key>,
    weight: usize,
}

/// Stanzas that wait, in the order in which they are to be sent.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    next: u64,
    waiting: BTreeMap<u64, Held>,
    latest: HashMap<Key, u64>,
    weight: usize,
}

impl Backlog {
    /// Takes a stanza for a client that nobody looks at; gives what must be sent now. What is worth
    /// waking somebody up brings along what its author sent before, so that order holds for each
    /// pair.
    pub(crate) fn filter(&mut self, item: Outgoing) -> Vec<Outgoing> {
        if let Some(key) = key(&item.stanza) {
            let weight = item.stanza.weight();
            self.insert(item, Some(key), None, weight);
            let full = self.waiting.len() > PASSING_LEN_MAX || self.weight > PASSING_WEIGHT_MAX;
            return if full { self.take_all().map(|held| held.item).collect() } else { Vec::new() };
        }
        if self.waiting.is_empty() {
            return vec![item];
        }
        let mut due: Vec<Outgoing> = match item.stanza.from() {
            Some(from) => self.take_from(from),
            None => Vec::new(),
        };
        due.push(item);
        due
    }

    /// Takes a stanza for a client that is away. False if there is too much of it now.
    pub(crate) fn keep(&mut self, item: Outgoing, at_ms: i64) -> bool {
        let (key, weight) = (key(&item.stanza), item.stanza.weight());
        self.insert(item, key, Some(at_ms), weight);
        self.waiting.len() <= AWAY_LEN_MAX && self.weight <= AWAY_WEIGHT_MAX
    }

    /// How much memory it takes, about.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// All that waits, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Outgoing> {
        self.waiting.values().map(|held| &held.item)
    }

    /// Takes all that waits, oldest first.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Held> + use<> {
        self.latest.clear();
        self.weight = 0;
        std::mem::take(&mut self.waiting).into_values()
    }

    fn insert(&mut self, item: Outgoing, key: Option<Key>, at_ms: Option<i64>, weight: usize) {
        let number = self.next;
        self.next += 1;
        let older = key.clone().and_then(|key| self.latest.insert(key, number));
        if let Some(older) = older.and_then(|older| self.waiting.remove(&older)) {
            // It says nothing any more; whatever is owed for it is released.
            self.weight -= older.weight;
            older.item.copies.written();
        }
        self.weight += weight;
        self.waiting.insert(number, Held { item, at_ms, key, weight });
    }

    /// What waits from that user, oldest first.
    fn take_from(&mut self, from: &Jid) -> Vec<Outgoing> {
        let is_theirs = |held: &Held| held.item.stanza.from().is_some_and(|it| it.same_bare(from));
        let theirs = self.waiting.iter().filter(|(_, held)| is_theirs(held));
        let numbers: Vec<u64> = theirs.map(|(number, _)| *number).collect();
        let mut taken = Vec::with_capacity(numbers.len());
        for number in numbers {
            let Some(held) = self.waiting.remove(&number) else { continue };
            if let Some(key) = &held.key {
                self.latest.remove(key);
            }
            self.weight -= held.weight;
            taken.push(held.item);
        }
        taken
    }
}

/// `None` for what is worth waking somebody up.
fn key(stanza: &Stanza) -> Option<Key> {
    let from = stanza.from()?;
    match stanza.kind() {
        StanzaKind::Presence if matches!(stanza.type_(), None | Some("unavailable")) => {
            Some(Key::Presence(from.clone()))
        }
        StanzaKind::Message if stanza.type_() != Some("error") => {
            // Most messages need no look inside.
            let is_known = |payload: Payload<'_>| {
                [ns::CARBONS, CHAT_STATES, EVENTS].iter().any(|name| payload.has_ns(name))
            };
            if !stanza.payloads().any(is_known) {
                return None;
            }
            let message = stanza.element();
            if let Some((author, copied)) = carbon(message) {
                return is_chat_state(copied).then_some(Key::ChatState(author));
            }
            if is_chat_state(message) {
                return Some(Key::ChatState(from.clone()));
            }
            let event = message.get_child("event", EVENTS)?;
            if message.children().any(|child| child.is("body", ns::CLIENT)) {
                return None;
            }
            let what = event.children().next()?;
            let node = what.attr("node")?.to_owned();
            let mut items = what.children();
            match (items.next(), items.next()) {
                // The node itself was emptied or removed.
                (None, _) => Some(Key::Event(from.clone(), node, None)),
                (Some(item), None) => {
                    Some(Key::Event(from.clone(), node, Some(item.attr("id")?.to_owned())))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Who wrote the message that this one is a carbon of, and what.
fn carbon(message: &Element) -> Option<(Jid, &Element)> {
    let copy = message.children().find(|child| child.has_ns(ns::CARBONS))?;
    let copied = copy.get_child("forwarded", ns::FORWARD)?.get_child("message", ns::CLIENT)?;
    Some((copied.attr("from")?.parse().ok()?, copied))
}

fn is_chat_state(message: &Element) -> bool {
    let mut states = false;
    message.children().all(|child| {
        let namespace = child.ns();
        states |= namespace == CHAT_STATES;
        child.name() == "thread" || [CHAT_STATES, HINTS, STANZA_IDS].contains(&namespace.as_str())
    }) && states
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(xml: &str) -> Outgoing {
        Outgoing::new(crate::tests::stanza(xml))
    }

    fn shown(items: Vec<Outgoing>) -> Vec<String> {
        items.iter().map(|item| crate::tests::show(&item.stanza)).collect()
    }

    #[test]
    fn only_the_last_of_each_contact_waits() {
        let mut backlog = Backlog::default();
        for xml in [
            "<presence from='a@x.example/1'/>",
            "<presence from='b@x.example/1'/>",
            "<presence from='a@x.example/2'/>",
            "<presence from='a@x.example/1' type='unavailable'/>",
            "<message from='a@x.example/1'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
            "<message from='a@x.example/1'><paused xmlns='http://jabber.org/protocol/chatstates'/></message>",
        ] {
            assert!(backlog.filter(item(xml)).is_empty(), "{xml}");
        }
        // The message brings along what its author said, and nothing of others.
        assert_eq!(
            shown(backlog.filter(item("<message from='a@x.example/9'><body>!</body></message>"))),
            [
                "presence a@x.example/2 >",
                "presence:unavailable a@x.example/1 >",
                "message a@x.example/1 > [paused]",
                "message a@x.example/9 > [body \"!\"]",
            ]
        );
        let left = backlog.take_all().map(|held| held.item).collect();
        assert_eq!(shown(left), ["presence b@x.example/1 >"]);
    }

    #[test]
    fn what_wakes_somebody_up() {
        for (xml, wakes) in [
            ("<presence from='a@x.example' type='subscribe'/>", true),
            ("<presence from='a@x.example/1' type='error'/>", true),
            ("<iq from='a@x.example/1' type='get' id='1'/>", true),
            ("<message from='a@x.example/1' type='error'/>", true),
            (
                "<message from='a@x.example/1'><received xmlns='urn:xmpp:receipts' id='1'/></message>",
                true,
            ),
            (
                "<message from='a@x.example/1'><body>x</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>",
                true,
            ),
            (
                "<message from='a@x.example/1'><event xmlns='http://jabber.org/protocol/pubsub#event'><items node='n'/></event></message>",
                false,
            ),
            (
                "<message from='me@x.example'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='me@x.example/2'><body>x</body></message></forwarded></sent></message>",
                true,
            ),
            (
                "<message from='me@x.example'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='me@x.example/2'><active xmlns='http://jabber.org/protocol/chatstates'/></message></forwarded></sent></message>",
                false,
            ),
        ] {
            assert_eq!(Backlog::default().filter(item(xml)).len(), usize::from(wakes), "{xml}");
        }
    }

    #[test]
    fn each_item_of_a_node_is_told_as_it_is_at_last() {
        let event = |inside: &str| {
            item(&format!(
                "<message from='a@x.example' type='headline'>\
                 <event xmlns='http://jabber.org/protocol/pubsub#event'>\
                 <items node='n'>{inside}</items></event></message>"
            ))
        };
        let mut backlog = Backlog::default();
        for inside in ["<item id='1'/>", "<item id='2'/>", "<retract id='1'/>", "<item id='3'/>"] {
            assert!(backlog.filter(event(inside)).is_empty());
        }
        let left: Vec<String> = shown(backlog.take_all().map(|held| held.item).collect());
        let order: Vec<bool> = left.iter().map(|text| text.contains("retract#1")).collect();
        assert_eq!(order, [false, true, false], "{left:?}");
        assert!(left[0].contains("item#2") && left[2].contains("item#3"), "{left:?}");
    }

    #[test]
    fn what_nobody_looks_at_does_not_use_up_memory() {
        let mut backlog = Backlog::default();
        let long = "x".repeat(PASSING_WEIGHT_MAX / 8);
        let presence = |number| {
            item(&format!(
                "<presence from='a@x.example/{number}'><status>{long}</status></presence>"
            ))
        };
        let sent: usize = (0..64).map(|number| backlog.filter(presence(number)).len()).sum();
        assert!(sent >= 48, "only {sent} of 64 went out");
        assert!(backlog.weight() <= PASSING_WEIGHT_MAX);
    }

    #[test]
    fn both_bounds_hold() {
        let mut backlog = Backlog::default();
        let presence = |number| item(&format!("<presence from='a@x.example/{number}'/>"));
        for number in 0..PASSING_LEN_MAX {
            assert!(backlog.filter(presence(number)).is_empty());
        }
        assert_eq!(backlog.filter(presence(PASSING_LEN_MAX)).len(), PASSING_LEN_MAX + 1);

        let message = |text: &str| {
            item(&format!("<message from='a@x.example/1'><body>{text}</body></message>"))
        };
        let mut many = Backlog::default();
        assert!((0..AWAY_LEN_MAX).all(|_| many.keep(message("x"), 0)));
        assert!(!many.keep(message("x"), 0));
        let mut large = Backlog::default();
        assert!(!large.keep(message(&"x".repeat(AWAY_WEIGHT_MAX)), 0));
        // Presence that comes again takes no more room.
        assert!((0..AWAY_LEN_MAX * 2).all(|_| Backlog::default().keep(presence(1), 0)));
        assert_eq!(many.take_all().count(), AWAY_LEN_MAX + 1);
        assert_eq!(many.weight, 0);
    }
}

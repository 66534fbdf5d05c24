//! What clients were told of an account's nodes, so that a contact whose presence comes and goes is not
//! sent everything each time: an avatar may be a thousand times as long as the presence that asks for it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use gatehouse_types::Jid;
use parking_lot::Mutex;

use super::LIMITS;
use super::caps::Kind;

/// Clients of which an account remembers that they were told.
const TOLD_MAX: usize = 2000;
/// Of these, what is kept for the account's own: contacts come in any number.
const TOLD_OWN: usize = 200;
/// Contacts of which an account remembers how much they were sent.
const CONTACTS_MAX: usize = 1000;
/// Bytes of items that a contact may be sent because of its presence, all its clients together: all that
/// an account may have, once.
const BURST: u64 = LIMITS.bytes;
/// And so many more with each second.
const BYTES_PER_SECOND: u64 = 1024;
/// What a look at the nodes counts for, whatever is found.
const LOOK_BYTES: u64 = 4096;

/// What an account keeps about its nodes.
#[derive(Debug, Default)]
pub(crate) struct Personal(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether there are any nodes, once that was asked for: most accounts have none.
    nodes: Option<bool>,
    /// Available clients that got the last items.
    told: HashMap<Jid, Told>,
    /// By bare address, how many bytes a contact was sent and not got back since.
    sent: HashMap<Jid, (u64, Instant)>,
}

/// What a client was told since it became available.
#[derive(Debug)]
struct Told {
    /// What it was then.
    kind: Arc<Kind>,
    /// By hash of the node, hash of the item's id and content.
    items: HashMap<u64, u64>,
}

impl Personal {
    /// There is a node.
    pub(super) fn has_nodes(&self, yes: bool) {
        self.0.lock().nodes = Some(yes);
    }

    /// A client is not available any more.
    pub(crate) fn gone(&self, client: &Jid) {
        self.0.lock().told.remove(client);
    }

    pub(super) fn nodes(&self) -> Option<bool> {
        self.0.lock().nodes
    }

    /// True if `client` was not told before, being what it is, and may be told now. A contact that had too
    /// much lately may later: its next presence asks again.
    pub(super) fn tells(&self, client: &Jid, kind: &Arc<Kind>, is_own: bool, now: Instant) -> bool {
        let mut state = self.0.lock();
        if state.told.get(client).is_some_and(|told| told.kind == *kind) {
            return false;
        }
        if !is_own && !state.may_have(client, now) {
            metrics::counter!("gatehouse_pep_held_back_total").increment(1);
            return false;
        }
        let room = if is_own { TOLD_MAX } else { TOLD_MAX - TOLD_OWN };
        let known = state.told.len();
        match state.told.get_mut(client) {
            Some(told) => told.kind = Arc::clone(kind),
            None if known < room => {
                let told = Told { kind: Arc::clone(kind), items: HashMap::new() };
                state.told.insert(client.clone(), told);
            }
            // It would be told everything again with each presence.
            None if !is_own => {
                metrics::counter!("gatehouse_pep_held_back_total").increment(1);
                return false;
            }
            None => {}
        }
        true
    }

    /// True if `client` does not have this content of an item as the last of its node; from now on it has.
    pub(super) fn is_news(&self, client: &Jid, node: &str, item: (&str, &str)) -> bool {
        let mut state = self.0.lock();
        let Some(told) = state.told.get_mut(client) else { return true };
        let item = hash(&item);
        told.items.insert(hash(&node), item) != Some(item)
    }

    /// A contact was sent so many bytes of items because of its presence.
    pub(super) fn sent(&self, client: &Jid, bytes: usize, now: Instant) {
        let mut state = self.0.lock();
        let contact = client.to_bare();
        if !state.has_room_for(&contact, now) {
            return;
        }
        let (sum, at) = state.sent.entry(contact).or_insert((0, now));
        *sum = left(*sum, *at, now).saturating_add(LOOK_BYTES.max(bytes as u64));
        *at = now;
    }
}

impl State {
    /// Nobody may have anything of whom it could not be remembered.
    fn may_have(&mut self, client: &Jid, now: Instant) -> bool {
        let contact = client.to_bare();
        let had = self.sent.get(&contact);
        had.is_none_or(|(bytes, at)| left(*bytes, *at, now) < BURST)
            && self.has_room_for(&contact, now)
    }

    /// True if it can be remembered how much a contact was sent.
    fn has_room_for(&mut self, contact: &Jid, now: Instant) -> bool {
        if self.sent.len() >= CONTACTS_MAX && !self.sent.contains_key(contact) {
            self.sent.retain(|_, (bytes, at)| left(*bytes, *at, now) > 0);
            return self.sent.len() < CONTACTS_MAX;
        }
        true
    }
}

/// What counts still of what was sent until `at`.
fn left(bytes: u64, at: Instant, now: Instant) -> u64 {
    let seconds = now.saturating_duration_since(at).as_secs();
    bytes.saturating_sub(seconds.saturating_mul(BYTES_PER_SECOND))
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gatehouse_xmpp::Element;

    use super::*;

    fn kind(ver: &str) -> Arc<Kind> {
        let presence = format!(
            "<presence xmlns='jabber:client'><c xmlns='http://jabber.org/protocol/caps' \
             hash='sha-1' node='n' ver='{ver}'/></presence>"
        );
        Kind::of(&presence.parse::<Element>().unwrap()).unwrap()
    }

    #[test]
    fn who_comes_and_goes_is_told_as_much_as_there_may_be_and_then_little() {
        let (personal, now) = (Personal::default(), gatehouse_net::now());
        let avatar = 100 * 1024;
        let told = |now: Instant| {
            let mut told = 0;
            for number in 0..1000 {
                // Each time another client, for the contact gives them their names.
                let client: Jid = format!("c@d.example/{number}").parse().unwrap();
                if personal.tells(&client, &kind("v"), false, now) {
                    told += 1;
                    personal.sent(&client, avatar, now);
                    personal.gone(&client);
                }
            }
            told
        };
        assert_eq!(told(now), 11);
        assert_eq!(told(now), 0);
        assert_eq!(told(now + Duration::from_secs(99)), 1);
        // Others are not held back by it, nor are the account's own clients.
        let (other, own) = ("e@d.example/r".parse().unwrap(), "c@d.example/own".parse().unwrap());
        assert!(personal.tells(&other, &kind("v"), false, now));
        assert!(personal.tells(&own, &kind("v"), true, now));
    }

    #[test]
    fn what_is_kept_of_contacts_is_bounded() {
        let (personal, now) = (Personal::default(), gatehouse_net::now());
        for number in 0..CONTACTS_MAX + 10 {
            personal.sent(&format!("c{number}@d.example/r").parse().unwrap(), 1, now);
        }
        assert_eq!(personal.0.lock().sent.len(), CONTACTS_MAX);
        // Of whom nothing can be remembered gets nothing.
        let new = "new@d.example/r".parse().unwrap();
        assert!(!personal.tells(&new, &kind("v"), false, now));
        assert!(personal.tells(&"c1@d.example/r".parse().unwrap(), &kind("v"), false, now));
        assert!(personal.tells(&new, &kind("v"), true, now), "it is one of ours");
        personal.gone(&new);
        // What counts no more makes room.
        let later = now + Duration::from_secs(60);
        personal.sent(&"new@d.example/r".parse().unwrap(), 1, later);
        assert_eq!(personal.0.lock().sent.len(), 1);
        for (is_own, places) in [(false, TOLD_MAX - TOLD_OWN), (true, TOLD_MAX)] {
            for number in 0..TOLD_MAX + 10 {
                let client = format!("c@d.example/{is_own}-{number}").parse().unwrap();
                let is_told = personal.tells(&client, &kind("v"), is_own, now);
                assert!(is_told || !is_own, "one of ours is told in any case");
            }
            assert_eq!(personal.0.lock().told.len(), places);
        }
        assert_eq!(personal.0.lock().told.len(), TOLD_MAX);
    }
}

//! From local users to partners.

use std::time::{Duration, Instant};

use gatehouse_types::Jid;
use gatehouse_xmpp::{ErrorKind, Stanza, StanzaCondition, StanzaKind};

use crate::effect::{Receipt, Way};
use crate::local::{self, Pair};
use crate::{Gateway, RequestKey};

impl Gateway {
    /// Takes a stanza from a local user to a user of a SIP partner. Each receipt is released once.
    pub fn handle_stanza(&mut self, stanza: Stanza, receipt: Receipt, now: Instant) {
        let Some(pair) = pair_of(&stanza) else {
            let text = "this domain has users only, and no services";
            let reason = (ErrorKind::Cancel, StanzaCondition::ServiceUnavailable, text);
            self.bounce(&stanza, receipt, reason);
            return;
        };
        match (stanza.kind(), stanza.type_()) {
            (_, Some("error")) => {
                self.refused_by_user(&pair, &stanza, now);
                self.release(receipt);
            }
            (StanzaKind::Message, Some("groupchat")) => {
                let text = "group chat with SIP contacts is not possible";
                let reason = (ErrorKind::Cancel, StanzaCondition::FeatureNotImplemented, text);
                self.bounce(&stanza, receipt, reason);
            }
            (StanzaKind::Message, _) => {
                let deliver_by = now + self.config.deliver_within;
                self.message_from_user(pair, (stanza, receipt), deliver_by, now);
            }
            (StanzaKind::Presence, type_) => {
                match type_ {
                    None | Some("unavailable") => {
                        let device = local::read_availability(&stanza);
                        self.presence_changed(&pair, device, now);
                    }
                    Some("subscribe") => {
                        if !self.watch(&pair, now) {
                            let text = "too many subscriptions to SIP contacts";
                            let condition = StanzaCondition::ResourceConstraint;
                            self.bounce(&stanza, receipt, (ErrorKind::Wait, condition, text));
                            return;
                        }
                    }
                    Some("unsubscribe") => self.unwatch(&pair, now),
                    Some("probe") => self.look(&pair, stanza.from(), now),
                    Some("subscribed") => self.granted(&pair, now),
                    Some("unsubscribed") => self.denied(&pair, now),
                    Some(_) => {}
                }
                self.release(receipt);
            }
            (StanzaKind::Iq, _) => {
                let text = "SIP contacts answer no queries";
                let reason = (ErrorKind::Cancel, StanzaCondition::ServiceUnavailable, text);
                self.bounce(&stanza, receipt, reason);
            }
        }
    }

    /// Takes a message of a local user that the gateway of before did not get done, `age` after it came.
    /// It is sent once its way is there ([`set_reachable`](Self::set_reachable)), before what comes later
    /// for the same contact, and perhaps for the second time: whether the partner took it before is not
    /// known. What is too old is bounced.
    pub fn recover(
        &mut self,
        (stanza, receipt): (Stanza, Receipt),
        way: Way,
        age: Duration,
        now: Instant,
    ) {
        let left = self.config.deliver_within.saturating_sub(age);
        let pair = pair_of(&stanza).filter(|_| !stanza.is_answer());
        match pair {
            Some(pair) if !left.is_zero() => {
                self.rest(&pair, way, now);
                self.message_from_user(pair, (stanza, receipt), now + left, now);
            }
            _ => self.bounce_late((stanza, receipt)),
        }
    }

    /// This way is there, or is not. It matters only to what was recovered: what users say now is sent,
    /// or fails, at once.
    pub fn set_reachable(&mut self, way: Way, reachable: bool, now: Instant) {
        self.resting.of(way).reachable = reachable;
        self.set_recovery_timer(now);
    }

    /// A local user's client refused what came from a partner: if the partner still waits for its
    /// answer, this is it.
    fn refused_by_user(&mut self, pair: &Pair, error: &Stanza, now: Instant) {
        let Some(id) = error.id() else { return };
        let key = id.split('-').nth(1).and_then(|key| u64::from_str_radix(key, 16).ok());
        let Some(key) = key.map(RequestKey) else { return };
        let fits = |known: &super::Arriving| known.pair == *pair && known.stanza_id.as_str() == id;
        if self.arriving.get(&key).is_some_and(fits) {
            let condition = error
                .element()
                .children()
                .find(|child| child.name() == "error")
                .and_then(|child| child.children().next())
                .map_or(StanzaCondition::UndefinedCondition, |child| {
                    StanzaCondition::from_name(child.name())
                });
            self.delivered(key, Err(condition), now);
        }
    }
}

/// The two persons; `None` if one of the addresses is a domain.
fn pair_of(stanza: &Stanza) -> Option<Pair> {
    let person = |jid: Option<&Jid>| jid.filter(|jid| jid.local().is_some()).map(Jid::to_bare);
    Some(Pair { local: person(stanza.from())?, remote: person(stanza.to())? })
}

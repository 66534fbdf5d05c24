use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use gatehouse_net::now;
use gatehouse_types::{Domain, Jid};
use gatehouse_xmpp::{Stanza, ns};
use parking_lot::Mutex;

/// Stanzas that are remembered while XMPP is tried.
const STANZAS_MAX: usize = 1024;
/// XMPP has answered, or bounced, by then.
const STANZA_KEPT: Duration = Duration::from_secs(60);
/// Domains that turned out to speak SIP, and for how long that is believed: longer than the longest
/// silence of a partner that watches somebody, or presence would go astray.
const DOMAINS_MAX: usize = 4096;
const DOMAIN_KEPT: Duration = Duration::from_secs(3 * 3600);

/// The errors that say that no XMPP server could be found or reached.
const UNREACHED: [&str; 2] = ["remote-server-not-found", "remote-server-timeout"];

/// What was tried by XMPP with domains of which nobody said what they speak.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    stanzas: VecDeque<(Instant, Stanza)>,
    sip: HashMap<Domain, Instant>,
}

impl Attempts {
    /// True if the domain turned out to speak SIP, not long ago.
    pub(super) fn is_sip(&self, domain: &Domain) -> bool {
        self.0.lock().sip.get(domain).is_some_and(|until| *until > now())
    }

    pub(super) fn remember(&self, stanza: &Stanza) {
        if stanza.is_answer() || stanza.type_() == Some("error") {
            return;
        }
        let mut known = self.0.lock();
        known.forget_old();
        if known.stanzas.len() >= STANZAS_MAX {
            known.stanzas.pop_front();
        }
        known.stanzas.push_back((now(), stanza.clone()));
    }

    /// The domain was heard by SIP. That XMPP failed is no proof: its server may be back in a minute.
    pub(super) fn speaks_sip(&self, domain: Domain) {
        let mut known = self.0.lock();
        if known.sip.len() >= DOMAINS_MAX {
            known.sip.retain(|_, until| *until > now());
        }
        if known.sip.len() < DOMAINS_MAX || known.sip.contains_key(&domain) {
            known.sip.insert(domain, now() + DOMAIN_KEPT);
        }
    }

    /// The stanza that `error` sends back, once.
    pub(super) fn failed(&self, error: &Stanza) -> Option<Stanza> {
        if error.type_() != Some("error") || !is_unreached(error) {
            return None;
        }
        let mut known = self.0.lock();
        known.forget_old();
        let at = known.stanzas.iter().position(|(_, stanza)| answers(error, stanza))?;
        known.stanzas.remove(at).map(|(_, stanza)| stanza)
    }
}

impl Known {
    fn forget_old(&mut self) {
        while self.stanzas.front().is_some_and(|(at, _)| now() - *at > STANZA_KEPT) {
            self.stanzas.pop_front();
        }
    }
}

fn is_unreached(error: &Stanza) -> bool {
    let child = error.element().get_child("error", ns::CLIENT);
    child
        .is_some_and(|child| UNREACHED.iter().any(|name| child.has_child(*name, ns::STANZA_ERRORS)))
}

/// True if `error` is what became of `stanza`.
fn answers(error: &Stanza, stanza: &Stanza) -> bool {
    let same = |one: Option<&Jid>, other: Option<&Jid>| one.is_some() && one == other;
    error.kind() == stanza.kind()
        && error.id() == stanza.id()
        && same(error.from(), stanza.to())
        && same(error.to(), stanza.from())
}

#[cfg(test)]
mod tests {
    use gatehouse_xmpp::Element;

    use super::*;

    fn stanza(xml: &str) -> Stanza {
        Stanza::from_element(xml.parse::<Element>().unwrap()).unwrap()
    }

    fn message(id: &str) -> Stanza {
        stanza(&format!(
            "<message xmlns='jabber:client' from='a@ours.example/x' to='b@them.example' id='{id}'>\
             <body>hello</body></message>"
        ))
    }

    fn error(id: &str, condition: &str) -> Stanza {
        stanza(&format!(
            "<message xmlns='jabber:client' to='a@ours.example/x' from='b@them.example' id='{id}' \
             type='error'><error type='cancel'>\
             <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        ))
    }

    #[test]
    fn what_finds_no_xmpp_server_is_tried_by_sip_once() {
        let attempts = Attempts::default();
        let them: Domain = "them.example".parse().unwrap();
        attempts.remember(&message("1"));
        assert!(attempts.failed(&error("2", "remote-server-not-found")).is_none(), "another one");
        assert!(attempts.failed(&error("1", "service-unavailable")).is_none(), "it was reached");
        assert!(!attempts.is_sip(&them));
        let back = attempts.failed(&error("1", "remote-server-not-found")).unwrap();
        assert_eq!(back.id(), Some("1"));
        assert!(!attempts.is_sip(&them), "nobody answered by SIP yet");
        attempts.speaks_sip(them.clone());
        assert!(attempts.is_sip(&them));
        assert!(attempts.failed(&error("1", "remote-server-not-found")).is_none(), "once");
    }

    #[test]
    fn no_more_is_remembered_than_fits() {
        let attempts = Attempts::default();
        for number in 0..=STANZAS_MAX {
            attempts.remember(&message(&number.to_string()));
        }
        assert!(attempts.failed(&error("0", "remote-server-not-found")).is_none());
        assert!(attempts.failed(&error("1", "remote-server-not-found")).is_some());
    }
}

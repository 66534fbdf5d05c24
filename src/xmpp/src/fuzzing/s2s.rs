use std::collections::VecDeque;
use std::sync::Arc;

use gatehouse_identity::{AuthenticatedPeer, Proof};
use gatehouse_types::{Domain, Local, Machine as _, Remote};

use super::script::{self, Step};
use super::watch::{Manners, Watch};
use super::world::{Shown, domain, limits, message, moment};
use crate::dialback::DialbackSecret;
use crate::framing::{ContentNamespace, Frame};
use crate::s2s::{
    Authentication, Bidi, DialbackAnswer, DialbackQuestion, Encryption, Gate, InitiatorConfig,
    Purpose, ReceiverConfig, S2sEvent, S2sInitiator, S2sReceiver, Terms,
};
use crate::{Entry, Seed, StreamCondition, StreamError};

fn phrase(name: u8) -> &'static str {
    match name {
        b'h' => {
            "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
             xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' \
             from='them.example' to='us.example' id='1' version='1.0'>"
        }
        b'o' => {
            "<stream:stream xmlns='jabber:server' id='1' \
             xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback'>"
        }
        b't' => "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        b'p' => "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        b'a' => "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>",
        b's' => "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        b'x' => "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>",
        b'k' => "<db:result from='them.example' to='us.example'>0123456789abcdef</db:result>",
        b'r' => "<db:result from='third.example' to='rooms.us.example'>0123</db:result>",
        b'u' => "<db:result from='unwanted.example' to='us.example'>0123</db:result>",
        b'v' => "<db:verify from='them.example' to='us.example' id='1'>0123</db:verify>",
        b'V' => "<db:result from='them.example' to='us.example' type='valid'/>",
        b'Y' => "<db:verify from='them.example' to='us.example' id='1' type='valid'/>",
        b'I' => "<db:verify from='them.example' to='us.example' id='1' type='invalid'/>",
        b'm' => "<message from='a@them.example/x' to='b@us.example'><body>hi</body></message>",
        b'n' => "<message from='a@third.example' to='b@rooms.us.example'><body/></message>",
        b'j' => "<message from='a@them.example' to='@@us.example'/>",
        b'f' => {
            "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\
             <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism>\
             </mechanisms><dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>\
             </stream:features>"
        }
        b'g' => {
            "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>\
             EXTERNAL</mechanism></mechanisms><bidi xmlns='urn:xmpp:features:bidi'/>\
             </stream:features>"
        }
        b'F' => "<stream:features/>",
        b'D' => "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
        b'E' => {
            "<stream:error><host-gone xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
        }
        b'b' => "<bidi xmlns='urn:xmpp:bidi'/>",
        b'.' => "</stream:stream>",
        _ => "",
    }
}

fn terms(world: u8) -> Terms {
    let (authentication, encryption) = match world & 3 {
        0 => (Authentication::Certificate, Encryption::Required),
        1 => (Authentication::CertificateOrDialback, Encryption::Required),
        2 => (Authentication::CertificateOrDialback, Encryption::Optional),
        _ => (Authentication::Certificate, Encryption::Optional),
    };
    Terms { authentication, encryption }
}

fn entry(world: u8) -> (Entry, Option<Shown>) {
    if world & 4 == 0 {
        return (Entry::StartTls, None);
    }
    let shown = Shown::of(world >> 3);
    (Entry::Direct(shown.facts()), Some(shown))
}

fn is_end(event: &S2sEvent) -> bool {
    matches!(event, S2sEvent::Closed(_))
}

fn secret() -> DialbackSecret {
    DialbackSecret::new(b"the secret of us.example".to_vec())
}

/// Policy: two domains of ours, the same terms for all, one whom we do not want, one whom we do
/// not admit.
struct Policy(Terms);

impl Gate for Policy {
    fn serves(&self, domain: &Domain) -> bool {
        matches!(domain.as_str(), "us.example" | "rooms.us.example")
    }

    fn terms(&self, from: &Remote<Domain>, _to: &Local<Domain>) -> Result<Terms, StreamError> {
        if from.0.as_str() == "unwanted.example" {
            return Err(StreamCondition::PolicyViolation.into());
        }
        Ok(self.0)
    }

    fn admit(&self, peer: &AuthenticatedPeer, _to: &Local<Domain>) -> Result<String, StreamError> {
        if peer.domain().0.as_str() == "refused.example" {
            return Err(StreamCondition::PolicyViolation.into());
        }
        Ok("partners".to_owned())
    }
}

/// What may be believed about a peer: kept apart from the machine, to hold against what it says.
struct Truth {
    terms: Terms,
    tls: Option<Shown>,
    /// Pairs that an authoritative server has confirmed.
    confirmed: Vec<(Domain, Domain)>,
    opened: Vec<(Domain, Domain)>,
    questions: VecDeque<DialbackQuestion>,
    /// Stanzas that a receiver took for its peer.
    sent: usize,
}

impl Truth {
    fn new(terms: Terms, tls: Option<Shown>) -> Self {
        Self {
            terms,
            tls,
            confirmed: Vec::new(),
            opened: Vec::new(),
            questions: VecDeque::new(),
            sent: 0,
        }
    }

    fn check_proof(&self, peer: &AuthenticatedPeer, local: &Domain) {
        let remote = &peer.domain().0;
        match peer.proof() {
            Proof::Certificate { .. } => {
                assert_eq!(self.tls, Some(Shown::Them), "no certificate proves {remote}");
                assert_eq!(remote.as_str(), "them.example");
            }
            Proof::Dialback => {
                assert_eq!(self.terms.authentication, Authentication::CertificateOrDialback);
                assert!(
                    self.confirmed.contains(&(remote.clone(), local.clone())),
                    "nobody confirmed that {remote} talks to {local}"
                );
            }
        }
        let clear = self.terms.encryption == Encryption::Optional;
        assert!(self.tls.is_some() || clear, "opened in the clear");
    }

    /// What a receiver says.
    fn take(&mut self, event: S2sEvent, policy: &Policy) {
        match event {
            S2sEvent::Opened { peer, local, rule } => {
                self.check_proof(&peer, &local.0);
                assert!(policy.serves(&local.0), "{local} is not ours");
                assert!(policy.terms(peer.domain(), &local).is_ok());
                assert_eq!(policy.admit(&peer, &local).as_ref(), Ok(&rule));
                self.opened.push((peer.domain().0.clone(), local.0));
                assert!(self.opened.len() <= 50, "too many pairs");
            }
            S2sEvent::VerifyKey(question) => {
                assert_eq!(self.terms.authentication, Authentication::CertificateOrDialback);
                let clear = self.terms.encryption == Encryption::Optional;
                assert!(self.tls.is_some() || clear, "asked in the clear");
                assert!(policy.serves(&question.receiving.0));
                assert!(policy.terms(&question.originating, &question.receiving).is_ok());
                self.questions.push_back(question);
                assert!(self.questions.len() <= 64, "too many questions");
            }
            S2sEvent::Stanza(stanza, _) => {
                let (from, to) = (stanza.from().unwrap(), stanza.to().unwrap());
                let pair = (from.domain().clone(), to.domain().clone());
                assert!(self.opened.contains(&pair), "nobody opened {pair:?}");
            }
            S2sEvent::Malformed { answer, .. } => {
                assert!(!self.opened.is_empty(), "nothing is open");
                if let Some(answer) = answer {
                    let to = answer.to().unwrap().domain();
                    assert!(self.opened.iter().any(|(remote, _)| remote == to), "{to}");
                }
            }
            S2sEvent::KeyVerdict { .. } => panic!("a receiver asks nobody itself"),
            S2sEvent::Header { .. }
            | S2sEvent::Acknowledged(_)
            | S2sEvent::AuthenticationFailed { .. }
            | S2sEvent::Closed(_) => {}
        }
    }
}

/// Nobody opens a stream without the proof that policy asks for, and nothing comes through that is
/// not open; whatever the peer says and however its owner answers.
pub fn check_s2s_receiver(data: &[u8]) {
    play_receiver(data);
}

fn play_receiver(data: &[u8]) -> Truth {
    let (world, steps) = script::read(data, phrase);
    let (entry, tls) = entry(world);
    let mut truth = Truth::new(terms(world), tls);
    let policy = Policy(terms(world));
    let config = ReceiverConfig { limits: limits(), dialback_secret: secret(), bidi: Bidi::Wanted };
    let (gate, now) = (Arc::new(Policy(terms(world))), moment());
    let machine = S2sReceiver::new(Arc::new(config), gate, entry, Seed::new([7; 32]), now);
    let mut watch = Watch::new(machine, now, (ContentNamespace::Server, Manners::Strict), is_end);

    for step in steps {
        let events = match step {
            Step::Peer(phrase, rest) => watch.hear(phrase, rest),
            Step::Owner(b't', shown) => {
                let shown = Shown::of(shown);
                if watch.machine.wants_upgrade() {
                    truth.tls = Some(shown);
                    truth.confirmed.clear();
                }
                watch.call(|machine, now| machine.handle_tls(shown.facts(), now))
            }
            Step::Owner(act @ (b'v' | b'i' | b'u'), _) => {
                let Some(question) = truth.questions.pop_front() else { continue };
                let answer = match act {
                    b'v' => DialbackAnswer::Valid,
                    b'i' => DialbackAnswer::Invalid,
                    _ => DialbackAnswer::Unreachable("nobody there".to_owned()),
                };
                // An answer about a stream that is no more confirms nothing.
                let current = watch.machine.stream_id().to_string() == question.stream_id;
                if current && answer == DialbackAnswer::Valid {
                    let (from, to) = (&question.originating, &question.receiving);
                    truth.confirmed.push((from.0.clone(), to.0.clone()));
                }
                watch.call(|machine, now| machine.dialback_answer(&question, answer, now))
            }
            Step::Owner(b'm', id) => {
                let takes = watch.machine.takes_stanzas();
                let stanza = message("b@us.example", "a@them.example", id.into());
                if takes {
                    assert!(truth.tls.is_some() && !truth.opened.is_empty(), "to whom?");
                    truth.sent += 1;
                    watch.call(|machine, now| {
                        machine.send(&stanza, now);
                    })
                } else {
                    Vec::new()
                }
            }
            Step::Owner(b'c', _) => {
                watch.call(|machine, now| machine.close_with(StreamCondition::Reset.into(), now))
            }
            Step::Owner(act, argument) => watch.act(act, argument).unwrap_or_default(),
        };
        for event in events {
            truth.take(event, &policy);
        }
    }
    truth
}

/// A stream that we dial opens only to whom the terms ask for, and nothing is sent before.
pub fn check_s2s_initiator(data: &[u8]) {
    play_initiator(data);
}

/// Whether the stream opened, and whether a stanza came back on it.
fn play_initiator(data: &[u8]) -> (bool, bool) {
    let (world, steps) = script::read(data, phrase);
    let (us, them) = (Local(domain("us.example")), Remote(domain("them.example")));
    let (entry, tls) = entry(world);
    let mut truth = Truth::new(terms(world), tls);
    // Whom our domain name led to is as good as asked, where dialback is good enough.
    truth.confirmed.push((them.0.clone(), us.0.clone()));
    let verifies = world & 0x20 != 0;
    let purpose = if verifies {
        Purpose::VerifyKey(DialbackQuestion {
            originating: them.clone(),
            receiving: us.clone(),
            stream_id: "1".to_owned(),
            key: "0123".to_owned(),
        })
    } else {
        Purpose::Stanzas
    };
    let config =
        InitiatorConfig { limits: limits(), dialback_secret: secret(), bidi: Bidi::Wanted };
    let (config, seed, now) = (Arc::new(config), Seed::new([8; 32]), moment());
    let (from, to) = (us.clone(), them.clone());
    let machine = S2sInitiator::new(config, from, to, purpose, truth.terms, entry, seed, now);
    let mut watch = Watch::new(machine, now, (ContentNamespace::Server, Manners::Strict), is_end);

    let (mut open, mut opened, mut back) = (false, false, false);
    for step in steps {
        let events = match step {
            Step::Peer(phrase, rest) => watch.hear(phrase, rest),
            Step::Owner(b't', shown) => {
                let shown = Shown::of(shown);
                if watch.machine.wants_upgrade() {
                    truth.tls = Some(shown);
                }
                watch.call(|machine, now| machine.handle_tls(shown.facts(), now))
            }
            Step::Owner(b'm', id) => {
                let stanza = message("a@us.example", "b@them.example", id.into());
                let takes = watch.machine.takes_stanzas();
                assert!(open || !takes, "stanzas go before it is open");
                let events = watch.call(|machine, now| {
                    let _ = machine.send(&stanza, now);
                });
                let wanted: Vec<_> =
                    takes.then(|| Frame::Element(stanza.into_element())).into_iter().collect();
                assert_eq!(watch.frames, wanted, "stanzas go where it is open, as they are");
                events
            }
            Step::Owner(act, argument) => watch.act(act, argument).unwrap_or_default(),
        };
        for event in events {
            match event {
                S2sEvent::Opened { peer, local, .. } => {
                    assert!(!verifies && !open, "opened for what?");
                    assert_eq!((peer.domain(), &local), (&them, &us));
                    truth.check_proof(&peer, &local.0);
                    (open, opened) = (true, true);
                }
                S2sEvent::KeyVerdict { .. } => assert!(verifies, "nobody asked"),
                S2sEvent::Closed(_) => open = false,
                S2sEvent::Stanza(stanza, _) => {
                    assert!(opened && truth.tls.is_some(), "nobody was asked to say that");
                    let (from, to) = (stanza.from().unwrap(), stanza.to().unwrap());
                    assert_eq!((from.domain(), to.domain()), (&them.0, &us.0));
                    back = true;
                }
                S2sEvent::Malformed { answer, .. } => {
                    assert!(opened && truth.tls.is_some(), "nobody was asked to say that");
                    if let Some(answer) = answer {
                        assert_eq!(answer.to().unwrap().domain(), &them.0);
                    }
                }
                S2sEvent::AuthenticationFailed { .. } | S2sEvent::Acknowledged(_) => {}
                other => panic!("not an initiator's: {other:?}"),
            }
        }
    }
    (opened, back)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A property is worth nothing if no script gets where it matters.
    #[test]
    fn scripts_reach_open_streams() {
        for (script, pairs) in [
            ("D@h\n@a\n@h\n@m\n", 1),
            ("A@h\n@t\n!t2\n@h\n@k\n@r\n!v\n!v\n@m\n@n\n", 2),
            ("B@h\n@k\n!v\n@m\n", 1),
            ("A@h\n@k\n!v\n@m\n", 0),
        ] {
            assert_eq!(play_receiver(script.as_bytes()).opened.len(), pairs, "{script}");
        }
    }

    #[test]
    fn scripts_open_streams() {
        for (script, opens) in [
            ("D@h\n@f\n@s\n@h\n@F\n!m1\n", true),
            ("A@h\n@f\n@p\n!t2\n@h\n@D\n@V\n!m\n", true),
            ("C@o\n@V\n", false),
        ] {
            assert_eq!(play_initiator(script.as_bytes()), (opens, false), "{script}");
        }
        let both_ways = "D@h\n@g\n@s\n@h\n@F\n@m\n";
        assert_eq!(play_initiator(both_ways.as_bytes()), (true, true));
        assert_eq!(play_receiver(b"D@h\n@b\n@a\n@h\n!m1\n").sent, 1);
        assert_eq!(play_receiver(b"D@h\n@a\n@h\n@b\n!m1\n").sent, 0);
    }
}

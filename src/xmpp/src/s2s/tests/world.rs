//! A small federation: `them.example` dials `us.example`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_identity::{
    AuthenticatedPeer, ChainFault, Presented, TlsFacts, TlsVersion, VerifiedLeaf,
};
use gatehouse_testkit::TestCa;
use gatehouse_types::{Domain, Local, Machine, Remote, StreamLimits};

use crate::dialback::DialbackSecret;
use crate::s2s::{
    Authentication, Bidi, DialbackAnswer, DialbackQuestion, Encryption, Gate, InitiatorConfig,
    Purpose, ReceiverConfig, S2sEvent, S2sInitiator, S2sReceiver, Terms,
};
use crate::stream::CloseReason;
use crate::{Entry, Seed, Stanza, StreamCondition, StreamError};

pub(super) const CERTIFICATE: Terms =
    Terms { authentication: Authentication::Certificate, encryption: Encryption::Required };
pub(super) const DIALBACK: Terms = Terms {
    authentication: Authentication::CertificateOrDialback,
    encryption: Encryption::Required,
};
pub(super) const ANYTHING: Terms = Terms {
    authentication: Authentication::CertificateOrDialback,
    encryption: Encryption::Optional,
};

#[expect(clippy::disallowed_methods, reason = "any instant will do, but there must be one")]
pub(super) fn start() -> Instant {
    Instant::now()
}

pub(super) fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

pub(super) fn stanza(text: &str) -> Stanza {
    let text = text.replacen(' ', " xmlns='jabber:client' ", 1);
    Stanza::from_element(text.parse().unwrap()).unwrap()
}

/// A verified certificate for `name`.
#[expect(clippy::disallowed_methods, reason = "stands in for the handshake")]
pub(super) fn verified(name: &str) -> TlsFacts {
    let leaf = VerifiedLeaf::assertion(TestCa::new().issue_for(name).der);
    facts(Presented::Verified(leaf))
}

/// A self-signed certificate.
pub(super) fn untrusted() -> TlsFacts {
    let (leaf, issuers) = (Vec::new(), [].into());
    facts(Presented::Untrusted { leaf, issuers, fault: ChainFault::SelfSigned })
}

pub(super) fn no_certificate() -> TlsFacts {
    facts(Presented::Nothing)
}

fn facts(presented: Presented) -> TlsFacts {
    TlsFacts { presented, exporter: None, version: TlsVersion::Tls13 }
}

/// Policy by hand: the same terms for everybody, some unwanted, some not admitted.
#[derive(Clone, Debug)]
pub(super) struct TestGate {
    pub(super) served: BTreeSet<Domain>,
    pub(super) terms: Terms,
    pub(super) unwanted: BTreeSet<Domain>,
    pub(super) not_admitted: BTreeSet<Domain>,
}

impl TestGate {
    pub(super) fn new(served: &[&str], terms: Terms) -> Self {
        Self {
            served: served.iter().map(|name| domain(name)).collect(),
            terms,
            unwanted: BTreeSet::new(),
            not_admitted: BTreeSet::new(),
        }
    }
}

impl Gate for TestGate {
    fn serves(&self, domain: &Domain) -> bool {
        self.served.contains(domain)
    }

    fn terms(&self, from: &Remote<Domain>, _to: &Local<Domain>) -> Result<Terms, StreamError> {
        if self.unwanted.contains(&from.0) {
            return Err(StreamError::new(StreamCondition::PolicyViolation, "no federation"));
        }
        Ok(self.terms)
    }

    fn admit(&self, peer: &AuthenticatedPeer, _to: &Local<Domain>) -> Result<String, StreamError> {
        if self.not_admitted.contains(&peer.domain().0) {
            return Err(StreamError::new(StreamCondition::PolicyViolation, "not admitted"));
        }
        Ok("partners".to_owned())
    }
}

pub(super) fn limits() -> StreamLimits {
    StreamLimits { stanza_bytes_max: 20_000, ..StreamLimits::default() }
}

pub(super) fn secret(of: &str) -> DialbackSecret {
    DialbackSecret::new(format!("the secret of {of}").into_bytes())
}

pub(super) fn receiver(of: &str, gate: TestGate, entry: Entry) -> S2sReceiver {
    let config =
        ReceiverConfig { limits: limits(), dialback_secret: secret(of), bidi: Bidi::Wanted };
    S2sReceiver::new(Arc::new(config), Arc::new(gate), entry, Seed::new([7; 32]), start())
}

pub(super) fn initiator(
    from: &str,
    to: &str,
    purpose: Purpose,
    terms: Terms,
    entry: Entry,
) -> S2sInitiator {
    let config =
        InitiatorConfig { limits: limits(), dialback_secret: secret(from), bidi: Bidi::Wanted };
    let (from, to) = (Local(domain(from)), Remote(domain(to)));
    let seed = Seed::new([8; 32]);
    S2sInitiator::new(Arc::new(config), from, to, purpose, terms, entry, seed, start())
}

pub(super) fn events<M: Machine>(machine: &mut M) -> Vec<M::Event> {
    std::iter::from_fn(|| machine.poll_event()).collect()
}

pub(super) fn transmitted<M: Machine>(machine: &mut M) -> Vec<u8> {
    std::iter::from_fn(|| machine.poll_transmit()).flatten().collect()
}

/// Two ends and the wire between them.
pub(super) struct Link {
    pub(super) initiator: S2sInitiator,
    pub(super) receiver: S2sReceiver,
    /// What the handshake would tell each end, if there is one.
    pub(super) shown_to_initiator: TlsFacts,
    pub(super) shown_to_receiver: TlsFacts,
    /// How many bytes arrive at once.
    pub(super) step: usize,
    pub(super) now: Instant,
    pub(super) initiator_saw: Vec<S2sEvent>,
    pub(super) receiver_saw: Vec<S2sEvent>,
    /// How the authoritative server of `them.example` answers: itself if `None`.
    pub(super) answer: Option<DialbackAnswer>,
    /// All bytes, for looking at.
    pub(super) log: String,
}

impl Link {
    pub(super) fn new(initiator: S2sInitiator, receiver: S2sReceiver) -> Self {
        Self {
            initiator,
            receiver,
            shown_to_initiator: verified("us.example"),
            shown_to_receiver: verified("them.example"),
            step: usize::MAX,
            now: start(),
            initiator_saw: Vec::new(),
            receiver_saw: Vec::new(),
            answer: None,
            log: String::new(),
        }
    }

    /// `them.example` dials `us.example` by STARTTLS to send stanzas; each has its own terms.
    pub(super) fn starttls(initiator_terms: Terms, receiver_terms: Terms) -> Self {
        Self::new(
            initiator(
                "them.example",
                "us.example",
                Purpose::Stanzas,
                initiator_terms,
                Entry::StartTls,
            ),
            receiver(
                "us.example",
                TestGate::new(&["us.example", "rooms.us.example"], receiver_terms),
                Entry::StartTls,
            ),
        )
    }

    /// Carries everything until both ends are silent.
    pub(super) fn run(&mut self) {
        loop {
            let there = transmitted(&mut self.initiator);
            self.log += &format!("> {}\n", String::from_utf8_lossy(&there));
            for chunk in there.chunks(self.step) {
                self.receiver.handle_data(chunk, self.now);
            }
            self.drain_receiver();
            let back = transmitted(&mut self.receiver);
            self.log += &format!("< {}\n", String::from_utf8_lossy(&back));
            for chunk in back.chunks(self.step) {
                self.initiator.handle_data(chunk, self.now);
            }
            self.initiator_saw.extend(events(&mut self.initiator));
            let upgrade = self.initiator.wants_upgrade() && self.receiver.wants_upgrade();
            if upgrade {
                self.receiver.handle_tls(self.shown_to_receiver.clone(), self.now);
                self.initiator.handle_tls(self.shown_to_initiator.clone(), self.now);
            } else if there.is_empty() && back.is_empty() {
                return;
            }
        }
    }

    fn drain_receiver(&mut self) {
        for event in events(&mut self.receiver) {
            if let S2sEvent::VerifyKey(question) = &event {
                let answer = self.answer.clone().unwrap_or_else(|| ask(question));
                self.receiver.dialback_answer(question, answer, self.now);
            }
            self.receiver_saw.push(event);
        }
    }

    pub(super) fn opened_by_initiator(&self) -> Option<&AuthenticatedPeer> {
        opened(&self.initiator_saw)
    }

    pub(super) fn opened_by_receiver(&self) -> Option<&AuthenticatedPeer> {
        opened(&self.receiver_saw)
    }

    pub(super) fn initiator_closed(&self) -> Option<&CloseReason> {
        closed(&self.initiator_saw)
    }

    pub(super) fn receiver_closed(&self) -> Option<&CloseReason> {
        closed(&self.receiver_saw)
    }
}

pub(super) fn opened(events: &[S2sEvent]) -> Option<&AuthenticatedPeer> {
    events.iter().find_map(|event| match event {
        S2sEvent::Opened { peer, .. } => Some(peer),
        _ => None,
    })
}

pub(super) fn closed(events: &[S2sEvent]) -> Option<&CloseReason> {
    events.iter().find_map(|event| match event {
        S2sEvent::Closed(reason) => Some(reason),
        _ => None,
    })
}

/// Asks the authoritative server about a key, over a stream of its own.
pub(super) fn ask(question: &DialbackQuestion) -> DialbackAnswer {
    let (us, them) = (question.receiving.0.as_str(), question.originating.0.as_str());
    let mut link = Link::new(
        initiator(us, them, Purpose::VerifyKey(question.clone()), DIALBACK, Entry::StartTls),
        receiver(them, TestGate::new(&[them], DIALBACK), Entry::StartTls),
    );
    link.shown_to_initiator = no_certificate();
    link.shown_to_receiver = no_certificate();
    link.run();
    link.initiator_saw
        .iter()
        .find_map(|event| match event {
            S2sEvent::KeyVerdict { valid: true } => Some(DialbackAnswer::Valid),
            S2sEvent::KeyVerdict { valid: false } => Some(DialbackAnswer::Invalid),
            S2sEvent::Closed(reason) => Some(DialbackAnswer::Unreachable(format!("{reason:?}"))),
            _ => None,
        })
        .unwrap_or_else(|| panic!("no verdict: {}", link.log))
}

/// A receiver and a peer played by the test.
pub(super) struct Played {
    pub(super) receiver: S2sReceiver,
    pub(super) now: Instant,
}

impl Played {
    pub(super) fn new(gate: TestGate, entry: Entry) -> Self {
        Self { receiver: receiver("us.example", gate, entry), now: start() }
    }

    /// Says `text` and returns what comes back.
    pub(super) fn say(&mut self, text: &str) -> String {
        self.receiver.handle_data(text.as_bytes(), self.now);
        String::from_utf8(transmitted(&mut self.receiver)).unwrap()
    }

    pub(super) fn wait(&mut self, time: Duration) -> String {
        self.now += time;
        self.receiver.handle_timeout(self.now);
        String::from_utf8(transmitted(&mut self.receiver)).unwrap()
    }

    pub(super) fn events(&mut self) -> Vec<S2sEvent> {
        events(&mut self.receiver)
    }

    /// The stream error that ended the stream, if one of ours did.
    pub(super) fn refusal(&mut self) -> Option<StreamCondition> {
        match closed(&self.events()) {
            Some(CloseReason::WeRefused(error)) => Some(error.condition),
            _ => None,
        }
    }

    /// Open for `them.example` to `us.example`, by certificate.
    pub(super) fn open(terms: Terms) -> Self {
        let gate = TestGate::new(&["us.example", "rooms.us.example"], terms);
        let mut played = Self::new(gate, Entry::Direct(verified("them.example")));
        played.say(HEADER);
        played.say(AUTH);
        let features = played.say(HEADER);
        assert!(features.contains("<stream:features"), "{features}");
        assert!(opened(&played.events()).is_some());
        played
    }
}

pub(super) const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' \
    from='them.example' to='us.example' version='1.0'>";
pub(super) const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
pub(super) const AUTH: &str =
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>";
pub(super) const KEY: &str =
    "<db:result from='them.example' to='us.example'>0123456789abcdef</db:result>";
pub(super) const MESSAGE: &str =
    "<message from='a@them.example/x' to='b@us.example'><body>hi</body></message>";

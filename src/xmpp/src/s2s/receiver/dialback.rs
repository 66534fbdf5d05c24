//! `db:result` and `db:verify` (XEP-0220).

use gatehouse_identity::AuthenticatedPeer;
use gatehouse_types::{Domain, Local, Remote};

use super::{Claim, Over, S2sReceiver, State};
use crate::s2s::key::{KeyContent, KeyElement, KeyKind};
use crate::s2s::pairs::{PAIRS_MAX, Pairs, QUESTIONS_MAX};
use crate::s2s::wire::Channel;
use crate::s2s::{Authentication, DialbackAnswer, DialbackQuestion, Encryption, S2sEvent, Terms};
use crate::{StanzaCondition, StreamCondition, StreamError};

/// A dialback error (XEP-0220).
type Refusal = (StanzaCondition, String);

impl S2sReceiver {
    pub(super) fn on_key_element(
        &mut self,
        state: State,
        element: KeyElement,
    ) -> Result<State, Over> {
        let (channel, mut pairs, fallback) = match state {
            State::Negotiating { channel, to, claim } => {
                (channel, Pairs::default(), Some((to, claim)))
            }
            State::Open { channel, pairs } => (channel, pairs, None),
            // The framer gives no element before a header.
            _ => return Err(StreamCondition::BadFormat.into()),
        };
        match (element.kind, &element.content) {
            (KeyKind::Verify, KeyContent::Key(key)) => {
                let answer = self.vouch(&channel, &element, key);
                self.wire.write(&element.answer(answer).to_element());
            }
            (KeyKind::Result, KeyContent::Key(key)) => {
                self.on_key(&channel, &mut pairs, &element, key)?;
            }
            (_, KeyContent::Valid | KeyContent::Invalid | KeyContent::Error(..)) => {
                let text = "a dialback answer to nothing that was asked on this stream";
                return Err(StreamError::new(StreamCondition::BadFormat, text).into());
            }
        }
        Ok(next_state(channel, pairs, fallback))
    }

    /// Somebody asks whether a key is ours: the authoritative server's part.
    fn vouch(&self, channel: &Channel, element: &KeyElement, key: &str) -> KeyContent {
        if let Err((condition, text)) = self.dialback_terms(channel, element) {
            return KeyContent::Error(condition, text);
        }
        // The asker is the receiving server; the key was made for its stream.
        let (receiving, originating) = (&element.from, &element.to);
        let id = element.id.as_deref().unwrap_or_default();
        if self.config.dialback_secret.is_valid(key, receiving, originating, id) {
            KeyContent::Valid
        } else {
            KeyContent::Invalid
        }
    }

    /// The peer offers a key to open a pair.
    fn on_key(
        &mut self,
        channel: &Channel,
        pairs: &mut Pairs,
        element: &KeyElement,
        key: &str,
    ) -> Result<(), Over> {
        let from = Remote(element.from.clone());
        let to = Local(element.to.clone());
        if pairs.contains(&from.0, &to.0) {
            self.wire.write(&element.answer(KeyContent::Valid).to_element());
            return Ok(());
        }
        let pending =
            |question: &DialbackQuestion| question.originating == from && question.receiving == to;
        if self.questions.iter().any(pending) {
            return Ok(());
        }
        let terms = match self.may_ask(channel, pairs, element) {
            Ok(terms) => terms,
            Err(refusal) => return self.refuse_key(pairs, element, refusal),
        };
        match (channel.judge_by(&*self.gate, &from, &to), terms.authentication) {
            // XEP-0344: what the certificate proves need not be asked.
            (Some(Ok(peer)), _) => self.admit_key(pairs, element, peer, to),
            (judgement, Authentication::Certificate) => {
                let text = match judgement {
                    Some(Err(error)) => error.to_string(),
                    _ => "this server asks for a certificate".to_owned(),
                };
                self.refuse_key(pairs, element, (StanzaCondition::NotAuthorized, text))
            }
            (_, Authentication::CertificateOrDialback) => {
                if self.questions.len() >= QUESTIONS_MAX {
                    let text = "too many keys at once; wait for an answer".to_owned();
                    let refusal = (StanzaCondition::ResourceConstraint, text);
                    return self.refuse_key(pairs, element, refusal);
                }
                let question = DialbackQuestion {
                    originating: from,
                    receiving: to,
                    stream_id: self.stream_id.as_str().to_owned(),
                    key: key.to_owned(),
                };
                self.questions.push(question.clone());
                self.wire.tell(S2sEvent::VerifyKey(question));
                Ok(())
            }
        }
    }

    /// What a key would take, if there is room for one more pair.
    fn may_ask(
        &self,
        channel: &Channel,
        pairs: &Pairs,
        element: &KeyElement,
    ) -> Result<Terms, Refusal> {
        let terms = self.dialback_terms(channel, element)?;
        if pairs.len() + self.questions.len() >= PAIRS_MAX {
            let text = format!("one stream serves at most {PAIRS_MAX} pairs of domains");
            return Err((StanzaCondition::ResourceConstraint, text));
        }
        Ok(terms)
    }

    /// An answer to one of our questions came.
    pub(super) fn settle(
        &mut self,
        state: State,
        question: &DialbackQuestion,
        answer: DialbackAnswer,
    ) -> Result<State, Over> {
        let (channel, mut pairs, fallback) = match state {
            State::Negotiating { channel, to, claim } => {
                (channel, Pairs::default(), Some((to, claim)))
            }
            State::Open { channel, pairs } => (channel, pairs, None),
            // Keys are forgotten with their stream.
            other => return Ok(other),
        };
        let element = KeyElement {
            kind: KeyKind::Result,
            from: question.originating.0.clone(),
            to: question.receiving.0.clone(),
            id: None,
            content: KeyContent::Key(String::new()),
        };
        match answer {
            DialbackAnswer::Valid => {
                let peer = AuthenticatedPeer::by_dialback(question.originating.clone());
                self.admit_key(&mut pairs, &element, peer, question.receiving.clone())?;
            }
            DialbackAnswer::Invalid => {
                self.wire.write(&element.answer(KeyContent::Invalid).to_element());
                let reason = format!("the server of {} denied the key", question.originating.0);
                self.count_key_failure(&pairs, reason)?;
            }
            DialbackAnswer::Unreachable(reason) => {
                // The reason is for our log; it may name what is none of the peer's business.
                let text = format!("the server of {} could not be asked", question.originating.0);
                let condition = StanzaCondition::RemoteServerNotFound;
                let answer = element.answer(KeyContent::Error(condition, text));
                self.wire.write(&answer.to_element());
                self.count_key_failure(&pairs, reason)?;
            }
            // Nobody has failed, so nobody comes closer to the end of the stream.
            DialbackAnswer::Busy => {
                let text = "too many keys are being verified; try again later".to_owned();
                let answer = KeyContent::Error(StanzaCondition::ResourceConstraint, text);
                self.wire.write(&element.answer(answer).to_element());
            }
        }
        Ok(next_state(channel, pairs, fallback))
    }

    /// Opens a proved pair if policy lets it in. A stream with no other pair ends if not.
    fn admit_key(
        &mut self,
        pairs: &mut Pairs,
        element: &KeyElement,
        peer: AuthenticatedPeer,
        local: Local<Domain>,
    ) -> Result<(), Over> {
        match self.gate.admit(&peer, &local) {
            Ok(rule) => {
                self.wire.write(&element.answer(KeyContent::Valid).to_element());
                self.open_pair(pairs, peer, local, rule);
                Ok(())
            }
            Err(error) if pairs.is_empty() => Err(error.into()),
            Err(error) => {
                let text = error.text.unwrap_or_default();
                let refusal = KeyContent::Error(StanzaCondition::PolicyViolation, text);
                self.wire.write(&element.answer(refusal).to_element());
                Ok(())
            }
        }
    }

    fn refuse_key(
        &mut self,
        pairs: &Pairs,
        element: &KeyElement,
        (condition, text): Refusal,
    ) -> Result<(), Over> {
        let answer = element.answer(KeyContent::Error(condition, text.clone()));
        self.wire.write(&answer.to_element());
        self.count_key_failure(pairs, text)
    }

    /// Failed keys end a stream only while nothing else is open on it.
    fn count_key_failure(&mut self, pairs: &Pairs, reason: String) -> Result<(), Over> {
        if pairs.is_empty() {
            return self.count_failure("dialback", reason).map_err(Over::Refuse);
        }
        self.wire.tell(S2sEvent::AuthenticationFailed { method: "dialback", reason });
        Ok(())
    }

    /// What must be true before a key is looked at, whoever asks.
    fn dialback_terms(&self, channel: &Channel, element: &KeyElement) -> Result<Terms, Refusal> {
        if !self.gate.serves(&element.to) {
            let text = format!("{} is not served here", element.to);
            return Err((StanzaCondition::ItemNotFound, text));
        }
        if self.gate.serves(&element.from) {
            let text = format!("{} is served here: it cannot be on the other side", element.from);
            return Err((StanzaCondition::NotAcceptable, text));
        }
        let (from, to) = (Remote(element.from.clone()), Local(element.to.clone()));
        let terms = self
            .gate
            .terms(&from, &to)
            .map_err(|error| (StanzaCondition::PolicyViolation, error.text.unwrap_or_default()))?;
        if terms.encryption == Encryption::Required && !channel.is_tls() {
            let text = "this server asks for TLS first".to_owned();
            return Err((StanzaCondition::PolicyViolation, text));
        }
        Ok(terms)
    }
}

type Fallback = Option<(Local<Domain>, Option<Claim>)>;

/// Open as soon as there is a pair, else where the stream was.
fn next_state(channel: Channel, pairs: Pairs, fallback: Fallback) -> State {
    match fallback {
        Some((to, claim)) if pairs.is_empty() => State::Negotiating { channel, to, claim },
        _ => State::Open { channel, pairs },
    }
}

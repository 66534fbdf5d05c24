//! What we answer to the responder's header, features, TLS, SASL and dialback.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatehouse_identity::AuthenticatedPeer;
use minidom::Element;
use rxml::xml_ncname;

use super::{
    DialbackOffer, Purpose, ResponderStream, Restarted, S2sInitiator, Session, State, is_features,
};
use crate::framing::{Leftover, StreamHeader};
use crate::s2s::key::{KeyContent, KeyElement, KeyKind};
use crate::s2s::peer_limits::PeerLimits;
use crate::s2s::receiver::is_old;
use crate::s2s::{Authentication, Bidi, Encryption, S2sEvent};
use crate::stream::{CloseReason, readable};
use crate::{StanzaCondition, StreamCondition, ns};

impl S2sInitiator {
    pub(super) fn on_header(
        &mut self,
        state: State,
        header: StreamHeader,
    ) -> Result<State, CloseReason> {
        match state {
            State::AwaitHeader { session } => {
                let dialback = if self.wire.dialback_declared() {
                    DialbackOffer::Offered
                } else {
                    DialbackOffer::Absent
                };
                let old = is_old(&header);
                let stream = ResponderStream { id: header.id, dialback };
                if !old {
                    return Ok(State::AwaitFeatures { session, stream });
                }
                // Before RFC 3920 there were no features: neither TLS nor SASL.
                self.check_encryption(&session)?;
                self.prove_ourselves(session, stream)
            }
            State::AwaitRestart { peer, heard: Restarted::Nothing } => {
                Ok(State::AwaitRestart { peer, heard: Restarted::Header })
            }
            // The framer gives one header per stream.
            _ => Err(CloseReason::WeRefused(StreamCondition::BadFormat.into())),
        }
    }

    pub(super) fn on_features(
        &mut self,
        session: Session,
        mut stream: ResponderStream,
        features: &Element,
    ) -> Result<State, CloseReason> {
        if !is_features(features) {
            return Ok(State::AwaitFeatures { session, stream });
        }
        if !session.channel.is_tls() && features.has_child("starttls", ns::TLS) {
            self.wire.write(&Element::bare("starttls", ns::TLS));
            return Ok(State::AwaitProceed);
        }
        self.check_encryption(&session)?;
        self.limits = PeerLimits::of(features);
        if features.has_child("dialback", ns::DIALBACK_FEATURE) {
            stream.dialback = DialbackOffer::Offered;
        }
        let external = features.get_child("mechanisms", ns::SASL).is_some_and(|mechanisms| {
            mechanisms
                .children()
                .any(|child| child.is("mechanism", ns::SASL) && child.text().trim() == "EXTERNAL")
        });
        self.ask_for_bidi(&session, features);
        match self.purpose {
            Purpose::Stanzas if external && session.channel.is_tls() => {
                let identity = STANDARD.encode(self.from.0.to_unicode().as_bytes());
                let auth = Element::builder("auth", ns::SASL)
                    .attr(xml_ncname!("mechanism").to_owned(), "EXTERNAL")
                    .append(identity)
                    .build();
                self.wire.write(&auth);
                Ok(State::AwaitSasl { session, stream })
            }
            Purpose::Stanzas | Purpose::VerifyKey(_) => self.prove_ourselves(session, stream),
        }
    }

    /// Asks that stanzas come back on this stream, before we prove ourselves (XEP-0288).
    fn ask_for_bidi(&mut self, session: &Session, features: &Element) {
        // COMPAT(ejabberd, 24.12): offers it in the namespace of the request.
        let offered =
            features.has_child("bidi", ns::BIDI_FEATURE) || features.has_child("bidi", ns::BIDI);
        let wanted = matches!(self.purpose, Purpose::Stanzas) && self.config.bidi == Bidi::Wanted;
        if offered && wanted && session.channel.is_tls() {
            self.wire.write(&Element::bare("bidi", ns::BIDI));
            self.bidi = true;
        }
    }

    fn check_encryption(&self, session: &Session) -> Result<(), CloseReason> {
        // Nobody can show a certificate in the clear.
        let needed = self.terms.encryption == Encryption::Required
            || self.terms.authentication == Authentication::Certificate;
        if needed && !session.channel.is_tls() {
            return Err(self.no_agreement("does not offer STARTTLS"));
        }
        Ok(())
    }

    pub(super) fn on_starttls_answer(&mut self, element: &Element) -> Result<State, CloseReason> {
        if element.is("proceed", ns::TLS) {
            self.wire.mute();
            self.wire.check_leftover().map_err(CloseReason::WeRefused)?;
            return Ok(State::Upgrading);
        }
        if element.is("failure", ns::TLS) {
            return Err(self.no_agreement("offers STARTTLS but cannot do it now"));
        }
        Ok(State::AwaitProceed)
    }

    pub(super) fn on_sasl_answer(
        &mut self,
        session: Session,
        stream: ResponderStream,
        element: &Element,
    ) -> Result<State, CloseReason> {
        if element.is("success", ns::SASL) {
            self.wire.restart(Leftover::Keep);
            self.send_header();
            let peer = self.peer(session);
            return Ok(State::AwaitRestart { peer, heard: Restarted::Nothing });
        }
        if element.is("failure", ns::SASL) {
            let reason = sasl_failure(element);
            self.wire.tell(S2sEvent::AuthenticationFailed { method: "EXTERNAL", reason });
            return self.prove_ourselves(session, stream);
        }
        Ok(State::AwaitSasl { session, stream })
    }

    /// Dialback: offers our key, or asks about the partner's.
    fn prove_ourselves(
        &mut self,
        session: Session,
        stream: ResponderStream,
    ) -> Result<State, CloseReason> {
        if let Purpose::VerifyKey(question) = &self.purpose {
            let element = KeyElement {
                kind: KeyKind::Verify,
                from: question.receiving.0.clone(),
                to: question.originating.0.clone(),
                id: Some(question.stream_id.clone()),
                content: KeyContent::Key(question.key.clone()),
            };
            self.wire.write(&element.to_element());
            return Ok(State::AwaitVerdict);
        }
        if stream.dialback == DialbackOffer::Absent {
            return Err(self.no_agreement(
                "offers neither EXTERNAL (it may not trust our certificate) nor dialback",
            ));
        }
        let Some(id) = stream.id else {
            return Err(self.no_agreement("gave its stream no id, so there can be no dialback"));
        };
        let element = KeyElement {
            kind: KeyKind::Result,
            from: self.from.0.clone(),
            to: self.to.0.clone(),
            id: None,
            content: KeyContent::Key(self.config.dialback_secret.key(
                &self.to.0,
                &self.from.0,
                &id,
            )),
        };
        self.wire.write(&element.to_element());
        Ok(State::AwaitResult { session })
    }

    pub(super) fn on_result(
        &mut self,
        session: Session,
        element: &Element,
    ) -> Result<State, CloseReason> {
        let Some(answer) = self.key_answer(KeyKind::Result, element)? else {
            return Ok(State::AwaitResult { session });
        };
        match answer {
            KeyContent::Key(_) => Ok(State::AwaitResult { session }),
            KeyContent::Valid => {
                let peer = self.peer(session);
                Ok(self.open(peer))
            }
            KeyContent::Invalid => Err(self.no_agreement(
                "says that our dialback key is wrong: do all edges share one dialback secret?",
            )),
            KeyContent::Error(condition, text) => Err(self
                .no_agreement(&format!("refused our dialback key: {}", joined(condition, &text)))),
        }
    }

    pub(super) fn on_verdict(&mut self, element: &Element) -> Result<State, CloseReason> {
        let valid = match self.key_answer(KeyKind::Verify, element)? {
            None | Some(KeyContent::Key(_)) => return Ok(State::AwaitVerdict),
            Some(KeyContent::Valid) => true,
            Some(KeyContent::Invalid) => false,
            Some(KeyContent::Error(condition, text)) => {
                return Err(self.no_agreement(&format!(
                    "could not say whether the key is its own: {}",
                    joined(condition, &text)
                )));
            }
        };
        self.wire.tell(S2sEvent::KeyVerdict { valid });
        // We are not going down, only done: no error, just the end.
        self.wire.say_farewell(&CloseReason::PeerClosed);
        Err(CloseReason::Shutdown)
    }

    /// The answer to our key or question, if `element` is one: the domains, and the id of a
    /// question, must be ours.
    fn key_answer(
        &self,
        kind: KeyKind,
        element: &Element,
    ) -> Result<Option<KeyContent>, CloseReason> {
        let Some(answer) = KeyElement::read(element).transpose().map_err(CloseReason::WeRefused)?
        else {
            return Ok(None);
        };
        let id = match &self.purpose {
            Purpose::Stanzas => None,
            Purpose::VerifyKey(question) => Some(&question.stream_id),
        };
        let (from, to) = (&self.to.0, &self.from.0);
        let ours = answer.kind == kind && answer.from == *from && answer.to == *to;
        let ours = ours && (kind == KeyKind::Result || answer.id.as_ref() == id);
        Ok(ours.then_some(answer.content))
    }

    /// Who is there: by certificate, or, where terms allow it, because its domain led here.
    fn peer(&self, session: Session) -> AuthenticatedPeer {
        session.responder.unwrap_or_else(|| AuthenticatedPeer::by_dialback(self.to.clone()))
    }

    fn no_agreement(&self, what: &str) -> CloseReason {
        CloseReason::NoAgreement(format!("{} {}", self.to.0, what))
    }
}

fn joined(condition: StanzaCondition, text: &str) -> String {
    let condition = condition.as_str();
    if text.is_empty() { condition.to_owned() } else { format!("{condition} ({text})") }
}

fn sasl_failure(element: &Element) -> String {
    let condition = element
        .children()
        .find(|child| child.name() != "text")
        .map_or_else(|| "no condition".to_owned(), |child| readable(child.name()));
    match element.get_child("text", ns::SASL) {
        Some(text) => format!("{condition} ({})", readable(&text.text())),
        None => condition,
    }
}

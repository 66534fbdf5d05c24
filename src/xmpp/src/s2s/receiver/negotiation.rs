//! Headers, features, STARTTLS and SASL EXTERNAL.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatehouse_identity::AuthenticatedPeer;
use gatehouse_types::{Domain, Local, Remote};
use minidom::Element;

use super::{Claim, Direction, FAILURES_MAX, S2sReceiver, State};
use crate::features::{CertificateState, S2sChannel, S2sOffer, S2sProgress, S2sState};
use crate::framing::{Leftover, StreamHeader};
use crate::s2s::intake::is_stanza;
use crate::s2s::pairs::Pairs;
use crate::s2s::wire::Channel;
use crate::s2s::{Authentication, Encryption, S2sEvent};
use crate::{StreamCondition, StreamError, ns};

impl S2sReceiver {
    /// The peer's header on a stream on which nobody is proved.
    pub(super) fn on_header(
        &mut self,
        channel: Channel,
        header: StreamHeader,
    ) -> Result<State, StreamError> {
        let (from, to) = self.greet(&header, S2sProgress::Unauthenticated)?;
        let claim = match from {
            None => None,
            Some(domain) => Some(self.examine(&channel, domain, &to)?),
        };
        if is_old(&header) {
            self.check_old_peer(&channel, claim.as_ref())?;
        } else {
            self.offer(&channel, claim.as_ref(), S2sProgress::Unauthenticated);
        }
        Ok(State::Negotiating { channel, to, claim })
    }

    /// The peer's header on the stream after `<success/>`.
    pub(super) fn on_restart(
        &mut self,
        channel: Channel,
        peer: AuthenticatedPeer,
        header: StreamHeader,
    ) -> Result<State, StreamError> {
        let (from, to) = self.greet(&header, S2sProgress::Authenticated)?;
        if from.is_some_and(|from| from != *peer.domain()) {
            let text = format!("this stream was authenticated as {}", peer.domain().0);
            return Err(StreamError::new(StreamCondition::InvalidFrom, text));
        }
        let terms = self.gate.terms(peer.domain(), &to)?;
        let claim =
            Claim { domain: peer.domain().clone(), terms, judgement: Some(Ok(peer.clone())) };
        let mut pairs = Pairs::default();
        let rule = self.gate.admit(&peer, &to)?;
        self.offer(&channel, Some(&claim), S2sProgress::Authenticated);
        self.open_pair(&mut pairs, peer, to, rule);
        Ok(State::Open { channel, pairs })
    }

    /// Reads the addresses, answers with our header, and tells the owner. Whoever asks for a
    /// domain that is not ours gets no further.
    fn greet(
        &mut self,
        header: &StreamHeader,
        progress: S2sProgress,
    ) -> Result<(Option<Remote<Domain>>, Local<Domain>), StreamError> {
        let from = address("from", header.from.as_deref())?.map(Remote);
        let to = address("to", header.to.as_deref())?.map(Local);
        let served = to.as_ref().filter(|to| self.gate.serves(&to.0));
        self.wire.write_header(&StreamHeader {
            from: served.map(|to| to.0.to_unicode().into_owned()),
            to: from.as_ref().map(|from| from.0.to_unicode().into_owned()),
            id: Some(self.stream_id.as_str().to_owned()),
            version: None,
            lang: Some("en".to_owned()),
        });
        let claims = (from.clone(), to.clone());
        // A stream without a name that follows one with a name is no news after authentication.
        let is_news = from.is_some() || !matches!(progress, S2sProgress::Authenticated);
        if is_news && self.told.as_ref() != Some(&claims) {
            self.told = Some(claims.clone());
            self.wire.tell(S2sEvent::Header { from: claims.0, to: claims.1 });
        }
        let Some(to) = to else {
            let text = "the stream header must say in `to` which domain it wants";
            return Err(StreamError::new(StreamCondition::ImproperAddressing, text));
        };
        if !self.gate.serves(&to.0) {
            let text = format!("{} is not served here", to.0);
            return Err(StreamError::new(StreamCondition::HostUnknown, text));
        }
        Ok((from, to))
    }

    /// Asks policy about a claimed domain, and its certificate, if there is TLS.
    fn examine(
        &mut self,
        channel: &Channel,
        domain: Remote<Domain>,
        to: &Local<Domain>,
    ) -> Result<Claim, StreamError> {
        if self.gate.serves(&domain.0) {
            let text = format!("{} is served here: it cannot be on the other side", domain.0);
            return Err(StreamError::new(StreamCondition::InvalidFrom, text));
        }
        let terms = self.gate.terms(&domain, to)?;
        let judgement = channel
            .judge_by(&*self.gate, &domain, to)
            .map(|result| result.map_err(|error| error.to_string()));
        if let Some(Err(reason)) = &judgement {
            self.wire.tell(S2sEvent::AuthenticationFailed {
                method: "EXTERNAL",
                reason: reason.clone(),
            });
        }
        Ok(Claim { domain, terms, judgement })
    }

    /// Before RFC 3920 there were no features: no TLS, no SASL, only dialback.
    fn check_old_peer(&self, channel: &Channel, claim: Option<&Claim>) -> Result<(), StreamError> {
        let text = match claim {
            None => "a stream without version='1.0' must say in `from` who it is",
            Some(claim) if claim.terms.authentication == Authentication::Certificate => {
                "this server asks for a certificate, which takes XMPP 1.0"
            }
            Some(claim) if claim.terms.encryption == Encryption::Required && !channel.is_tls() => {
                "this server asks for TLS, which takes XMPP 1.0"
            }
            Some(_) => return Ok(()),
        };
        Err(StreamError::new(StreamCondition::UnsupportedVersion, text))
    }

    fn offer(&mut self, channel: &Channel, claim: Option<&Claim>, progress: S2sProgress) {
        let offer = S2sOffer::of(S2sState {
            channel: if channel.is_tls() { S2sChannel::Tls } else { S2sChannel::Plain },
            certificate: match claim.and_then(|claim| claim.judgement.as_ref()) {
                None => CertificateState::Unjudged,
                Some(Ok(_)) => CertificateState::Proves,
                Some(Err(_)) => CertificateState::Fails,
            },
            terms: claim.map(|claim| claim.terms),
            progress,
            bidi: self.config.bidi,
        });
        if offer.bidi {
            self.direction = Direction::Offered;
        }
        self.wire.write(&offer.to_element(&self.config.limits));
    }

    /// An element from a peer that has proved nothing yet, dialback aside.
    pub(super) fn negotiate(
        &mut self,
        channel: Channel,
        to: Local<Domain>,
        claim: Option<Claim>,
        element: &Element,
    ) -> Result<State, StreamError> {
        if element.is("starttls", ns::TLS) {
            return self.start_tls(&channel);
        }
        if element.has_ns(ns::SASL) {
            return self.on_sasl(channel, to, claim, element);
        }
        if is_stanza(element) {
            let text = match claim.and_then(|claim| claim.judgement) {
                Some(Err(reason)) => format!("no stanza before authentication: {reason}"),
                _ => "no stanza before authentication".to_owned(),
            };
            return Err(StreamError::new(StreamCondition::NotAuthorized, text));
        }
        Err(StreamCondition::UnsupportedStanzaType.into())
    }

    fn start_tls(&mut self, channel: &Channel) -> Result<State, StreamError> {
        if channel.is_tls() {
            self.wire.write(&Element::bare("failure", ns::TLS));
            let text = "this stream is encrypted already";
            return Err(StreamError::new(StreamCondition::PolicyViolation, text));
        }
        // Refused before `<proceed/>`, while the peer can still be told.
        self.wire.check_leftover()?;
        self.wire.write(&Element::bare("proceed", ns::TLS));
        self.wire.mute();
        Ok(State::Upgrading)
    }

    fn on_sasl(
        &mut self,
        channel: Channel,
        to: Local<Domain>,
        claim: Option<Claim>,
        element: &Element,
    ) -> Result<State, StreamError> {
        match external(&channel, claim.as_ref(), element) {
            Ok(peer) => {
                self.wire.write(&Element::bare("success", ns::SASL));
                self.restart(Leftover::Keep);
                Ok(State::AwaitRestart { channel, peer })
            }
            Err((condition, reason)) => {
                let text = Element::builder("text", ns::SASL).append(reason.as_str()).build();
                let failure = Element::builder("failure", ns::SASL)
                    .append(Element::bare(condition, ns::SASL))
                    .append(text)
                    .build();
                self.wire.write(&failure);
                self.count_failure("EXTERNAL", reason)?;
                Ok(State::Negotiating { channel, to, claim })
            }
        }
    }

    /// Tells of a failed try; too many end the stream.
    pub(super) fn count_failure(
        &mut self,
        method: &'static str,
        reason: String,
    ) -> Result<(), StreamError> {
        self.wire.tell(S2sEvent::AuthenticationFailed { method, reason });
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            let text = "too many failed tries to authenticate";
            return Err(StreamError::new(StreamCondition::PolicyViolation, text));
        }
        Ok(())
    }

    /// Opens a pair that policy has admitted.
    pub(super) fn open_pair(
        &mut self,
        pairs: &mut Pairs,
        peer: AuthenticatedPeer,
        local: Local<Domain>,
        rule: String,
    ) {
        self.wire.allow_bytes(self.config.limits.stanza_bytes_max);
        pairs.insert(peer.clone(), local.clone());
        self.wire.tell(S2sEvent::Opened { peer, local, rule });
    }
}

/// Judges `<auth mechanism='EXTERNAL'/>` (RFC 6120, section 6; XEP-0178), or says the SASL
/// condition and why.
fn external(
    channel: &Channel,
    claim: Option<&Claim>,
    element: &Element,
) -> Result<AuthenticatedPeer, (&'static str, String)> {
    let fail = |condition, reason: &str| Err((condition, reason.to_owned()));
    match element.name() {
        "auth" => {}
        "abort" => return fail("aborted", "the peer gave up"),
        _ => return fail("malformed-request", "this SASL element was not expected"),
    }
    if element.attr("mechanism") != Some("EXTERNAL") {
        return fail("invalid-mechanism", "only EXTERNAL is known here");
    }
    if !channel.is_tls() {
        return fail("encryption-required", "EXTERNAL rests on a certificate, so TLS comes first");
    }
    let Some(claim) = claim else {
        return fail("invalid-authzid", "the stream header did not say in `from` who it is");
    };
    let peer = match &claim.judgement {
        Some(Ok(peer)) => peer,
        Some(Err(reason)) => return fail("not-authorized", reason),
        None => return fail("not-authorized", "no certificate was judged"),
    };
    let text = element.text();
    let text = text.trim();
    if !matches!(text, "" | "=") {
        let Ok(bytes) = STANDARD.decode(text) else {
            return fail("incorrect-encoding", "the authorization identity is not base64");
        };
        let identity = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        if identity.map(Remote).as_ref() != Some(&claim.domain) {
            return fail(
                "invalid-authzid",
                "the authorization identity is not the header's `from`",
            );
        }
    }
    Ok(peer.clone())
}

fn address(name: &str, text: Option<&str>) -> Result<Option<Domain>, StreamError> {
    text.map(str::parse).transpose().map_err(|error| {
        let text = format!("`{name}` of the stream header: {error}");
        StreamError::new(StreamCondition::ImproperAddressing, text)
    })
}

/// Whether the peer is older than RFC 3920.
pub(in crate::s2s) fn is_old(header: &StreamHeader) -> bool {
    let major = header.version.as_deref().and_then(|version| version.split('.').next());
    major.and_then(|major| major.parse::<u16>().ok()).is_none_or(|major| major == 0)
}

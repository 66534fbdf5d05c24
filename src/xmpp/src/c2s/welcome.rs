use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minidom::Element;
use rxml::xml_ncname;

use super::features::Offer;
use super::inline::{Granted, GrantedSession};
use super::liveness::Liveness;
use super::management::{enabled, with};
use super::server::C2sServer;
use super::state::{Bound, Session, State};
use crate::{StreamCondition, StreamError, ns};

/// The end of an extended log-in (XEP-0388): one element says that it succeeded, and all that came of
/// the client's wishes.
impl C2sServer {
    /// Gives the client what it got. Answers [`C2sEvent::Wishes`](super::C2sEvent::Wishes).
    pub fn grant(&mut self, granted: Granted, now: Instant) {
        self.go_on(|server, state| server.welcome(state, granted, now));
    }

    fn welcome(
        &mut self,
        state: State,
        granted: Granted,
        now: Instant,
    ) -> Result<State, StreamError> {
        let State::AwaitGrant { session, proof } = state else { return Ok(state) };
        let full = match &granted.session {
            GrantedSession::Bound { full, .. } | GrantedSession::Resumed { full, .. } => Some(full),
            GrantedSession::Later | GrantedSession::Refused(_) => None,
        };
        if full.is_some_and(|full| full.is_bare() || !full.same_bare(&session.account)) {
            // Nobody gets the address of another account, whoever made the mistake.
            return Err(StreamCondition::InternalServerError.into());
        }
        let identity = full.unwrap_or(&session.account).to_string();
        let mut success = Element::bare("success", ns::SASL2);
        let mut add = |child: Element| {
            success.append_child(child);
        };
        if let Some(proof) = proof {
            let proof = STANDARD.encode(proof);
            add(Element::builder("additional-data", ns::SASL2).append(proof).build());
        }
        add(Element::builder("authorization-identifier", ns::SASL2).append(identity).build());
        if let Some(h) = granted.not_resumed {
            add(super::management::not_resumed(h));
        }
        match &granted.session {
            GrantedSession::Later => {}
            GrantedSession::Refused(condition) => {
                let condition = Element::bare(condition.as_str(), ns::STANZA_ERRORS);
                add(Element::builder("failed", ns::BIND2).append(condition).build());
            }
            GrantedSession::Bound { managed, .. } => {
                let managed = managed.as_ref().map(|resume| {
                    enabled(resume.as_ref().map(|(id, seconds)| (id.as_str(), *seconds)))
                });
                add(Element::builder("bound", ns::BIND2).append_all(managed).build());
            }
            GrantedSession::Resumed { id, h, .. } => {
                let (h, resumed) = (h.to_string(), Element::bare("resumed", ns::SM));
                add(with(resumed, &[(xml_ncname!("previd"), id), (xml_ncname!("h"), &h)]));
            }
        }
        if let Some((token, expiry)) = &granted.token {
            let element = Element::bare("token", ns::FAST);
            add(with(element, &[(xml_ncname!("token"), token), (xml_ncname!("expiry"), expiry)]));
        }
        self.write(&success);
        self.framer.set_element_bytes_max(self.config.limits.stanza_bytes_max);
        Ok(self.enter(session, granted.session, now))
    }

    /// The stream goes on without a new header.
    fn enter(&mut self, session: Session, granted: GrantedSession, now: Instant) -> State {
        let (full, managed) = match granted {
            GrantedSession::Later | GrantedSession::Refused(_) => {
                self.offer(&Offer::Session);
                return State::AwaitBind(session);
            }
            GrantedSession::Bound { full, managed } => {
                (self.received, self.taken) = (0, 0);
                self.offer(&Offer::Open { managed: managed.is_some() });
                (full, managed.is_some())
            }
            GrantedSession::Resumed { full, h, .. } => {
                (self.received, self.taken) = (h, h);
                (full, true)
            }
        };
        let liveness = Liveness::new(self.config.limits.idle_timeout, self.stream_id(), now);
        State::Bound(Bound { domain: session.domain, full, liveness, managed })
    }
}

use std::mem;
use std::time::Instant;

use bytes::BufMut as _;
use gatehouse_types::Jid;
use minidom::Element;
use rxml::{NcName, NcNameStr, xml_ncname};

use super::C2sEvent;
use super::liveness::Liveness;
use super::server::{C2sServer, unexpected};
use super::state::{Bound, Session, State};
use crate::framing::write_footer;
use crate::sm::HandledCountTooHigh;
use crate::stream::CloseReason;
use crate::{Stanza, StanzaCondition, StreamCondition, StreamError, ns};

/// The longest id of a session that a client may name.
pub(super) const ID_BYTES_MAX: usize = 128;

/// Stream management (XEP-0198) and client state (XEP-0352).
///
/// The machine counts what the client sends; the owner keeps what it sent itself. So the owner
/// decides when something is done with, and what is sent again.
impl C2sServer {
    /// Manages the stream from here on: what is sent from now on is counted by the client. `resume`
    /// is the name of the session and how many seconds it may be away; `None` if it cannot be
    /// resumed. Answers [`C2sEvent::EnableManagement`].
    pub fn manage(&mut self, resume: Option<(&str, u64)>, _now: Instant) {
        if !matches!(self.state, State::Bound(_)) {
            return;
        }
        self.write(&enabled(resume));
    }

    /// The session goes on at `full`, where the client sent `h` stanzas that were handled. Answers
    /// [`C2sEvent::Resume`].
    pub fn resume(&mut self, full: Jid, id: &str, h: u32, now: Instant) {
        self.go_on(|server, state| server.resumed(state, full, id, h, now));
    }

    /// There is no such session any more; the client may bind instead. `h` is what was handled of
    /// it, if that is known.
    pub fn refuse_resume(&mut self, condition: StanzaCondition, h: Option<u32>, _now: Instant) {
        self.go_on(|server, state| {
            let State::AwaitResume(session) = state else { return Ok(state) };
            server.write(&with_h(failed(condition), h));
            Ok(State::AwaitBind(session))
        });
    }

    /// Tells the client that its first `h` stanzas (modulo 2^32) are handled. Answers
    /// [`C2sEvent::AckRequested`].
    pub fn acknowledge(&mut self, h: u32, _now: Instant) {
        if matches!(&self.state, State::Bound(bound) if bound.managed) {
            let h = h.to_string();
            self.write(&with(Element::bare("a", ns::SM), &[(xml_ncname!("h"), &h)]));
        }
    }

    /// Asks how much the client has; it must show a sign of life before long.
    pub fn request_ack(&mut self, now: Instant) {
        if let State::Bound(bound) = &mut self.state {
            bound.liveness.ask(now);
            self.out.put_slice(b"<r xmlns='urn:xmpp:sm:3'/>");
        }
    }

    /// Takes the next event if it is a stanza that `wanted` says yes to, for an owner that works on
    /// several at a time. Whatever else comes next stays, and counts as not taken.
    pub fn poll_stanza(&mut self, wanted: impl FnOnce(&Stanza) -> bool) -> Option<Stanza> {
        let is_wanted = |event: &mut (C2sEvent, u32)| matches!(&event.0, C2sEvent::Stanza(stanza) if wanted(stanza));
        let (event, received) = self.events.pop_front_if(is_wanted)?;
        self.taken = received;
        match event {
            C2sEvent::Stanza(stanza) => Some(stanza),
            _ => None,
        }
    }

    /// How many stanzas of the managed stream the owner has taken, modulo 2^32: all that were
    /// reported before the last event that was taken, and that one.
    pub fn taken(&self) -> u32 {
        if self.events.is_empty() { self.received } else { self.taken }
    }

    /// How many stanzas the client had sent on the managed stream when it sent what the last event was
    /// about, modulo 2^32; a stanza counts itself.
    pub fn sent_by_then(&self) -> u32 {
        self.taken
    }

    /// Ends the stream: the client acknowledged what it was never sent (XEP-0198, section 4).
    pub fn close_handled_too_high(&mut self, error: HandledCountTooHigh, _now: Instant) {
        if matches!(mem::replace(&mut self.state, State::Closed), State::Closed) {
            return;
        }
        let reason = StreamError::new(StreamCondition::UndefinedCondition, error.to_string());
        let (h, sent) = (error.h.to_string(), error.sent.to_string());
        let detail = with(
            Element::bare("handled-count-too-high", ns::SM),
            &[(xml_ncname!("h"), &h), (xml_ncname!("send-count"), &sent)],
        );
        let condition = Element::bare(reason.condition.as_str(), ns::STREAM_ERRORS);
        let error = Element::builder("error", ns::STREAM).append(condition).append(detail);
        self.write(&error.build());
        write_footer(&mut self.out);
        self.report(C2sEvent::Closed(CloseReason::WeRefused(reason)));
    }

    /// What a bound client says that is no stanza.
    pub(super) fn nonza(
        &mut self,
        mut bound: Bound,
        element: &Element,
    ) -> Result<State, StreamError> {
        let managed = bound.managed;
        match (element.name(), element.ns().as_str()) {
            ("enable", ns::SM) if !managed => {
                bound.managed = true;
                (self.received, self.taken) = (0, 0);
                let resume = matches!(element.attr("resume"), Some("true" | "1"));
                let seconds = element.attr("max").and_then(|max| max.parse().ok());
                self.report(C2sEvent::EnableManagement { resume, seconds });
            }
            // XEP-0198, sections 3 and 5: twice, or after binding.
            ("enable" | "resume", ns::SM) => {
                self.write(&failed(StanzaCondition::UnexpectedRequest))
            }
            ("r", ns::SM) if managed => self.report(C2sEvent::AckRequested),
            ("a", ns::SM) if managed => {
                let h = number(element)?;
                self.report(C2sEvent::Acked { h });
            }
            ("active", ns::CSI) => self.report(C2sEvent::ClientState { active: true }),
            ("inactive", ns::CSI) => self.report(C2sEvent::ClientState { active: false }),
            _ => return Err(unexpected(element)),
        }
        Ok(State::Bound(bound))
    }

    /// `<enable/>` or `<resume/>` before a resource is bound.
    pub(super) fn before_bind(
        &mut self,
        session: Session,
        element: &Element,
    ) -> Result<State, StreamError> {
        if element.is("enable", ns::SM) {
            self.write(&failed(StanzaCondition::UnexpectedRequest));
            return Ok(State::AwaitBind(session));
        }
        if !element.is(xml_ncname!("resume"), ns::SM) {
            return Err(unexpected(element));
        }
        let h = number(element)?;
        match element.attr("previd") {
            Some(id) if (1..=ID_BYTES_MAX).contains(&id.len()) => {
                self.report(C2sEvent::Resume { id: id.to_owned(), h });
                Ok(State::AwaitResume(session))
            }
            _ => {
                self.write(&failed(StanzaCondition::ItemNotFound));
                Ok(State::AwaitBind(session))
            }
        }
    }

    fn resumed(
        &mut self,
        state: State,
        full: Jid,
        id: &str,
        h: u32,
        now: Instant,
    ) -> Result<State, StreamError> {
        let State::AwaitResume(session) = state else { return Ok(state) };
        if full.is_bare() || !full.same_bare(&session.account) {
            return Err(StreamCondition::InternalServerError.into());
        }
        (self.received, self.taken) = (h, h);
        let h = h.to_string();
        self.write(&with(
            Element::bare("resumed", ns::SM),
            &[(xml_ncname!("previd"), id), (xml_ncname!("h"), &h)],
        ));
        let liveness = Liveness::new(self.config.limits.idle_timeout, self.stream_id(), now);
        Ok(State::Bound(Bound { domain: session.domain, full, liveness, managed: true }))
    }
}

/// `<enabled/>`, with a name and seconds if the client can come back.
pub(super) fn enabled(resume: Option<(&str, u64)>) -> Element {
    let enabled = Element::bare("enabled", ns::SM);
    let Some((id, seconds)) = resume else { return enabled };
    let seconds = seconds.to_string();
    let attributes = [
        (xml_ncname!("id"), id),
        (xml_ncname!("resume"), "true"),
        (xml_ncname!("max"), seconds.as_str()),
    ];
    with(enabled, &attributes)
}

/// The session is not there; how much of it was handled, if that is known.
pub(super) fn not_resumed(h: Option<u32>) -> Element {
    with_h(failed(StanzaCondition::ItemNotFound), h)
}

fn with_h(element: Element, h: Option<u32>) -> Element {
    match h {
        Some(h) => with(element, &[(xml_ncname!("h"), &h.to_string())]),
        None => element,
    }
}

pub(super) fn with(mut element: Element, attributes: &[(&NcNameStr, &str)]) -> Element {
    for (name, value) in attributes {
        let name: NcName = (*name).to_owned();
        element.attrs_mut().insert(rxml::Namespace::NONE, name, (*value).to_owned());
    }
    element
}

fn failed(condition: StanzaCondition) -> Element {
    Element::builder("failed", ns::SM)
        .append(Element::bare(condition.as_str(), ns::STANZA_ERRORS))
        .build()
}

/// The `h` of what the client says.
fn number(element: &Element) -> Result<u32, StreamError> {
    element.attr("h").and_then(|h| h.parse().ok()).ok_or_else(|| {
        let text = "`h` is a number below 2^32 (XEP-0198)";
        StreamError::new(StreamCondition::BadFormat, text)
    })
}

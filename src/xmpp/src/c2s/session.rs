use std::time::Instant;

use gatehouse_types::{Jid, TraceId};
use minidom::Element;
use rxml::xml_ncname;

use super::C2sEvent;
use super::liveness::Liveness;
use super::server::{C2sServer, unexpected};
use super::state::{Bound, Session, State};
use crate::framing::RawStanza;
use crate::{ErrorKind, Stanza, StanzaCondition, StanzaKind, StreamCondition, StreamError, ns};

/// Binding, and what a bound client may send.
impl C2sServer {
    pub(super) fn request_bind(
        &mut self,
        session: Session,
        element: &Element,
    ) -> Result<State, StreamError> {
        let Some(bind) = request(element, "bind", ns::BIND) else {
            return Err(unexpected(element));
        };
        let resource = bind.get_child("resource", ns::BIND).map(Element::text);
        let resource = resource.filter(|resource| !resource.is_empty());
        self.report(C2sEvent::Bind { resource });
        Ok(State::AwaitResource { session, id: element.attr("id").map(str::to_owned) })
    }

    /// The owner chose an address.
    pub(super) fn bound(
        &mut self,
        state: State,
        full: Jid,
        now: Instant,
    ) -> Result<State, StreamError> {
        let State::AwaitResource { session, id } = state else {
            return Ok(state);
        };
        if full.is_bare() || !full.same_bare(&session.account) {
            // Nobody gets the address of another account, whoever made the mistake.
            return Err(StreamCondition::InternalServerError.into());
        }
        let jid = Element::builder("jid", ns::BIND).append(full.to_string()).build();
        let bind = Element::builder("bind", ns::BIND).append(jid).build();
        self.write(&bind_answer("result", id.as_deref(), bind));
        let liveness = Liveness::new(self.config.limits.idle_timeout, self.stream_id(), now);
        Ok(State::Bound(Bound { domain: session.domain, full, liveness, managed: false }))
    }

    /// The owner does not want to give the resource away.
    pub(super) fn bind_refused(
        &mut self,
        state: State,
        condition: StanzaCondition,
        text: &str,
    ) -> State {
        let State::AwaitResource { session, id } = state else {
            return state;
        };
        let text = Element::builder("text", ns::STANZA_ERRORS)
            .attr_ns(rxml::Namespace::xml().clone(), xml_ncname!("lang").to_owned(), "en")
            .append(text)
            .build();
        let error = Element::builder("error", ns::CLIENT)
            .attr(xml_ncname!("type").to_owned(), refusal_kind(condition).as_str())
            .append(Element::bare(condition.as_str(), ns::STANZA_ERRORS))
            .append(text)
            .build();
        self.write(&bind_answer("error", id.as_deref(), error));
        State::AwaitBind(session)
    }

    pub(super) fn stanza(&mut self, bound: Bound, raw: RawStanza) -> Result<State, StreamError> {
        self.received = self.received.wrapping_add(1);
        // An answer to our ping must not break the stream, whatever its addresses are.
        let from = check_from(raw.from(), &bound.full);
        let to = raw.to().map(str::parse::<Jid>).transpose();
        let is_to_malformed = to.is_err();
        let (full, to) = (bound.full.clone(), to.unwrap_or_default());
        let mut stanza = Stanza::addressed(raw, Some(full), to);
        if bound.liveness.is_pong(&stanza) {
            return Ok(State::Bound(bound));
        }
        from?;
        self.stanzas += 1;
        stanza.set_trace(TraceId::of(self.stream_id(), self.stanzas));

        let answer = if is_to_malformed {
            let text = "the address in `to` is malformed";
            let mut answer = stanza.bounce(ErrorKind::Modify, StanzaCondition::JidMalformed, text);
            if let Some(answer) = &mut answer {
                answer.set_from(Some(Jid::of_domain(bound.domain.0.clone())));
            }
            answer
        } else if !is_for_us(&stanza, &bound) {
            self.report(C2sEvent::Stanza(stanza));
            return Ok(State::Bound(bound));
        } else if is_request(&stanza, "session", ns::SESSION) {
            // RFC 6121 did away with it; clients from before still ask.
            stanza.result(None)
        } else if is_request(&stanza, "bind", ns::BIND) {
            let text = "this stream has a resource already";
            stanza.bounce(ErrorKind::Cancel, StanzaCondition::NotAllowed, text)
        } else {
            self.report(C2sEvent::Stanza(stanza));
            return Ok(State::Bound(bound));
        };
        match answer {
            Some(answer) if bound.managed => self.report(C2sEvent::Reply(answer)),
            Some(answer) => self.write_stanza(&answer),
            None => {}
        }
        Ok(State::Bound(bound))
    }
}

/// RFC 6120, section 8.1.2.1: a client may leave `from` out or say who it is; it may not say that
/// it is someone else.
fn check_from(from: Option<&str>, full: &Jid) -> Result<(), StreamError> {
    let Some(from) = from else {
        return Ok(());
    };
    match from.parse::<Jid>() {
        Ok(from) if from == *full || (from.is_bare() && from.same_bare(full)) => Ok(()),
        _ => {
            let text = "`from` is not the address of this session";
            Err(StreamError::new(StreamCondition::InvalidFrom, text))
        }
    }
}

/// True for what goes to the server itself.
fn is_for_us(stanza: &Stanza, bound: &Bound) -> bool {
    stanza.to().is_none_or(|to| {
        to.is_bare()
            && (to.same_bare(&bound.full)
                || (to.local().is_none() && *to.domain() == bound.domain.0))
    })
}

/// The payload `name` of an IQ of type `set`.
fn request<'a>(element: &'a Element, name: &str, namespace: &str) -> Option<&'a Element> {
    let is_set = element.is("iq", ns::CLIENT) && element.attr("type") == Some("set");
    is_set.then(|| element.get_child(name, namespace)).flatten()
}

/// True for an IQ of type `set` with that payload.
fn is_request(stanza: &Stanza, name: &str, namespace: &str) -> bool {
    stanza.kind() == StanzaKind::Iq
        && stanza.type_() == Some("set")
        && stanza.payloads().any(|payload| payload.is(name, namespace))
}

pub(super) fn unknown_element() -> StreamError {
    let text = "this server knows no such element at the first level";
    StreamError::new(StreamCondition::UnsupportedStanzaType, text)
}

fn bind_answer(type_: &str, id: Option<&str>, payload: Element) -> Element {
    Element::builder("iq", ns::CLIENT)
        .attr(xml_ncname!("id").to_owned(), id)
        .attr(xml_ncname!("type").to_owned(), type_)
        .append(payload)
        .build()
}

/// What the client can do about it.
fn refusal_kind(condition: StanzaCondition) -> ErrorKind {
    match condition {
        StanzaCondition::BadRequest
        | StanzaCondition::JidMalformed
        | StanzaCondition::NotAcceptable => ErrorKind::Modify,
        StanzaCondition::InternalServerError | StanzaCondition::ResourceConstraint => {
            ErrorKind::Wait
        }
        _ => ErrorKind::Cancel,
    }
}

//! From the local user: invitation, messages, typing.

use std::time::Instant;

use gatehouse_sip::composing::{self, Composing, ISCOMPOSING, KEYBOARD};
use gatehouse_sip::{Dialog, HeaderName, Message, Method, Status, sdp};
use gatehouse_xmpp::{ErrorKind, Stanza, StanzaCondition};

use super::{
    DECLINED_MAX, Invite, Mode, Outgoing, PAGER_BYTES_MAX, Typing, UnderWay, describe, typing_of,
};
use crate::effect::{Effect, OutgoingId, Receipt};
use crate::gateway::Purpose;
use crate::local::{self, Pair, Said};
use crate::{Gateway, condition, sip};

/// What to do with the queue next.
enum Step {
    Nothing,
    InDialog,
    Invite,
    Pager,
}

impl Gateway {
    /// A local user's client sent a message: text, or only a chat state.
    pub(crate) fn message_from_user(
        &mut self,
        pair: Pair,
        (stanza, receipt): (Stanza, Receipt),
        deliver_by: Instant,
        now: Instant,
    ) {
        let said = local::said(&stanza);
        let Some(body) = &said.body else {
            self.chat_state(&pair, said.state.as_deref(), now);
            self.release(receipt);
            return;
        };
        let limits = &self.config.limits;
        let refused = if body.len() > limits.text_bytes_max {
            let text = "the message is too long for a SIP contact";
            Some((ErrorKind::Modify, StanzaCondition::PolicyViolation, text))
        } else if self
            .sessions
            .get(&pair)
            .is_some_and(|session| session.queue.len() >= limits.queue_len_max)
        {
            let text = "too many messages wait for this contact";
            Some((ErrorKind::Wait, StanzaCondition::ResourceConstraint, text))
        } else if !self.take_weight(&pair, receipt, stanza.weight()) {
            let text = "too much waits for your SIP contacts to answer";
            Some((ErrorKind::Wait, StanzaCondition::ResourceConstraint, text))
        } else if !self.open_session(&pair, now) {
            let text = "too many conversations with SIP contacts";
            Some((ErrorKind::Wait, StanzaCondition::ResourceConstraint, text))
        } else {
            None
        };
        let outgoing = Outgoing { stanza, receipt, said, deliver_by, retried: false };
        if let Some(reason) = refused {
            self.bounce_message(outgoing, reason);
            return;
        }
        if let Some(session) = self.sessions.get_mut(&pair) {
            if outgoing.said.thread.is_some() {
                session.thread.clone_from(&outgoing.said.thread);
            }
            // A message ends what it was that was being typed.
            for leg in session.legs() {
                leg.typing_sent = Composing::Idle;
            }
            session.queue.push_back(outgoing);
        }
        self.session_touched(&pair, now);
        self.pump(&pair, now);
    }

    /// Sends the first of the queue, or what has to come before it.
    pub(super) fn pump(&mut self, pair: &Pair, now: Instant) {
        while let Some(session) = self.sessions.get_mut(pair)
            && session.under_way.is_none()
            && let Some(late) = session.queue.pop_front_if(|first| first.deliver_by <= now)
        {
            self.bounce_late((late.stanza, late.receipt));
        }
        let Some(session) = self.sessions.get(pair) else { return };
        let waits = self.stopping || session.resting || session.under_way.is_some();
        let step = if waits || session.queue.is_empty() {
            Step::Nothing
        } else if session.main.is_some() {
            Step::InDialog
        } else if session.invite.is_some() {
            Step::Nothing
        } else {
            match session.mode {
                Mode::Session { .. } => Step::Invite,
                Mode::Pager { .. } => Step::Pager,
            }
        };
        match step {
            Step::Nothing => {}
            Step::InDialog => self.send_in_dialog(pair),
            Step::Invite => self.invite(pair, now),
            Step::Pager => self.send_pager(pair, now),
        }
    }

    fn send_in_dialog(&mut self, pair: &Pair) {
        let Some(session) = self.sessions.get_mut(pair) else { return };
        let (Some(first), Some(leg)) = (session.queue.front(), &mut session.main) else { return };
        let mut request = leg.dialog.request(Method::Message);
        fill(&mut request, &first.said);
        let tag = leg.dialog.id.local_tag.clone();
        let id = self.send(request, Purpose::Message(pair.clone()));
        if let Some(session) = self.sessions.get_mut(pair) {
            session.under_way = Some(UnderWay { id, tag: Some(tag) });
        }
    }

    fn invite(&mut self, pair: &Pair, now: Instant) {
        let (tag, call_id) = (self.seed.next_hex(), self.next_call_id());
        let mut request = sip::initial(Method::Invite, &pair.local, &pair.remote, &tag, &call_id);
        sip::put_contact(&mut request, &pair.local, &self.config.contact);
        sip::put(&mut request, HeaderName::Allow, sip::ALLOW);
        // Without one of its own, a Lync client may take a second session for the first (SIPE).
        let conversation = HeaderName::Other("Ms-Conversation-ID".into());
        sip::put(&mut request, conversation, self.seed.next_hex());
        request.set_body("application/sdp", describe(None, &self.config.public_host));
        let until = now + self.config.invite_timeout;
        let kept = Box::new(request.clone());
        let id = self.send(request, Purpose::Invite(pair.clone()));
        if let Some(session) = self.sessions.get_mut(pair) {
            session.invite = Some(Invite { id, request: kept, until });
        }
        self.session_touched(pair, now);
    }

    fn send_pager(&mut self, pair: &Pair, now: Instant) {
        let (tag, call_id) = (self.seed.next_hex(), self.next_call_id());
        let Some(session) = self.sessions.get(pair) else { return };
        let Some(first) = session.queue.front() else { return };
        // A standard partner answers to the device (RFC 7572 section 4).
        let from = first.stanza.from().unwrap_or(&pair.local);
        let mut request = sip::initial(Method::Message, from, &pair.remote, &tag, &call_id);
        fill(&mut request, &first.said);
        if let Some(subject) = &first.said.subject {
            sip::put(&mut request, HeaderName::Subject, condition::plain(subject));
        }
        if request.to_bytes().len() > PAGER_BYTES_MAX {
            let text = "the message is too long for this contact";
            self.first_failed(pair, (ErrorKind::Modify, StanzaCondition::PolicyViolation, text));
            self.pump(pair, now);
            return;
        }
        let id = self.send(request, Purpose::Message(pair.clone()));
        if let Some(session) = self.sessions.get_mut(pair) {
            session.under_way = Some(UnderWay { id, tag: None });
        }
    }

    /// An INVITE of ours was answered, perhaps not for the first time.
    pub(crate) fn invite_answered(
        &mut self,
        pair: &Pair,
        id: OutgoingId,
        response: &Message,
        now: Instant,
    ) {
        let Some(status) = response.status().filter(|status| status.is_final()) else {
            // 100, 101 Progress Report, 180: somebody is at it, and the time we give stays the same.
            return;
        };
        let Some(session) = self.sessions.get_mut(pair) else { return };
        let Some(invite) = session.invite.take_if(|invite| invite.id == id) else {
            self.invite_answered_again(pair, id, response);
            return;
        };
        if status.is_success() {
            self.invite_accepted(pair, invite, response, now);
        } else {
            self.invite_refused(pair, response, status, now);
        }
    }

    fn invite_accepted(&mut self, pair: &Pair, invite: Invite, response: &Message, now: Instant) {
        let dialog = Dialog::established(&invite.request, response);
        let accepted = sdp::parse(&response.body);
        match (dialog, accepted) {
            (Ok(mut dialog), Ok(session)) => {
                let ack = dialog.request(Method::Ack);
                self.push(Effect::Ack { ack });
                let typing = typing_of(response, &session.accept_types);
                let known = (invite.id, invite.request);
                self.add_leg(pair, dialog, typing, Some(known), now);
            }
            (dialog, _) => {
                self.lose_interest(invite.id);
                if dialog.is_ok() {
                    self.decline(&invite.request, response);
                }
                let busy = |session: &super::Session| {
                    session.main.is_some() || session.under_way.is_some()
                };
                if !self.sessions.get(pair).is_some_and(busy) {
                    let text = "the partner's answer to the invitation cannot be used";
                    let condition = StanzaCondition::NotAcceptable;
                    self.bounce_queue(pair, (ErrorKind::Modify, condition, text));
                }
            }
        }
        self.settle(pair, now);
    }

    fn invite_refused(&mut self, pair: &Pair, response: &Message, status: Status, now: Instant) {
        let Some(session) = self.sessions.get_mut(pair) else { return };
        // Their own invitation came meanwhile: the messages go there, or one is under way already.
        if session.main.is_none() && session.under_way.is_none() {
            // A partner that has no sessions may still take messages.
            let mode = session.mode;
            if mode == (Mode::Session { pager_refused: false })
                && matches!(status.code(), 405 | 415 | 488 | 501)
            {
                session.mode = Mode::Pager { session_refused: true };
            } else {
                let (kind, condition, text) = condition::from_response(response);
                self.bounce_queue(pair, (kind, condition, &text));
            }
        }
        self.settle(pair, now);
    }

    /// A 2xx again, or one from a second device: the first is acknowledged again, the second ended.
    fn invite_answered_again(&mut self, pair: &Pair, id: OutgoingId, response: &Message) {
        if !response.status().is_some_and(Status::is_success) {
            return;
        }
        let Some(session) = self.sessions.get_mut(pair) else { return };
        let is_it = |known: &&mut super::Leg| known.invite.as_ref().is_some_and(|i| i.0 == id);
        let Some(leg) = session.legs().find(is_it) else { return };
        let Some((_, invite)) = &leg.invite else { return };
        let tag = response.to().ok().and_then(|to| to.tag().map(str::to_owned)).unwrap_or_default();
        if tag == leg.dialog.id.remote_tag {
            let ack = leg.dialog.clone().request(Method::Ack);
            self.push(Effect::Ack { ack });
        } else if leg.declined.contains(&tag) {
            if let Ok(mut dialog) = Dialog::established(invite, response) {
                let ack = dialog.request(Method::Ack);
                self.push(Effect::Ack { ack });
            }
        } else if leg.declined.len() < DECLINED_MAX {
            leg.declined.push(tag);
            let invite = invite.clone();
            self.decline(&invite, response);
        }
    }

    /// The message under way was answered.
    pub(crate) fn message_answered(
        &mut self,
        pair: &Pair,
        id: OutgoingId,
        response: &Message,
        now: Instant,
    ) {
        let Some(status) = response.status() else { return };
        let Some(session) = self.sessions.get_mut(pair) else { return };
        let Some(under_way) = session.under_way.take_if(|under_way| under_way.id == id) else {
            return;
        };
        if status.is_success() {
            if let Some(sent) = session.queue.pop_front() {
                let id = self.seed.next_hex();
                self.tell(local::receipt(&sent.stanza, &id));
                self.release(sent.receipt);
            }
            self.session_touched(pair, now);
        } else {
            self.message_refused(pair, under_way.tag.as_deref(), response, status);
        }
        self.settle(pair, now);
    }

    fn message_refused(
        &mut self,
        pair: &Pair,
        tag: Option<&str>,
        response: &Message,
        status: Status,
    ) {
        let mut again = false;
        if let Some(session) = self.sessions.get_mut(pair) {
            match (tag, status.code()) {
                // The dialog is dead, the contact perhaps is not: once more, in a new one.
                (Some(_), 408 | 480 | 481) => {
                    if let Some(first) = session.queue.front_mut() {
                        again = !std::mem::replace(&mut first.retried, true);
                    }
                }
                (None, 405 | 415 | 488 | 501)
                    if session.mode == (Mode::Pager { session_refused: false }) =>
                {
                    session.mode = Mode::Session { pager_refused: true };
                    again = true;
                }
                _ => {}
            }
        }
        if let (Some(tag), 408 | 480 | 481) = (tag, status.code()) {
            self.leg_died(pair, tag);
        }
        if again {
            return;
        }
        // What we give up ourselves, because we stop, may arrive after the next start: its author is not
        // told that it does not. The same of a partner, or an edge, that stops with us.
        if self.stopping && matches!(status.code(), 408 | 503) {
            self.keep_first(pair);
            return;
        }
        let (kind, condition, text) = condition::from_response(response);
        self.first_failed(pair, (kind, condition, &text));
    }

    /// The first of the queue is for the next start.
    fn keep_first(&mut self, pair: &Pair) {
        let Some(session) = self.sessions.get_mut(pair) else { return };
        if let Some(first) = session.queue.pop_front() {
            self.keep(first);
        }
    }

    /// The first of the queue will not arrive.
    fn first_failed(&mut self, pair: &Pair, reason: (ErrorKind, StanzaCondition, &str)) {
        let Some(session) = self.sessions.get_mut(pair) else { return };
        if let Some(failed) = session.queue.pop_front() {
            self.bounce_message(failed, reason);
        }
    }

    /// Goes on with the queue, or ends what has neither dialog nor message.
    pub(super) fn settle(&mut self, pair: &Pair, now: Instant) {
        self.pump(pair, now);
        let Some(session) = self.sessions.get(pair) else { return };
        if session.queue.is_empty() && session.invite.is_none() && session.main.is_none() {
            self.end_session(pair, false);
        }
    }

    /// A chat state without text (RFC 7573 section 6).
    fn chat_state(&mut self, pair: &Pair, state: Option<&str>, now: Instant) {
        let state = match state {
            Some("composing") => Composing::Active,
            Some("active" | "paused" | "inactive") => Composing::Idle,
            Some("gone") => {
                if self.sessions.get(pair).is_some_and(|session| session.queue.is_empty()) {
                    self.end_session(pair, false);
                }
                return;
            }
            _ => return,
        };
        let Some(leg) = self.sessions.get_mut(pair).and_then(|session| session.main.as_mut())
        else {
            return;
        };
        if leg.typing_sent == state {
            return;
        }
        let request = match leg.typing {
            Typing::Never => return,
            Typing::Info => {
                let mut request = leg.dialog.request(Method::Info);
                request.set_body(KEYBOARD, composing::keyboard_activity(state));
                request
            }
            Typing::IsComposing => {
                let mut request = leg.dialog.request(Method::Message);
                request.set_body(ISCOMPOSING, composing::iscomposing(state));
                request
            }
        };
        leg.typing_sent = state;
        let tag = leg.dialog.id.local_tag.clone();
        self.send(request, Purpose::Typing(pair.clone(), tag));
        self.session_touched(pair, now);
    }

    /// Who cannot read that somebody is typing is not told again.
    pub(crate) fn typing_answered(&mut self, pair: &Pair, tag: &str, status: Status) {
        if status.is_success() {
            return;
        }
        let Some(session) = self.sessions.get_mut(pair) else { return };
        if let Some(leg) = session.leg(tag) {
            leg.typing = Typing::Never;
        }
        // A message under way finds out by itself, and is sent again.
        let waits = session.under_way.as_ref().is_some_and(|it| it.tag.as_deref() == Some(tag));
        if matches!(status.code(), 408 | 480 | 481) && !waits {
            self.leg_died(pair, tag);
            let session = self.sessions.get(pair);
            if session.is_some_and(|session| {
                session.queue.is_empty() && session.main.is_none() && session.invite.is_none()
            }) {
                self.end_session(pair, false);
            }
        }
    }
}

/// Puts the text in.
fn fill(request: &mut Message, said: &Said) {
    if let Some(lang) = &said.lang {
        sip::put(request, HeaderName::Other("Content-Language".into()), lang.clone());
    }
    let body = said.body.clone().unwrap_or_default();
    request.set_body("text/plain; charset=UTF-8", body);
}

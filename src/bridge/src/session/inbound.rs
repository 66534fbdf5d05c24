//! From the remote user: invitation, messages, typing, farewell.

use std::time::Instant;

use gatehouse_sip::composing::{self, Composing};
use gatehouse_sip::{Dialog, DialogError, HeaderName, Message, Method, Status, sdp};
use gatehouse_types::Jid;

use super::{Typing, describe, typing_of};
use crate::body::{self, BodyError};
use crate::effect::{Effect, RequestKey, Scarce};
use crate::gateway::Arriving;
use crate::local::{self, Incoming, Pair};
use crate::{Gateway, condition, sip};

impl Gateway {
    /// A new invitation. Ours, if one is under way, is not withdrawn: both dialogs are taken, and
    /// [`Session::put_leg`](super::Session) says which one we send in.
    pub(crate) fn invited(&mut self, key: RequestKey, request: &Message, pair: Pair, now: Instant) {
        if is_group(request) {
            let why = "group chat is not possible with this contact";
            self.respond(key, request, 488, Some(why));
            let text = "invited you to a group chat. Group chats with this partner cannot be \
                joined from here; the invitation was declined.";
            self.notice(&pair, text);
            return;
        }
        let offer = match offer_in(request) {
            Ok(offer) => offer,
            Err(why) => {
                self.respond(key, request, 488, Some(why));
                return;
            }
        };
        let tag = self.seed.next_hex();
        let response = self.accept(request, &pair, &tag);
        let Ok(dialog) = Dialog::accepted(request, &response) else {
            self.respond(key, request, 400, Some("the invitation names nobody to answer to"));
            return;
        };
        if !self.open_session(&pair, now) {
            let tag = self.seed.next_hex();
            let why = Some("too many conversations");
            let mut response = sip::answer(request, Status::of(480), &tag, why);
            sip::put(&mut response, HeaderName::RetryAfter, "60");
            self.push(Effect::Respond { key, response });
            return;
        }
        self.push(Effect::Respond { key, response });
        let typing = typing_of(request, &offer.accept_types);
        self.add_leg(&pair, dialog, typing, None, now);
        self.pump(&pair, now);
    }

    /// The 200 to an INVITE. It does not say `Supported: ms-text-format`: what the INVITE carries
    /// of the first message is not claimed, and the partner sends it again as a MESSAGE.
    fn accept(&self, request: &Message, pair: &Pair, tag: &str) -> Message {
        let mut response = sip::answer(request, Status::of(200), tag, None);
        sip::put_contact(&mut response, &pair.local, &self.config.contact);
        sip::put(&mut response, HeaderName::Allow, sip::ALLOW);
        let description = describe(Some(&pair.local), &self.config.public_host);
        response.set_body("application/sdp", description);
        response
    }

    /// A request in a dialog of a session.
    pub(crate) fn session_request(
        &mut self,
        key: RequestKey,
        request: &Message,
        pair: &Pair,
        tag: &str,
        now: Instant,
    ) {
        let id = Dialog::id_of(request);
        let Some(session) = self.sessions.get_mut(pair) else { return };
        let Some(leg) = session.leg(tag).filter(|leg| id.as_ref() == Some(&leg.dialog.id)) else {
            self.respond(key, request, 481, None);
            return;
        };
        match leg.dialog.receive(request) {
            Ok(()) => leg.last_heard = now,
            Err(DialogError::OutOfOrder) => {
                self.respond(key, request, 500, Some("out of order"));
                return;
            }
            Err(DialogError::NotOurs) => {
                self.respond(key, request, 481, None);
                return;
            }
            Err(DialogError::NoContact | DialogError::NoName | DialogError::Routes) => {
                self.respond(key, request, 400, None);
                return;
            }
        }
        self.session_touched(pair, now);
        match request.method() {
            Some(Method::Message) => self.session_message(key, request, pair, tag),
            Some(Method::Info) => self.session_info(key, request, pair),
            Some(Method::Bye) => self.session_bye(key, request, pair, tag, now),
            Some(Method::Invite) => self.invited_again(key, request, pair),
            // Session timers are the partner's: it refreshes, we say that we are still here.
            Some(Method::Update) => {
                let mut response = sip::answer(request, Status::of(200), tag, None);
                sip::put_contact(&mut response, &pair.local, &self.config.contact);
                self.push(Effect::Respond { key, response });
            }
            Some(Method::Options) => self.respond(key, request, 200, None),
            Some(Method::Benotify) => self.push(Effect::Ignore { key }),
            _ => self.respond(key, request, 405, None),
        }
    }

    fn invited_again(&mut self, key: RequestKey, request: &Message, pair: &Pair) {
        if is_group(request) {
            self.respond(key, request, 488, Some("group chat is not possible with this contact"));
            self.notice(
                pair,
                "tried to turn this conversation into a group chat; it was declined.",
            );
            return;
        }
        // An INVITE without offer asks for ours; with one it is a refresh of what stands.
        if !request.body.is_empty()
            && let Err(why) = offer_in(request)
        {
            self.respond(key, request, 488, Some(why));
            return;
        }
        let response = self.accept(request, pair, "");
        self.push(Effect::Respond { key, response });
    }

    fn session_message(&mut self, key: RequestKey, request: &Message, pair: &Pair, tag: &str) {
        if let Some(state) = typing_in(request) {
            self.respond(key, request, 200, None);
            self.remote_types(pair, state);
            return;
        }
        // Who answers to text with text can be told of typing in the same way.
        if let Some(leg) = self.sessions.get_mut(pair).and_then(|session| session.leg(tag))
            && leg.typing == Typing::Never
            && crate::profile::detect(request).is_some()
        {
            leg.typing = typing_of(request, &[]);
        }
        let remote = pair.remote.clone();
        self.arrived(key, request, pair.clone(), &remote, "chat");
    }

    /// A MESSAGE outside any dialog (RFC 7572).
    pub(crate) fn pager_message(
        &mut self,
        key: RequestKey,
        request: &Message,
        pair: Pair,
        device: &Jid,
        now: Instant,
    ) {
        if let Some(state) = typing_in(request) {
            self.respond(key, request, 200, None);
            self.remote_types(&pair, state);
            return;
        }
        self.arrived(key, request, pair, device, "normal");
        let _ = now;
    }

    /// Text for the local user: handed to the router, and answered once it was taken.
    fn arrived(
        &mut self,
        key: RequestKey,
        request: &Message,
        pair: Pair,
        device: &Jid,
        type_: &str,
    ) {
        let text = match text_of(request, self.config.limits.text_bytes_max) {
            Ok(text) => text,
            Err(error) => {
                let tag = self.seed.next_hex();
                let why = error.to_string();
                let mut response = sip::answer(request, error.status(), &tag, Some(&why));
                if error == BodyError::Type {
                    sip::put(&mut response, HeaderName::Accept, body::ACCEPT);
                }
                self.push(Effect::Respond { key, response });
                return;
            }
        };
        if self.take_one(Scarce::Messages, &pair).is_err() {
            let tag = self.seed.next_hex();
            let why = Some("too many messages at once");
            let mut response = sip::answer(request, Status::of(480), &tag, why);
            sip::put(&mut response, HeaderName::RetryAfter, "10");
            self.push(Effect::Respond { key, response });
            return;
        }
        let stanza_id = format!("sip-{:x}-{}", key.0, self.seed.next_hex());
        let subject = request.headers.get(&HeaderName::Subject).map(|text| condition::plain(&text));
        let language = request.headers.get(&HeaderName::Other("Content-Language".into()));
        let session = self.sessions.get_mut(&pair);
        let call_id = request.call_id().ok().map(|id| condition::plain(&id));
        let thread = match session {
            Some(session) if type_ == "chat" => {
                session.told_composing = false;
                Some(session.thread.get_or_insert_with(|| call_id.unwrap_or_default()).clone())
            }
            _ => call_id,
        };
        let content = Incoming {
            type_,
            id: &stanza_id,
            body: &text,
            subject: subject.as_deref(),
            thread: thread.as_deref(),
            lang: language.as_deref(),
        };
        let stanza = local::message(device, &pair.local, &content);
        let Some(stanza) = stanza else {
            self.arriving_count.remove(&pair);
            self.respond(key, request, 400, None);
            return;
        };
        let mut kept = request.clone();
        kept.body = bytes::Bytes::new();
        let tag = self.seed.next_hex();
        self.arriving.insert(key, Arriving { request: kept, tag, stanza_id, pair });
        self.push(Effect::Deliver { key, stanza });
    }

    fn session_info(&mut self, key: RequestKey, request: &Message, pair: &Pair) {
        match typing_in(request) {
            Some(state) => {
                self.respond(key, request, 200, None);
                self.remote_types(pair, state);
            }
            None if request.body.is_empty() => self.respond(key, request, 200, None),
            None => self.respond(key, request, 415, Some("only typing is understood in INFO")),
        }
    }

    fn remote_types(&mut self, pair: &Pair, state: Composing) {
        let Some(session) = self.sessions.get_mut(pair) else { return };
        let composing = state == Composing::Active;
        if session.told_composing == composing {
            return;
        }
        session.told_composing = composing;
        let name = if composing { "composing" } else { "active" };
        let thread = session.thread.clone();
        self.tell(local::chat_state(&pair.remote, &pair.local, name, thread.as_deref()));
    }

    /// The remote user closed the window. A message under way is answered still, or sent again.
    fn session_bye(
        &mut self,
        key: RequestKey,
        request: &Message,
        pair: &Pair,
        tag: &str,
        now: Instant,
    ) {
        self.respond(key, request, 200, None);
        let Some(session) = self.sessions.get_mut(pair) else { return };
        let Some(leg) = session.take_leg(tag) else { return };
        let over = session.main.is_none() && session.queue.is_empty() && session.invite.is_none();
        let thread = session.thread.clone();
        self.drop_leg(&leg);
        if over {
            self.end_session(pair, false);
            self.tell(local::chat_state(&pair.remote, &pair.local, "gone", thread.as_deref()));
        } else {
            self.settle(pair, now);
        }
    }

    /// Says something to the local user that the remote one did not write.
    fn notice(&mut self, pair: &Pair, text: &str) {
        let body = format!("{} {text}", pair.remote);
        let id = self.seed.next_hex();
        let content = Incoming {
            type_: "normal",
            id: &id,
            body: &body,
            subject: None,
            thread: None,
            lang: Some("en"),
        };
        self.tell(local::message(&pair.remote, &pair.local, &content));
    }
}

/// What an INVITE offers; else why it is not taken, with 488.
fn offer_in(request: &Message) -> Result<sdp::ImSession, &'static str> {
    let content_type = request.content_type().ok().flatten();
    if content_type.is_none_or(|it| it.essence != "application/sdp") {
        return Err("only instant messages are taken here");
    }
    sdp::parse(&request.body).map_err(|_| "only instant messages are taken here")
}

/// An invitation to more than two people, or to a conference.
fn is_group(request: &Message) -> bool {
    let other = |name: &str| HeaderName::Other(name.into());
    let triggered = request
        .headers
        .get(&other("TriggeredInvite"))
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
    let conference = request
        .content_type()
        .ok()
        .flatten()
        .is_some_and(|it| it.essence == "application/ms-conf-invite+xml");
    let focus = request
        .contacts()
        .is_ok_and(|list| list.iter().any(|contact| contact.params.has("isfocus")));
    triggered || conference || focus || request.headers.list(&other("EndPoints")).len() > 2
}

/// Whether somebody is typing, if the request says so.
fn typing_in(request: &Message) -> Option<Composing> {
    let content_type = request.content_type().ok().flatten()?;
    composing::parse(&content_type.essence, &request.body)
}

fn text_of(request: &Message, bytes_max: usize) -> Result<String, BodyError> {
    // RFC 3261 section 20.15: no type is no statement; plain text is the only guess.
    let plain = gatehouse_sip::ContentType {
        essence: "text/plain".to_owned(),
        params: gatehouse_sip::Params::default(),
    };
    let content_type = request.content_type().map_err(|_| BodyError::Type)?.unwrap_or(plain);
    let text = body::text(&content_type, &request.body, bytes_max)?;
    if text.trim().is_empty() { Err(BodyError::Malformed) } else { Ok(text) }
}

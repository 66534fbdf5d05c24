//! From partners to local users.

use std::time::Instant;

use gatehouse_sip::{HeaderName, Message, Method, Status};
use gatehouse_types::Jid;
use gatehouse_xmpp::StanzaCondition;

use super::Owner;
use crate::condition::{Addressed, to_status};
use crate::effect::{Effect, RequestKey};
use crate::local::Pair;
use crate::{Gateway, sip};

/// Extensions that a request may require of us (RFC 3261 section 20.32). Session timers (RFC 4028)
/// are the partner's to refresh; we do not start any.
const SUPPORTED: [&str; 2] = ["timer", "ms-dialog-route-set-update"];

impl Gateway {
    /// Takes a request of a partner, ACK excluded, CANCEL excluded.
    pub fn handle_request(&mut self, key: RequestKey, request: Message, now: Instant) {
        let Some(method) = request.method() else { return };
        let (pair, device) = match addressed(&request) {
            Ok(found) => found,
            Err(status) if method == Method::Benotify => {
                let _ = status;
                self.push(Effect::Ignore { key });
                return;
            }
            Err(status) => {
                self.respond(key, &request, status.code(), Some("address cannot be reached"));
                return;
            }
        };
        self.learn(&pair.remote, &request);
        let refused = not_supported(&request);
        if !refused.is_empty() && method != Method::Benotify {
            let tag = self.seed.next_hex();
            let why = Some("an extension that is not supported here is required");
            let mut response = sip::answer(&request, Status::of(420), &tag, why);
            sip::put(&mut response, HeaderName::Unsupported, refused.join(", "));
            self.push(Effect::Respond { key, response });
            return;
        }
        let to_tag = request.to().ok().and_then(|to| to.tag().map(str::to_owned));
        match to_tag {
            Some(tag) => self.in_dialog(key, &request, &method, (&tag, &pair), now),
            None => self.out_of_dialog(key, &request, &method, (pair, device), now),
        }
    }

    fn out_of_dialog(
        &mut self,
        key: RequestKey,
        request: &Message,
        method: &Method,
        (pair, device): (Pair, Jid),
        now: Instant,
    ) {
        // RFC 5393: what we sent ourselves has come round, through somebody who changed its From.
        let begins = matches!(method, Method::Invite | Method::Message | Method::Subscribe);
        if begins && request.call_id().is_ok_and(|call_id| self.is_own_call(&call_id)) {
            self.respond(key, request, 482, Some("this request began here"));
            return;
        }
        match method {
            Method::Invite => self.invited(key, request, pair, now),
            Method::Message => self.pager_message(key, request, pair, &device, now),
            Method::Subscribe => self.subscribed_to(key, request, pair, now),
            Method::Options => {
                let tag = self.seed.next_hex();
                let mut response = sip::answer(request, Status::of(200), &tag, None);
                sip::put(&mut response, HeaderName::Allow, sip::ALLOW);
                sip::put(&mut response, HeaderName::Accept, crate::body::ACCEPT);
                self.push(Effect::Respond { key, response });
            }
            Method::Notify | Method::Bye | Method::Info | Method::Update | Method::Cancel => {
                self.respond(key, request, 481, None);
            }
            Method::Benotify => self.push(Effect::Ignore { key }),
            Method::Ack => {}
            _ => self.respond(key, request, 405, Some("this kind of request is not taken here")),
        }
    }

    fn in_dialog(
        &mut self,
        key: RequestKey,
        request: &Message,
        method: &Method,
        (tag, who): (&str, &Pair),
        now: Instant,
    ) {
        // The edge proved the domain in this request's From: it must be that of the dialog, or who
        // guessed a tag would speak for somebody else. Who of the domain speaks is the domain's word.
        let of_dialog = |owner: &Owner| match owner {
            Owner::Session(pair) | Owner::Watch(pair) | Owner::Person(pair) => Some(pair.clone()),
            Owner::Fetch => self.fetches.get(tag).map(|fetch| fetch.pair.clone()),
        };
        let fits =
            |pair: Pair| pair.remote.domain() == who.remote.domain() && pair.local == who.local;
        let owner = self.tags.get(tag).filter(|it| of_dialog(it).is_some_and(fits)).cloned();
        match (owner, method) {
            (Some(Owner::Session(pair)), _) => {
                self.session_request(key, request, &pair, tag, now);
            }
            (Some(Owner::Watch(pair)), Method::Notify | Method::Benotify) => {
                self.notified(key, request, &pair, now);
            }
            (Some(Owner::Fetch), Method::Notify | Method::Benotify) => {
                self.fetched(key, request, tag);
            }
            (Some(Owner::Person(pair)), Method::Subscribe) => {
                self.refreshed(key, request, &pair, tag, now);
            }
            (_, Method::Benotify) => self.push(Effect::Ignore { key }),
            _ => self.respond(key, request, 481, None),
        }
    }

    /// Takes the ACK of a 2xx of ours. Messages may follow the 2xx at once, so nothing waits for it.
    pub fn handle_ack(&mut self, ack: &Message, now: Instant) {
        let tag = ack.to().ok().and_then(|to| to.tag().map(str::to_owned));
        if let Some(Owner::Session(pair)) = tag.and_then(|tag| self.tags.get(&tag).cloned()) {
            self.session_touched(&pair, now);
        }
    }

    /// What became of an [`Effect::Deliver`]: the router took the message, or says why it did not.
    pub fn delivered(&mut self, key: RequestKey, taken: Result<(), StanzaCondition>, now: Instant) {
        let Some(arriving) = self.arriving.remove(&key) else { return };
        self.arriving_count.remove(&arriving.pair);
        let status = match taken {
            Ok(()) => Status::of(200),
            Err(condition) => to_status(condition, Addressed::Bare),
        };
        let why = taken.err().map(|condition| condition.as_str());
        let response = sip::answer(&arriving.request, status, &arriving.tag, why);
        self.push(Effect::Respond { key, response });
        self.session_touched(&arriving.pair, now);
    }
}

/// Who talks to whom: the two persons, and the remote one's device.
fn addressed(request: &Message) -> Result<(Pair, Jid), Status> {
    let to = request.to().map_err(|error| error.status)?;
    let from = request.from().map_err(|error| error.status)?;
    if sip::is_sips(&to.uri) || request.uri().is_some_and(sip::is_sips) {
        return Err(Status::of(416));
    }
    let local = sip::person(&to).map_err(crate::address::AddressError::status)?;
    // Who writes from an address that cannot be answered is told so.
    let remote = sip::person(&from).map_err(|_| Status::of(400))?;
    Ok((Pair { local: local.to_bare(), remote: remote.to_bare() }, remote))
}

/// What a request requires and we do not do. `Proxy-Require` is for the edge; what is left of it
/// here asks for Microsoft's ways (`ms-benotify`), which end at the border.
fn not_supported(request: &Message) -> Vec<String> {
    let mut missing = request.headers.list(&HeaderName::Require);
    missing.retain(|name| !SUPPORTED.iter().any(|known| known.eq_ignore_ascii_case(name)));
    missing.extend(request.headers.list(&HeaderName::ProxyRequire));
    missing
}

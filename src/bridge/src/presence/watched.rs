//! SIP contacts who watch local users: SUBSCRIBE in, NOTIFY out.

use std::time::{Duration, Instant};

use gatehouse_sip::{Dialog, HeaderName, Message, Method, Status, SubscriptionState, pidf};

use super::retry_after;
use crate::availability::{Availability, Compose, to_pidf};
use crate::effect::{Effect, OutgoingId, RequestKey, Scarce};
use crate::gateway::{Owner, Purpose, TimerKey};
use crate::local::{self, Pair};
use crate::profile::Profile;
use crate::record::{Stored, watched_key};
use crate::{Gateway, address, sip};

/// One local user, as one contact may see them.
#[derive(Debug)]
pub(crate) struct Person {
    /// `None`: not decided. `Some(false)`: no, which the contact sees as offline.
    granted: Option<bool>,
    devices: Vec<Availability>,
    /// One for each device of the contact.
    watchers: Vec<Watcher>,
}

/// One subscription.
#[derive(Debug)]
struct Watcher {
    dialog: Dialog,
    event_id: Option<String>,
    expires_at: Instant,
    /// A NOTIFY is to be sent then.
    notify_at: Option<Instant>,
    under_way: Option<OutgoingId>,
    failures: u8,
    /// After a restart: the user's devices are asked for first.
    ask_first: bool,
    /// A single look (Expires 0): its last NOTIFY is its only one, and says what is there.
    look: bool,
}

/// How long the answers to a probe may take before a NOTIFY says what is known.
const PROBE_WAIT: Duration = Duration::from_secs(2);

impl Person {
    fn new(granted: Option<bool>) -> Self {
        Self { granted, devices: Vec::new(), watchers: Vec::new() }
    }

    fn watcher(&mut self, tag: &str) -> Option<&mut Watcher> {
        self.watchers.iter_mut().find(|watcher| watcher.dialog.id.local_tag == tag)
    }

    /// When something is to be done next.
    fn due(&self) -> Option<Instant> {
        let of = |watcher: &Watcher| {
            let notify = watcher.notify_at.filter(|_| watcher.under_way.is_none());
            notify.map_or(watcher.expires_at, |at| at.min(watcher.expires_at))
        };
        self.watchers.iter().map(of).min()
    }
}

impl Gateway {
    /// A SUBSCRIBE outside any dialog.
    pub(crate) fn subscribed_to(
        &mut self,
        key: RequestKey,
        request: &Message,
        pair: Pair,
        now: Instant,
    ) {
        let event = request.event().ok().flatten();
        let Some(event) = event.filter(|event| event.package == "presence") else {
            let tag = self.seed.next_hex();
            let why = Some("only presence can be subscribed to");
            let mut response = sip::answer(request, Status::of(489), &tag, why);
            sip::put(&mut response, HeaderName::AllowEvents, "presence");
            self.push(Effect::Respond { key, response });
            return;
        };
        if !accepts_pidf(request) {
            self.respond(key, request, 406, Some("presence is sent as application/pidf+xml"));
            return;
        }
        let Some(expires) = self.granted_time(key, request) else { return };
        let tag = self.seed.next_hex();
        let mut response = sip::answer(request, Status::of(200), &tag, None);
        sip::put(&mut response, HeaderName::Expires, expires.to_string());
        sip::put_contact(&mut response, &pair.local, &self.config.contact);
        let Ok(dialog) = Dialog::accepted(request, &response) else {
            self.respond(key, request, 400, Some("the request names nobody to notify"));
            return;
        };
        let per_pair = self.config.limits.subscriptions_per_pair_max;
        let full = self.people.get(&pair).is_some_and(|it| it.watchers.len() >= per_pair);
        if full || self.take_one(Scarce::Subscriptions, &pair).is_err() {
            let tag = self.seed.next_hex();
            let why = Some("too many subscriptions");
            let mut response = sip::answer(request, Status::of(480), &tag, why);
            sip::put(&mut response, HeaderName::RetryAfter, "600");
            self.push(Effect::Respond { key, response });
            return;
        }
        self.push(Effect::Respond { key, response });
        let expires_at = now + Duration::from_secs(expires.into());
        // A look (Expires 0) waits for the answer to the probe, within reason.
        let wait = if expires == 0 { PROBE_WAIT } else { Duration::ZERO };
        let expires_at = expires_at.max(now + wait);
        let watcher = Watcher {
            dialog,
            event_id: event.id,
            expires_at,
            notify_at: (expires > 0).then_some(now),
            under_way: None,
            failures: 0,
            ask_first: false,
            look: expires == 0,
        };
        self.add_watcher(&pair, watcher, None);
        let granted = self.people.get(&pair).and_then(|person| person.granted);
        // A look asks nobody for a permission: the user's server answers who has one.
        let look = expires == 0;
        let question = if look || granted == Some(true) { "probe" } else { "subscribe" };
        self.tell(local::presence(&pair.remote, &pair.local, question));
        if !look {
            self.store_watcher(&pair, &tag, now);
        }
        self.person_due(&pair, now);
    }

    fn add_watcher(&mut self, pair: &Pair, watcher: Watcher, granted: Option<bool>) {
        let tag = watcher.dialog.id.local_tag.clone();
        self.tags.insert(tag, Owner::Person(pair.clone()));
        let person = self.people.entry(pair.clone()).or_insert_with(|| Person::new(granted));
        person.watchers.push(watcher);
        self.watched += 1;
        self.schedule(pair);
    }

    pub(super) fn revive_watched(
        &mut self,
        pair: Pair,
        granted: Option<bool>,
        (event_id, dialog): (Option<String>, Dialog),
        (at, expires_at): (Instant, Instant),
    ) {
        let known = self.tags.contains_key(&dialog.id.local_tag);
        if known || self.take_one(Scarce::Subscriptions, &pair).is_err() {
            return;
        }
        let watcher = Watcher {
            dialog,
            event_id,
            expires_at,
            notify_at: Some(at),
            under_way: None,
            failures: 0,
            ask_first: true,
            look: false,
        };
        self.add_watcher(&pair, watcher, granted);
    }

    /// How long a watcher gets; `None` if the request was answered 423.
    fn granted_time(&mut self, key: RequestKey, request: &Message) -> Option<u32> {
        let asked = request.expires().ok().flatten().unwrap_or(3600);
        if asked > 0 && asked < self.config.watched_expires_min {
            let tag = self.seed.next_hex();
            let mut response = sip::answer(request, Status::of(423), &tag, Some("too brief"));
            let min = self.config.watched_expires_min.to_string();
            sip::put(&mut response, HeaderName::MinExpires, min);
            self.push(Effect::Respond { key, response });
            return None;
        }
        Some(asked.min(self.config.watched_expires_max))
    }

    /// A SUBSCRIBE in a dialog: refresh, or the end.
    pub(crate) fn refreshed(
        &mut self,
        key: RequestKey,
        request: &Message,
        pair: &Pair,
        tag: &str,
        now: Instant,
    ) {
        let id = Dialog::id_of(request);
        let fits = |watcher: &&mut Watcher| id.as_ref() == Some(&watcher.dialog.id);
        let Some(watcher) =
            self.people.get_mut(pair).and_then(|person| person.watcher(tag)).filter(fits)
        else {
            self.respond(key, request, 481, None);
            return;
        };
        if watcher.dialog.receive(request).is_err() {
            self.respond(key, request, 500, Some("out of order"));
            return;
        }
        let Some(expires) = self.granted_time(key, request) else { return };
        let mut response = sip::answer(request, Status::of(200), tag, None);
        sip::put(&mut response, HeaderName::Expires, expires.to_string());
        sip::put_contact(&mut response, &pair.local, &self.config.contact);
        self.push(Effect::Respond { key, response });
        if expires == 0 {
            self.end_watcher(pair, tag);
            return;
        }
        if let Some(watcher) = self.people.get_mut(pair).and_then(|person| person.watcher(tag)) {
            watcher.expires_at = now + Duration::from_secs(expires.into());
            watcher.notify_at = Some(now);
            watcher.failures = 0;
        }
        // RFC 8048 section 8: one old authorisation must not live on by refreshes alone. Each one
        // asks the user's server, which answers `unsubscribed` if it stands no longer.
        let granted = self.people.get(pair).and_then(|person| person.granted);
        let question = if granted == Some(true) { "probe" } else { "subscribe" };
        self.tell(local::presence(&pair.remote, &pair.local, question));
        self.store_watcher(pair, tag, now);
        self.person_due(pair, now);
    }

    /// The local user, or their server, allowed the contact to watch.
    pub(crate) fn granted(&mut self, pair: &Pair, now: Instant) {
        self.decided(pair, true, now);
    }

    /// The local user said no, or took it back. Polite: the contact sees the user offline.
    pub(crate) fn denied(&mut self, pair: &Pair, now: Instant) {
        self.decided(pair, false, now);
    }

    fn decided(&mut self, pair: &Pair, granted: bool, now: Instant) {
        let Some(person) = self.people.get_mut(pair) else { return };
        if person.granted == Some(granted) {
            return;
        }
        person.granted = Some(granted);
        if !granted {
            person.devices.clear();
        }
        let tags: Vec<String> =
            person.watchers.iter().map(|watcher| watcher.dialog.id.local_tag.clone()).collect();
        for tag in tags {
            self.store_watcher(pair, &tag, now);
        }
        self.notify_soon(pair, now);
    }

    /// A device of a local user sent presence to a contact.
    pub(crate) fn presence_changed(&mut self, pair: &Pair, device: Availability, now: Instant) {
        let most = self.config.limits.resources_max;
        let Some(person) = self.people.get_mut(pair) else { return };
        // Who says "unavailable" without a device means all of them.
        if device.resource.is_none() && !device.available {
            if person.devices.is_empty() {
                return;
            }
            person.devices.clear();
        } else {
            let known = person.devices.iter().position(|old| old.resource == device.resource);
            match (known, device.available) {
                (Some(at), true) => match person.devices.get_mut(at) {
                    Some(old) if *old != device => *old = device,
                    _ => return,
                },
                (Some(at), false) => {
                    person.devices.remove(at);
                }
                (None, true) if person.devices.len() < most => person.devices.push(device),
                (None, _) => return,
            }
        }
        if person.granted != Some(false) {
            self.notify_soon(pair, now);
        }
    }

    /// Gathers what changes within a moment into one NOTIFY.
    fn notify_soon(&mut self, pair: &Pair, now: Instant) {
        let at = now + self.config.notify_delay;
        let Some(person) = self.people.get_mut(pair) else { return };
        // A look has one NOTIFY, at its end: that it comes sooner or twice would tell what was asked.
        for watcher in person.watchers.iter_mut().filter(|watcher| !watcher.look) {
            watcher.notify_at = Some(watcher.notify_at.map_or(at, |known| known.min(at)));
            watcher.ask_first = false;
        }
        self.schedule(pair);
    }

    fn schedule(&mut self, pair: &Pair) {
        let due = self.people.get(pair).and_then(Person::due);
        self.timers.set(&TimerKey::Person(pair.clone()), due);
    }

    /// Something is to be done for the watchers of a person.
    pub(crate) fn person_due(&mut self, pair: &Pair, now: Instant) {
        let Some(person) = self.people.get(pair) else { return };
        let tags: Vec<String> =
            person.watchers.iter().map(|watcher| watcher.dialog.id.local_tag.clone()).collect();
        for tag in tags {
            let Some(person) = self.people.get_mut(pair) else { return };
            let granted = person.granted;
            let Some(watcher) = person.watcher(&tag) else { continue };
            if watcher.expires_at <= now {
                self.end_watcher(pair, &tag);
                continue;
            }
            let due = watcher.under_way.is_none() && watcher.notify_at.is_some_and(|at| at <= now);
            if !due {
                continue;
            }
            if watcher.ask_first {
                // One question for all devices of the contact: they hear the same answer.
                for watcher in person.watchers.iter_mut().filter(|watcher| watcher.ask_first) {
                    watcher.ask_first = false;
                    watcher.notify_at = Some(now + PROBE_WAIT);
                }
                let question = if granted == Some(true) { "probe" } else { "subscribe" };
                self.tell(local::presence(&pair.remote, &pair.local, question));
            } else {
                let left = watcher.expires_at.saturating_duration_since(now).as_secs();
                let expires = Some(u32::try_from(left).unwrap_or(u32::MAX));
                let state = match granted {
                    None => SubscriptionState::Pending { expires },
                    Some(_) => SubscriptionState::Active { expires },
                };
                self.notify(pair, &tag, &state);
            }
        }
        self.schedule(pair);
    }

    /// Sends the NOTIFY of what is known now.
    fn notify(&mut self, pair: &Pair, tag: &str, state: &SubscriptionState) {
        let compose = match self.profile_of(&pair.remote) {
            Profile::Lync => Compose::Best,
            Profile::Standard => Compose::Each,
        };
        let contact = self.config.contact.clone();
        let Some(person) = self.people.get_mut(pair) else { return };
        let pending = matches!(state, SubscriptionState::Pending { .. });
        let active = matches!(state, SubscriptionState::Active { .. });
        let granted = person.granted == Some(true);
        let denied = person.granted == Some(false);
        let all = person.devices.clone();
        let Some(watcher) = person.watcher(tag) else { return };
        // Who waits for the user's word, was refused, or has ended it, sees nobody. What comes while
        // somebody looks is the answer of the user's server to this very contact.
        let shown = if watcher.look { !denied } else { granted && active };
        let devices = if shown { all } else { Vec::new() };
        let mut request = watcher.dialog.request(Method::Notify);
        sip::put_contact(&mut request, &pair.local, &contact);
        let event = match &watcher.event_id {
            Some(id) => format!("presence;id={id}"),
            None => "presence".to_owned(),
        };
        sip::put(&mut request, HeaderName::Event, event);
        sip::put(&mut request, HeaderName::SubscriptionState, state.to_string());
        if !pending {
            let entity = address::to_uri(&pair.local).to_string();
            request.set_body(sip::PIDF, pidf::write(&to_pidf(&entity, &devices, compose)));
        }
        watcher.notify_at = None;
        let id = self.send(request, Purpose::Notify(pair.clone(), tag.to_owned()));
        if let Some(watcher) = self.people.get_mut(pair).and_then(|person| person.watcher(tag)) {
            watcher.under_way = Some(id);
        }
    }

    /// A NOTIFY was answered.
    pub(crate) fn notify_answered(
        &mut self,
        pair: &Pair,
        tag: &str,
        response: &Message,
        now: Instant,
    ) {
        let Some(status) = response.status() else { return };
        let wait = retry_after(response);
        let Some(watcher) = self.people.get_mut(pair).and_then(|person| person.watcher(tag)) else {
            return;
        };
        watcher.under_way = None;
        match status.code() {
            200..=299 => watcher.failures = 0,
            // RFC 6665 section 4.2.2: the watcher is gone. No last NOTIFY: it would fare the same.
            404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604 => {
                self.drop_watcher(pair, tag);
                return;
            }
            // Anything else may be the way there: what it missed is sent again.
            _ => {
                let failures = watcher.failures;
                watcher.failures = failures.saturating_add(1);
                let wait = wait.unwrap_or_default().max(self.backoff(failures));
                if let Some(watcher) =
                    self.people.get_mut(pair).and_then(|person| person.watcher(tag))
                {
                    watcher.notify_at = Some(now + wait);
                }
            }
        }
        self.person_due(pair, now);
    }

    /// The time is over, or the watcher wants no more: the last NOTIFY, offline.
    fn end_watcher(&mut self, pair: &Pair, tag: &str) {
        let reason = Some("timeout".to_owned());
        self.notify(pair, tag, &SubscriptionState::Terminated { reason, retry_after: None });
        self.drop_watcher(pair, tag);
    }

    /// Policy lets the two not talk: the watchers hear nothing more, not even that.
    pub(crate) fn drop_watchers(&mut self, pair: &Pair) {
        let tags = |person: &Person| -> Vec<String> {
            person.watchers.iter().map(|it| it.dialog.id.local_tag.clone()).collect()
        };
        for tag in self.people.get(pair).map(tags).unwrap_or_default() {
            let watcher = self.people.get_mut(pair).and_then(|person| person.watcher(&tag));
            if let Some(id) = watcher.and_then(|watcher| watcher.under_way) {
                self.lose_interest(id);
            }
            self.drop_watcher(pair, &tag);
        }
    }

    fn drop_watcher(&mut self, pair: &Pair, tag: &str) {
        let Some(person) = self.people.get_mut(pair) else { return };
        let Some(at) = person.watchers.iter().position(|it| it.dialog.id.local_tag == tag) else {
            return;
        };
        person.watchers.swap_remove(at);
        let empty = person.watchers.is_empty();
        self.tags.remove(tag);
        self.watched = self.watched.saturating_sub(1);
        self.subscription_count.remove(pair);
        self.forget(watched_key(tag));
        if empty {
            self.people.remove(pair);
            // RFC 8048 section 5.3.3: the user hears that the contact watches no more.
            self.tell(local::presence(&pair.remote, &pair.local, "unavailable"));
        }
        self.schedule(pair);
    }

    fn store_watcher(&mut self, pair: &Pair, tag: &str, now: Instant) {
        let Some(person) = self.people.get_mut(pair) else { return };
        let granted = person.granted;
        let Some(watcher) = person.watcher(tag) else { return };
        let stored = Stored::Watched {
            pair: pair.clone(),
            granted,
            event_id: watcher.event_id.clone(),
            dialog: watcher.dialog.clone(),
        };
        let lasts = watcher.expires_at.saturating_duration_since(now);
        self.push(Effect::Store { record: stored.to_record(), lasts });
    }
}

/// True if a watcher reads what we write; without Accept it does (RFC 3856 section 6.7).
fn accepts_pidf(request: &Message) -> bool {
    let accept = request.headers.list(&HeaderName::Accept);
    let essence = |text: &String| text.split(';').next().unwrap_or_default().trim().to_lowercase();
    accept.is_empty()
        || accept
            .iter()
            .map(essence)
            .any(|it| it == sip::PIDF || it == "*/*" || it == "application/*")
}

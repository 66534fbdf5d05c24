//! Local users who watch SIP contacts: SUBSCRIBE out, NOTIFY in.

use std::time::{Duration, Instant};

use gatehouse_sip::{Dialog, HeaderName, Message, Method, Status, SubscriptionState};
use gatehouse_types::Jid;

use super::{NOTIFY_WAIT, retry_after};
use crate::availability::Availability;
use crate::effect::{Effect, OutgoingId, RequestKey, Scarce};
use crate::gateway::{Owner, Purpose, TimerKey};
use crate::local::{self, Pair};
use crate::record::{Stored, watch_key};
use crate::{Gateway, condition, sip};

/// One local user's interest in one contact.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Our tag in the dialog, or in the request that will make it one.
    tag: String,
    dialog: Option<Dialog>,
    /// The SUBSCRIBE that is to make a dialog.
    request: Option<Box<Message>>,
    under_way: Option<OutgoingId>,
    /// The contact said yes, and the local user knows.
    granted: bool,
    /// The local user unsubscribed.
    leaving: bool,
    /// Something was heard in this dialog.
    notified: bool,
    /// How long the last 2xx said that it lasts.
    granted_seconds: u32,
    /// Since the last subscription that lasted.
    failures: u8,
    /// When the last SUBSCRIBE was sent.
    asked_at: Option<Instant>,
    /// When the dialog began, if it was since the start.
    began_at: Option<Instant>,
    /// When it was renewed at once because the partner had ended it.
    hurried_at: Option<Instant>,
    /// Policy forbids it for now.
    paused: bool,
    /// What the local user was told last.
    devices: Vec<Availability>,
    /// What the next moment is for.
    due: Due,
}

/// A subscription that the partner ended is renewed at once no more often than this. One that did not
/// last so long has failed.
const HURRY_MIN: Duration = Duration::from_secs(60);
/// No subscription is renewed sooner after it was asked for, however little was granted (RFC 6665
/// sets no minimum): what is granted for a minute is still renewed in time.
const RENEW_MIN: Duration = Duration::from_secs(50);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Due {
    /// Renew: in the dialog, or with a new one.
    Renew,
    /// No NOTIFY came.
    NotifyMissing,
    /// The last NOTIFY of a subscription that we ended.
    Over,
}

/// One look at a contact's presence, in a dialog that ends with the answer.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) pair: Pair,
    /// Who asked.
    asker: Jid,
}

impl Gateway {
    /// A local user subscribes to a contact. False if there are too many subscriptions.
    pub(crate) fn watch(&mut self, pair: &Pair, now: Instant) -> bool {
        if let Some(watch) = self.watches.get_mut(pair) {
            if !watch.leaving {
                if watch.granted {
                    self.tell(local::presence(&pair.remote, &pair.local, "subscribed"));
                    self.show_devices(pair, &pair.local.clone());
                }
                return true;
            }
            // Subscribed again before the end of the old subscription was heard.
            self.drop_watch(pair);
        }
        if !self.add_watch(pair, false, None) {
            return false;
        }
        self.store_watch(pair);
        self.subscribe(pair, now);
        true
    }

    fn add_watch(&mut self, pair: &Pair, granted: bool, dialog: Option<Dialog>) -> bool {
        if self.take_one(Scarce::Subscriptions, pair).is_err() {
            return false;
        }
        let tag = match &dialog {
            Some(dialog) => dialog.id.local_tag.clone(),
            None => self.seed.next_hex(),
        };
        let notified = dialog.is_some();
        self.tags.insert(tag.clone(), Owner::Watch(pair.clone()));
        let watch = Watch {
            tag,
            dialog,
            request: None,
            under_way: None,
            granted,
            leaving: false,
            notified,
            granted_seconds: self.config.subscribe_expires,
            failures: 0,
            asked_at: None,
            began_at: None,
            hurried_at: None,
            paused: false,
            devices: Vec::new(),
            due: Due::Renew,
        };
        self.watches.insert(pair.clone(), watch);
        true
    }

    pub(super) fn revive_watch(
        &mut self,
        pair: Pair,
        granted: bool,
        dialog: Option<Dialog>,
        at: Instant,
    ) {
        if !self.watches.contains_key(&pair) && self.add_watch(&pair, granted, dialog) {
            self.timers.set(&TimerKey::Watch(pair), Some(at));
        }
    }

    /// Sends SUBSCRIBE: in the dialog if there is one, else to make one.
    fn subscribe(&mut self, pair: &Pair, now: Instant) {
        let expires = match self.watches.get(pair) {
            Some(watch) if watch.leaving => 0,
            Some(watch) if watch.under_way.is_some() => return,
            Some(_) => self.config.subscribe_expires,
            None => return,
        };
        let (tag, call_id) = (self.seed.next_hex(), self.next_call_id());
        let Some(watch) = self.watches.get_mut(pair) else { return };
        let mut request = match &mut watch.dialog {
            Some(dialog) => dialog.request(Method::Subscribe),
            None => {
                // A new dialog has a name of its own, or a late NOTIFY of the old one would fit it.
                self.tags.remove(&watch.tag);
                watch.tag.clone_from(&tag);
                watch.notified = false;
                self.tags.insert(tag.clone(), Owner::Watch(pair.clone()));
                sip::initial(Method::Subscribe, &pair.local, &pair.remote, &tag, &call_id)
            }
        };
        fill(&mut request, &pair.local, &self.config.contact, expires);
        watch.request = watch.dialog.is_none().then(|| Box::new(request.clone()));
        watch.due = if watch.leaving { Due::Over } else { Due::NotifyMissing };
        let id = self.send(request, Purpose::Subscribe(pair.clone()));
        if let Some(watch) = self.watches.get_mut(pair) {
            (watch.under_way, watch.asked_at) = (Some(id), Some(now));
        }
        // From the moment of sending: the answer itself has 32 s (timer F).
        self.timers.set(&TimerKey::Watch(pair.clone()), Some(now + 2 * NOTIFY_WAIT));
    }

    /// A SUBSCRIBE was answered.
    pub(crate) fn subscribe_answered(
        &mut self,
        pair: &Pair,
        id: OutgoingId,
        response: &Message,
        now: Instant,
    ) {
        let Some(status) = response.status() else { return };
        let Some(watch) = self.watches.get_mut(pair) else { return };
        if watch.under_way.take_if(|known| *known == id).is_none() {
            return;
        }
        if watch.leaving {
            // Also after a failure: the user wants it over, and so it is.
            self.tell(local::presence(&pair.remote, &pair.local, "unsubscribed"));
            self.timers.set(&TimerKey::Watch(pair.clone()), Some(now + NOTIFY_WAIT));
            return;
        }
        if status.is_success() {
            if watch.dialog.is_none()
                && let Some(request) = &watch.request
                && let Ok(dialog) = Dialog::established(request, response)
            {
                watch.dialog = Some(dialog);
            }
            // A new one must last before it counts.
            match watch.request.take() {
                Some(_) => watch.began_at = Some(now),
                None => watch.failures = 0,
            }
            let granted = response.expires().ok().flatten();
            let expires = granted.unwrap_or(self.config.subscribe_expires);
            watch.granted_seconds = expires;
            self.renew_in(pair, expires, now);
            self.store_watch(pair);
            return;
        }
        self.subscribe_refused(pair, response, status, now);
    }

    fn subscribe_refused(&mut self, pair: &Pair, response: &Message, status: Status, now: Instant) {
        let Some(watch) = self.watches.get_mut(pair) else { return };
        let in_dialog = watch.dialog.is_some();
        match status.code() {
            // RFC 8048 section 4.2.2: these are for good.
            403 | 489 | 603 => self.watch_rejected(pair),
            423 => {
                let min = response.headers.get(&HeaderName::MinExpires);
                let min = min.and_then(|min| min.trim().parse::<u32>().ok());
                let first = watch.failures == 0;
                watch.failures = watch.failures.saturating_add(1);
                match min.filter(|min| first && *min > self.config.subscribe_expires) {
                    Some(min) => self.subscribe_for(pair, min.min(86_400), now),
                    None => self.retry_later(pair, None, now),
                }
            }
            481 if in_dialog => {
                watch.dialog = None;
                self.subscribe(pair, now);
            }
            // Nobody of that name, or nobody who has presence: the author of the request is told.
            404 | 405 | 410 | 416 | 484 | 485 | 501 | 604 if !watch.granted => {
                let (kind, condition, text) = condition::from_response(response);
                let reason = (kind, condition, text.as_str());
                self.tell(local::presence_error(&pair.remote, &pair.local, reason));
                self.drop_watch(pair);
                self.forget(watch_key(pair));
            }
            _ => {
                // What is granted stands until it runs out; then a new dialog is made.
                if matches!(status.code(), 404 | 405 | 410 | 416 | 480..=485 | 501 | 604) {
                    watch.dialog = None;
                }
                self.retry_later(pair, retry_after(response), now);
            }
        }
    }

    /// As [`subscribe`](Self::subscribe), with the time that the notifier wants.
    fn subscribe_for(&mut self, pair: &Pair, seconds: u32, now: Instant) {
        let usual = std::mem::replace(&mut self.config.subscribe_expires, seconds);
        self.subscribe(pair, now);
        self.config.subscribe_expires = usual;
    }

    fn retry_later(&mut self, pair: &Pair, after: Option<Duration>, now: Instant) {
        let Some(watch) = self.watches.get_mut(pair) else { return };
        watch.failures = watch.failures.saturating_add(1);
        watch.due = Due::Renew;
        watch.request = None;
        let failures = watch.failures - 1;
        let wait = after.unwrap_or_default().max(self.backoff(failures));
        self.timers.set(&TimerKey::Watch(pair.clone()), Some(now + wait));
    }

    /// Renews well before the end: a tenth of the time, at least 5 s and at most 10 min before it. A
    /// partner that grants next to nothing is asked no more often for it: presence is late then.
    fn renew_in(&mut self, pair: &Pair, expires: u32, now: Instant) {
        let Some(watch) = self.watches.get_mut(pair) else { return };
        let expires = expires.min(86_400);
        let (due, seconds) = if watch.notified {
            (Due::Renew, u64::from(expires - (expires / 10).clamp(5, 600).min(expires / 2)).max(5))
        } else {
            (Due::NotifyMissing, NOTIFY_WAIT.as_secs())
        };
        watch.due = due;
        let wanted = now + Duration::from_secs(seconds);
        let at = watch.asked_at.map_or(wanted, |asked| wanted.max(asked + RENEW_MIN));
        if at > wanted {
            let domain = pair.remote.domain().clone();
            self.push(Effect::ShortLived { domain, seconds: expires });
        }
        self.timers.set(&TimerKey::Watch(pair.clone()), Some(at));
    }

    /// The moment of a watch has come.
    pub(crate) fn watch_due(&mut self, pair: &Pair, now: Instant) {
        let Some(watch) = self.watches.get_mut(pair) else { return };
        match watch.due {
            Due::Renew => self.subscribe(pair, now),
            Due::NotifyMissing => {
                watch.dialog = None;
                if let Some(id) = watch.under_way.take() {
                    self.lose_interest(id);
                }
                self.retry_later(pair, None, now);
            }
            Due::Over => self.drop_watch(pair),
        }
    }

    /// A NOTIFY for a watch.
    pub(crate) fn notified(
        &mut self,
        key: RequestKey,
        notify: &Message,
        pair: &Pair,
        now: Instant,
    ) {
        let answered = notify.method() == Some(Method::Notify);
        let refuse = |gateway: &mut Self, code| {
            if answered {
                gateway.respond(key, notify, code, None);
            } else {
                gateway.push(Effect::Ignore { key });
            }
        };
        let Some(watch) = self.watches.get_mut(pair) else { return };
        // The NOTIFY may overtake the answer to the SUBSCRIBE (RFC 6665 section 4.4.1).
        let early = watch.request.as_ref().filter(|_| watch.dialog.is_none());
        let mut taken_in = false;
        if let Some(request) = early
            && let Ok(dialog) = Dialog::established(request, notify)
        {
            watch.dialog = Some(dialog);
            taken_in = true;
        }
        let Some(dialog) =
            watch.dialog.as_mut().filter(|known| Dialog::id_of(notify).as_ref() == Some(&known.id))
        else {
            refuse(self, 481);
            return;
        };
        if !taken_in && dialog.receive(notify).is_err() {
            refuse(self, 500);
            return;
        }
        let event = notify.event().ok().flatten();
        let Some(state) = notify
            .subscription_state()
            .ok()
            .flatten()
            .filter(|_| event.is_some_and(|event| event.package == "presence"))
        else {
            refuse(self, 489);
            return;
        };
        watch.notified = true;
        refuse(self, 200);
        let devices = self.devices_in(notify);
        match state {
            SubscriptionState::Active { expires } => {
                self.watch_granted(pair, devices);
                self.still_on(pair, expires, now);
            }
            // The contact has not decided yet: nothing to say (RFC 8048 section 4.2.1).
            SubscriptionState::Pending { expires } => self.still_on(pair, expires, now),
            SubscriptionState::Terminated { reason, retry_after } => {
                self.watch_terminated(pair, reason.as_deref(), retry_after, now);
            }
        }
    }

    fn still_on(&mut self, pair: &Pair, expires: Option<u32>, now: Instant) {
        let Some(watch) = self.watches.get(pair) else { return };
        if watch.under_way.is_none() && !watch.leaving {
            // One that does not say how much is left changes nothing, but that it came.
            let missing = (watch.due == Due::NotifyMissing).then_some(watch.granted_seconds);
            if let Some(expires) = expires.or(missing) {
                self.renew_in(pair, expires, now);
            }
        } else if watch.due == Due::NotifyMissing
            && let Some(watch) = self.watches.get_mut(pair)
        {
            watch.due = Due::Renew;
        }
    }

    fn watch_granted(&mut self, pair: &Pair, devices: Option<Vec<Availability>>) {
        let Some(watch) = self.watches.get_mut(pair).filter(|watch| !watch.leaving) else { return };
        let first = !std::mem::replace(&mut watch.granted, true);
        if first {
            self.tell(local::presence(&pair.remote, &pair.local, "subscribed"));
            self.store_watch(pair);
        }
        match devices {
            Some(devices) => self.devices_changed(pair, devices),
            None if first => self.devices_changed(pair, Vec::new()),
            None => {}
        }
    }

    /// Tells the local user of the devices that are there, and of those that went away.
    fn devices_changed(&mut self, pair: &Pair, devices: Vec<Availability>) {
        let Some(watch) = self.watches.get_mut(pair) else { return };
        let before = std::mem::replace(&mut watch.devices, devices.clone());
        let gone = before
            .into_iter()
            .filter(|old| old.available)
            .filter(|old| !devices.iter().any(|new| new.resource == old.resource))
            .map(|old| Availability { resource: old.resource, ..Availability::default() });
        let mut told: Vec<Availability> = gone.collect();
        told.extend(devices);
        if told.is_empty() {
            told.push(Availability::default());
        }
        for device in told {
            self.tell(local::availability(&pair.remote, &pair.local, &device));
        }
    }

    fn watch_terminated(
        &mut self,
        pair: &Pair,
        reason: Option<&str>,
        retry_after: Option<u32>,
        now: Instant,
    ) {
        let Some(watch) = self.watches.get_mut(pair) else { return };
        watch.dialog = None;
        if watch.leaving {
            if watch.under_way.is_none() {
                self.drop_watch(pair);
            }
            return;
        }
        let lasted = |at: Instant| now.saturating_duration_since(at) >= HURRY_MIN;
        if watch.began_at.is_none_or(lasted) {
            watch.failures = 0;
        }
        if let Some(id) = watch.under_way.take() {
            self.lose_interest(id);
        }
        // RFC 6665 section 4.1.3.
        match reason {
            Some("rejected" | "noresource" | "invariant") => self.watch_rejected(pair),
            // At once, but a partner that ends whatever it grants must not keep us busy.
            Some("deactivated" | "timeout") if self.may_hurry(pair, now) => {
                self.subscribe(pair, now);
            }
            _ => {
                let after = retry_after.map(|seconds| Duration::from_secs(seconds.into()));
                self.retry_later(pair, after.map(|wait| wait.min(super::BACKOFF_MAX * 24)), now);
            }
        }
    }

    fn may_hurry(&mut self, pair: &Pair, now: Instant) -> bool {
        let Some(watch) = self.watches.get_mut(pair) else { return false };
        if watch.hurried_at.is_some_and(|at| now.saturating_duration_since(at) < HURRY_MIN) {
            return false;
        }
        watch.hurried_at = Some(now);
        true
    }

    /// Policy lets the two not talk: nothing is asked, and what was shown is taken back. The wish
    /// stays.
    pub(crate) fn pause_watch(&mut self, pair: &Pair) {
        self.devices_gone(pair);
        let Some(watch) = self.watches.get_mut(pair) else { return };
        if watch.leaving {
            self.drop_watch(pair);
            return;
        }
        (watch.dialog, watch.request, watch.notified, watch.paused) = (None, None, false, true);
        let under_way = watch.under_way.take();
        self.tags.remove(&watch.tag);
        if let Some(id) = under_way {
            self.lose_interest(id);
        }
        self.timers.set(&TimerKey::Watch(pair.clone()), None);
    }

    /// Policy lets them talk again.
    pub(crate) fn resume_watch(&mut self, pair: &Pair, now: Instant) {
        let paused = |watch: &mut Watch| std::mem::replace(&mut watch.paused, false);
        if self.watches.get_mut(pair).is_some_and(paused) {
            let at = self.within_revival(now);
            if let Some(watch) = self.watches.get_mut(pair) {
                watch.due = Due::Renew;
            }
            self.timers.set(&TimerKey::Watch(pair.clone()), Some(at));
        }
    }

    /// The contact said no.
    fn watch_rejected(&mut self, pair: &Pair) {
        self.devices_gone(pair);
        self.tell(local::presence(&pair.remote, &pair.local, "unsubscribed"));
        self.drop_watch(pair);
        self.forget(watch_key(pair));
    }

    fn devices_gone(&mut self, pair: &Pair) {
        if self.watches.get(pair).is_some_and(|it| it.devices.iter().any(|device| device.available))
        {
            self.devices_changed(pair, Vec::new());
        }
    }

    /// A local user unsubscribes from a contact.
    pub(crate) fn unwatch(&mut self, pair: &Pair, now: Instant) {
        let Some(watch) = self.watches.get_mut(pair).filter(|watch| !watch.leaving) else {
            self.tell(local::presence(&pair.remote, &pair.local, "unsubscribed"));
            return;
        };
        watch.leaving = true;
        if let Some(id) = watch.under_way.take() {
            self.lose_interest(id);
        }
        let has_dialog = self.watches.get(pair).is_some_and(|watch| watch.dialog.is_some());
        self.devices_gone(pair);
        self.forget(watch_key(pair));
        if has_dialog {
            self.subscribe(pair, now);
        } else {
            self.tell(local::presence(&pair.remote, &pair.local, "unsubscribed"));
            self.drop_watch(pair);
        }
    }

    fn drop_watch(&mut self, pair: &Pair) {
        if let Some(watch) = self.watches.remove(pair) {
            if let Some(id) = watch.under_way {
                self.lose_interest(id);
            }
            self.tags.remove(&watch.tag);
            self.timers.set(&TimerKey::Watch(pair.clone()), None);
            self.subscription_count.remove(pair);
        }
    }

    fn store_watch(&mut self, pair: &Pair) {
        let Some(watch) = self.watches.get(pair) else { return };
        let (granted, dialog) = (watch.granted, watch.dialog.clone());
        let record = Stored::Watch { pair: pair.clone(), granted, dialog }.to_record();
        // The wish outlives what is granted: it is kept until somebody ends it.
        let lasts = Duration::from_secs(10 * 365 * 86_400);
        self.push(Effect::Store { record, lasts });
    }

    /// A local user's server asks for a contact's presence now.
    pub(crate) fn look(&mut self, pair: &Pair, asker: Option<&Jid>, now: Instant) {
        let asker = asker.unwrap_or(&pair.local).clone();
        if self.watches.get(pair).is_some_and(|watch| watch.granted && watch.notified) {
            self.show_devices(pair, &asker);
            return;
        }
        let asked = self.fetches.values().any(|fetch| fetch.pair == *pair);
        if asked || self.take_one(Scarce::Looks, pair).is_err() {
            return;
        }
        let (tag, call_id) = (self.seed.next_hex(), self.next_call_id());
        let mut request =
            sip::initial(Method::Subscribe, &pair.local, &pair.remote, &tag, &call_id);
        fill(&mut request, &pair.local, &self.config.contact, 0);
        self.tags.insert(tag.clone(), Owner::Fetch);
        self.fetches.insert(tag.clone(), Fetch { pair: pair.clone(), asker });
        self.timers.set(&TimerKey::Fetch(tag.clone()), Some(now + 2 * NOTIFY_WAIT));
        self.send(request, Purpose::Fetch(tag));
    }

    /// The answer to a look.
    pub(crate) fn fetched(&mut self, key: RequestKey, notify: &Message, tag: &str) {
        if notify.method() == Some(Method::Notify) {
            self.respond(key, notify, 200, None);
        } else {
            self.push(Effect::Ignore { key });
        }
        let devices = self.devices_in(notify);
        let Some(fetch) = self.fetches.get(tag) else { return };
        let (remote, asker) = (fetch.pair.remote.clone(), fetch.asker.clone());
        let mut devices = devices.unwrap_or_default();
        if devices.is_empty() {
            devices.push(Availability::default());
        }
        for device in devices {
            self.tell(local::availability(&remote, &asker, &device));
        }
        self.end_fetch(tag);
    }

    pub(crate) fn end_fetch(&mut self, tag: &str) {
        if let Some(fetch) = self.fetches.remove(tag) {
            self.fetch_count.remove(&fetch.pair);
        }
        self.tags.remove(tag);
        self.timers.set(&TimerKey::Fetch(tag.to_owned()), None);
    }

    /// Tells `to` what is known of a contact.
    fn show_devices(&mut self, pair: &Pair, to: &Jid) {
        let mut devices = match self.watches.get(pair) {
            Some(watch) => watch.devices.clone(),
            None => return,
        };
        if devices.is_empty() {
            devices.push(Availability::default());
        }
        for device in devices {
            self.tell(local::availability(&pair.remote, to, &device));
        }
    }
}

/// What each SUBSCRIBE of ours carries.
fn fill(request: &mut Message, user: &Jid, contact: &str, expires: u32) {
    sip::put_contact(request, user, contact);
    sip::put(request, HeaderName::Event, "presence");
    sip::put(request, HeaderName::Accept, sip::PIDF);
    sip::put(request, HeaderName::Expires, expires.to_string());
}

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::retry::{self, AfterRefusal, AfterTermination};
use crate::transaction::timers::PATIENCE;
use crate::{
    ContentType, Dialog, DialogError, HeaderName, Message, Method, NameAddr, Seed, Start, Status,
    SubscriptionState, Uri,
};

/// What to watch, as whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Watch {
    /// From, without tag.
    pub local: NameAddr,
    /// To, without tag.
    pub remote: NameAddr,
    /// The Request-URI; usually the URI of `remote`.
    pub target: Uri,
    /// Our Contact.
    pub contact: NameAddr,
    /// The event package: `presence`.
    pub package: String,
    /// Media types for Accept, best first.
    pub accept: Vec<String>,
    /// Seconds to ask for. Zero fetches the state once.
    pub expires: u32,
}

/// Where a subscription of ours stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WatchState {
    /// Nothing heard yet.
    Asking,
    /// The watched person has not decided.
    Pending,
    /// Allowed.
    Active,
    /// Lost for now; it is asked for anew at this moment.
    Waiting {
        /// When.
        until: Instant,
        /// What went wrong.
        cause: Cause,
    },
    /// Over for good: nothing more is sent.
    Ended(Cause),
}

/// Why a subscription of ours was lost or ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// We ended it, or fetched what we wanted.
    Done,
    /// SUBSCRIBE was answered with this status and reason phrase.
    Refused(Status, String),
    /// NOTIFY said terminated, with this reason in lower case.
    Terminated(Option<String>),
    /// SUBSCRIBE got no answer, or the flow broke.
    Unreachable,
    /// Accepted, but no NOTIFY within 64*T1 (timer N).
    Silent,
    /// It ran out before a refresh was answered.
    Expired,
}

/// What a [`Subscriber`] tells its owner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SubscriberEvent {
    /// A new state; told once for each change.
    StateChanged(WatchState),
    /// A NOTIFY brought this. Full state: it replaces what came before.
    Body {
        /// Its media type.
        content_type: ContentType,
        /// The document; never empty.
        body: Bytes,
    },
    /// The dialog or the expiry changed: store [`Subscriber::to_bytes`] again.
    Changed,
}

/// We watch (RFC 6665 section 4.1): makes SUBSCRIBE, its refresh and its end; takes in answers and
/// NOTIFY, which may come before the answer. Refreshes at 80 to 90 % of what was granted; timer N
/// (64*T1) without a NOTIFY ends the dialog; what was lost and may be asked for again is, with a
/// bounded back-off.
#[derive(Debug)]
pub struct Subscriber {
    pub(super) watch: Watch,
    pub(super) seed: Seed,
    pub(super) state: WatchState,
    pub(super) call_id: String,
    pub(super) local_tag: String,
    /// The first SUBSCRIBE, until there is a dialog.
    initial: Option<Box<Message>>,
    pub(super) dialog: Option<Dialog>,
    /// CSeq of the SUBSCRIBE under way.
    under_way: Option<u32>,
    /// Seconds to ask for: what was wished, or what a 423 raised it to.
    pub(super) wish: u32,
    raises: u8,
    /// Unsubscribing; the SUBSCRIBE that says so may still wait for a dialog.
    ending: Option<Ending>,
    pub(super) expires_at: Option<Instant>,
    refresh_at: Option<Instant>,
    /// Timer N.
    notify_by: Option<Instant>,
    pub(super) retry_at: Option<Instant>,
    /// Attempts in a row that failed.
    pub(super) failures: u32,
    events: VecDeque<SubscriberEvent>,
    transmits: VecDeque<Message>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    Wanted,
    Asked,
}

impl Subscriber {
    /// Starts to watch: the first SUBSCRIBE waits in [`poll_transmit`](Self::poll_transmit).
    pub fn new(watch: Watch, seed: Seed, now: Instant) -> Self {
        let mut new = Self::idle(watch, seed);
        new.start(now);
        new
    }

    pub(super) fn idle(watch: Watch, seed: Seed) -> Self {
        Self {
            wish: watch.expires,
            watch,
            seed,
            state: WatchState::Asking,
            call_id: String::new(),
            local_tag: String::new(),
            initial: None,
            dialog: None,
            under_way: None,
            raises: 0,
            ending: None,
            expires_at: None,
            refresh_at: None,
            notify_by: None,
            retry_at: None,
            failures: 0,
            events: VecDeque::new(),
            transmits: VecDeque::new(),
        }
    }

    /// What is watched.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Where it stands.
    pub fn state(&self) -> &WatchState {
        &self.state
    }

    /// The Call-ID of the SUBSCRIBE in force; it changes with each new attempt.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Our tag; with [`call_id`](Self::call_id) it is the way from a NOTIFY to its subscriber.
    pub fn local_tag(&self) -> &str {
        &self.local_tag
    }

    /// The dialog, once there is one.
    pub fn dialog(&self) -> Option<&Dialog> {
        self.dialog.as_ref()
    }

    /// When what the notifier granted ends.
    pub fn expires_at(&self) -> Option<Instant> {
        self.expires_at
    }

    /// Asks for the state now: a refresh, or a new SUBSCRIBE where none stands. Does nothing while
    /// one is under way or after the end.
    pub fn refresh(&mut self, now: Instant) {
        if self.is_over() || self.under_way.is_some() || self.ending.is_some() {
            return;
        }
        if self.dialog.is_some() {
            self.send_in_dialog(self.wish, now);
        } else {
            self.start(now);
        }
    }

    /// Ends it: SUBSCRIBE with Expires 0, then the last NOTIFY is waited for. Without a dialog it
    /// is over at once, or as soon as the first SUBSCRIBE is answered.
    pub fn unsubscribe(&mut self, now: Instant) {
        if self.is_over() || self.ending.is_some() {
            return;
        }
        self.ending = Some(Ending::Wanted);
        if self.dialog.is_some() {
            self.ask_to_end(now);
        } else if self.under_way.is_none() {
            self.end(Cause::Done);
        }
    }

    /// A new SUBSCRIBE outside any dialog.
    pub(super) fn start(&mut self, now: Instant) {
        self.forget();
        self.call_id = self.seed.next_hex();
        self.local_tag = self.seed.next_hex().chars().take(16).collect();
        let mut request = Message::request(Method::Subscribe, self.watch.target.clone());
        let from = self.watch.local.clone().with_tag(&self.local_tag);
        for (name, value) in [
            (HeaderName::MaxForwards, "70".to_owned()),
            (HeaderName::From, from.to_string()),
            (HeaderName::To, self.watch.remote.to_string()),
            (HeaderName::CallId, self.call_id.clone()),
            (HeaderName::CSeq, "1 SUBSCRIBE".to_owned()),
        ] {
            // Addresses are written from their parts: no line break is in them.
            let _ = request.headers.push(name, value);
        }
        self.initial = Some(Box::new(request.clone()));
        self.enter(WatchState::Asking);
        self.send(request, 1, self.wish, now);
    }

    fn send_in_dialog(&mut self, expires: u32, now: Instant) {
        let Some(dialog) = &mut self.dialog else { return };
        let request = dialog.request(Method::Subscribe);
        let number = dialog.local_cseq;
        self.send(request, number, expires, now);
        self.events.push_back(SubscriberEvent::Changed);
    }

    fn send(&mut self, mut request: Message, number: u32, expires: u32, now: Instant) {
        for (name, value) in [
            (HeaderName::Contact, self.watch.contact.to_string()),
            (HeaderName::Event, self.watch.package.clone()),
            (HeaderName::Expires, expires.to_string()),
            (HeaderName::Accept, self.watch.accept.join(", ")),
        ] {
            // As above; package and types are our own words.
            let _ = request.headers.push(name, value);
        }
        self.under_way = Some(number);
        self.refresh_at = None;
        self.notify_by = Some(now + PATIENCE);
        self.transmits.push_back(request);
    }

    fn ask_to_end(&mut self, now: Instant) {
        self.ending = Some(Ending::Asked);
        self.send_in_dialog(0, now);
    }

    /// An answer to a SUBSCRIBE. One that fits none is ignored.
    pub fn receive_response(&mut self, response: &Message, now: Instant) {
        let (Some(status), Ok(cseq)) = (response.status(), response.cseq()) else { return };
        let ours = cseq.method == Method::Subscribe
            && self.under_way == Some(cseq.number)
            && response.call_id().is_ok_and(|id| id == self.call_id);
        if !ours || status.is_provisional() {
            return;
        }
        self.under_way = None;
        if status.is_success() {
            self.granted(response, now);
        } else {
            self.refused(status, response, now);
        }
    }

    fn granted(&mut self, response: &Message, now: Instant) {
        self.raises = 0;
        match (&mut self.dialog, &self.initial) {
            (Some(dialog), _) => {
                // Of a fork that is not ours, or without Contact: the dialog stays as it is.
                let _ = dialog.receive_response(response);
            }
            // If it cannot be made now, the NOTIFY makes it.
            (None, Some(initial)) => self.dialog = Dialog::established(initial, response).ok(),
            (None, None) => {}
        }
        if self.ending == Some(Ending::Wanted) && self.dialog.is_some() {
            return self.ask_to_end(now);
        }
        if self.ending.is_some() || self.wish == 0 {
            return;
        }
        // RFC 6665 section 4.2.1.1: never more than was asked for.
        let seconds = response.expires().ok().flatten().unwrap_or(self.wish).min(self.wish);
        self.set_expiry(seconds, now);
        self.events.push_back(SubscriberEvent::Changed);
    }

    pub(super) fn set_expiry(&mut self, seconds: u32, now: Instant) {
        let share = 0.8 + 0.1 * retry::fraction(&mut self.seed);
        let wait = Duration::from_secs(seconds.into()).mul_f64(share);
        self.expires_at = Some(now + Duration::from_secs(seconds.into()));
        // Whoever grants moments must not make us send all the time.
        self.refresh_at = Some(now + wait.max(retry::REFRESH_MIN));
    }

    fn refused(&mut self, status: Status, response: &Message, now: Instant) {
        let reason: String = response.reason().unwrap_or_default().chars().take(200).collect();
        let cause = Cause::Refused(status, reason);
        if self.ending.is_some() {
            return self.end(Cause::Done);
        }
        if self.watch.expires == 0 {
            return self.end(cause);
        }
        match retry::after_refusal(status) {
            AfterRefusal::Raise => {
                let least = retry::seconds(response, &HeaderName::MinExpires);
                match least.filter(|least| *least > self.wish && *least <= retry::EXPIRES_MAX) {
                    Some(least) if self.raises < 3 => {
                        self.raises += 1;
                        self.wish = least;
                        self.refresh(now);
                    }
                    _ => self.lose(cause, None, now),
                }
            }
            AfterRefusal::Anew if self.dialog.is_some() && self.failures == 0 => {
                self.failures = 1;
                self.start(now);
            }
            AfterRefusal::Never => self.end(cause),
            AfterRefusal::Anew => self.lose(cause, None, now),
            AfterRefusal::Later => {
                let wait = retry::seconds(response, &HeaderName::RetryAfter);
                self.try_later(cause, wait, now);
            }
        }
    }

    /// The SUBSCRIBE under way got no answer or its flow broke.
    pub fn request_failed(&mut self, now: Instant) {
        if self.under_way.take().is_none() {
            return;
        }
        if self.ending.is_some() {
            self.end(Cause::Done);
        } else if self.watch.expires == 0 {
            self.end(Cause::Unreachable);
        } else {
            self.try_later(Cause::Unreachable, None, now);
        }
    }

    /// A refresh that failed is tried again while the subscription holds (RFC 6665 section
    /// 4.1.2.2); otherwise it is lost.
    fn try_later(&mut self, cause: Cause, wait: Option<u32>, now: Instant) {
        let at = now + retry::wait(&mut self.seed, self.failures + 1, wait);
        if self.dialog.is_some() && self.expires_at.is_some_and(|end| at < end) {
            self.failures += 1;
            self.notify_by = None;
            self.refresh_at = Some(at);
        } else {
            self.lose(cause, wait, now);
        }
    }

    /// A NOTIFY came in; returns what to answer: 200, or 481, 489, 500, 400 and 415.
    pub fn receive_notify(&mut self, notify: &Message, now: Instant) -> Message {
        let status = match self.take_notify(notify, now) {
            Ok(()) => Status::of(200),
            Err(status) => status,
        };
        Message::response_to(notify, status, None)
    }

    fn take_notify(&mut self, notify: &Message, now: Instant) -> Result<(), Status> {
        let (unknown, bad) = (Status::of(481), Status::of(400));
        let is_notify = matches!(&notify.start, Start::Request { method: Method::Notify, .. });
        let to = notify.to().map_err(|invalid| invalid.status)?;
        let ours = notify.call_id().is_ok_and(|id| id == self.call_id)
            && to.tag() == Some(&self.local_tag);
        if !is_notify || !ours || self.is_over() {
            return Err(unknown);
        }
        let event = notify.event().map_err(|invalid| invalid.status)?;
        let right =
            event.is_some_and(|event| event.package == self.watch.package && event.id.is_none());
        if !right {
            return Err(Status::of(489));
        }
        let state = notify.subscription_state().map_err(|invalid| invalid.status)?.ok_or(bad)?;
        match (&mut self.dialog, &self.initial) {
            (Some(dialog), _) => dialog.receive(notify).map_err(|error| match error {
                DialogError::OutOfOrder => Status::of(500),
                DialogError::NotOurs => unknown,
                _ => bad,
            })?,
            (None, Some(initial)) => {
                self.dialog = Some(Dialog::established(initial, notify).map_err(|_| bad)?);
            }
            (None, None) => return Err(unknown),
        }
        self.notify_by = None;
        let body = self.body_of(notify);
        self.take_state(state, body.as_ref().ok().cloned().flatten(), now);
        body.map(|_| ())
    }

    fn body_of(&self, notify: &Message) -> Result<Option<(ContentType, Bytes)>, Status> {
        if notify.body.is_empty() {
            return Ok(None);
        }
        let content_type = notify.content_type().map_err(|invalid| invalid.status)?;
        let content_type = content_type.ok_or(Status::of(400))?;
        let known = |accepted: &String| accepted.eq_ignore_ascii_case(&content_type.essence);
        if self.watch.accept.iter().any(known) {
            Ok(Some((content_type, notify.body.clone())))
        } else {
            Err(Status::of(415))
        }
    }

    fn take_state(
        &mut self,
        state: SubscriptionState,
        body: Option<(ContentType, Bytes)>,
        now: Instant,
    ) {
        let (new, expires) = match &state {
            SubscriptionState::Active { expires } => (Some(WatchState::Active), *expires),
            SubscriptionState::Pending { expires } => (Some(WatchState::Pending), *expires),
            SubscriptionState::Terminated { .. } => (None, None),
        };
        if let Some(new) = new.filter(|_| self.ending.is_none()) {
            self.failures = 0;
            self.enter(new);
        }
        if let Some((content_type, body)) = body {
            self.events.push_back(SubscriberEvent::Body { content_type, body });
        }
        if let SubscriptionState::Terminated { reason, retry_after } = state {
            return self.terminated(reason, retry_after, now);
        }
        if self.watch.expires == 0 {
            return self.end(Cause::Done);
        }
        match self.ending {
            Some(Ending::Wanted) => return self.ask_to_end(now),
            // The NOTIFY of before; the last one still comes.
            Some(Ending::Asked) => return self.notify_by = Some(now + PATIENCE),
            None => {}
        }
        // RFC 6665 section 4.1.3: it may only become shorter.
        if let Some(seconds) = expires {
            let seconds = seconds.min(self.wish);
            let end = now + Duration::from_secs(seconds.into());
            if self.expires_at.is_none_or(|at| end < at) {
                self.set_expiry(seconds, now);
            }
        }
        self.events.push_back(SubscriberEvent::Changed);
    }

    fn terminated(&mut self, reason: Option<String>, retry_after: Option<u32>, now: Instant) {
        if self.ending.is_some() || self.watch.expires == 0 {
            return self.end(Cause::Done);
        }
        let after = retry::after_termination(reason.as_deref());
        let cause = Cause::Terminated(reason);
        match after {
            AfterTermination::Never => self.end(cause),
            // Once; who ends it again and again is asked more and more seldom.
            AfterTermination::AtOnce if self.failures == 0 => self.lose(cause, Some(1), now),
            AfterTermination::AtOnce => self.lose(cause, None, now),
            AfterTermination::Later => self.lose(cause, retry_after, now),
        }
    }

    /// The moment given by [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.retry_at) {
            return self.start(now);
        }
        if due(self.notify_by) {
            return match (self.ending, self.watch.expires) {
                (Some(_), _) => self.end(Cause::Done),
                (None, 0) => self.end(Cause::Silent),
                (None, _) => self.lose(Cause::Silent, None, now),
            };
        }
        if due(self.expires_at) {
            return match self.ending {
                Some(_) => self.end(Cause::Done),
                None => self.lose(Cause::Expired, None, now),
            };
        }
        if due(self.refresh_at) {
            self.refresh_at = None;
            self.refresh(now);
        }
    }

    fn enter(&mut self, state: WatchState) {
        if self.state != state {
            self.state = state.clone();
            self.events.push_back(SubscriberEvent::StateChanged(state));
        }
    }

    /// Gone for now.
    fn lose(&mut self, cause: Cause, wait: Option<u32>, now: Instant) {
        self.forget();
        self.failures = self.failures.saturating_add(1);
        let until = now + retry::wait(&mut self.seed, self.failures, wait);
        self.retry_at = Some(until);
        self.enter(WatchState::Waiting { until, cause });
        self.events.push_back(SubscriberEvent::Changed);
    }

    fn end(&mut self, cause: Cause) {
        self.forget();
        self.enter(WatchState::Ended(cause));
        self.events.push_back(SubscriberEvent::Changed);
    }

    fn forget(&mut self) {
        self.initial = None;
        self.dialog = None;
        self.under_way = None;
        self.expires_at = None;
        self.refresh_at = None;
        self.notify_by = None;
        self.retry_at = None;
    }

    /// The next thing that happened, oldest first.
    pub fn poll_event(&mut self) -> Option<SubscriberEvent> {
        self.events.pop_front()
    }

    /// The next request to send, without Via.
    pub fn poll_transmit(&mut self) -> Option<Message> {
        self.transmits.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.retry_at, self.notify_by, self.expires_at, self.refresh_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// True once nothing more will be sent: drop it.
    pub fn is_over(&self) -> bool {
        matches!(self.state, WatchState::Ended(_))
    }
}

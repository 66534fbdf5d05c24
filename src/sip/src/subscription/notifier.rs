use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::stored::{TYPES_MAX, from_unix, to_unix};
use super::{InvalidStored, retry};
use crate::dialog::{Reader, Writer};
use crate::{
    ContentType, Dialog, DialogError, HeaderName, Message, Method, NameAddr, Status,
    SubscriptionState,
};

/// What we grant to watchers of one package.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotifierTerms {
    /// The event package: `presence`. Others are answered 489.
    pub package: String,
    /// Media types we can write. An Accept without any of them is answered 406.
    pub types: Vec<String>,
    /// Granted where the watcher asks for no time, in seconds.
    pub expires_default: u32,
    /// A shorter wish, but for 0, is answered 423.
    pub expires_min: u32,
    /// A longer wish is cut to this.
    pub expires_max: u32,
}

/// Where a watcher stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Watched {
    /// Our user has not decided. No body is sent.
    Pending,
    /// Allowed.
    Active,
    /// Over. A last NOTIFY may still be under way.
    Over,
}

/// What a [`Notifier`] tells its owner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NotifierEvent {
    /// The watcher refreshed, or fetches: the last known body was sent again; a newer one may
    /// follow by [`Notifier::publish`].
    Refreshed,
    /// The watcher left, or did not refresh in time.
    Unsubscribed,
    /// The watcher refused a NOTIFY or cannot be reached: the subscription is gone.
    Lost,
    /// The dialog or the expiry changed: store [`Notifier::to_bytes`] again.
    Changed,
}

/// We are watched (RFC 6665 section 4.2): answers SUBSCRIBE and its refreshes, sends a NOTIFY for
/// each, and when there is something new. At most one NOTIFY is under way; what changes meanwhile
/// is sent as the newest state only.
#[derive(Debug)]
pub struct Notifier {
    terms: NotifierTerms,
    contact: NameAddr,
    dialog: Dialog,
    state: Watched,
    /// What Event said in the SUBSCRIBE, with its id.
    event: String,
    types: Vec<String>,
    /// Our user allowed it at some time: a body may be sent.
    allowed: bool,
    body: Option<(String, Bytes)>,
    /// The last word, once it is over.
    reason: (String, Option<u32>),
    expires_at: Instant,
    /// The last time we heard of; what a NOTIFY counts its expiry from.
    now: Instant,
    /// A NOTIFY is wanted.
    due: bool,
    /// CSeq of the NOTIFY under way.
    under_way: Option<u32>,
    retry_at: Option<Instant>,
    events: VecDeque<NotifierEvent>,
}

const VERSION: u8 = 1;

impl Notifier {
    /// Answers an initial SUBSCRIBE. `tag` is ours, fresh and unguessable; `contact` is where the
    /// watcher sends refreshes. Starts in `state`. A request with Expires 0 is a fetch: it ends
    /// after one NOTIFY. Publish before the first [`poll_transmit`](Self::poll_transmit): the NOTIFY
    /// is made there, and holds what is known then.
    ///
    /// # Errors
    /// The refusal to send: 489, 423, 406, 400.
    pub fn accept(
        subscribe: &Message,
        terms: NotifierTerms,
        contact: NameAddr,
        tag: &str,
        state: Watched,
        now: Instant,
    ) -> Result<(Self, Message), Box<Message>> {
        let refuse = |status| Box::new(Message::response_to(subscribe, status, Some(tag)));
        check_event(subscribe, &terms).map_err(|status| refuse_event(refuse(status), &terms))?;
        let types = common_types(subscribe, &terms).ok_or_else(|| refuse(Status::of(406)))?;
        let seconds = grant(subscribe, &terms).map_err(|status| brief(refuse(status), &terms))?;
        let response = granted(subscribe, seconds, &contact, Some(tag));
        let dialog = Dialog::accepted(subscribe, &response).map_err(|_| refuse(Status::of(400)))?;
        let event = subscribe.headers.get(&HeaderName::Event).unwrap_or_default().into_owned();
        let mut new = Self {
            terms,
            contact,
            dialog,
            allowed: state == Watched::Active,
            state,
            event,
            types,
            body: None,
            reason: ("timeout".to_owned(), None),
            expires_at: now + Duration::from_secs(seconds.into()),
            now,
            due: true,
            under_way: None,
            retry_at: None,
            events: VecDeque::new(),
        };
        if seconds == 0 {
            new.state = Watched::Over;
        } else {
            new.events.push_back(NotifierEvent::Changed);
        }
        Ok((new, response))
    }

    /// For the store; `unix` is the wall clock in seconds. The body is not in it: publish anew
    /// after a restart.
    pub fn to_bytes(&self, now: Instant, unix: u64) -> Vec<u8> {
        let mut out = Writer::new(VERSION);
        out.bytes(&self.dialog.to_bytes());
        out.text(&self.contact.to_string());
        out.text(&self.event);
        out.number(match self.state {
            Watched::Pending => 0,
            Watched::Active => 1,
            Watched::Over => 2,
        });
        out.number(u64::from(self.allowed));
        out.number(to_unix(self.expires_at, now, unix));
        out.text(&self.terms.package);
        for number in [self.terms.expires_default, self.terms.expires_min, self.terms.expires_max] {
            out.number(number.into());
        }
        for list in [&self.terms.types, &self.types] {
            out.number(list.len() as u64);
            for text in list {
                out.text(text);
            }
        }
        out.done()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `unix` is the wall clock in seconds. Nothing
    /// is sent until something is published; one that has run out is ended at the next
    /// [`handle_timeout`](Self::handle_timeout) and sends its last NOTIFY.
    ///
    /// # Errors
    /// Bytes of another version or damaged ones.
    pub fn from_bytes(bytes: &[u8], now: Instant, unix: u64) -> Result<Self, InvalidStored> {
        let mut input = Reader::new(bytes, VERSION)?;
        let dialog = Dialog::from_bytes(input.bytes()?)?;
        let (contact, event) = (input.address()?, input.text()?);
        let state = match input.number()? {
            0 => Watched::Pending,
            1 => Watched::Active,
            2 => Watched::Over,
            _ => return Err(InvalidStored),
        };
        let allowed = input.number()? == 1;
        let expires_at = from_unix(input.number()?, now, unix);
        let package = input.text()?;
        let (expires_default, expires_min, expires_max) =
            (input.small()?, input.small()?, input.small()?);
        let mut lists = [Vec::new(), Vec::new()];
        for list in &mut lists {
            let count = input.number()?;
            if count > TYPES_MAX {
                return Err(InvalidStored);
            }
            *list = (0..count).map(|_| input.text()).collect::<Result<_, _>>()?;
        }
        input.end()?;
        let [terms_types, types] = lists;
        let terms = NotifierTerms {
            package,
            types: terms_types,
            expires_default,
            expires_min,
            expires_max,
        };
        Ok(Self {
            terms,
            contact,
            dialog,
            state,
            event,
            types,
            allowed,
            body: None,
            reason: ("timeout".to_owned(), None),
            expires_at,
            now,
            due: false,
            under_way: None,
            retry_at: None,
            events: VecDeque::new(),
        })
    }

    /// The dialog.
    pub fn dialog(&self) -> &Dialog {
        &self.dialog
    }

    /// Where the watcher stands.
    pub fn state(&self) -> &Watched {
        &self.state
    }

    /// When it runs out without a refresh.
    pub fn expires_at(&self) -> Instant {
        self.expires_at
    }

    /// The media types of the watcher's Accept that we can write, the watcher's first choice first.
    pub fn types(&self) -> &[String] {
        &self.types
    }

    /// The state of the person changed; sent at once while active, kept while pending.
    pub fn publish(&mut self, content_type: &str, body: Bytes, now: Instant) {
        self.now = now;
        self.body = Some((content_type.to_owned(), body));
        self.due |= self.state == Watched::Active;
    }

    /// Our user allowed it: NOTIFY active, with the body published last, if any.
    pub fn activate(&mut self, now: Instant) {
        self.now = now;
        if self.state == Watched::Pending {
            self.state = Watched::Active;
            self.allowed = true;
            self.due = true;
            self.events.push_back(NotifierEvent::Changed);
        }
    }

    /// Ends it from our side: NOTIFY terminated with this reason (RFC 6665 section 4.1.3) and,
    /// where it is `probation` or `giveup`, seconds to wait.
    pub fn terminate(&mut self, reason: &str, retry_after: Option<u32>, now: Instant) {
        self.now = now;
        if self.state != Watched::Over {
            self.state = Watched::Over;
            self.reason = (reason.to_owned(), retry_after);
            self.due = true;
            self.events.push_back(NotifierEvent::Changed);
        }
    }

    /// A SUBSCRIBE in this dialog (refresh, end): returns what to answer.
    pub fn receive_subscribe(&mut self, subscribe: &Message, now: Instant) -> Message {
        self.now = now;
        let refuse = |status| Box::new(Message::response_to(subscribe, status, None));
        if self.state == Watched::Over {
            return *refuse(Status::of(481));
        }
        if let Err(status) = check_event(subscribe, &self.terms) {
            return *refuse_event(refuse(status), &self.terms);
        }
        if let Err(error) = self.dialog.receive(subscribe) {
            return *refuse(match error {
                DialogError::OutOfOrder => Status::of(500),
                DialogError::NotOurs => Status::of(481),
                _ => Status::of(400),
            });
        }
        let seconds = match grant(subscribe, &self.terms) {
            Ok(seconds) => seconds,
            Err(status) => return *brief(refuse(status), &self.terms),
        };
        self.expires_at = now + Duration::from_secs(seconds.into());
        self.due = true;
        if seconds == 0 {
            self.state = Watched::Over;
            self.events.push_back(NotifierEvent::Unsubscribed);
        } else {
            self.events.push_back(NotifierEvent::Refreshed);
        }
        self.events.push_back(NotifierEvent::Changed);
        granted(subscribe, seconds, &self.contact, None)
    }

    /// An answer to a NOTIFY. One that fits none is ignored.
    pub fn receive_response(&mut self, response: &Message, now: Instant) {
        self.now = now;
        let (Some(status), Ok(cseq)) = (response.status(), response.cseq()) else { return };
        if cseq.method != Method::Notify
            || self.under_way != Some(cseq.number)
            || response.call_id().is_ok_and(|id| id != self.dialog.id.call_id)
            || status.is_provisional()
        {
            return;
        }
        self.under_way = None;
        if status.is_success() {
            // Its Contact, if any, is where the next one goes.
            let _ = self.dialog.receive_response(response);
            return;
        }
        // RFC 6665 section 4.2.2: only a refusal that names a time leaves the subscription.
        match retry::seconds(response, &HeaderName::RetryAfter) {
            Some(wait) if status.code() != 481 && self.state != Watched::Over => {
                self.due = true;
                let wait = Duration::from_secs(wait.clamp(1, 3600).into());
                self.retry_at = Some(now + wait);
            }
            _ => self.lost(),
        }
    }

    /// The NOTIFY under way got no answer or its flow broke.
    pub fn request_failed(&mut self, now: Instant) {
        self.now = now;
        if self.under_way.take().is_some() {
            self.lost();
        }
    }

    fn lost(&mut self) {
        self.due = false;
        if self.state != Watched::Over {
            self.state = Watched::Over;
            self.events.push_back(NotifierEvent::Lost);
            self.events.push_back(NotifierEvent::Changed);
        }
    }

    /// The moment given by [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if self.state != Watched::Over && self.expires_at <= now {
            self.state = Watched::Over;
            self.due = true;
            self.events.push_back(NotifierEvent::Unsubscribed);
            self.events.push_back(NotifierEvent::Changed);
        }
    }

    /// The next thing that happened, oldest first.
    pub fn poll_event(&mut self) -> Option<NotifierEvent> {
        self.events.pop_front()
    }

    /// The next NOTIFY to send, without Via.
    pub fn poll_transmit(&mut self) -> Option<Message> {
        if !self.due || self.under_way.is_some() || self.retry_at.is_some() {
            return None;
        }
        self.due = false;
        let left = self.expires_at.saturating_duration_since(self.now).as_secs();
        let expires = Some(u32::try_from(left).unwrap_or(u32::MAX));
        let state = match self.state {
            Watched::Pending => SubscriptionState::Pending { expires },
            Watched::Active => SubscriptionState::Active { expires },
            Watched::Over => SubscriptionState::Terminated {
                reason: Some(self.reason.0.clone()),
                retry_after: self.reason.1,
            },
        };
        let mut notify = self.dialog.request(Method::Notify);
        for (name, value) in [
            (HeaderName::Contact, self.contact.to_string()),
            (HeaderName::Event, self.event.clone()),
            (HeaderName::SubscriptionState, state.to_string()),
        ] {
            // Written from parts, or read as a header: no line break is in it.
            let _ = notify.headers.push(name, value);
        }
        if let Some((content_type, body)) = self.body.as_ref().filter(|_| self.allowed) {
            notify.set_body(content_type, body.clone());
        }
        self.under_way = Some(self.dialog.local_cseq);
        self.events.push_back(NotifierEvent::Changed);
        Some(notify)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let end = (self.state != Watched::Over).then_some(self.expires_at);
        [end, self.retry_at].into_iter().flatten().min()
    }

    /// True once nothing more will be sent: drop it.
    pub fn is_over(&self) -> bool {
        self.state == Watched::Over && !self.due && self.under_way.is_none()
    }
}

fn check_event(subscribe: &Message, terms: &NotifierTerms) -> Result<(), Status> {
    match subscribe.event() {
        Ok(Some(event)) if event.package == terms.package => Ok(()),
        Ok(_) => Err(Status::of(489)),
        Err(invalid) => Err(invalid.status),
    }
}

/// RFC 6665 section 7.2.1: a 489 says what is known.
fn refuse_event(mut refusal: Box<Message>, terms: &NotifierTerms) -> Box<Message> {
    // Our own word.
    let _ = refusal.headers.push(HeaderName::AllowEvents, terms.package.clone());
    refusal
}

/// RFC 3261 section 21.4.17: a 423 says how much it must be.
fn brief(mut refusal: Box<Message>, terms: &NotifierTerms) -> Box<Message> {
    if refusal.status() == Some(Status::of(423)) {
        // Digits.
        let _ = refusal.headers.push(HeaderName::MinExpires, terms.expires_min.to_string());
    }
    refusal
}

fn grant(subscribe: &Message, terms: &NotifierTerms) -> Result<u32, Status> {
    let wish = subscribe.expires().map_err(|invalid| invalid.status)?;
    match wish.unwrap_or(terms.expires_default) {
        0 => Ok(0),
        // RFC 6665 section 4.2.1.1: an hour is never too brief.
        wish if wish < terms.expires_min && wish < 3600 => Err(Status::of(423)),
        wish => Ok(wish.min(terms.expires_max)),
    }
}

/// The types both know, in the watcher's order; `None` if there is none.
fn common_types(subscribe: &Message, terms: &NotifierTerms) -> Option<Vec<String>> {
    let accepted = subscribe.headers.list(&HeaderName::Accept);
    if accepted.is_empty() {
        return Some(terms.types.clone());
    }
    let mut common: Vec<String> = Vec::new();
    for accepted in accepted.iter().filter_map(|text| ContentType::parse(text).ok()) {
        let (kind, _) = accepted.essence.split_once('/').unwrap_or_default();
        for own in &terms.types {
            let all_of_kind = accepted.essence.ends_with("/*")
                && own.split_once('/').is_some_and(|(own, _)| own == kind);
            let fits = accepted.essence == "*/*" || accepted.essence == *own || all_of_kind;
            if fits && !common.contains(own) {
                common.push(own.clone());
            }
        }
    }
    (!common.is_empty()).then_some(common)
}

fn granted(subscribe: &Message, seconds: u32, contact: &NameAddr, tag: Option<&str>) -> Message {
    let mut response = Message::response_to(subscribe, Status::of(200), tag);
    for (name, value) in
        [(HeaderName::Expires, seconds.to_string()), (HeaderName::Contact, contact.to_string())]
    {
        // Written from parts.
        let _ = response.headers.push(name, value);
    }
    response
}

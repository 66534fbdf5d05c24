use std::time::{Duration, Instant};

use bytes::Bytes;

use super::InvalidStored;
use crate::{ContentType, Dialog, Message, NameAddr, Seed, Status, Uri};

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
    _todo: (),
}

impl Subscriber {
    /// Starts to watch: the first SUBSCRIBE waits in [`poll_transmit`](Self::poll_transmit).
    pub fn new(watch: Watch, seed: Seed, now: Instant) -> Self {
        let _ = (watch, seed, now);
        todo!()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `unix` is the wall clock in seconds. A
    /// subscription that has run out is asked for anew at once; otherwise the next refresh comes
    /// when it is due: call [`refresh`](Self::refresh) to have the state now.
    ///
    /// # Errors
    /// Bytes of another version or damaged ones.
    pub fn from_bytes(
        bytes: &[u8],
        seed: Seed,
        now: Instant,
        unix: u64,
    ) -> Result<Self, InvalidStored> {
        let _ = (bytes, seed, now, unix);
        todo!()
    }

    /// For the store; `unix` is the wall clock in seconds.
    pub fn to_bytes(&self, now: Instant, unix: u64) -> Vec<u8> {
        let _ = (now, unix);
        todo!()
    }

    /// What is watched.
    pub fn watch(&self) -> &Watch {
        todo!()
    }

    /// Where it stands.
    pub fn state(&self) -> &WatchState {
        todo!()
    }

    /// The Call-ID of the SUBSCRIBE in force; it changes with each new attempt.
    pub fn call_id(&self) -> &str {
        todo!()
    }

    /// Our tag; with [`call_id`](Self::call_id) it is the way from a NOTIFY to its subscriber.
    pub fn local_tag(&self) -> &str {
        todo!()
    }

    /// The dialog, once there is one.
    pub fn dialog(&self) -> Option<&Dialog> {
        todo!()
    }

    /// When what the notifier granted ends.
    pub fn expires_at(&self) -> Option<Instant> {
        todo!()
    }

    /// Asks for the state now: a refresh, or a new SUBSCRIBE where none stands. Does nothing while
    /// one is under way or after the end.
    pub fn refresh(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// Ends it: SUBSCRIBE with Expires 0, then the last NOTIFY is waited for. Without a dialog it
    /// is over at once.
    pub fn unsubscribe(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// An answer to a SUBSCRIBE. One that fits none is ignored.
    pub fn receive_response(&mut self, response: &Message, now: Instant) {
        let _ = (response, now);
        todo!()
    }

    /// The SUBSCRIBE under way got no answer or its flow broke.
    pub fn request_failed(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// A NOTIFY came in; returns what to answer: 200, or 481, 489, 500, 400 and 415.
    pub fn receive_notify(&mut self, notify: &Message, now: Instant) -> Message {
        let _ = (notify, now);
        todo!()
    }

    /// The moment given by [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// The next thing that happened, oldest first.
    pub fn poll_event(&mut self) -> Option<SubscriberEvent> {
        todo!()
    }

    /// The next request to send, without Via.
    pub fn poll_transmit(&mut self) -> Option<Message> {
        todo!()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// True once nothing more will be sent: drop it.
    pub fn is_over(&self) -> bool {
        todo!()
    }
}

#[allow(dead_code, reason = "filled in next")]
fn _shapes(_: Duration) {}

use std::time::Instant;

use bytes::Bytes;

use super::InvalidStored;
use crate::{Dialog, Message, NameAddr};

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
    _todo: (),
}

impl Notifier {
    /// Answers an initial SUBSCRIBE. `tag` is ours, fresh and unguessable; `contact` is where the
    /// watcher sends refreshes. In [`Watched::Pending`] unless `state` says more. A request with
    /// Expires 0 is a fetch: it ends after one NOTIFY.
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
        let _ = (subscribe, terms, contact, tag, state, now);
        todo!()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `unix` is the wall clock in seconds. One that
    /// has run out is revived as ended and sends its last NOTIFY.
    ///
    /// # Errors
    /// Bytes of another version or damaged ones.
    pub fn from_bytes(bytes: &[u8], now: Instant, unix: u64) -> Result<Self, InvalidStored> {
        let _ = (bytes, now, unix);
        todo!()
    }

    /// For the store; `unix` is the wall clock in seconds. The body is not in it: publish anew
    /// after a restart.
    pub fn to_bytes(&self, now: Instant, unix: u64) -> Vec<u8> {
        let _ = (now, unix);
        todo!()
    }

    /// The dialog.
    pub fn dialog(&self) -> &Dialog {
        todo!()
    }

    /// Where the watcher stands.
    pub fn state(&self) -> &Watched {
        todo!()
    }

    /// When it runs out without a refresh.
    pub fn expires_at(&self) -> Instant {
        todo!()
    }

    /// The media types of the watcher's Accept that we can write, the watcher's first choice first.
    pub fn types(&self) -> &[String] {
        todo!()
    }

    /// The state of the person changed; sent at once while active, kept while pending.
    pub fn publish(&mut self, content_type: &str, body: Bytes, now: Instant) {
        let _ = (content_type, body, now);
        todo!()
    }

    /// Our user allowed it: NOTIFY active, with the body published last, if any.
    pub fn activate(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// Ends it from our side: NOTIFY terminated with this reason (RFC 6665 section 4.1.3) and,
    /// where it is `probation` or `giveup`, seconds to wait.
    pub fn terminate(&mut self, reason: &str, retry_after: Option<u32>, now: Instant) {
        let _ = (reason, retry_after, now);
        todo!()
    }

    /// A SUBSCRIBE in this dialog (refresh, end): returns what to answer.
    pub fn receive_subscribe(&mut self, subscribe: &Message, now: Instant) -> Message {
        let _ = (subscribe, now);
        todo!()
    }

    /// An answer to a NOTIFY. One that fits none is ignored.
    pub fn receive_response(&mut self, response: &Message, now: Instant) {
        let _ = (response, now);
        todo!()
    }

    /// The NOTIFY under way got no answer or its flow broke.
    pub fn request_failed(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// The moment given by [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// The next thing that happened, oldest first.
    pub fn poll_event(&mut self) -> Option<NotifierEvent> {
        todo!()
    }

    /// The next NOTIFY to send, without Via.
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

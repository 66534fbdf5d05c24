use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{Dialog, Message, Seed, SubscriptionState, Uri};

/// We watch (RFC 6665 section 4.1): makes SUBSCRIBE, its refresh and its end; takes in answers and
/// NOTIFY. Refreshes well before the end; timer N (64*T1) without any NOTIFY ends it.
///
/// Plain data around a [`Dialog`]; the owner stores what [`dialog`](Self::dialog) and
/// [`expires_at`](Self::expires_at) say, and revives it after a restart.
#[derive(Debug)]
pub struct Subscriber {
    _todo: (),
}

/// We are watched (RFC 6665 section 4.2).
#[derive(Debug)]
pub struct Notifier {
    _todo: (),
}

/// Why a message does not fit the subscription.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "each says what it is")]
pub enum SubscriptionError {
    #[error("the message does not belong to this subscription")]
    NotOurs,
    #[error("an expiry below our minimum of {min} seconds")]
    TooBrief { min: u32 },
    #[error("the subscription is over")]
    Over,
}

impl Subscriber {
    /// The dialog, once there is one.
    pub fn dialog(&self) -> Option<&Dialog> {
        todo!()
    }

    /// When what the notifier granted ends.
    pub fn expires_at(&self) -> Option<Instant> {
        todo!()
    }
}

impl Notifier {
    /// The NOTIFY of a state, with a body or none.
    pub fn notify(
        &mut self,
        state: &SubscriptionState,
        body: Option<(&str, Bytes)>,
        now: Instant,
    ) -> Message {
        let _ = (state, body, now);
        todo!()
    }
}

#[allow(dead_code, reason = "shapes for who fills this in")]
fn _shapes(_: Duration, _: Uri, _: Seed) {}

//! Subscriptions (RFC 6665): we watch ([`Subscriber`]), or are watched ([`Notifier`]).
//!
//! Both are machines without sockets: requests to send come out of `poll_transmit` without Via
//! (the owner puts it on and hands them to [`Transactions`](crate::Transactions)), answers go back
//! in, and every change is an event. Both can be stored and revived after a restart.

mod notifier;
mod retry;
mod stored;
mod subscriber;
#[cfg(test)]
mod tests;

pub use self::notifier::{Notifier, NotifierEvent, NotifierTerms, Watched};
pub use self::subscriber::{Cause, Subscriber, SubscriberEvent, Watch, WatchState};

/// A stored subscription that cannot be read back: another version, or damaged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a stored subscription of this version")]
pub struct InvalidStored;

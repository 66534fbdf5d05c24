use std::sync::Arc;
use std::time::Duration;

use gatehouse_sip::Message;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time;

/// What [`NotSent`](super::NotSent) says of a queue that is full for the moment.
pub(super) const FULL: &str = "its queue is full";
const DOWN: &str = "its link is down";

/// Where a link's messages go: to the task that writes them, or, in one process, straight to the
/// other end under the name it knows us by.
#[derive(Debug)]
pub(crate) enum Queue<T> {
    Wire(mpsc::Sender<Message>),
    Straight { own: Arc<str>, queue: mpsc::Sender<T> },
}

/// What the other end takes: a message and who sent it.
pub(crate) trait Parcel {
    fn new(sender: Arc<str>, message: Message) -> Self;
    fn into_message(self) -> Message;
}

impl<T: Parcel> Queue<T> {
    /// Never waits. Gives the message back with the reason.
    pub(crate) fn try_send(&self, message: Message) -> Result<(), Box<(&'static str, Message)>> {
        match self {
            Self::Wire(queue) => queue.try_send(message).map_err(|error| match error {
                TrySendError::Full(message) => Box::new((FULL, message)),
                TrySendError::Closed(message) => Box::new((DOWN, message)),
            }),
            Self::Straight { own, queue } => {
                queue.try_send(T::new(Arc::clone(own), message)).map_err(|error| match error {
                    TrySendError::Full(parcel) => Box::new((FULL, parcel.into_message())),
                    TrySendError::Closed(parcel) => Box::new((DOWN, parcel.into_message())),
                })
            }
        }
    }
}

impl<T: Parcel> Queue<T> {
    /// Waits for room, in the order in which it is asked for. Gives the message back if the link is
    /// down, or has no room within `patience`.
    pub(crate) async fn send_within(
        &self,
        message: Message,
        patience: Duration,
    ) -> Result<(), Box<(&'static str, Message)>> {
        // A place first: a message that waited inside `send` would be lost with it.
        match self {
            Self::Wire(queue) => match time::timeout(patience, queue.reserve()).await {
                Ok(Ok(place)) => place.send(message),
                Ok(Err(_)) => return Err(Box::new((DOWN, message))),
                Err(_) => return Err(Box::new((FULL, message))),
            },
            Self::Straight { own, queue } => match time::timeout(patience, queue.reserve()).await {
                Ok(Ok(place)) => place.send(T::new(Arc::clone(own), message)),
                Ok(Err(_)) => return Err(Box::new((DOWN, message))),
                Err(_) => return Err(Box::new((FULL, message))),
            },
        }
        Ok(())
    }
}

impl<T> Queue<T> {
    /// Places that are free now.
    pub(crate) fn free(&self) -> usize {
        match self {
            Self::Wire(queue) => queue.capacity(),
            Self::Straight { queue, .. } => queue.capacity(),
        }
    }

    /// Ends when there is room for a message, or nobody takes any more.
    pub(crate) async fn room(&self) {
        // Given back at once: it is asked for again.
        match self {
            Self::Wire(queue) => drop(queue.reserve().await),
            Self::Straight { queue, .. } => drop(queue.reserve().await),
        }
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Wire(queue) => Self::Wire(queue.clone()),
            Self::Straight { own, queue } => {
                Self::Straight { own: Arc::clone(own), queue: queue.clone() }
            }
        }
    }
}

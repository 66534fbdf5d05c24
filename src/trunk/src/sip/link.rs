//! One connection between an edge and a core node, carrying SIP.

use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::{BoxedIo, Connection, ConnectionError, Step, now};
use gatehouse_sip::{Limits, Message, SipStream, StreamConfig, StreamEnd, StreamEvent};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::queue::Parcel;
use crate::TrunkObserver;

/// Messages that wait for one link.
pub(super) const QUEUE_LEN_MAX: usize = 1024;

/// How long the other end may leave our writes unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Both ends ask after so much silence, and are given up after so much more: a link that is cut
/// without a word must be found out before a partner's timers run out.
const CONFIG: StreamConfig = StreamConfig {
    limits: Limits { head_max: 32 * 1024, body_max: 128 * 1024, headers_max: 256 },
    first_message_within: None,
    ping_after: Some(Duration::from_secs(2)),
    pong_within: Some(Duration::from_secs(2)),
    idle_max: None,
};

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkEnd {
    #[error(transparent)]
    Ended(#[from] StreamEnd),
    #[error(transparent)]
    Broken(#[from] ConnectionError),
    #[error("a newer link of the same node took over")]
    Replaced,
    #[error("we are stopping")]
    Stopped,
}

/// Carries messages both ways until the link ends; what `name` sends goes to `incoming`. `queue`
/// closes when another link took over.
pub(super) async fn run<T: Parcel>(
    io: BoxedIo,
    name: &Arc<str>,
    queue: &mut mpsc::Receiver<Message>,
    incoming: &mpsc::Sender<T>,
    observer: &dyn TrunkObserver,
    stop: &CancellationToken,
) -> LinkEnd {
    let mut connection = Connection::new(SipStream::new(CONFIG, now()), io, WRITE_TIMEOUT);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                // What was handed over before the word to stop still leaves.
                while let Ok(message) = queue.try_recv() {
                    connection.machine_mut().send(&message, now());
                }
                return match connection.flush().await {
                    Ok(()) => LinkEnd::Stopped,
                    Err(error) => error.into(),
                };
            }
            step = connection.next() => match step {
                Ok(Step::Event(StreamEvent::Message(message))) => {
                    observer.received(name);
                    // A receiver that does not read slows the link, and nobody else.
                    if incoming.send(T::new(Arc::clone(name), message)).await.is_err() {
                        return LinkEnd::Stopped;
                    }
                }
                Ok(Step::Event(StreamEvent::Ended(end))) => {
                    // An answer to what could not be read may still leave.
                    let _ = connection.flush().await;
                    return end.into();
                }
                Ok(Step::Upgrade) => {}
                Ok(Step::Closed) => return StreamEnd::Closed.into(),
                Err(error) => return error.into(),
            },
            message = queue.recv(), if !connection.is_congested() => match message {
                None => return LinkEnd::Replaced,
                Some(message) => {
                    let machine = connection.machine_mut();
                    machine.send(&message, now());
                    observer.sent(name);
                    // One write for all that waits.
                    while let Ok(message) = queue.try_recv() {
                        machine.send(&message, now());
                        observer.sent(name);
                    }
                }
            },
        }
    }
}

//! One connection between an edge and a core node, carrying SIP.

use std::future;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::{BoxedIo, Connection, ConnectionError, Step, now};
use gatehouse_sip::{Limits, Message, SipStream, StreamConfig, StreamEnd, StreamEvent};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{self, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::queue::Parcel;
use crate::TrunkObserver;

/// Messages that wait for one link.
pub(super) const QUEUE_LEN_MAX: usize = 1024;

/// While less than so much is unwritten, more is taken from the queue. With the longest message it
/// stays below what makes a connection stop to read: two ends that both have much to write would
/// wait for each other.
const WRITE_AHEAD: usize = 64 * 1024;

/// How long the other end may leave our writes unread while it says that it lives: its owner may be
/// busy. That it is gone is found out by its silence, long before.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often we say so while nothing is read.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

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
///
/// An owner that does not take what came slows this link in that direction, and nothing else: it may
/// wait for room in `queue`, so what is queued leaves meanwhile. The other end hears that we live.
pub(super) async fn run<T: Parcel>(
    io: BoxedIo,
    name: &Arc<str>,
    queue: &mut mpsc::Receiver<Message>,
    incoming: &mpsc::Sender<T>,
    observer: &dyn TrunkObserver,
    stop: &CancellationToken,
) -> LinkEnd {
    let mut connection = Connection::new(SipStream::new(CONFIG, now()), io, WRITE_TIMEOUT);
    // What came and finds no room; nothing is read meanwhile.
    let mut held: Option<T> = None;
    let mut alive = time::interval(ALIVE_EVERY);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let has_room = connection.collect().unwritten() < WRITE_AHEAD;
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
            message = queue.recv(), if has_room => {
                if message.is_none() {
                    return LinkEnd::Replaced;
                }
                // One write for what waits.
                let mut next = message;
                while let Some(message) = next {
                    connection.machine_mut().send(&message, now());
                    observer.sent(name);
                    let has_room = connection.collect().unwritten() < WRITE_AHEAD;
                    next = has_room.then(|| queue.try_recv().ok()).flatten();
                }
            }
            room = incoming.reserve(), if held.is_some() => {
                let Ok(room) = room else { return LinkEnd::Stopped };
                if let Some(parcel) = held.take() {
                    room.send(parcel);
                }
                // It was we who did not listen.
                connection.machine_mut().forgive_silence(now());
            }
            _ = alive.tick(), if held.is_some() => connection.machine_mut().say_alive(),
            step = advance(&mut connection, held.is_none(), has_room) => match step {
                Ok(None) => {}
                Ok(Some(Step::Event(StreamEvent::Message(message)))) => {
                    observer.received(name);
                    match incoming.try_send(T::new(Arc::clone(name), message)) {
                        Ok(()) => {}
                        Err(TrySendError::Full(parcel)) => held = Some(parcel),
                        Err(TrySendError::Closed(_)) => return LinkEnd::Stopped,
                    }
                }
                Ok(Some(Step::Event(StreamEvent::Ended(end)))) => {
                    // An answer to what could not be read may still leave.
                    let _ = connection.flush().await;
                    return end.into();
                }
                Ok(Some(Step::Upgrade)) => {}
                Ok(Some(Step::Closed)) => return StreamEnd::Closed.into(),
                Err(error) => return error.into(),
            },
        }
    }
}

/// Writes and, if `reading`, reads. Ends with `None` when there is room for more to be written.
async fn advance(
    connection: &mut Connection<SipStream>,
    reading: bool,
    has_room: bool,
) -> Result<Option<Step<StreamEvent>>, ConnectionError> {
    match (reading, has_room) {
        (true, true) => connection.next().await.map(Some),
        (true, false) => connection.next_or_flushed().await,
        // There is nothing to do before something is queued, or taken from us.
        (false, _) if connection.collect().is_flushed() => future::pending().await,
        (false, _) => connection.flush().await.map(|()| None),
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_sip::{HeaderName, Method, Uri};
    use tokio::io::duplex;

    use super::*;
    use crate::NoObserver;
    use crate::sip::{FromEdge, FromNode};

    fn message(number: usize) -> Message {
        let mut message =
            Message::request(Method::Message, Uri::parse("sip:bob@them.example").unwrap());
        for (name, value) in [
            (HeaderName::Via, "SIP/2.0/TLS core;branch=z9hG4bK1"),
            (HeaderName::From, "<sip:alice@ours.example>;tag=1"),
            (HeaderName::To, "<sip:bob@them.example>"),
            (HeaderName::CSeq, "1 MESSAGE"),
            (HeaderName::MaxForwards, "70"),
        ] {
            message.headers.push(name, value).unwrap();
        }
        message.headers.push(HeaderName::CallId, number.to_string()).unwrap();
        message
    }

    /// One end of a link, as its owner has it.
    struct End<T> {
        queue: mpsc::Sender<Message>,
        incoming: mpsc::Receiver<T>,
    }

    impl<T: Parcel> End<T> {
        async fn send(&self, count: usize) {
            for number in 0..count {
                self.queue.send(message(number)).await.unwrap();
            }
        }

        async fn receive(&mut self, count: usize) {
            for number in 0..count {
                let message = self.incoming.recv().await.unwrap().into_message();
                assert_eq!(message.call_id().unwrap(), number.to_string());
            }
        }
    }

    /// An end and the task behind it.
    fn end<T: Parcel>(
        io: BoxedIo,
        stop: &CancellationToken,
    ) -> (End<T>, impl Future<Output = LinkEnd>) {
        let (queue, mut queued) = mpsc::channel(QUEUE_LEN_MAX);
        let (sender, incoming) = mpsc::channel(QUEUE_LEN_MAX);
        let stop = stop.clone();
        let link =
            async move { run(io, &"peer".into(), &mut queued, &sender, &NoObserver, &stop).await };
        (End { queue, incoming }, link)
    }

    /// Runs `owners` until they are done; the link must not end before.
    async fn with_link<F: Future<Output = ()>>(
        owners: impl FnOnce(End<FromEdge>, End<FromNode>) -> F,
    ) {
        let (one, other) = duplex(16 * 1024);
        let stop = CancellationToken::new();
        let (core, at_core) = end(Box::new(one), &stop);
        let (edge, at_edge) = end(Box::new(other), &stop);
        tokio::select! {
            end = at_core => panic!("the core's end is over: {end}"),
            end = at_edge => panic!("the edge's end is over: {end}"),
            () = owners(core, edge) => {}
            () = time::sleep(Duration::from_secs(600)) => panic!("they wait for each other"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_does_not_read_can_still_send_and_reads_all_of_it_later() {
        with_link(async |mut core, mut edge| {
            let from_edge = async { edge.queue.clone() };
            let to_core = End { queue: from_edge.await, incoming: mpsc::channel::<FromNode>(1).1 };
            let core_owner = async {
                core.send(6000).await;
                // Longer than the other end waits for a sign of life.
                time::sleep(Duration::from_secs(20)).await;
                core.receive(3000).await;
            };
            tokio::join!(core_owner, edge.receive(6000), to_core.send(3000));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn two_ends_that_both_have_much_to_say_do_not_wait_for_each_other() {
        with_link(async |mut core, mut edge| {
            let (to_edge, to_core) = (core.queue.clone(), edge.queue.clone());
            let say = async |queue: mpsc::Sender<Message>| {
                for number in 0..2000 {
                    let mut long = message(number);
                    long.set_body("text/plain", vec![b'x'; 2000]);
                    queue.send(long).await.unwrap();
                }
            };
            tokio::join!(say(to_edge), say(to_core), core.receive(2000), edge.receive(2000));
        })
        .await;
    }
}

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use gatehouse_types::{Machine, spare};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time;

use crate::now;

/// Any byte stream: TCP, TLS, an in-memory pipe.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The byte stream of a connection.
pub type BoxedIo = Box<dyn Io>;

/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;

/// How much is still read of what a peer said before a connection broke: what the system holds of it
/// is no more.
const LAST_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Unwritten bytes above which a connection counts as congested.
const CONGESTED_BYTES: usize = 256 * 1024;

/// What a connection did.
#[derive(Debug)]
pub enum Step<E> {
    /// The machine reports this.
    Event(E),
    /// The machine wants the transport upgraded, and all it wrote before has left: take the bytes
    /// with [`Connection::take_io`], shake hands, give them back with [`Connection::put_io`], then
    /// tell the machine.
    Upgrade,
    /// It is over; nothing more will come.
    Closed,
}

/// Why a connection broke below the protocol.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// Reading or writing failed.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The peer did not read what we wrote.
    #[error("the peer read nothing for {} s", .0.as_secs())]
    WriteStalled(Duration),
}

/// A machine over a socket. The only loop that knows both sides.
///
/// Writes are coalesced: all that the machine has to say when it is asked goes out in one write.
pub struct Connection<M: Machine> {
    machine: M,
    io: Option<BoxedIo>,
    outbox: BytesMut,
    needs_flush: bool,
    eof: bool,
    write_timeout: Duration,
    write_deadline: Option<Instant>,
    shut_down: bool,
    traffic: Traffic,
    broken: Option<Broken>,
}

/// Writing has failed.
struct Broken {
    error: io::Error,
    /// What was read by then.
    read: u64,
}

/// What has passed over a connection, in bytes; with TLS, what was within it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// From the peer.
    pub read: u64,
    /// To the peer.
    pub written: u64,
}

impl<M: Machine> Connection<M> {
    /// Drives `machine` over `io`. The peer may leave our writes unread for `write_timeout`.
    pub fn new(machine: M, io: BoxedIo, write_timeout: Duration) -> Self {
        Self {
            machine,
            io: Some(io),
            outbox: BytesMut::new(),
            needs_flush: false,
            eof: false,
            write_timeout,
            write_deadline: None,
            shut_down: false,
            traffic: Traffic::default(),
            broken: None,
        }
    }

    /// The machine, to ask it.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The machine, to tell it something; call [`next`](Self::next) afterwards.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// What has passed so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// True while the peer does not keep up: give the machine nothing more to send.
    pub fn is_congested(&self) -> bool {
        self.outbox.len() > CONGESTED_BYTES
    }

    /// Bytes that the operating system has not taken yet, of what was [collected](Self::collect).
    pub fn unwritten(&self) -> usize {
        self.outbox.len()
    }

    /// The transport, to be upgraded. Call only after [`Step::Upgrade`].
    pub fn take_io(&mut self) -> Option<BoxedIo> {
        self.io.take()
    }

    /// The upgraded transport.
    pub fn put_io(&mut self, io: BoxedIo) {
        self.io = Some(io);
    }

    /// Waits for the next step. Cancel-safe: dropping the future loses nothing, so it can stand in
    /// a `select!` beside a queue of things to send.
    pub async fn next(&mut self) -> Result<Step<M::Event>, ConnectionError> {
        loop {
            if let Some(step) = self.step(false).await? {
                return Ok(step);
            }
        }
    }

    /// Like [`next`](Self::next), but also returns (`None`) once all that the machine said has been
    /// handed to the operating system: what was sent until then need not be kept any longer.
    pub async fn next_or_flushed(&mut self) -> Result<Option<Step<M::Event>>, ConnectionError> {
        self.step(true).await
    }

    /// Writes all that the machine has to say, and returns. Reads nothing and reports no event: for
    /// an owner that is busy with an earlier event. Cancel-safe like [`next`](Self::next).
    pub async fn flush(&mut self) -> Result<(), ConnectionError> {
        loop {
            self.collect();
            let (false, Some(io)) = (self.is_flushed(), self.io.as_mut()) else {
                self.write_deadline = None;
                return Ok(());
            };
            let deadline = *self.write_deadline.get_or_insert_with(|| now() + self.write_timeout);
            let activity = tokio::select! {
                biased;
                () = sleep_until(Some(deadline)) => Activity::Deadline,
                activity = transfer(io, &mut self.machine, &mut self.outbox, false, true) => activity,
            };
            self.handle(activity)?;
        }
    }

    /// True if all that was taken from the machine has been handed to the operating system.
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty() && !self.needs_flush
    }

    /// Takes what the machine has to say, so that [`is_congested`](Self::is_congested) knows of it.
    /// Nothing is written before [`next`](Self::next) or [`flush`](Self::flush).
    pub fn collect(&mut self) -> &mut Self {
        while let Some(bytes) = self.machine.poll_transmit() {
            if self.outbox.is_empty() {
                // Most often it is all there is to write, and nobody else's.
                match bytes.try_into_mut() {
                    Ok(bytes) => spare::give(std::mem::replace(&mut self.outbox, bytes)),
                    Err(shared) => self.outbox.extend_from_slice(&shared),
                }
            } else {
                self.outbox.extend_from_slice(&bytes);
            }
        }
        self
    }

    /// Runs until there is something to report or, if `report_flushed`, nothing left to write.
    async fn step(
        &mut self,
        report_flushed: bool,
    ) -> Result<Option<Step<M::Event>>, ConnectionError> {
        loop {
            if let Some(event) = self.machine.poll_event() {
                return Ok(Some(Step::Event(event)));
            }
            if self.broken.is_some() {
                self.read_rest().await?;
                continue;
            }
            self.collect();
            let writing = !self.is_flushed();
            if self.machine.is_closed() && !writing {
                self.close().await;
                return Ok(Some(Step::Closed));
            }
            if self.machine.wants_upgrade() && !writing {
                return Ok(Some(Step::Upgrade));
            }
            if report_flushed && !writing {
                return Ok(None);
            }
            let Some(io) = self.io.as_mut() else { return Ok(Some(Step::Closed)) };
            if writing {
                self.write_deadline.get_or_insert_with(|| now() + self.write_timeout);
            } else {
                self.write_deadline = None;
            }
            // A peer that does not read is not read from either.
            let reading = !self.eof
                && !self.machine.is_closed()
                && !self.machine.wants_upgrade()
                && self.outbox.len() <= CONGESTED_BYTES;
            let deadline = earliest(self.machine.poll_timeout(), self.write_deadline);
            // Deadlines come first. A timer is set only once there is nothing else to do.
            let activity = if deadline.is_some_and(|deadline| deadline <= now()) {
                Activity::Deadline
            } else {
                tokio::select! {
                    biased;
                    activity = transfer(io, &mut self.machine, &mut self.outbox, reading, writing) => activity,
                    () = sleep_until(deadline) => Activity::Deadline,
                }
            };
            match activity {
                Activity::Wrote(Err(error)) | Activity::Flushed(Err(error)) => {
                    self.broken = Some(Broken { error, read: self.traffic.read });
                }
                activity => self.handle(activity)?,
            }
        }
    }

    /// Reads once more of what the peer said before writing failed, without waiting for anything: among
    /// it may be that it has what we would send again. Fails once nothing is left.
    async fn read_rest(&mut self) -> Result<(), ConnectionError> {
        let (eof, read) = (self.eof, self.traffic.read);
        let is_enough = |broken: &Broken| eof || read - broken.read > LAST_BYTES_MAX;
        if let Some(io) = self.io.as_mut()
            && !self.machine.is_closed()
            && !self.broken.as_ref().is_some_and(is_enough)
        {
            let machine = &mut self.machine;
            // A task that has had its turn would be told that nothing is there; there is a bound.
            let reading = poll_fn(|cx| Poll::Ready(poll_read(io, machine, cx)));
            let polled = tokio::task::unconstrained(reading).await;
            if let Poll::Ready(Ok(count @ 1..)) = polled {
                self.traffic.read += count as u64;
                return Ok(());
            }
        }
        let broken = self.broken.take().map(|broken| broken.error);
        Err(ConnectionError::Broken(broken.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())))
    }

    fn handle(&mut self, activity: Activity) -> Result<(), ConnectionError> {
        match activity {
            Activity::Deadline => {
                let now = now();
                if self.write_deadline.is_some_and(|deadline| deadline <= now) {
                    return Err(ConnectionError::WriteStalled(self.write_timeout));
                }
                if self.machine.poll_timeout().is_some_and(|deadline| deadline <= now) {
                    self.machine.handle_timeout(now);
                }
            }
            Activity::Read(Ok(0)) => {
                self.eof = true;
                self.machine.handle_eof(now());
            }
            Activity::Read(Ok(count)) => self.traffic.read += count as u64,
            Activity::Wrote(Ok(0)) => {
                return Err(ConnectionError::Broken(io::ErrorKind::WriteZero.into()));
            }
            Activity::Wrote(Ok(count)) => {
                self.traffic.written += count as u64;
                // Progress: the peer reads.
                self.write_deadline = None;
                self.needs_flush = true;
            }
            Activity::Flushed(Ok(())) => {
                self.needs_flush = false;
                // An idle connection keeps no buffer.
                spare::give(std::mem::take(&mut self.outbox));
            }
            Activity::Read(Err(error))
            | Activity::Wrote(Err(error))
            | Activity::Flushed(Err(error)) => {
                return Err(ConnectionError::Broken(error));
            }
        }
        Ok(())
    }

    async fn close(&mut self) {
        if self.shut_down {
            return;
        }
        self.shut_down = true;
        if let Some(mut io) = self.io.take() {
            // The farewell was written; how the peer takes our closing is its business.
            let _ = time::timeout(self.write_timeout, tokio::io::AsyncWriteExt::shutdown(&mut io))
                .await;
        }
    }
}

impl<M: Machine> std::fmt::Debug for Connection<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("unwritten", &self.outbox.len()).finish_non_exhaustive()
    }
}

enum Activity {
    Deadline,
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
    Flushed(io::Result<()>),
}

/// The first of reading, writing and flushing that makes progress; the machine is given what was read.
/// Each step either happened whole or not at all, so the future can be dropped.
async fn transfer(
    io: &mut BoxedIo,
    machine: &mut impl Machine,
    outbox: &mut BytesMut,
    reading: bool,
    writing: bool,
) -> Activity {
    poll_fn(|cx| {
        if writing {
            if outbox.is_empty() {
                if let Poll::Ready(done) = Pin::new(&mut *io).poll_flush(cx) {
                    return Poll::Ready(Activity::Flushed(done));
                }
            } else if let Poll::Ready(done) = Pin::new(&mut *io).poll_write(cx, outbox) {
                if let Ok(count) = &done {
                    outbox.advance(*count);
                }
                return Poll::Ready(Activity::Wrote(done));
            }
        }
        if reading {
            return poll_read(io, machine, cx).map(Activity::Read);
        }
        Poll::Pending
    })
    .await
}

thread_local! {
    /// Where bytes come in. One for each thread: most connections are idle most of the time, and
    /// memory for what they may read some day would be most of what they take.
    static LANDING: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// Gives the machine what has come, and tells how much that was; nothing at the end.
fn poll_read(
    io: &mut BoxedIo,
    machine: &mut impl Machine,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    LANDING.with_borrow_mut(|landing| {
        let mut landed = ReadBuf::new(landing);
        let read = Pin::new(io).poll_read(cx, &mut landed);
        read.map_ok(|()| {
            let came = landed.filled();
            if !came.is_empty() {
                machine.handle_data(came, now());
            }
            came.len()
        })
    })
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Reports every read as an event and writes what it is told to.
    #[derive(Default)]
    struct Script {
        events: VecDeque<usize>,
        output: VecDeque<Bytes>,
    }

    impl Machine for Script {
        type Event = usize;

        fn handle_data(&mut self, data: &[u8], _now: Instant) {
            self.events.push_back(data.len());
        }
        fn handle_timeout(&mut self, _now: Instant) {}
        fn handle_eof(&mut self, _now: Instant) {}
        fn handle_shutdown(&mut self, _now: Instant) {}
        fn poll_event(&mut self) -> Option<usize> {
            self.events.pop_front()
        }
        fn poll_transmit(&mut self) -> Option<Bytes> {
            self.output.pop_front()
        }
        fn poll_timeout(&self) -> Option<Instant> {
            None
        }
        fn is_closed(&self) -> bool {
            false
        }
    }

    fn connected(room: usize) -> (Connection<Script>, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(room);
        (Connection::new(Script::default(), Box::new(ours), Duration::from_secs(30)), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn flush_writes_but_neither_reads_nor_reports() {
        let (mut connection, mut peer) = connected(64);
        peer.write_all(b"question").await.unwrap();
        connection.machine_mut().output.push_back(Bytes::from_static(b"answer"));
        connection.flush().await.unwrap();
        let mut answer = [0; 6];
        peer.read_exact(&mut answer).await.unwrap();
        assert_eq!((&answer, connection.is_flushed()), (b"answer", true));
        assert_eq!(connection.traffic(), Traffic { read: 0, written: 6 });
        assert!(connection.machine().events.is_empty(), "flush has read");
        assert!(matches!(connection.next().await, Ok(Step::Event(8))));
        assert_eq!(connection.traffic(), Traffic { read: 8, written: 6 });
    }

    #[tokio::test(start_paused = true)]
    async fn flushed_is_reported_only_once_the_peer_took_all() {
        let (mut connection, mut peer) = connected(4);
        connection.machine_mut().output.push_back(Bytes::from_static(b"answer"));
        let early = time::timeout(Duration::from_secs(1), connection.next_or_flushed()).await;
        assert!(early.is_err() && !connection.is_flushed(), "two bytes had no room");
        let mut answer = [0; 6];
        let (step, read) = tokio::join!(connection.next_or_flushed(), peer.read_exact(&mut answer));
        assert!(matches!(step, Ok(None)) && read.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn flush_gives_up_on_a_peer_that_does_not_read() {
        let (mut connection, _peer) = connected(4);
        connection.machine_mut().output.push_back(Bytes::from_static(b"answer"));
        assert!(matches!(connection.flush().await, Err(ConnectionError::WriteStalled(_))));
    }

    /// A peer that died: its last words are there, and nothing can be written.
    struct Dead<R> {
        said: R,
        /// Whether who tries to write has used up its turn by then, as if much had been written before.
        late: bool,
    }

    /// Each is heard alone.
    struct Words {
        words: Vec<&'static [u8]>,
        eof: bool,
    }

    impl AsyncRead for Words {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.words.pop() {
                Some(words) => into.put_slice(words),
                None if self.eof => {}
                None => return Poll::Pending,
            }
            Poll::Ready(Ok(()))
        }
    }

    impl<R: AsyncRead + Unpin> AsyncRead for Dead<R> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.said).poll_read(cx, into)
        }
    }

    impl<R: Unpin> AsyncWrite for Dead<R> {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            _bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            while self.late && tokio::task::coop::has_budget_remaining() {
                let _ = std::pin::pin!(tokio::task::coop::consume_budget()).poll(cx);
            }
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_dead_peer_said_last_is_heard() {
        for eof in [false, true] {
            let said = Words { words: vec![b"and this", b"I have it"], eof };
            let dead = Dead { said, late: false };
            let mut connection =
                Connection::new(Script::default(), Box::new(dead), Duration::from_secs(30));
            connection.machine_mut().output.push_back(Bytes::from_static(b"more"));
            assert!(matches!(connection.next().await, Ok(Step::Event(9))));
            assert!(matches!(connection.next().await, Ok(Step::Event(8))));
            let end = connection.next().await;
            assert!(
                matches!(&end, Err(ConnectionError::Broken(error)) if error.kind() == io::ErrorKind::BrokenPipe),
                "{end:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_dead_peer_said_last_is_heard_by_a_task_that_has_had_its_turn() {
        // A pipe counts towards the turn of a task.
        let (said, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(b"I have it").await.unwrap();
        let dead = Dead { said, late: true };
        let mut connection =
            Connection::new(Script::default(), Box::new(dead), Duration::from_secs(30));
        connection.machine_mut().output.push_back(Bytes::from_static(b"more"));
        assert!(matches!(connection.next().await, Ok(Step::Event(9))));
        assert!(matches!(connection.next().await, Err(ConnectionError::Broken(_))));
    }
}

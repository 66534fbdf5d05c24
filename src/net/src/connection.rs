use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use gatehouse_types::Machine;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time;

use crate::now;

/// Any byte stream: TCP, TLS, an in-memory pipe.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The byte stream of a connection.
pub type BoxedIo = Box<dyn Io>;

/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;

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
    inbox: BytesMut,
    outbox: BytesMut,
    needs_flush: bool,
    eof: bool,
    write_timeout: Duration,
    write_deadline: Option<Instant>,
    shut_down: bool,
}

impl<M: Machine> Connection<M> {
    /// Drives `machine` over `io`. The peer may leave our writes unread for `write_timeout`.
    pub fn new(machine: M, io: BoxedIo, write_timeout: Duration) -> Self {
        Self {
            machine,
            io: Some(io),
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            needs_flush: false,
            eof: false,
            write_timeout,
            write_deadline: None,
            shut_down: false,
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

    /// True while the peer does not keep up: give the machine nothing more to send.
    pub fn is_congested(&self) -> bool {
        self.outbox.len() > CONGESTED_BYTES
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
            if let Some(event) = self.machine.poll_event() {
                return Ok(Step::Event(event));
            }
            while let Some(bytes) = self.machine.poll_transmit() {
                self.outbox.extend_from_slice(&bytes);
            }
            let writing = !self.outbox.is_empty() || self.needs_flush;
            if self.machine.is_closed() && !writing {
                self.close().await;
                return Ok(Step::Closed);
            }
            if self.machine.wants_upgrade() && !writing {
                return Ok(Step::Upgrade);
            }
            let Some(io) = self.io.as_mut() else { return Ok(Step::Closed) };
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
            if self.inbox.capacity() == 0 {
                self.inbox.reserve(READ_BYTES);
            }
            let deadline = earliest(self.machine.poll_timeout(), self.write_deadline);
            let activity = tokio::select! {
                biased;
                () = sleep_until(deadline) => Activity::Deadline,
                activity = transfer(io, &mut self.inbox, &mut self.outbox, reading, writing) => activity,
            };
            self.handle(activity)?;
        }
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
            Activity::Read(Ok(_)) => {
                self.machine.handle_data(&self.inbox, now());
                self.inbox.clear();
            }
            Activity::Wrote(Ok(0)) => {
                return Err(ConnectionError::Broken(io::ErrorKind::WriteZero.into()));
            }
            Activity::Wrote(Ok(_)) => {
                // Progress: the peer reads.
                self.write_deadline = None;
                self.needs_flush = true;
            }
            Activity::Flushed(Ok(())) => self.needs_flush = false,
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

/// The first of reading, writing and flushing that makes progress. Each step either happened
/// whole or not at all, so the future can be dropped.
async fn transfer(
    io: &mut BoxedIo,
    inbox: &mut BytesMut,
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
            return poll_read(io, inbox, cx).map(Activity::Read);
        }
        Poll::Pending
    })
    .await
}

fn poll_read(
    io: &mut BoxedIo,
    inbox: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let read = io.read_buf(inbox);
    let mut read = std::pin::pin!(read);
    read.as_mut().poll(cx)
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

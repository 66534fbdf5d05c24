//! TLS over a byte stream.
//!
//! The library's buffered interface keeps 4 KiB for each connection for life. This drives its
//! unbuffered one: bytes come in where all connections of a thread read, and a connection keeps only
//! what came of a record that is not whole yet, what was not read or written yet, and its keys.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use gatehouse_types::spare;
use rustls::CommonState;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Io;

/// How much is read at once: about one record.
const READ_BYTES: usize = 16 * 1024;
/// How much is encrypted at once. As much may wait to be written; then the writer waits.
const WRITE_BYTES: usize = 64 * 1024;
/// Longest part of a record, or of a handshake message in several, that waits for the rest. The library
/// has the same bound on handshake messages, and records are shorter.
const INCOMPLETE_BYTES_MAX: usize = 0xffff + 18 * 1024;
/// Room for what a record adds to what is in it; if there is more to say, the library tells.
const RECORD_BYTES: usize = 16 * 1024;
const OVERHEAD_BYTES: usize = 64;

/// One end of TLS in the library.
pub(crate) trait End: Send + Unpin {
    type Data;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn state(&self) -> &CommonState;
}

impl End for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

impl End for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

/// TLS over `S`.
pub(crate) struct TlsStream<S, E> {
    io: S,
    end: E,
    /// What came of a record that is not whole yet; while a handshake message comes in several, all of
    /// them. The library remembers places in it.
    incoming: Vec<u8>,
    /// Decrypted, and not read yet.
    plain: BytesMut,
    /// Encrypted, and not written yet.
    outgoing: BytesMut,
    /// The peer said that nothing more comes.
    peer_closed: bool,
    /// We said so.
    closed: bool,
    /// The protocol was broken. Nothing is said or heard any more.
    failed: bool,
    /// To be told once what came before it was read.
    failure: Option<io::Error>,
}

impl<S: Io, E: End> TlsStream<S, E> {
    /// Shakes hands. Sets no time limit.
    ///
    /// # Errors
    /// The peer cannot agree with us, breaks the protocol, or goes away (`UnexpectedEof`).
    pub(crate) async fn shake(io: S, end: E) -> io::Result<Self> {
        let mut stream = Self {
            io,
            end,
            incoming: Vec::new(),
            plain: BytesMut::new(),
            outgoing: BytesMut::new(),
            peer_closed: false,
            closed: false,
            failed: false,
            failure: None,
        };
        poll_fn(|cx| stream.poll_shake(cx)).await?;
        Ok(stream)
    }

    /// What was agreed on.
    pub(crate) fn state(&self) -> &CommonState {
        self.end.state()
    }

    /// Room that is kept for bytes.
    #[cfg(test)]
    pub(crate) fn kept_bytes(&self) -> usize {
        self.incoming.capacity() + self.plain.capacity() + self.outgoing.capacity()
    }

    fn poll_shake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // We may be the one who begins, and have the last word.
            let said = self.say(Saying::Nothing);
            let drained = self.poll_drain(cx);
            // How the peer takes an alert is its business.
            said?;
            ready!(drained)?;
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            if !self.end.state().is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            let filled = self.poll_fill(cx, &mut ReadBuf::new(&mut []));
            if self.failed {
                let _ = self.poll_drain(cx);
            }
            // Who is done may have said all it had to say, and farewell, in one breath: that is read next.
            let is_over = self.peer_closed && self.end.state().is_handshaking();
            if ready!(filled)? == 0 || is_over {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Reads once, and takes from it what can be taken: into `into`, and what has no room there into
    /// `plain`. Gives how many encrypted bytes came; none at the end.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.incoming.len() > INCOMPLETE_BYTES_MAX {
            let text = "a TLS handshake message is too long";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        with_landing(|landing| {
            let mut landed = ReadBuf::new(landing);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut landed))?;
            let came = landed.filled_mut();
            if self.incoming.is_empty() {
                let used = self.digest(came, into, Saying::Nothing)?;
                self.incoming = came.get(used..).unwrap_or_default().to_vec();
            } else {
                self.incoming.extend_from_slice(came);
                self.digest_incoming(into, Saying::Nothing)?;
            }
            Poll::Ready(Ok(came.len()))
        })
    }

    /// Gives the library what waits for it, and then says `what`.
    fn digest_incoming(&mut self, into: &mut ReadBuf<'_>, what: Saying<'_>) -> io::Result<()> {
        let mut incoming = mem::take(&mut self.incoming);
        let used = self.digest(&mut incoming, into, what)?;
        incoming.drain(..used.min(incoming.len()));
        if used > 0 {
            // No more room than the rest takes.
            incoming.shrink_to_fit();
        }
        self.incoming = incoming;
        Ok(())
    }

    /// Lets the library say what it has to say, and then us.
    fn say(&mut self, what: Saying<'_>) -> io::Result<()> {
        self.digest_incoming(&mut ReadBuf::new(&mut []), what)
    }

    /// Gives the library what came, until it can do no more, and then says `what`. Tells how much of
    /// what came is not needed any longer.
    fn digest(
        &mut self,
        came: &mut [u8],
        into: &mut ReadBuf<'_>,
        what: Saying<'_>,
    ) -> io::Result<usize> {
        if self.failed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut used = 0;
        loop {
            let rest = came.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.end.process(rest);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        used += record.discard;
                        let (fits, more) =
                            record.payload.split_at(record.payload.len().min(into.remaining()));
                        into.put_slice(fits);
                        self.plain.extend_from_slice(more);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, &mut self.outgoing)?;
                }
                // It leaves in order: what is encrypted later stands behind it.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    encrypt(&mut traffic, &mut self.outgoing, what)?;
                    used += discard;
                    break;
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                    if !matches!(what, Saying::Nothing) {
                        return Err(io::ErrorKind::NotConnected.into());
                    }
                    used += discard;
                    break;
                }
                // Early data is not offered, and there are no other states.
                Ok(_) => return Err(io::Error::other("TLS is in a state we do not know")),
                Err(failure) => {
                    self.failed = true;
                    used += discard;
                    self.encode_alert(came.get_mut(used..).unwrap_or_default())?;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, failure));
                }
            }
            used += discard;
        }
        // "Any data received after a closure alert has been received MUST be ignored." (RFC 8446,
        // section 6.1)
        Ok(if self.peer_closed { came.len() } else { used })
    }

    /// After a failure the library says nothing more but an alert, and must not be asked for more.
    fn encode_alert(&mut self, rest: &mut [u8]) -> io::Result<()> {
        while self.end.state().wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut data)) = self.end.process(rest).state else {
                break;
            };
            encode(&mut data, &mut self.outgoing)?;
        }
        Ok(())
    }

    /// Writes what was encrypted.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, &self.outgoing))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(count);
        }
        // An idle connection keeps no room for what it wrote.
        spare::give(mem::take(&mut self.outgoing));
        Poll::Ready(Ok(()))
    }
}

impl<S: Io, E: End> AsyncRead for TlsStream<S, E> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.plain.is_empty() {
            let fits = this.plain.len().min(into.remaining());
            into.put_slice(&this.plain.split_to(fits));
            if this.plain.is_empty() {
                this.plain = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(failure) = this.failure.take() {
            return Poll::Ready(Err(failure));
        }
        if this.peer_closed || into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        loop {
            // What the library wants to answer, such as a change of keys, goes with the next that is
            // written: who reads must not take the turn of who writes.
            let filled = ready!(this.poll_fill(cx, into));
            let came = into.filled().len() > before;
            match filled {
                Ok(0) => {
                    let text = "peer closed connection without sending TLS close_notify";
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, text);
                    return Poll::Ready(Err(error));
                }
                Ok(_) if came || this.peer_closed => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(failure) => {
                    // The alert. How the peer takes it is its business.
                    let _ = this.poll_drain(cx);
                    if came {
                        this.failure = Some(failure);
                        return Poll::Ready(Ok(()));
                    }
                    return Poll::Ready(Err(failure));
                }
            }
        }
    }
}

impl<S: Io, E: End> AsyncWrite for TlsStream<S, E> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // So much waits to be written at most.
        ready!(this.poll_drain(cx))?;
        let (data, _) = data.split_at(data.len().min(WRITE_BYTES));
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.say(Saying::Data(data))?;
        match this.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // Taken: a flush waits until it has left.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(data.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            this.closed = true;
            if !this.failed {
                this.say(Saying::Farewell)?;
            }
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

/// What we want to say.
#[derive(Clone, Copy)]
enum Saying<'a> {
    Nothing,
    Data(&'a [u8]),
    /// That nothing more comes.
    Farewell,
}

/// Appends what we want to say.
fn encrypt<D>(
    traffic: &mut WriteTraffic<'_, D>,
    outgoing: &mut BytesMut,
    what: Saying<'_>,
) -> io::Result<()> {
    let mut room = match what {
        Saying::Nothing => return Ok(()),
        Saying::Data(data) => data.len() + OVERHEAD_BYTES * (data.len() / RECORD_BYTES + 1),
        Saying::Farewell => OVERHEAD_BYTES,
    };
    if outgoing.capacity() == 0 {
        *outgoing = spare::take();
    }
    loop {
        let begin = outgoing.len();
        outgoing.resize(begin + room, 0);
        let end = outgoing.get_mut(begin..).unwrap_or_default();
        let encrypted = match what {
            Saying::Nothing => Ok(0),
            Saying::Data(data) => traffic.encrypt(data, end),
            Saying::Farewell => traffic.queue_close_notify(end),
        };
        outgoing.truncate(begin + encrypted.as_ref().map_or(0, |count| *count));
        match encrypted {
            Ok(_) => return Ok(()),
            Err(EncryptError::InsufficientSize(needed)) if needed.required_size > room => {
                room = needed.required_size;
            }
            Err(error) => return Err(io::Error::other(format!("cannot encrypt: {error:?}"))),
        }
    }
}

/// Appends what the library has to say.
fn encode<D>(data: &mut EncodeTlsData<'_, D>, outgoing: &mut BytesMut) -> io::Result<()> {
    let mut room = 0;
    loop {
        let begin = outgoing.len();
        outgoing.resize(begin + room, 0);
        let encoded = data.encode(outgoing.get_mut(begin..).unwrap_or_default());
        outgoing.truncate(begin + encoded.as_ref().map_or(0, |count| *count));
        match encoded {
            Ok(_) => return Ok(()),
            Err(EncodeError::InsufficientSize(needed)) if needed.required_size > room => {
                room = needed.required_size;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

thread_local! {
    /// Where encrypted bytes come in. One for each thread, since most connections are idle.
    static LANDING: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Lends the thread's memory. If that is lent already, as with TLS over TLS, it is made anew.
fn with_landing<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut landing = LANDING.take().unwrap_or_else(|| vec![0; READ_BYTES].into_boxed_slice());
    let outcome = work(&mut landing);
    LANDING.set(Some(landing));
    outcome
}

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time;
use tracing::{debug, info_span, warn};

use crate::sources::Sources;
use crate::{ServeLimits, Tasks, now};

/// How long bytes may stay without the acknowledgement of the peer's host. Without it Linux tries
/// for about 15 minutes, and all that is written meanwhile is lost.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// The peer's host is asked whether it is there after so long a silence, then this often.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How many connections may wait in the kernel.
const BACKLOG: i32 = 1024;

/// Opens a listening socket. An IPv6 wildcard also takes IPv4.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Connects within `timeout`; small writes go out at once, and a peer that has vanished is noticed.
pub async fn connect(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = time::timeout(timeout, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))??;
    prepare(&stream)?;
    Ok(stream)
}

/// Small writes go out at once. What the peer's host does not acknowledge breaks the connection
/// before much more is written to nobody, and so does a silence that its host does not answer for.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)
}

/// Accepts connections on `listener` until shutdown, at most `connections_max` at a time, and of
/// one source no more than [`ServeLimits::new`] says.
///
/// The listener comes in bound: `main` opens ports, tests pass port 0.
pub async fn serve<F>(
    listener: TcpListener,
    connections_max: usize,
    tasks: Tasks,
    handle: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    serve_within(ServeLimits::new(connections_max), listener, tasks, handle).await;
}

/// Like [`serve`], with limits of the caller's own. Whoever is over a limit of its source is closed
/// at once.
pub async fn serve_within<F>(
    limits: ServeLimits,
    listener: TcpListener,
    tasks: Tasks,
    handle: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let (slots, sources) = (Arc::new(Semaphore::new(limits.connections_max)), Sources::new(limits));
    let stop = tasks.stop();
    let accept = async {
        loop {
            // The slot is taken before the accept, so a full house queues in the kernel.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // An IPv4 peer of an IPv6 socket is shown, and counted, as what it is.
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    let place = match sources.admit(peer.ip(), now()) {
                        Ok(place) => place,
                        Err(crowded) => {
                            let reason = crowded.as_str();
                            metrics::counter!("gatehouse_connections_refused_total", "reason" => reason)
                                .increment(1);
                            debug!(peer.addr = %peer, reason, "connection closed at once");
                            continue;
                        }
                    };
                    if let Err(error) = prepare(&stream) {
                        // A peer that has left already can cause this.
                        debug!(%error, peer.addr = %peer, "cannot set the options of a socket");
                    }
                    // On the heap: the task would hold it twice, as what it was given and as what it
                    // waits for.
                    let connection = Box::pin(handle(stream, peer));
                    tasks.spawn(info_span!("conn", peer.addr = %peer), async move {
                        connection.await;
                        drop((place, slot));
                    });
                }
                // Out of descriptors, or the peer left in the queue. Neither is a reason to die.
                Err(error) => {
                    warn!(%error, "accept failed");
                    time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accept).await;
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn both_ends_notice_that_the_other_has_vanished() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let (tasks, (sender, mut accepted)) = (Tasks::default(), tokio::sync::mpsc::channel(1));
        let accept = serve(listener, 4, tasks.clone(), move |stream, _| {
            let sender = sender.clone();
            async move { sender.send(stream).await.unwrap() }
        });
        tasks.spawn(tracing::Span::none(), accept);
        let dialled = connect(address, Duration::from_secs(5)).await.unwrap();
        for stream in [dialled, accepted.recv().await.unwrap()] {
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_TIME);
            #[cfg(target_os = "linux")]
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_MAX));
        }
        assert_eq!(tasks.shut_down(Duration::from_secs(5)).await, Ok(()));
    }
}

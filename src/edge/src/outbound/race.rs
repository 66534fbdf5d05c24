//! Several addresses of one host, of which some may lead nowhere (RFC 8305, section 5).

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time;

/// How long an address has before the next one is tried beside it.
//= https://www.rfc-editor.org/rfc/rfc8305#section-5
//# A simple implementation can have a fixed delay for how long to wait
//# before starting the next connection attempt.  This delay is referred
//# to as the "Connection Attempt Delay".  One recommended value for a
//# default delay is 250 milliseconds.
const STAGGER: Duration = Duration::from_millis(250);

/// Connections that are being made, with where to.
type Running<F> = Vec<(SocketAddr, Pin<Box<F>>)>;

/// Connects to whichever of `addresses` answers first. They start in their order, 250 ms apart, and
/// at once after a failure; the others are given up when one is there. What failed before that is
/// in `failed`. `None` if all of them failed.
pub(crate) async fn first_connected<T, F: Future<Output = io::Result<T>>>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
    failed: &mut Vec<(SocketAddr, io::Error)>,
) -> Option<(SocketAddr, T)> {
    let mut waiting = addresses.iter().copied();
    let mut running: Running<F> = Vec::new();
    loop {
        match waiting.next() {
            Some(address) => running.push((address, Box::pin(connect(address)))),
            None if running.is_empty() => return None,
            None => {}
        }
        let more = waiting.len() > 0;
        tokio::select! {
            biased;
            (address, result) = any(&mut running) => match result {
                Ok(connection) => return Some((address, connection)),
                Err(error) => failed.push((address, error)),
            },
            () = time::sleep(STAGGER), if more => {}
        }
    }
}

/// The first of them that is done; it is no longer among them.
async fn any<T, F: Future<Output = io::Result<T>>>(
    running: &mut Running<F>,
) -> (SocketAddr, io::Result<T>) {
    let (at, result) = poll_fn(|cx| {
        for (at, (_, connecting)) in running.iter_mut().enumerate() {
            if let Poll::Ready(result) = connecting.as_mut().poll(cx) {
                return Poll::Ready((at, result));
            }
        }
        Poll::Pending
    })
    .await;
    let (address, _) = running.swap_remove(at);
    (address, result)
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// What an address does: answer or refuse after so many milliseconds, or never say a word.
    #[derive(Clone, Copy)]
    enum Does {
        Answer(u64),
        Refuse(u64),
        Nothing,
    }

    /// Who won, when, when each was started, and how many failed before.
    async fn race(script: &[Does]) -> (Option<u16>, u128, Vec<(u16, u128)>, usize) {
        let start = time::Instant::now();
        let started = Mutex::new(Vec::new());
        let addresses: Vec<SocketAddr> = (0..script.len())
            .map(|port| SocketAddr::from(([192, 0, 2, 1], u16::try_from(port).unwrap())))
            .collect();
        let mut failed = Vec::new();
        let connect = |address: SocketAddr| {
            started.lock().push((address.port(), start.elapsed().as_millis()));
            let does = script[usize::from(address.port())];
            async move {
                match does {
                    Does::Answer(ms) => time::sleep(Duration::from_millis(ms)).await,
                    Does::Refuse(ms) => {
                        time::sleep(Duration::from_millis(ms)).await;
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    Does::Nothing => std::future::pending().await,
                }
                Ok(())
            }
        };
        let won = first_connected(&addresses, connect, &mut failed).await;
        let won = won.map(|(address, ())| address.port());
        (won, start.elapsed().as_millis(), started.into_inner(), failed.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_first_address_is_the_only_one_that_is_tried() {
        let (won, took, started, failed) = race(&[Does::Answer(200), Does::Answer(1)]).await;
        assert_eq!((won, took, failed), (Some(0), 200, 0));
        assert_eq!(started, [(0, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_lead_nowhere_cost_a_quarter_of_a_second_each() {
        let (won, took, started, failed) =
            race(&[Does::Nothing, Does::Nothing, Does::Answer(10)]).await;
        assert_eq!((won, took, failed), (Some(2), 510, 0));
        assert_eq!(started, [(0, 0), (1, 250), (2, 500)]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_refusal_the_next_one_starts_at_once() {
        let (won, took, started, failed) =
            race(&[Does::Refuse(5), Does::Refuse(5), Does::Answer(5)]).await;
        assert_eq!((won, took, failed), (Some(2), 15, 2));
        assert_eq!(started, [(0, 0), (1, 5), (2, 10)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_address_still_wins_if_the_others_fail() {
        let (won, took, _, failed) = race(&[Does::Answer(900), Does::Refuse(1)]).await;
        assert_eq!((won, took, failed), (Some(0), 900, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_fail_are_told() {
        let (won, _, started, failed) = race(&[Does::Refuse(5), Does::Refuse(500)]).await;
        assert_eq!((won, started.len(), failed), (None, 2, 2));
        assert_eq!(race(&[]).await.0, None);
    }
}

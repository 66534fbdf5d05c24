//! A listener that one source cannot fill.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use gatehouse_net::{ServeLimits, Tasks, bind, serve_within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tracing::Span;

/// Serves one byte to each connection, which it then keeps.
fn house(limits: ServeLimits) -> (SocketAddr, Tasks) {
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let (address, tasks) = (listener.local_addr().unwrap(), Tasks::default());
    let stop = tasks.stop();
    let accept = serve_within(limits, listener, tasks.clone(), move |mut stream, _| {
        let stop = stop.clone();
        async move {
            stream.write_all(b"!").await.unwrap();
            let mut byte = [0];
            tokio::select! {
                () = stop.cancelled() => {}
                _ = stream.read(&mut byte) => {}
            }
        }
    });
    tasks.spawn(Span::none(), accept);
    (address, tasks)
}

async fn visit(address: SocketAddr, last: u8) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0).into()).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let mut byte = [0];
    let came = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut byte)).await;
    matches!(came.expect("neither served nor closed"), Ok(1)).then_some(stream)
}

#[tokio::test]
async fn one_source_cannot_have_all_places() {
    let (address, tasks) = house(ServeLimits { per_source_max: 2, ..ServeLimits::new(4) });
    let first = visit(address, 1).await.unwrap();
    let _second = visit(address, 1).await.unwrap();
    assert!(visit(address, 1).await.is_none(), "a third was served");
    assert!(visit(address, 2).await.is_some(), "another source was turned away");
    drop(first);
    let again = async { while visit(address, 1).await.is_none() {} };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("its place was lost");
    assert_eq!(tasks.shut_down(Duration::from_secs(5)).await, Ok(()));
}

//! The local admin port, asked the way Prometheus and `gatehouse status` ask it.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

use std::net::SocketAddr;

use gatehouse_telemetry::{
    AdminState, Reach, StreamInfo, StreamKind, StreamState, Streams, serve_admin,
};
use gatehouse_types::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

async fn get(address: SocketAddr, path: &str) -> String {
    let mut io = TcpStream::connect(address).await.expect("connect");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await.expect("write");
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.expect("read");
    answer
}

#[tokio::test]
async fn metrics_and_status_speak_of_live_streams() {
    let streams = Streams::default();
    let state =
        AdminState::install(streams.clone(), Reach::default(), Secret::new("token".to_owned()))
            .expect("first recorder");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let (stop, stopped) = oneshot::channel::<()>();
    let server = serve_admin(listener, state, async {
        let _ = stopped.await;
    });
    let ask = async {
        assert!(get(address, "/healthz").await.ends_with("ok\n"));
        assert!(get(address, "/status").await.ends_with("[]"));
        let handle = streams.open(StreamInfo {
            kind: StreamKind::S2sOut,
            id: "42".into(),
            local: "ours.example".into(),
            peer: "them.example".into(),
            address: "192.0.2.1:5269".into(),
            tls: "TLSv1.3".into(),
            authentication: "EXTERNAL".into(),
            state: StreamState::Open,
        });
        handle.stanza_out();
        let status = get(address, "/status").await;
        let body = status.split("\r\n\r\n").nth(1).expect("body");
        let list: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(list[0]["peer"], "them.example");
        assert_eq!(list[0]["stanzas_out"], 1);
        let metrics = get(address, "/metrics").await;
        assert!(metrics.contains("gatehouse_streams{kind=\"s2s-out\"} 1"), "{metrics}");
        assert!(
            metrics.contains("gatehouse_stanzas_total{kind=\"s2s-out\",direction=\"out\"} 1"),
            "{metrics}"
        );
        drop(handle);
        assert!(get(address, "/metrics").await.contains("gatehouse_streams{kind=\"s2s-out\"} 0"));
        assert!(get(address, "/nowhere").await.starts_with("HTTP/1.1 404"));
        stop.send(()).expect("still serving");
    };
    let (served, ()) = tokio::join!(server, ask);
    served.expect("served");
}

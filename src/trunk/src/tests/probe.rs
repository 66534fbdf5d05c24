use std::fmt::Debug;
use std::sync::Arc;

use gatehouse_testkit::TestCa;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::world::{edge, soon, tuning};

/// Keeps what is logged.
struct Log(Arc<watch::Sender<Vec<(Level, String)>>>);

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("gatehouse_trunk")
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.send_modify(|log| log.push((*event.metadata().level(), message.0)));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// Whoever only looks whether the port is open is no reason to wake somebody.
#[tokio::test]
async fn a_bare_connection_is_no_warning_and_nonsense_is() {
    let log = Arc::new(watch::Sender::new(Vec::new()));
    let _guard = tracing::subscriber::set_default(Log(Arc::clone(&log)));
    let ca = TestCa::new();
    let edge = edge(&ca, "edge.example", &["core.example"], tuning()).await;
    drop(TcpStream::connect(edge.address).await.unwrap());
    let mut entries = log.subscribe();
    soon(entries.wait_for(|log| !log.is_empty())).await.unwrap();
    let mut tcp = TcpStream::connect(edge.address).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    soon(entries.wait_for(|log| log.len() > 1)).await.unwrap();
    let levels: Vec<_> = entries.borrow().iter().map(|(level, _)| *level).collect();
    assert_eq!(levels, [Level::DEBUG, Level::WARN], "{:?}", entries.borrow());
}

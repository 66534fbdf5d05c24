//! A connection over an in-memory pipe, driven by a machine that echoes lines.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use gatehouse_net::{Connection, ConnectionError, Step, now};
use gatehouse_types::Machine;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::timeout;

const STALL: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(60);

/// Echoes each line; `upgrade` asks for an upgrade, `quit` closes, `flood` says a megabyte.
struct Echo {
    buffer: BytesMut,
    events: VecDeque<String>,
    out: VecDeque<Bytes>,
    upgrading: bool,
    closed: bool,
    deadline: Instant,
}

impl Echo {
    fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            events: VecDeque::new(),
            out: VecDeque::new(),
            upgrading: false,
            closed: false,
            deadline: now() + IDLE,
        }
    }
}

impl Machine for Echo {
    type Event = String;

    fn handle_data(&mut self, data: &[u8], now: Instant) {
        self.deadline = now + IDLE;
        self.buffer.extend_from_slice(data);
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(end + 1);
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            self.out.push_back(Bytes::from(format!("{line}\n")));
            match line.as_str() {
                "upgrade" => self.upgrading = true,
                "quit" => self.closed = true,
                "flood" => self.out.push_back(Bytes::from(vec![b'x'; 1 << 20])),
                _ => {}
            }
            self.events.push_back(line);
        }
    }

    fn handle_timeout(&mut self, _now: Instant) {
        self.events.push_back("timeout".into());
        self.closed = true;
    }

    fn handle_eof(&mut self, _now: Instant) {
        self.events.push_back("eof".into());
        self.closed = true;
    }

    fn handle_shutdown(&mut self, _now: Instant) {
        self.out.push_back(Bytes::from_static(b"bye\n"));
        self.closed = true;
    }

    fn poll_event(&mut self) -> Option<String> {
        self.events.pop_front()
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(self.deadline)
    }

    fn wants_upgrade(&self) -> bool {
        self.upgrading
    }

    fn is_closed(&self) -> bool {
        self.closed
    }
}

fn pair(buffer: usize) -> (Connection<Echo>, DuplexStream) {
    let (ours, theirs) = duplex(buffer);
    (Connection::new(Echo::new(), Box::new(ours), STALL), theirs)
}

async fn event(connection: &mut Connection<Echo>) -> String {
    match connection.next().await.unwrap() {
        Step::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn whole_however_it_is_cut() {
    let (mut connection, mut peer) = pair(1);
    let talk = async {
        peer.write_all(b"hello\nworld\nquit\n").await.unwrap();
        let mut all = String::new();
        peer.read_to_string(&mut all).await.unwrap();
        all
    };
    let drive = async {
        let mut seen = Vec::new();
        while let Step::Event(event) = connection.next().await.unwrap() {
            seen.push(event);
        }
        seen
    };
    // The pipe holds one byte, so writer and echo must take turns.
    let (all, seen) = tokio::join!(timeout(IDLE, talk), drive);
    assert_eq!(
        (all.unwrap().as_str(), seen),
        ("hello\nworld\nquit\n", vec!["hello".to_owned(), "world".to_owned(), "quit".to_owned()])
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_next_loses_nothing() {
    let (mut connection, mut peer) = pair(3);
    peer.write_all(b"on").await.unwrap();
    assert!(timeout(Duration::from_millis(1), connection.next()).await.is_err());
    peer.write_all(b"e\n").await.unwrap();
    assert_eq!(event(&mut connection).await, "one");
    // Three of four bytes fit into the pipe; the future is dropped in the middle of the write.
    assert!(timeout(Duration::from_millis(1), connection.next()).await.is_err());
    let mut echo = [0; 4];
    let read = peer.read_exact(&mut echo);
    tokio::select! {
        read = read => { read.unwrap(); }
        step = connection.next() => panic!("{step:?}"),
    }
    assert_eq!(&echo, b"one\n");
}

#[tokio::test(start_paused = true)]
async fn upgrade_comes_after_the_last_byte_and_before_the_next() {
    let (mut connection, mut peer) = pair(1024);
    peer.write_all(b"upgrade\n").await.unwrap();
    assert_eq!(event(&mut connection).await, "upgrade");
    assert!(matches!(connection.next().await.unwrap(), Step::Upgrade));
    let mut proceed = [0; 8];
    peer.read_exact(&mut proceed).await.unwrap();
    assert_eq!(&proceed, b"upgrade\n");
    peer.write_all(b"first of the new layer\n").await.unwrap();
    let io = connection.take_io().unwrap();
    connection.machine_mut().upgrading = false;
    connection.put_io(io);
    assert_eq!(event(&mut connection).await, "first of the new layer");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_dropped_and_not_read_from() {
    let (mut connection, mut peer) = pair(64);
    peer.write_all(b"flood\n").await.unwrap();
    assert_eq!(event(&mut connection).await, "flood");
    peer.write_all(b"more\n").await.unwrap();
    let error = connection.next().await.unwrap_err();
    assert!(matches!(error, ConnectionError::WriteStalled(STALL)), "{error}");
    assert!(connection.is_congested());
}

#[tokio::test(start_paused = true)]
async fn silence_reaches_the_machine_at_its_deadline() {
    let (mut connection, _peer) = pair(64);
    let start = now();
    assert_eq!(event(&mut connection).await, "timeout");
    assert_eq!(now().duration_since(start).as_secs(), IDLE.as_secs());
    assert!(matches!(connection.next().await.unwrap(), Step::Closed));
}

#[tokio::test(start_paused = true)]
async fn farewell_is_written_before_the_close() {
    let (mut connection, mut peer) = pair(64);
    connection.machine_mut().handle_shutdown(now());
    assert!(matches!(connection.next().await.unwrap(), Step::Closed));
    let mut all = String::new();
    peer.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "bye\n");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_peer_is_told() {
    let (mut connection, peer) = pair(64);
    drop(peer);
    assert_eq!(event(&mut connection).await, "eof");
    assert!(matches!(connection.next().await.unwrap(), Step::Closed));
}

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Longest error that is shown of a stream, in characters.
const ERROR_CHARS_MAX: usize = 300;

/// What a stream is for. A closed set: it is a metric label.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamKind {
    /// A client of ours.
    C2s,
    /// A partner that dialled us.
    S2sIn,
    /// A partner that we dialled.
    S2sOut,
    /// Edge and core.
    Trunk,
    /// A SIP partner that dialled us.
    SipIn,
    /// A SIP partner that we dialled.
    SipOut,
    /// SIP between edge and core.
    SipTrunk,
}

impl StreamKind {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::C2s => "c2s",
            Self::S2sIn => "s2s-in",
            Self::S2sOut => "s2s-out",
            Self::Trunk => "trunk",
            Self::SipIn => "sip-in",
            Self::SipOut => "sip-out",
            Self::SipTrunk => "sip-trunk",
        }
    }
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamState {
    /// Negotiating.
    Opening,
    /// Open for stanzas.
    Open,
    /// Its connection broke; what is behind it waits for the client to come back (XEP-0198).
    Away,
}

/// What is known of a stream.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct StreamInfo {
    /// What it is for.
    pub kind: StreamKind,
    /// The id it is logged under.
    pub id: String,
    /// Our side: a domain, or the node.
    pub local: String,
    /// The other side: a domain, a full address, a node; empty while unknown.
    pub peer: String,
    /// Address and port of the other side.
    pub address: String,
    /// `TLSv1.3`, `TLSv1.2`, or empty.
    pub tls: String,
    /// How the peer proved itself, such as `EXTERNAL (dNSName them.example)`.
    pub authentication: String,
    /// How far it has come.
    pub state: StreamState,
}

/// The live streams of this process; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    rows: BTreeMap<u64, Row>,
}

#[derive(Debug)]
struct Row {
    info: StreamInfo,
    counters: Arc<Counters>,
    opened: Instant,
    last_error: String,
}

#[derive(Debug, Default)]
struct Counters {
    stanzas_in: AtomicU64,
    stanzas_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// One line of the status.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Status {
    /// The stream.
    #[serde(flatten)]
    pub info: StreamInfo,
    /// Stanzas read.
    pub stanzas_in: u64,
    /// Stanzas written.
    pub stanzas_out: u64,
    /// Bytes read, within TLS; 0 where nobody counts.
    #[serde(default)]
    pub bytes_in: u64,
    /// Bytes written, likewise.
    #[serde(default)]
    pub bytes_out: u64,
    /// How long the stream is there, in seconds.
    #[serde(default)]
    pub age_secs: u64,
    /// What last went wrong on it without ending it; empty if nothing did.
    #[serde(default)]
    pub last_error: String,
}

/// A stream's place in the registry; dropping it takes the stream out.
#[derive(Debug)]
pub struct StreamHandle {
    streams: Streams,
    key: u64,
    kind: StreamKind,
    counters: Arc<Counters>,
    /// Looked up once: it is done for each stanza.
    all_in: metrics::Counter,
    all_out: metrics::Counter,
}

impl Streams {
    /// Lists a stream until its handle is dropped.
    pub fn open(&self, info: StreamInfo) -> StreamHandle {
        let kind = info.kind;
        let counters = Arc::new(Counters::default());
        let mut table = self.0.lock();
        let key = table.next;
        table.next += 1;
        let row = Row {
            info,
            counters: Arc::clone(&counters),
            opened: Instant::now(),
            last_error: String::new(),
        };
        table.rows.insert(key, row);
        drop(table);
        metrics::gauge!("gatehouse_streams", "kind" => kind.as_str()).increment(1.0);
        metrics::counter!("gatehouse_streams_total", "kind" => kind.as_str()).increment(1);
        let all = |direction| metrics::counter!("gatehouse_stanzas_total", "kind" => kind.as_str(), "direction" => direction);
        let (all_in, all_out) = (all("in"), all("out"));
        StreamHandle { streams: self.clone(), key, kind, counters, all_in, all_out }
    }

    /// All live streams, oldest first.
    pub fn list(&self) -> Vec<Status> {
        let now = Instant::now();
        let table = self.0.lock();
        table
            .rows
            .values()
            .map(|row| Status {
                info: row.info.clone(),
                stanzas_in: row.counters.stanzas_in.load(Ordering::Relaxed),
                stanzas_out: row.counters.stanzas_out.load(Ordering::Relaxed),
                bytes_in: row.counters.bytes_in.load(Ordering::Relaxed),
                bytes_out: row.counters.bytes_out.load(Ordering::Relaxed),
                age_secs: now.duration_since(row.opened).as_secs(),
                last_error: row.last_error.clone(),
            })
            .collect()
    }
}

impl StreamHandle {
    /// Changes what is known of the stream.
    pub fn update(&self, change: impl FnOnce(&mut StreamInfo)) {
        if let Some(row) = self.streams.0.lock().rows.get_mut(&self.key) {
            change(&mut row.info);
        }
    }

    /// Says how many bytes were read and written so far.
    pub fn bytes(&self, read: u64, written: u64) {
        self.counters.bytes_in.store(read, Ordering::Relaxed);
        self.counters.bytes_out.store(written, Ordering::Relaxed);
    }

    /// Says what went wrong without ending the stream; the last one is shown.
    pub fn note_error(&self, what: &str) {
        if let Some(row) = self.streams.0.lock().rows.get_mut(&self.key) {
            row.last_error = what.chars().take(ERROR_CHARS_MAX).collect();
        }
    }

    /// Counts a stanza read.
    pub fn stanza_in(&self) {
        self.counters.stanzas_in.fetch_add(1, Ordering::Relaxed);
        self.all_in.increment(1);
    }

    /// Counts a stanza written.
    pub fn stanza_out(&self) {
        self.counters.stanzas_out.fetch_add(1, Ordering::Relaxed);
        self.all_out.increment(1);
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.streams.0.lock().rows.remove(&self.key);
        metrics::gauge!("gatehouse_streams", "kind" => self.kind.as_str()).decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_handle_leaves_the_list() {
        let streams = Streams::default();
        let handle = streams.open(StreamInfo {
            kind: StreamKind::S2sIn,
            id: "1".into(),
            local: "ours.example".into(),
            peer: String::new(),
            address: "127.0.0.1:5269".into(),
            tls: String::new(),
            authentication: String::new(),
            state: StreamState::Opening,
        });
        handle.update(|info| info.peer = "them.example".into());
        handle.stanza_in();
        handle.bytes(10, 20);
        handle.note_error(&"x".repeat(1000));
        let listed = streams.list();
        assert_eq!(
            (listed.len(), listed[0].info.peer.as_str(), listed[0].stanzas_in),
            (1, "them.example", 1)
        );
        assert_eq!((listed[0].bytes_in, listed[0].bytes_out), (10, 20));
        assert_eq!(listed[0].last_error.len(), ERROR_CHARS_MAX);
        drop(handle);
        assert!(streams.list().is_empty());
    }
}

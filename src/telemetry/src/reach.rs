use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

/// A partner that could not be reached, and why.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Unreached {
    /// Our domain.
    pub local: String,
    /// The partner's.
    pub peer: String,
    /// How long ago the last attempt failed, in seconds.
    pub failed_secs_ago: u64,
    /// Attempts that failed in a row.
    pub failures: u32,
    /// For how many seconds stanzas are bounced without another attempt; 0 means that the next
    /// stanza dials.
    pub next_try_secs: u64,
    /// What was known when the attempt ended.
    #[serde(flatten)]
    pub attempt: AttemptReport,
    /// What the author of a stanza is told.
    pub told: String,
}

/// What an attempt to reach a partner came to.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct AttemptReport {
    /// How far it came: `dns`, `tcp`, `tls`, `certificate`, `stream` or `open`.
    pub stage: String,
    /// Why it got no further.
    pub reason: String,
    /// Whose fault that is: `dns`, `network`, `peer`, `us`, or `peer-or-us` where only both together
    /// can tell.
    pub fault: String,
    /// What was tried, with what came of it.
    pub targets: Vec<String>,
    /// Further targets that are not listed.
    pub targets_left_out: usize,
}

/// A partner that is sent no more than so many requests a second.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Paced {
    /// The partner's domain.
    pub peer: String,
    /// What this edge sends it at most, in the long run: its part of what all edges send.
    pub per_second: f64,
    /// Requests that wait for their turn now.
    pub waiting: usize,
    /// For how many seconds some have waited without a pause; 0 if none does.
    pub waiting_secs: u64,
    /// In how many seconds the last of those that wait leaves.
    pub clear_in_secs: u64,
}

/// Who knows the pace of partners.
pub trait PaceSource: Send + Sync {
    /// All that were sent something lately.
    fn paces(&self) -> Vec<Paced>;
}

/// Who knows which partners could not be reached.
pub trait ReachSource: Send + Sync {
    /// All of them.
    fn list(&self) -> Vec<Unreached>;
    /// Forgets what is known of `peer`, so that the next stanza dials; how many entries that were.
    fn forget(&self, peer: &str) -> usize;
}

/// What the admin port knows of partners that cannot be reached, or are sent things slowly: nothing
/// until the edge of this process, if it has one, has said where to ask. Cheap to clone.
#[derive(Clone, Default)]
pub struct Reach {
    unreached: Arc<OnceLock<Arc<dyn ReachSource>>>,
    paced: Arc<OnceLock<Arc<dyn PaceSource>>>,
}

impl Reach {
    /// Asks `source` from now on; the first one stays.
    pub fn ask(&self, source: Arc<dyn ReachSource>) {
        let _ = self.unreached.set(source);
    }

    /// Asks `source` for the pace of partners from now on; the first one stays.
    pub fn ask_pace(&self, source: Arc<dyn PaceSource>) {
        let _ = self.paced.set(source);
    }

    /// Partners that are sent no more than so much, by name.
    pub fn paces(&self) -> Vec<Paced> {
        let mut all = self.paced.get().map(|source| source.paces()).unwrap_or_default();
        all.sort_by(|a, b| a.peer.cmp(&b.peer));
        all
    }

    /// Partners that could not be reached, by name.
    pub fn list(&self) -> Vec<Unreached> {
        let mut all = self.unreached.get().map(|source| source.list()).unwrap_or_default();
        all.sort_by(|a, b| (&a.peer, &a.local).cmp(&(&b.peer, &b.local)));
        all
    }

    /// See [`ReachSource::forget`].
    pub fn forget(&self, peer: &str) -> usize {
        self.unreached.get().map_or(0, |source| source.forget(peer))
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reach")
    }
}

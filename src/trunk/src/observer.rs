use gatehouse_types::Domain;

/// Hears of trunk connections as they come and go; the binary lists them in its status.
pub trait TrunkObserver: Send + Sync {
    /// Stanzas flow to and from the node `peer`, which is at `address`; `tls` is the version, such
    /// as `TLSv1.3`.
    fn up(&self, peer: &str, address: &str, tls: &'static str);

    /// The core `peer` serves these domains of ours, in the place of what was said before.
    fn serves(&self, _peer: &str, _domains: &[Domain]) {}

    /// The core `peer` did what it may not: `what` says it in a few words.
    fn overstepped(&self, _peer: &str, _what: &str) {}

    /// A stanza of the node `peer` came.
    fn received(&self, _peer: &str) {}

    /// A stanza went to the node `peer`.
    fn sent(&self, _peer: &str) {}

    /// They no longer do.
    fn down(&self, peer: &str, reason: &str);
}

/// Takes no notice.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl TrunkObserver for NoObserver {
    fn up(&self, _peer: &str, _address: &str, _tls: &'static str) {}

    fn down(&self, _peer: &str, _reason: &str) {}
}

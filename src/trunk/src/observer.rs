/// Hears of trunk connections as they come and go; the binary lists them in its status.
pub trait TrunkObserver: Send + Sync {
    /// Stanzas flow to and from the node `peer`, which is at `address`.
    fn up(&self, peer: &str, address: &str);
    /// They no longer do.
    fn down(&self, peer: &str, reason: &str);
}

/// Takes no notice.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl TrunkObserver for NoObserver {
    fn up(&self, _peer: &str, _address: &str) {}

    fn down(&self, _peer: &str, _reason: &str) {}
}

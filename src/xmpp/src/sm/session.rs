use super::{AckQueue, InboundCount};

/// What outlives a connection: both counters, and what the peer has not acknowledged.
#[derive(Clone, Debug)]
pub struct Session<T> {
    /// The name it is resumed by (XEP-0198, section 5); `None` if it cannot be.
    pub id: Option<String>,
    /// What we sent.
    pub outbound: AckQueue<T>,
    /// What the peer sent.
    pub inbound: InboundCount,
}

impl<T> Default for Session<T> {
    fn default() -> Self {
        Self { id: None, outbound: AckQueue::default(), inbound: InboundCount::default() }
    }
}

impl<T> Session<T> {
    /// The session that follows when this one cannot be resumed: the peer is told everything again
    /// that it did not acknowledge, and both counters start anew.
    pub fn renew(self) -> Self {
        Self { id: None, outbound: self.outbound.renew(), inbound: InboundCount::default() }
    }
}

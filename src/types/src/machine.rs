use std::time::Instant;

use bytes::Bytes;

/// One end of a protocol, without the socket and without the clock.
///
/// Call a `handle_*` (or one of the machine's own methods), then drain every `poll_*`. `now` must
/// never run backwards. `gatehouse-net` has the one loop that drives a machine over a socket.
pub trait Machine {
    /// What the machine tells its owner.
    type Event;

    /// The peer sent `data`; it may end in the middle of anything.
    fn handle_data(&mut self, data: &[u8], now: Instant);
    /// The moment given by [`poll_timeout`](Self::poll_timeout) has come.
    fn handle_timeout(&mut self, now: Instant);
    /// The peer will send nothing more.
    fn handle_eof(&mut self, now: Instant);
    /// We want to leave: say the protocol's farewell, then close.
    fn handle_shutdown(&mut self, now: Instant);

    /// The next thing that happened, oldest first.
    fn poll_event(&mut self) -> Option<Self::Event>;
    /// The next bytes to write, in order.
    fn poll_transmit(&mut self) -> Option<Bytes>;
    /// When to call [`handle_timeout`](Self::handle_timeout), if ever.
    fn poll_timeout(&self) -> Option<Instant>;
    /// True once everything written so far must reach the peer and the transport must then be
    /// upgraded (STARTTLS): the owner reads nothing more before it has done so.
    fn wants_upgrade(&self) -> bool {
        false
    }
    /// True once nothing more will be sent (beyond what `poll_transmit` still holds) or read.
    fn is_closed(&self) -> bool;
}

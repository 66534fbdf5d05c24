use std::time::Instant;

use crate::{Message, Method};

/// A connection (or, for UDP, a socket and a remote address) that messages travel on; numbered by
/// its owner.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Flow {
    /// The owner's number.
    pub id: u64,
    /// TCP and TLS: nothing is retransmitted, and the timers that linger for it are zero.
    pub reliable: bool,
}

/// Names a client transaction.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClientKey {
    /// The branch of our Via.
    pub branch: String,
    /// CSeq's method.
    pub method: Method,
}

/// Names a server transaction (RFC 3261 section 17.2.3): branch, sent-by and method, or what
/// stands for the branch where a peer writes none.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ServerKey {
    /// The top Via's branch, or a digest of what RFC 2543 compares.
    pub branch: String,
    /// Its sent-by.
    pub sent_by: String,
    /// The method; INVITE for its ACK.
    pub method: Method,
}

/// Bounds.
#[derive(Clone, Copy, Debug)]
pub struct TransactionLimits {
    /// Client and server transactions together.
    pub transactions_max: usize,
}

/// What the transactions tell their owner.
#[derive(Debug)]
pub enum TransactionEvent {
    /// A new request: answer it with [`Transactions::respond`].
    Request { key: ServerKey, flow: Flow, request: Message },
    /// An ACK for a 2xx, or one that fits nothing: it belongs to a dialog.
    Ack { flow: Flow, request: Message },
    /// The request of this key is to be given up (RFC 3261 section 9.2); the CANCEL was answered.
    Cancelled { key: ServerKey },
    /// An answer to a request of ours; provisional ones come, too. A 2xx to an INVITE may come more
    /// than once (RFC 6026): the owner acknowledges each.
    Response { key: ClientKey, response: Message },
    /// No final answer in time (timers B and F: treat as 408), or the flow broke (treat as 503).
    Failed { key: ClientKey, timed_out: bool },
    /// An answer that fits no request: dropped by an end, passed on by a proxy.
    Stray { flow: Flow, response: Message },
}

/// All transactions of one end (RFC 3261 section 17, with RFC 6026): INVITE and others, client and
/// server, over reliable and unreliable flows. Retransmissions are absorbed or made here.
#[derive(Debug)]
pub struct Transactions {
    _todo: (),
}

impl Transactions {
    /// None yet.
    pub fn new(limits: TransactionLimits) -> Self {
        let _ = limits;
        todo!()
    }

    /// A message came in on a flow. A message that fails [`Message::check`] is answered where it is
    /// a request, and dropped.
    pub fn receive(&mut self, flow: Flow, message: Message, now: Instant) {
        let _ = (flow, message, now);
        todo!()
    }

    /// Sends a request on a flow; its top Via, with a branch of our own, stands already. ACK for a
    /// 2xx is no transaction: see [`send_ack`](Self::send_ack).
    ///
    /// # Errors
    /// The request back, if there are too many transactions or it has no branch.
    pub fn request(
        &mut self,
        flow: Flow,
        request: Message,
        now: Instant,
    ) -> Result<ClientKey, Box<Message>> {
        let _ = (flow, request, now);
        todo!()
    }

    /// Sends the ACK of a 2xx.
    pub fn send_ack(&mut self, flow: Flow, ack: Message) {
        let _ = (flow, ack);
        todo!()
    }

    /// Gives an INVITE of ours up: CANCEL goes out once there was a provisional answer.
    pub fn cancel(&mut self, key: &ClientKey, now: Instant) {
        let _ = (key, now);
        todo!()
    }

    /// Answers a request. False if the transaction is over already.
    pub fn respond(&mut self, key: &ServerKey, response: Message, now: Instant) -> bool {
        let _ = (key, response, now);
        todo!()
    }

    /// A flow is gone: its client transactions fail.
    pub fn flow_lost(&mut self, flow: Flow, now: Instant) {
        let _ = (flow, now);
        todo!()
    }

    /// The moment given by [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<TransactionEvent> {
        todo!()
    }

    /// What to write where, in order.
    pub fn poll_transmit(&mut self) -> Option<(Flow, Message)> {
        todo!()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
}

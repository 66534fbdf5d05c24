//! Transactions (RFC 3261 section 17 with RFC 6026), and what a stateful proxy does besides
//! (section 16).

mod client;
mod key;
pub mod proxy;
mod server;
mod share;
#[cfg(test)]
mod tests;
pub(crate) mod timers;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use gatehouse_types::Domain;

use self::client::Client;
use self::server::Server;
use self::share::Shares;
use self::timers::{Deadlines, Owner};
use crate::{HeaderName, Message, Method, Start, Status, Via};

pub use self::key::{ClientKey, ServerKey};
pub use self::share::UsedUp;

/// A connection (or, for UDP, a socket and a remote address) that messages travel on; numbered by
/// its owner.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Flow {
    /// The owner's number.
    pub id: u64,
    /// TCP and TLS: nothing is retransmitted, and the timers that linger for it are zero.
    pub reliable: bool,
}

/// What the owner of the transactions is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It answers requests itself: one that came on two ways is refused with 482 (RFC 3261 section
    /// 8.2.2.2), and an answer with more than one Via is dropped (section 8.1.3.3).
    End,
    /// It forwards them: the same request may come through it twice, on different ways.
    Proxy,
}

/// Bounds.
#[derive(Clone, Copy, Debug)]
pub struct TransactionLimits {
    /// Client and server transactions together. Over it, requests are answered 503.
    pub transactions_max: usize,
    /// Of these, those with one domain: who asks, or who is asked. The same holds over it.
    pub per_domain_max: usize,
    /// Of these, where the domain is none of [`Transactions::set_named`]: those there may be before one
    /// more is refused. The rest is kept for the named ones, as the others may be many.
    pub strangers_max: usize,
    /// Seconds of Retry-After in that 503.
    pub retry_after: u32,
}

impl TransactionLimits {
    /// Of `transactions_max`, `share_percent` for one domain, and three quarters for all strangers.
    pub fn shared(transactions_max: usize, share_percent: usize) -> Self {
        Self {
            transactions_max,
            per_domain_max: (transactions_max.saturating_mul(share_percent) / 100).max(1),
            strangers_max: transactions_max - transactions_max / 4,
            retry_after: 10,
        }
    }
}

impl Default for TransactionLimits {
    fn default() -> Self {
        Self::shared(20_000, 25)
    }
}

/// What the transactions tell their owner.
#[derive(Debug)]
#[allow(missing_docs, reason = "the variants say what their fields are")]
pub enum TransactionEvent {
    /// A new request: answer it with [`Transactions::respond`]. A BENOTIFY takes no answer.
    Request { key: ServerKey, flow: Flow, request: Message },
    /// An ACK for a 2xx, or one that fits nothing: it belongs to a dialog.
    Ack { flow: Flow, request: Message },
    /// The INVITE of this key is to be given up (RFC 3261 section 9.2), because of a CANCEL, which
    /// was answered, or because its flow is gone. Answer it 487.
    Cancelled { key: ServerKey },
    /// An answer to a request of ours; provisional ones come, too. A 2xx to an INVITE may come more
    /// than once (RFC 6026): the owner acknowledges each.
    Response { key: ClientKey, response: Message },
    /// No final answer in time (timers B, C and F: treat as 408), or the flow broke (treat as 503).
    Failed { key: ClientKey, timed_out: bool },
    /// A request was answered 503, or is not sent, because somebody has as many transactions as may
    /// be: for the operator to know.
    Full { whose: UsedUp, domain: Option<Domain> },
    /// An answer that fits no request: dropped by an end, passed on by a proxy.
    Stray { flow: Flow, response: Message },
}

/// All transactions of one end or proxy: INVITE and others, client and server, over reliable and
/// unreliable flows. Retransmissions are absorbed or made here; the ACK of an answer that is no
/// 2xx, the answer to CANCEL, and 100 after 200 ms are made here.
#[derive(Debug)]
pub struct Transactions {
    role: Role,
    limits: TransactionLimits,
    clients: HashMap<ClientKey, Client>,
    servers: HashMap<ServerKey, Server>,
    /// Requests outside dialogs that are being answered, by what names them on every way.
    merged: HashMap<String, ServerKey>,
    shares: Shares,
    deadlines: Deadlines,
    events: VecDeque<TransactionEvent>,
    transmits: VecDeque<(Flow, Message)>,
}

impl Transactions {
    /// None yet.
    pub fn new(role: Role, limits: TransactionLimits) -> Self {
        Self {
            role,
            limits,
            clients: HashMap::new(),
            servers: HashMap::new(),
            merged: HashMap::new(),
            shares: Shares::default(),
            deadlines: Deadlines::default(),
            events: VecDeque::new(),
            transmits: VecDeque::new(),
        }
    }

    /// The domains that the last part of the transactions is kept for.
    pub fn set_named(&mut self, named: HashSet<Domain>) {
        self.shares.set_named(named);
    }

    /// Transactions under way, for the metrics.
    pub fn len(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A message came in on a flow. A message that fails [`Message::check`] is answered where it is
    /// a request, and dropped.
    pub fn receive(&mut self, flow: Flow, message: Message, now: Instant) {
        let is_request = matches!(message.start, Start::Request { .. });
        if let Err(invalid) = message.check() {
            if is_request {
                self.answer(flow, &message, invalid.status);
            }
            return;
        }
        let Some(top) = message.vias().ok().and_then(|vias| vias.into_iter().next()) else {
            return;
        };
        if is_request {
            self.receive_request(flow, message, &top, now);
        } else {
            self.receive_response(flow, message, &top, now);
        }
    }

    fn receive_request(&mut self, flow: Flow, request: Message, top: &Via, now: Instant) {
        let key = match ServerKey::of(flow.id, &request, top) {
            Ok(key) => key,
            Err(invalid) => return self.answer(flow, &request, invalid.status),
        };
        match request.method() {
            Some(Method::Ack) => return self.receive_ack(flow, &key, request, now),
            Some(Method::Cancel) => return self.receive_cancel(flow, key, &request),
            // MS-SIP 4.4: never answered, so there is no transaction to keep.
            Some(Method::Benotify) => {
                return self.events.push_back(TransactionEvent::Request { key, flow, request });
            }
            _ => {}
        }
        if let Some(server) = self.servers.get(&key) {
            if server.again().resend
                && let Some(last) = &server.last
            {
                self.transmits.push_back((server.flow, (**last).clone()));
            }
            return;
        }
        let merge = if self.role == Role::End { key::merge_key(&request) } else { None };
        if merge.as_ref().is_some_and(|merge| self.merged.contains_key(merge)) {
            return self.answer(flow, &request, Status::of(482));
        }
        // Who asks is who it is from: its own requests take its share.
        let domain = request.from().ok().and_then(|from| from.uri.domain());
        if !self.has_room(domain.as_ref()) {
            return self.answer(flow, &request, Status::of(503));
        }
        let trying = (key.method == Method::Invite)
            .then(|| Message::response_to(&request, Status::of(100), None));
        self.shares.add(domain.as_ref());
        let mut server = Server::new(flow, domain, trying, now);
        if let Some(merge) = merge {
            self.merged.insert(merge.clone(), key.clone());
            server.merge = Some(merge);
        }
        server.slot = Some(self.deadlines.add(server.deadline(), Owner::Server(key.clone())));
        self.servers.insert(key.clone(), server);
        self.events.push_back(TransactionEvent::Request { key, flow, request });
    }

    /// Whether there may be one more transaction with this domain. If not, the owner hears of it.
    fn has_room(&mut self, domain: Option<&Domain>) -> bool {
        let checked = self.shares.check(domain, self.len(), &self.limits);
        if let Err(whose) = checked {
            let domain = domain.cloned();
            self.events.push_back(TransactionEvent::Full { whose, domain });
        }
        checked.is_ok()
    }

    fn receive_ack(&mut self, flow: Flow, key: &ServerKey, request: Message, now: Instant) {
        let Some(server) = self.servers.get_mut(key) else {
            return self.events.push_back(TransactionEvent::Ack { flow, request });
        };
        let steps = server.ack(now);
        if steps.tell {
            self.events.push_back(TransactionEvent::Ack { flow, request });
        }
        self.settle_server(key, steps.over);
    }

    fn receive_cancel(&mut self, flow: Flow, key: ServerKey, request: &Message) {
        let Some(server) = self.servers.get_mut(&key) else {
            return self.answer(flow, request, Status::of(481));
        };
        let waits = matches!(server.state, server::State::Trying | server::State::Proceeding);
        let first = waits && !server.cancelled;
        server.cancelled = true;
        self.answer(flow, request, Status::of(200));
        if first {
            self.events.push_back(TransactionEvent::Cancelled { key });
        }
    }

    /// Answers without state.
    fn answer(&mut self, flow: Flow, request: &Message, status: Status) {
        let method = request.method();
        // An ACK is never answered (section 17), nor a BENOTIFY.
        if matches!(method, None | Some(Method::Ack | Method::Benotify)) {
            return;
        }
        // Without a Via nobody could tell what it answers.
        if request.headers.get(&HeaderName::Via).is_none() {
            return;
        }
        let tag = key::stateless_tag(request);
        let mut response = Message::response_to(request, status, Some(&tag));
        if status.code() == 503 {
            // Digits hold no line break.
            let _ =
                response.headers.set(HeaderName::RetryAfter, self.limits.retry_after.to_string());
        }
        self.transmits.push_back((flow, response));
    }

    fn receive_response(&mut self, flow: Flow, response: Message, top: &Via, now: Instant) {
        let (Some(branch), Ok(cseq), Some(status)) =
            (top.branch(), response.cseq(), response.status())
        else {
            return;
        };
        let key = ClientKey { branch: branch.to_owned(), method: cseq.method };
        let known = self.clients.get_mut(&key).filter(|client| client.flow.id == flow.id);
        let Some(client) = known else {
            return self.events.push_back(TransactionEvent::Stray { flow, response });
        };
        if self.role == Role::End && response.vias().is_ok_and(|vias| vias.len() > 1) {
            return;
        }
        let steps = client.response(status, now);
        let tell = steps.tell && !client.silent;
        let ack = client.request.as_deref().filter(|_| steps.ack);
        if let Some(ack) = ack.and_then(|invite| client::ack(invite, &response)) {
            self.transmits.push_back((client.flow, ack));
        }
        if tell {
            self.events.push_back(TransactionEvent::Response { key: key.clone(), response });
        }
        if steps.cancel {
            self.send_cancel(&key, now);
        }
        self.settle_client(&key, steps.over);
    }

    /// Sends a request on a flow; its top Via, with a branch of our own, stands already. ACK for a
    /// 2xx is no transaction: see [`send_ack`](Self::send_ack).
    ///
    /// # Errors
    /// The request back, if there are too many transactions, its branch is none of RFC 3261 or in
    /// use, or it is an ACK or CANCEL (see [`cancel`](Self::cancel)).
    pub fn request(
        &mut self,
        flow: Flow,
        request: Message,
        now: Instant,
    ) -> Result<ClientKey, Box<Message>> {
        let branch = request.vias().ok().and_then(|vias| vias.first()?.branch().map(str::to_owned));
        let (Some(branch), Some(method)) = (branch, request.method()) else {
            return Err(Box::new(request));
        };
        let key = ClientKey { branch, method };
        if !key::has_cookie(&key.branch)
            || matches!(key.method, Method::Ack | Method::Cancel)
            || self.clients.contains_key(&key)
        {
            return Err(Box::new(request));
        }
        let domain = request.to().ok().and_then(|to| to.uri.domain());
        if !self.has_room(domain.as_ref()) {
            return Err(Box::new(request));
        }
        let client = Client::new(flow, domain, &request, now);
        self.start(key.clone(), client, request);
        Ok(key)
    }

    fn start(&mut self, key: ClientKey, mut client: Client, request: Message) {
        client.slot = Some(self.deadlines.add(client.deadline(), Owner::Client(key.clone())));
        self.shares.add(client.domain.as_ref());
        self.transmits.push_back((client.flow, request));
        self.clients.insert(key, client);
    }

    /// Sends the ACK of a 2xx.
    pub fn send_ack(&mut self, flow: Flow, ack: Message) {
        self.transmits.push_back((flow, ack));
    }

    /// Gives an INVITE of ours up: CANCEL goes out once there was a provisional answer. The final
    /// answer (487, or a 2xx that crossed it) comes as an event, or [`TransactionEvent::Failed`].
    pub fn cancel(&mut self, key: &ClientKey, now: Instant) {
        let Some(client) = self.clients.get_mut(key).filter(|client| client.invite) else { return };
        if client.cancel(now).cancel {
            self.send_cancel(key, now);
        }
        self.settle_client(key, false);
    }

    fn send_cancel(&mut self, invite: &ClientKey, now: Instant) {
        let Some(client) = self.clients.get(invite) else { return };
        let Some(cancel) = client.request.as_deref().and_then(client::cancel) else { return };
        let key = ClientKey { branch: invite.branch.clone(), method: Method::Cancel };
        // It makes room, so it needs none.
        let mut own = Client::new(client.flow, client.domain.clone(), &cancel, now);
        own.silent = true;
        self.start(key, own, cancel);
    }

    /// Answers a request. False if the transaction is over already, or was answered.
    pub fn respond(&mut self, key: &ServerKey, response: Message, now: Instant) -> bool {
        let (Some(server), Some(status)) = (self.servers.get_mut(key), response.status()) else {
            return false;
        };
        let steps = server.respond(status, now);
        if !steps.send {
            return false;
        }
        server.last = (!server.flow.reliable).then(|| Box::new(response.clone()));
        self.transmits.push_back((server.flow, response));
        self.settle_server(key, steps.over);
        true
    }

    /// A request of [`poll_transmit`](Self::poll_transmit) could not be written: its transaction
    /// fails, and no other one of its flow. For an answer, or an ACK, nothing is to be done.
    pub fn unsent(&mut self, message: &Message) {
        let top = message.vias().ok().and_then(|vias| vias.into_iter().next());
        let branch = top.and_then(|top| top.branch().map(str::to_owned));
        let (Start::Request { method, .. }, Some(branch)) = (&message.start, branch) else {
            return;
        };
        let key = ClientKey { branch, method: method.clone() };
        let Some(client) = self.clients.get(&key) else { return };
        let waits = matches!(client.state, client::State::Calling | client::State::Proceeding);
        if waits && !client.silent {
            self.events.push_back(TransactionEvent::Failed { key: key.clone(), timed_out: false });
        }
        self.settle_client(&key, true);
    }

    /// False for a request of ours whose transaction is over: nobody waits for its answer, and it need
    /// not be sent any more.
    pub fn is_wanted(&self, message: &Message) -> bool {
        let Start::Request { method, .. } = &message.start else { return true };
        let top = message.vias().ok().and_then(|vias| vias.into_iter().next());
        let branch = top.and_then(|top| top.branch().map(str::to_owned));
        let key = branch.map(|branch| ClientKey { branch, method: method.clone() });
        *method == Method::Ack || key.is_some_and(|key| self.clients.contains_key(&key))
    }

    /// A flow is gone: its client transactions fail, its server transactions are over.
    pub fn flow_lost(&mut self, flow: Flow, now: Instant) {
        let _ = now;
        self.requests_lost(flow);
        let lost: Vec<_> = self.servers.keys().filter(|key| key.flow == flow.id).cloned().collect();
        for key in lost {
            let Some(server) = self.servers.get(&key) else { continue };
            let waits = matches!(server.state, server::State::Trying | server::State::Proceeding);
            if waits && server.invite && !server.cancelled {
                self.events.push_back(TransactionEvent::Cancelled { key: key.clone() });
            }
            self.settle_server(&key, true);
        }
    }

    /// A flow is gone, and what was asked over it has failed; what came over it can still be
    /// answered, because the owner has another way there.
    pub fn requests_lost(&mut self, flow: Flow) {
        let on_it = self.clients.iter().filter(|(_, client)| client.flow.id == flow.id);
        let lost: Vec<_> = on_it.map(|(key, _)| key.clone()).collect();
        for key in lost {
            let Some(client) = self.clients.get(&key) else { continue };
            let waits = matches!(client.state, client::State::Calling | client::State::Proceeding);
            if waits && !client.silent {
                let failed = TransactionEvent::Failed { key: key.clone(), timed_out: false };
                self.events.push_back(failed);
            }
            self.settle_client(&key, true);
        }
    }

    /// The moment given by [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(owner) = self.deadlines.due(now) {
            match owner {
                Owner::Client(key) => self.client_timeout(&key, now),
                Owner::Server(key) => self.server_timeout(&key, now),
            }
        }
    }

    fn client_timeout(&mut self, key: &ClientKey, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let steps = client.timeout(now);
        if steps.resend
            && let Some(request) = &client.request
        {
            self.transmits.push_back((client.flow, (**request).clone()));
        }
        if steps.failed && !client.silent {
            self.events.push_back(TransactionEvent::Failed { key: key.clone(), timed_out: true });
        }
        if steps.cancel {
            self.send_cancel(key, now);
        }
        self.settle_client(key, steps.over);
    }

    fn server_timeout(&mut self, key: &ServerKey, now: Instant) {
        let Some(server) = self.servers.get_mut(key) else { return };
        let steps = server.timeout(now);
        if steps.resend
            && let Some(last) = &server.last
        {
            self.transmits.push_back((server.flow, (**last).clone()));
        }
        self.settle_server(key, steps.over);
    }

    /// Puts the deadline where it is now, or ends the transaction.
    fn settle_client(&mut self, key: &ClientKey, over: bool) {
        let Entry::Occupied(mut entry) = self.clients.entry(key.clone()) else { return };
        let client = entry.get_mut();
        if let Some(slot) = client.slot.take() {
            self.deadlines.remove(slot);
        }
        if over {
            self.shares.remove(entry.remove().domain.as_ref());
        } else {
            let at = client.deadline();
            client.slot = Some(self.deadlines.add(at, Owner::Client(key.clone())));
        }
    }

    fn settle_server(&mut self, key: &ServerKey, over: bool) {
        let Entry::Occupied(mut entry) = self.servers.entry(key.clone()) else { return };
        let server = entry.get_mut();
        if let Some(slot) = server.slot.take() {
            self.deadlines.remove(slot);
        }
        if over {
            let Server { domain, merge, .. } = entry.remove();
            self.shares.remove(domain.as_ref());
            if let Some(merge) = merge {
                self.merged.remove(&merge);
            }
        } else {
            let at = server.deadline();
            server.slot = Some(self.deadlines.add(at, Owner::Server(key.clone())));
        }
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<TransactionEvent> {
        self.events.pop_front()
    }

    /// What to write where, in order.
    pub fn poll_transmit(&mut self) -> Option<(Flow, Message)> {
        self.transmits.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }
}

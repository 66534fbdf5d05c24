mod heard;
mod stored;
mod ways;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_bridge::{Effect, Failure, Gateway, OutgoingId, Receipt, RequestKey, Way};
use gatehouse_net::{Tasks, now};
use gatehouse_policy::{Hop, Policy, Protocol};
use gatehouse_sip::{
    ClientKey, Flow, Message, Method, Role, ServerKey, TransactionLimits, Transactions,
};
use gatehouse_trunk::sip::{FromEdge, SipEdges};
use gatehouse_types::{Domain, Jid, Local, Remote};
use gatehouse_xmpp::{Seed, Stanza, StanzaCondition};
use tokio::sync::{mpsc, watch};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::stored::Recovery;
use self::ways::Attempt;
use super::attempts::Attempts;
use super::full::Full;
use super::inside::Inside;
use super::keep::Wish;
use super::lanes::{Answers, Lanes};
use super::late::Late;
use super::records::Records;
use super::windows::Windows;
use super::{Idle, SipGatewayParts};
use crate::outbox::Owed;
use crate::router::Router;

/// How long the 2xx of an INVITE may come again (RFC 6026, timer M).
const ACCEPTED_KEPT: Duration = Duration::from_secs(32);

/// Requests under way in both directions: each partner's domain has its share of them.
const TRANSACTIONS_MAX: usize = 20_000;

/// Stanzas of users, or messages of edges, that are taken before anything else has its turn.
const AT_ONCE_MAX: usize = 16;

/// The one task that owns the gateway.
pub(super) struct Driver {
    gateway: Gateway,
    parts: SipGatewayParts,
    policy: watch::Receiver<Arc<Policy>>,
    transactions: Transactions,
    seed: Seed,
    stanzas: mpsc::Receiver<(Stanza, Owed)>,
    /// What the lanes bring about: always read, or they and we would wait for each other.
    replies: mpsc::Receiver<Stanza>,
    /// Messages to be stored, until their keeper starts.
    wishes: Option<mpsc::Receiver<Wish>>,
    /// Of messages that the core of before left.
    recovery: Recovery,
    answers: Arc<Answers>,
    lanes: Lanes,
    /// Requests that wait for their turn with a partner.
    windows: Windows<OutgoingId>,
    /// What waits for room at an edge.
    late: Late,
    records: Records,
    router: Router,
    tasks: Tasks,
    stop: CancellationToken,
    flows: Flows,
    /// Which request of ours a client transaction is.
    outgoing: HashMap<ClientKey, OutgoingId>,
    clients: HashMap<OutgoingId, ClientKey>,
    /// INVITEs that were accepted, and until when their 2xx may come again; oldest first.
    accepted: VecDeque<(Instant, OutgoingId)>,
    accepted_ids: HashSet<OutgoingId>,
    /// Which server transaction a request of a partner is.
    requests: HashMap<RequestKey, ServerKey>,
    last_request: u64,
    owed: HashMap<Receipt, Owed>,
    last_receipt: u64,
    inside: Inside,
    /// Requests to the inside that have further next hops.
    attempts: HashMap<OutgoingId, Attempt>,
    attempts_by_xmpp: Arc<Attempts>,
    /// Who used up what, and was told of in the log.
    full: Full,
    /// Which next hop was asked whether it lives.
    probes: HashMap<ClientKey, Hop>,
}

/// The edges by number, as the transactions know them.
#[derive(Debug, Default)]
struct Flows {
    names: Vec<Arc<str>>,
    /// The link that each had when it was last looked at.
    links: Vec<Option<u64>>,
}

impl Flows {
    /// Edges are named in the settings, so there are few.
    fn of(&mut self, edge: &Arc<str>) -> Flow {
        let at = self.names.iter().position(|name| name == edge).unwrap_or_else(|| {
            self.names.push(Arc::clone(edge));
            self.links.push(None);
            self.names.len() - 1
        });
        Flow { id: at as u64, reliable: true }
    }

    /// The flows that had another link when they were last looked at: what was under way there is lost.
    fn lost(&mut self, now: impl Fn(&str) -> Option<u64>) -> Vec<Flow> {
        let mut lost = Vec::new();
        for (at, (name, known)) in self.names.iter().zip(&mut self.links).enumerate() {
            let link = now(name);
            if known.is_some() && *known != link {
                lost.push(Flow { id: at as u64, reliable: true });
            }
            *known = link;
        }
        lost
    }

    fn name(&self, flow: Flow) -> Option<&Arc<str>> {
        self.names.get(usize::try_from(flow.id).ok()?)
    }
}

impl Driver {
    pub(super) fn new(
        gateway: Gateway,
        Idle { mut parts, stanzas, replies, wishes, attempts: attempts_by_xmpp }: Idle,
        router: &Router,
        tasks: &Tasks,
        seed: Seed,
    ) -> Self {
        let lanes = Lanes::start(router, tasks);
        let share = parts.config.limits.partner_share_percent;
        let mut transactions =
            Transactions::new(Role::End, TransactionLimits::shared(TRANSACTIONS_MAX, share));
        let inside = Inside::start(parts.inside.take(), tasks);
        let config = super::config(&parts, &inside.changes().borrow());
        transactions.set_named(config.named);
        Self {
            gateway,
            policy: parts.policy.clone(),
            inside,
            parts,
            transactions,
            seed,
            stanzas,
            replies,
            wishes: Some(wishes),
            recovery: Recovery::begin(now()),
            answers: lanes.answers(),
            lanes,
            windows: Windows::default(),
            late: Late::default(),
            records: Records::start(&router.store, &router.clock, tasks),
            router: router.clone(),
            tasks: tasks.clone(),
            stop: tasks.stop(),
            flows: Flows::default(),
            outgoing: HashMap::new(),
            clients: HashMap::new(),
            accepted: VecDeque::new(),
            accepted_ids: HashSet::new(),
            requests: HashMap::new(),
            last_request: 0,
            owed: HashMap::new(),
            last_receipt: 0,
            attempts: HashMap::new(),
            attempts_by_xmpp,
            full: Full::default(),
            probes: HashMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        self.revive().await;
        self.recover().await;
        self.enforce();
        self.note_ways();
        let mut edges = self.edges().changes();
        let mut inside = self.inside.changes();
        let (mut policy_is_there, mut inside_is_there) = (true, true);
        let (answers, drained) = (Arc::clone(&self.answers), self.lanes.drained());
        loop {
            self.probe();
            self.settle().await;
            self.forget_accepted();
            let deadline = [
                self.gateway.poll_timeout(),
                self.windows.poll_timeout(),
                self.transactions.poll_timeout(),
                self.inside.poll_timeout(),
            ]
            .into_iter()
            .flatten()
            .min();
            let (recovery_at, is_idle) = (self.recovery.at(), self.lanes.are_idle());
            // Not `biased`: no partner keeps us from what users say, nor the other way round.
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = sleep_until(deadline) => {
                    self.transactions.handle_timeout(now());
                    self.gateway.handle_timeout(now());
                    self.expire();
                }
                // Nothing else tells that more may be read.
                () = drained.notified(), if !is_idle => {}
                () = sleep_until(recovery_at), if recovery_at.is_some() && is_idle => {
                    self.go_on_recovering().await;
                }
                outcomes = answers.next() => {
                    for (key, outcome) in outcomes {
                        self.gateway.delivered(key, outcome, now());
                    }
                }
                changed = edges.changed() => match changed {
                    Ok(()) => self.edges_changed(),
                    Err(_) => break,
                },
                changed = self.policy.changed(), if policy_is_there => {
                    policy_is_there = changed.is_ok();
                    self.reconfigure();
                    self.enforce();
                }
                changed = inside.changed(), if inside_is_there => {
                    inside_is_there = changed.is_ok();
                    self.inside.reload();
                    self.reconfigure();
                    self.enforce();
                    self.note_ways();
                }
                event = self.inside.next(), if self.lanes.have_room() => self.hear_inside(event),
                from = self.parts.trunk.incoming.recv(),
                    if self.lanes.have_room() && self.late.may_read() => {
                    let Some(FromEdge { edge, message }) = from else { break };
                    self.hear(&edge, message);
                    self.hear_more().await;
                }
                () = self.lanes.room(), if self.lanes.are_late() => self.lanes.catch_up(),
                () = self.parts.trunk.edges.room(&self.late.edges()), if !self.late.is_empty() => {
                    self.send_late();
                }
                reply = self.replies.recv() => {
                    let Some(stanza) = reply else { break };
                    self.take(stanza, Owed::default());
                }
                stanza = self.stanzas.recv(),
                    if self.lanes.have_room() && self.late.is_empty() => {
                    let Some((stanza, owed)) = stanza else { break };
                    self.take(stanza, owed);
                    self.take_more().await;
                }
            }
        }
        self.leave().await;
    }

    /// What else waits of users, as far as there is room: a look at all that may have happened costs as
    /// much as a stanza.
    async fn take_more(&mut self) {
        for _ in 1..AT_ONCE_MAX {
            self.settle().await;
            if !self.lanes.have_room() || !self.late.is_empty() {
                return;
            }
            let Ok((stanza, owed)) = self.stanzas.try_recv() else { return };
            self.take(stanza, owed);
        }
    }

    /// The same of the edges.
    async fn hear_more(&mut self) {
        for _ in 1..AT_ONCE_MAX {
            self.settle().await;
            if !self.lanes.have_room() || !self.late.may_read() {
                return;
            }
            let Ok(FromEdge { edge, message }) = self.parts.trunk.incoming.try_recv() else {
                return;
            };
            self.hear(&edge, message);
        }
    }

    fn hear(&mut self, edge: &Arc<str>, message: Message) {
        let flow = self.flows.of(edge);
        self.transactions.receive(flow, message, now());
    }

    /// Everything that the last input brought about.
    async fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(event) = self.transactions.poll_event() {
                quiet = false;
                self.heard(event);
            }
            while let Some(effect) = self.gateway.poll_effect() {
                quiet = false;
                self.carry_out(effect).await;
            }
            while let Some((id, request)) = self.windows.next() {
                quiet = false;
                self.go_outside(id, request);
            }
            while let Some((flow, message)) = self.transactions.poll_transmit() {
                quiet = false;
                self.transmit(flow, message);
            }
            if quiet {
                return;
            }
        }
    }

    fn edges(&self) -> &SipEdges {
        &self.parts.trunk.edges
    }

    /// What was under way over a link that is gone has failed, also if there is another one by now.
    fn edges_changed(&mut self) {
        self.note_links();
        self.note_ways();
    }

    /// Looks which links there are; before anything is sent, too, so that what goes over a new one is not
    /// taken for lost with the old one.
    fn note_links(&mut self) {
        let edges = self.edges().clone();
        for flow in self.flows.lost(|edge| edges.link(edge)) {
            // Any other edge can bring an answer home.
            self.transactions.requests_lost(flow);
        }
    }

    /// Tells the gateway which ways there are.
    fn note_ways(&mut self) {
        let inside = !self.inside.changes().borrow().is_empty();
        self.gateway.set_reachable(Way::Inside, inside, now());
        let outside = !self.edges().names().is_empty();
        self.gateway.set_reachable(Way::Outside, outside, now());
    }

    fn note_owed(&mut self, owed: Owed) -> Receipt {
        self.last_receipt += 1;
        let receipt = Receipt(self.last_receipt);
        self.owed.insert(receipt, owed);
        receipt
    }

    fn take(&mut self, stanza: Stanza, owed: Owed) {
        let receipt = self.note_owed(owed);
        self.gateway.handle_stanza(stanza, receipt, now());
    }

    /// Takes what policy and inside say now about who is who.
    fn reconfigure(&mut self) {
        let config = super::config(&self.parts, &self.inside.changes().borrow());
        self.transactions.set_named(config.named.clone());
        self.gateway.reconfigure(config);
    }

    /// Ends what policy does not allow any more.
    fn enforce(&mut self) {
        let (policy, inside) = (self.policy.borrow().clone(), self.inside.changes());
        let inside = inside.borrow();
        let may_talk = |local: &Jid, remote: &Jid| {
            inside.takes(super::user_of(remote).as_deref(), remote.domain())
                || speak_sip(&policy, local.domain(), remote.domain())
        };
        self.gateway.enforce(may_talk, now());
    }

    /// What was accepted long ago is not accepted again.
    fn forget_accepted(&mut self) {
        while let Some((_, id)) = self.accepted.pop_front_if(|(until, _)| *until <= now()) {
            self.accepted_ids.remove(&id);
            self.forget_client(id);
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Request { id, request } => self.request(id, request),
            Effect::Ack { ack } => self.send_ack(ack),
            Effect::Cancel { id } => {
                if let Some(key) = self.clients.get(&id) {
                    if key.method == Method::Invite {
                        self.transactions.cancel(key, now());
                    }
                } else if self.windows.withdraw(id) {
                    self.gateway.handle_failure(id, Failure::Unreachable, now());
                }
            }
            Effect::Respond { key, response } => {
                if let Some(key) = self.requests.remove(&key) {
                    self.transactions.respond(&key, response, now());
                }
            }
            Effect::Ignore { key } => {
                self.requests.remove(&key);
            }
            Effect::Stanza(stanza) => self.lanes.push(stanza, Owed::default()),
            Effect::Deliver { key, stanza } => {
                if !self.lanes.push_for(key, stanza) {
                    let full = Err(StanzaCondition::ResourceConstraint);
                    self.gateway.delivered(key, full, now());
                }
            }
            Effect::Release { receipt } => {
                // Dropping what is owed acknowledges the stanza.
                self.owed.remove(&receipt);
            }
            Effect::Bounce { receipt, error } => self.bounce(receipt, error),
            Effect::Keep { receipt, error } => {
                if !self.owed.get(&receipt).is_some_and(Owed::keep) {
                    self.bounce(receipt, error);
                }
            }
            Effect::Store { record, lasts } => self.records.store(record, lasts).await,
            Effect::Forget(key) => self.records.forget(key).await,
            Effect::Full { what, whose, domain } => {
                self.full.note((what.as_str(), whose.as_str(), domain), now());
            }
            Effect::ShortLived { domain, seconds } => {
                let case = ("subscriptions", "short-lived", domain);
                if let Some(domain) = self.full.first(case, now()) {
                    info!(
                        peer.domain = %domain, seconds,
                        "a SIP partner grants presence for less than a minute at a time: it is asked again every 50 s, and presence may be late; nothing more is said of it for an hour"
                    );
                }
            }
        }
    }

    /// Tells the author; what is owed goes along until that is done.
    fn bounce(&mut self, receipt: Receipt, error: Option<Stanza>) {
        let owed = self.owed.remove(&receipt).unwrap_or_default();
        if let Some(error) = error {
            self.lanes.push(error, owed);
        }
    }
}

fn speak_sip(policy: &Policy, local: &Domain, remote: &Domain) -> bool {
    let protocol = policy.protocol(&Local(local.clone()), &Remote(remote.clone()));
    matches!(protocol, Ok(Protocol::Sip | Protocol::XmppThenSip))
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

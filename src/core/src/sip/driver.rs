mod heard;
mod ways;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gatehouse_bridge::{Effect, Gateway, OutgoingId, Receipt, Record, RecordKey, RequestKey};
use gatehouse_net::{Tasks, now};
use gatehouse_policy::{Hop, Policy, Protocol};
use gatehouse_sip::{ClientKey, Flow, Role, ServerKey, TransactionLimits, Transactions};
use gatehouse_trunk::sip::{FromEdge, SipEdges};
use gatehouse_types::{Chain, Domain, Jid, Local, Remote};
use gatehouse_xmpp::{Seed, Stanza, StanzaCondition};
use tokio::sync::{mpsc, watch};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::ways::Attempt;
use super::attempts::Attempts;
use super::inside::Inside;
use super::lanes::{Lanes, Taken};
use super::records::Records;
use super::{Idle, SipGatewayParts};
use crate::outbox::Owed;
use crate::router::Router;

/// How long the last BYEs may take at shutdown.
const FAREWELL: Duration = Duration::from_millis(500);

/// How long the 2xx of an INVITE may come again (RFC 6026, timer M).
const ACCEPTED_KEPT: Duration = Duration::from_secs(32);

/// Outcomes that wait for the gateway.
const TAKEN_LEN_MAX: usize = 256;

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
    taken: mpsc::Receiver<Taken>,
    lanes: Lanes,
    records: Records,
    router: Router,
    stop: CancellationToken,
    flows: Flows,
    /// Which request of ours a client transaction is.
    outgoing: HashMap<ClientKey, OutgoingId>,
    clients: HashMap<OutgoingId, ClientKey>,
    /// INVITEs that were accepted, and until when their 2xx may come again; oldest first.
    accepted: VecDeque<(Instant, OutgoingId)>,
    /// Which server transaction a request of a partner is.
    requests: HashMap<RequestKey, ServerKey>,
    last_request: u64,
    owed: HashMap<Receipt, Owed>,
    last_receipt: u64,
    inside: Inside,
    /// Requests to the inside that have further next hops.
    attempts: HashMap<OutgoingId, Attempt>,
    attempts_by_xmpp: Arc<Attempts>,
    /// Which next hop was asked whether it lives.
    probes: HashMap<ClientKey, Hop>,
}

/// The edges by number, as the transactions know them.
#[derive(Debug, Default)]
struct Flows {
    names: Vec<Arc<str>>,
}

impl Flows {
    /// Edges are named in the settings, so there are few.
    fn of(&mut self, edge: &Arc<str>) -> Flow {
        let at = self.names.iter().position(|name| name == edge).unwrap_or_else(|| {
            self.names.push(Arc::clone(edge));
            self.names.len() - 1
        });
        Flow { id: at as u64, reliable: true }
    }

    fn name(&self, flow: Flow) -> Option<&Arc<str>> {
        self.names.get(usize::try_from(flow.id).ok()?)
    }
}

impl Driver {
    pub(super) fn new(
        gateway: Gateway,
        Idle { mut parts, stanzas, replies, attempts: attempts_by_xmpp }: Idle,
        router: &Router,
        tasks: &Tasks,
        seed: Seed,
    ) -> Self {
        let (outcomes, taken) = mpsc::channel(TAKEN_LEN_MAX);
        Self {
            gateway,
            policy: parts.policy.clone(),
            inside: Inside::start(parts.inside.take(), tasks),
            parts,
            transactions: Transactions::new(Role::End, TransactionLimits::default()),
            seed,
            stanzas,
            replies,
            taken,
            lanes: Lanes::start(router, &outcomes, tasks),
            records: Records::start(&router.store, &router.clock, tasks),
            router: router.clone(),
            stop: tasks.stop(),
            flows: Flows::default(),
            outgoing: HashMap::new(),
            clients: HashMap::new(),
            accepted: VecDeque::new(),
            requests: HashMap::new(),
            last_request: 0,
            owed: HashMap::new(),
            last_receipt: 0,
            attempts: HashMap::new(),
            attempts_by_xmpp,
            probes: HashMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        self.revive().await;
        let mut edges = self.edges().changes();
        let mut inside = self.inside.changes();
        let (mut policy_is_there, mut inside_is_there) = (true, true);
        loop {
            self.probe();
            self.settle().await;
            self.forget_accepted();
            let deadline = [
                self.gateway.poll_timeout(),
                self.transactions.poll_timeout(),
                self.inside.poll_timeout(),
            ]
            .into_iter()
            .flatten()
            .min();
            // Not `biased`: no partner keeps us from what users say, nor the other way round.
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = sleep_until(deadline) => {
                    self.transactions.handle_timeout(now());
                    self.gateway.handle_timeout(now());
                }
                Some((key, outcome)) = self.taken.recv() => {
                    self.gateway.delivered(key, outcome, now());
                }
                changed = edges.changed() => match changed {
                    Ok(()) => self.edges_changed(),
                    Err(_) => break,
                },
                changed = self.policy.changed(), if policy_is_there => {
                    policy_is_there = changed.is_ok();
                    self.gateway.reconfigure(super::config(&self.parts));
                    self.enforce();
                }
                changed = inside.changed(), if inside_is_there => {
                    inside_is_there = changed.is_ok();
                    self.inside.reload();
                    self.enforce();
                }
                event = self.inside.next(), if self.lanes.have_room() => self.hear_inside(event),
                from = self.parts.trunk.incoming.recv(), if self.lanes.have_room() => {
                    let Some(FromEdge { edge, message }) = from else { break };
                    let flow = self.flows.of(&edge);
                    self.transactions.receive(flow, message, now());
                }
                () = self.lanes.room(), if self.lanes.are_late() => self.lanes.catch_up(),
                reply = self.replies.recv() => {
                    let Some(stanza) = reply else { break };
                    self.take(stanza, Owed::default());
                }
                stanza = self.stanzas.recv(), if self.lanes.have_room() => {
                    let Some((stanza, owed)) = stanza else { break };
                    self.take(stanza, owed);
                }
            }
        }
        self.leave().await;
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

    /// What was under way over an edge that is gone has failed.
    fn edges_changed(&mut self) {
        let up = self.edges().names();
        let gone: Vec<Flow> = self
            .flows
            .names
            .iter()
            .enumerate()
            .filter(|(_, name)| !up.contains(name))
            .map(|(at, _)| Flow { id: at as u64, reliable: true })
            .collect();
        for flow in gone {
            // Any other edge can bring an answer home.
            self.transactions.requests_lost(flow);
        }
    }

    fn take(&mut self, stanza: Stanza, owed: Owed) {
        self.last_receipt += 1;
        let receipt = Receipt(self.last_receipt);
        self.owed.insert(receipt, owed);
        self.gateway.handle_stanza(stanza, receipt, now());
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
            self.forget_client(id);
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Request { id, request } => self.request(id, request),
            Effect::Ack { ack } => self.send_ack(ack),
            Effect::Cancel { id } => {
                if let Some(key) = self.clients.get(&id) {
                    self.transactions.cancel(key, now());
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
            Effect::Stanza(stanza) => {
                self.lanes.push(stanza);
            }
            Effect::Deliver { key, stanza } => {
                if !self.lanes.push_for(key, stanza) {
                    let full = Err(StanzaCondition::ResourceConstraint);
                    self.gateway.delivered(key, full, now());
                }
            }
            Effect::Release { receipt, .. } => {
                // Dropping what is owed acknowledges the stanza.
                self.owed.remove(&receipt);
            }
            Effect::Store { record, lasts } => self.records.store(record, lasts).await,
            Effect::Forget(key) => self.records.forget(key).await,
        }
    }

    /// What was stored, as if it had never been away.
    async fn revive(&mut self) {
        let records = match self.router.store.sip_records().await {
            Ok(records) => records,
            Err(error) => {
                error!(error = %Chain(&error), "the stored SIP subscriptions cannot be read");
                return;
            }
        };
        let (count, now_ms) = (records.len(), self.router.clock.now_ms());
        for record in records {
            let left = u64::try_from(record.expires_ms - now_ms).unwrap_or_default();
            let key = RecordKey(record.key);
            let record = Record { key: key.clone(), value: Bytes::from(record.value) };
            if let Err(error) = self.gateway.revive(&record, Duration::from_millis(left), now()) {
                warn!(%error, "a stored SIP subscription was left out");
                self.records.forget(key).await;
            }
        }
        for domain in self.gateway.partners() {
            self.attempts_by_xmpp.speaks_sip(domain);
        }
        self.enforce();
        if count > 0 {
            info!(count, "SIP subscriptions are renewed");
        }
    }

    /// BYE to everybody; subscriptions stay for the next start.
    async fn leave(mut self) {
        self.gateway.handle_shutdown(now());
        let farewell = async {
            loop {
                self.settle().await;
                if self.transactions.is_empty() && !self.lanes.are_late() {
                    return;
                }
                tokio::select! {
                    event = self.inside.next() => self.hear_inside(event),
                    () = self.lanes.room(), if self.lanes.are_late() => self.lanes.catch_up(),
                    Some((key, outcome)) = self.taken.recv() => {
                        self.gateway.delivered(key, outcome, now());
                    }
                    from = self.parts.trunk.incoming.recv() => {
                        let Some(FromEdge { edge, message }) = from else { return };
                        let flow = self.flows.of(&edge);
                        self.transactions.receive(flow, message, now());
                    }
                }
            }
        };
        if time::timeout(FAREWELL, farewell).await.is_err() {
            debug!("stopping: not every partner answered our BYE");
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

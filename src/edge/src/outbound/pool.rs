use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::now;
use gatehouse_policy::Denial;
use gatehouse_resolve::Resolver;
use gatehouse_telemetry::{ReachSource, Unreached};
use gatehouse_trunk::{Receipt, Transfer};
use gatehouse_types::{Domain, Jid, Local, Remote};
use gatehouse_xmpp::{ErrorKind, Stanza, StanzaCondition};
use tokio::sync::mpsc;
use tokio::time;
use tracing::{debug, info_span, warn};

use super::link::Link;
use super::memory::Memory;
use super::queue::{Links, Pair, Pushed, Waiting};
use crate::bounce::Refusal;
use crate::shared::Edge;

/// While we are stopping, the core still sends farewells of its users: how long the pool waits for
/// the next one, and for all of them.
const DRAIN_PAUSE: Duration = Duration::from_millis(200);
const DRAIN_TOTAL: Duration = Duration::from_secs(2);

/// Takes what the core sends and gives it to the link of its pair of domains.
pub(crate) struct Pool {
    edge: Arc<Edge>,
    links: Arc<Links>,
    memory: Arc<Memory>,
}

impl Pool {
    pub(crate) fn new(edge: Arc<Edge>) -> Self {
        let links = Arc::new(Links::new(edge.config.queue_len_max));
        Self { edge, links, memory: Arc::default() }
    }

    /// Whom to ask which partners could not be reached.
    pub(crate) fn reach_source(&self) -> Arc<dyn ReachSource> {
        Arc::new(Known { memory: Arc::clone(&self.memory), resolver: self.edge.resolver.clone() })
    }

    /// Runs until shutdown. `incoming` comes from the core, `answers` from our own inbound streams.
    pub(crate) async fn run(
        self,
        mut incoming: mpsc::Receiver<Transfer>,
        mut answers: mpsc::Receiver<Stanza>,
    ) {
        let stop = self.edge.tasks.stop();
        let mut core_is_there = true;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(stanza) = answers.recv() => self.route(stanza, None),
                transfer = incoming.recv(), if core_is_there => match transfer {
                    Some(Transfer { stanza, receipt }) => self.route(stanza, Some(receipt)),
                    None => core_is_there = false,
                },
            }
        }
        let drain = async {
            while let Ok(Some(transfer)) = time::timeout(DRAIN_PAUSE, incoming.recv()).await {
                self.route(transfer.stanza, Some(transfer.receipt));
            }
        };
        if time::timeout(DRAIN_TOTAL, drain).await.is_err() {
            debug!("stopping: the core still sends");
        }
        self.edge.drained.cancel();
    }

    /// Never waits, least of all for the core: see [`bounce::queue`](crate::bounce::queue).
    fn route(&self, stanza: Stanza, receipt: Option<Receipt>) {
        let Some(pair) = self.pair(&stanza) else { return self.inward(stanza, receipt) };
        if let Err(denial) = self.edge.policy().conditions(&pair.local, &pair.remote) {
            log_denial(&self.edge, &pair, &denial);
            let refusal = denied(&pair.local, &pair.remote);
            self.edge.bounce_now(&stanza, receipt, &refusal);
            return;
        }
        // Behind what a link still has to bounce, so that authors are told in order.
        let reachable = self.links.has(&pair) || self.edge.returns.has(&pair);
        let refusal = (!reachable).then(|| self.memory.refusal(&pair, now())).flatten();
        if let Some((refusal, rest)) = refusal {
            debug!(
                peer.domain = %pair.remote,
                next_try_secs = rest.as_secs(),
                "bounced at once: the last attempt to connect failed"
            );
            self.edge.bounce_now(&stanza, receipt, &refusal);
            return;
        }
        let waiting = Waiting { stanza, receipt, retried: false };
        match self.links.push(&pair, waiting) {
            Pushed::Queued => {}
            Pushed::Started(queue) => {
                let span = info_span!("link", direction = "out", peer.domain = %pair.remote, local.domain = %pair.local);
                let link = Link::new(
                    Arc::clone(&self.edge),
                    pair,
                    queue,
                    Arc::clone(&self.links),
                    Arc::clone(&self.memory),
                );
                self.edge.tasks.spawn(span, link.run());
            }
            Pushed::QueueFull(back) | Pushed::TooManyLinks(back) => {
                if self.edge.domain_warnings.may_warn(pair.remote.0.clone(), now()) {
                    warn!(peer.domain = %pair.remote, "bounced: the queue for this partner is full");
                }
                self.edge.bounce_now(&back.stanza, back.receipt, &queue_full(&pair.remote));
            }
        }
    }

    /// What does not go to a partner: to a domain that another core serves it is passed on, or its
    /// author is told. The two may belong to different owners, so policy has its say, as if each were
    /// the other's partner. Never waits, as that core may be what everybody waits for.
    fn inward(&self, stanza: Stanza, receipt: Option<Receipt>) {
        let domain = |jid: Option<&Jid>| self.edge.as_local(jid?.domain());
        let (Some(from), Some(to)) = (domain(stanza.from()), domain(stanza.to())) else {
            // The core or we ourselves made it; no partner and no user can cause this.
            warn!(
                from = stanza.from().map(tracing::field::display),
                to = stanza.to().map(tracing::field::display),
                "dropped: an outbound stanza must go from a domain of ours to one that is not"
            );
            return;
        };
        for (local, remote) in [(&from, &to), (&to, &from)] {
            let pair = Pair { local: local.clone(), remote: Remote(remote.0.clone()) };
            if let Err(denial) = self.edge.policy().conditions(&pair.local, &pair.remote) {
                log_denial(&self.edge, &pair, &denial);
                let refusal = denied(&from, &Remote(to.0.clone()));
                return self.edge.bounce_now(&stanza, receipt, &refusal);
            }
        }
        let Err(back) = self.edge.core.pass_on(stanza, receipt.unwrap_or_default()) else { return };
        let (unreachable, receipt) = back;
        if self.edge.domain_warnings.may_warn(to.0.clone(), now()) {
            warn!(
                error = %unreachable, local.domain = %from, to.domain = %to,
                "bounced: a message from one of our domains to another, and no core takes it"
            );
        }
        self.edge.bounce_now(&unreachable.stanza, Some(receipt), &no_core(&to));
    }

    fn pair(&self, stanza: &Stanza) -> Option<Pair> {
        let local = self.edge.as_local(stanza.from()?.domain())?;
        let remote = stanza.to()?.domain();
        (!self.edge.serves(remote)).then(|| Pair { local, remote: Remote(remote.clone()) })
    }
}

/// What the status shows of the memory.
struct Known {
    memory: Arc<Memory>,
    resolver: Resolver,
}

impl ReachSource for Known {
    fn list(&self) -> Vec<Unreached> {
        self.memory.list(now())
    }

    /// The name as a person writes it. What DNS said is asked again, too.
    fn forget(&self, peer: &str) -> usize {
        let Ok(peer) = peer.parse::<Domain>() else { return 0 };
        self.resolver.clear_cache();
        self.memory.forget(peer.as_str())
    }
}

pub(super) fn log_denial(edge: &Edge, pair: &Pair, denial: &Denial) {
    metrics::counter!("gatehouse_s2s_denied_total", "reason" => denial.as_str()).increment(1);
    if edge.domain_warnings.may_warn(pair.remote.0.clone(), now()) {
        warn!(
            peer.domain = %pair.remote, local.domain = %pair.local, direction = "out",
            reason = %denial, "not sent: policy does not allow it"
        );
    }
}

/// What the author is told when policy says no.
//= https://www.rfc-editor.org/rfc/rfc6120#section-8.3.3.10
//# The recipient or server does not allow any entity to perform the action
//# (e.g., sending to entities at a blacklisted domain)
pub(super) fn denied(local: &Local<Domain>, remote: &Remote<Domain>) -> Refusal {
    Refusal::new(
        ErrorKind::Cancel,
        StanzaCondition::NotAllowed,
        format!("{local} does not allow its users to exchange messages with {remote}"),
    )
}

/// What the author is told if no core takes it.
fn no_core(to: &Local<Domain>) -> Refusal {
    Refusal::new(
        ErrorKind::Wait,
        StanzaCondition::RecipientUnavailable,
        format!("{to} cannot take messages right now; try again later"),
    )
}

fn queue_full(remote: &Remote<Domain>) -> Refusal {
    Refusal::new(
        ErrorKind::Wait,
        StanzaCondition::ResourceConstraint,
        format!("too many messages for {remote} are waiting to be sent; try again later"),
    )
}

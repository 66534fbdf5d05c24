use std::collections::VecDeque;
use std::sync::Arc;

use gatehouse_net::now;
use gatehouse_policy::{Denial, Permit};
use gatehouse_telemetry::{StreamHandle, StreamInfo, StreamKind, StreamState};
use gatehouse_xmpp::s2s::Purpose;
use tracing::{info, warn};

use super::carry::{Carried, Carry};
use super::dial::{Call, OpenStream, Outcome};
use super::failure::DialFailure;
use super::memory::Memory;
use super::pool::{denied, log_denial};
use super::queue::{Links, Pair, Queue, Waiting};
use super::refusal::going_down;
use crate::bounce::Refusal;
use crate::shared::{Edge, channel, version};

/// Streams in a row that opened and took nothing before we give up.
const FRUITLESS_MAX: u8 = 2;

/// The one task that dials and writes for a pair of domains. It ends when nothing waits.
pub(super) struct Link {
    edge: Arc<Edge>,
    pair: Pair,
    queue: Arc<Queue>,
    links: Arc<Links>,
    memory: Arc<Memory>,
    fruitless: u8,
}

enum LinkFailure {
    Denied(Denial),
    Dial(DialFailure),
    GoingDown,
}

impl Link {
    pub(super) fn new(
        edge: Arc<Edge>,
        pair: Pair,
        queue: Arc<Queue>,
        links: Arc<Links>,
        memory: Arc<Memory>,
    ) -> Self {
        Self { edge, pair, queue, links, memory, fruitless: 0 }
    }

    pub(super) async fn run(mut self) {
        while !self.links.end_if_empty(&self.pair) {
            if self.go_back().await {
                continue;
            }
            // What came while the link gave up.
            if let Some((refusal, _)) = self.memory.refusal(&self.pair, now()) {
                self.bounce_all(&refusal).await;
                continue;
            }
            let listed = self.list();
            let failure = match self.connect().await {
                Ok((stream, permit)) => self.carry(listed, stream, permit).await,
                Err(failure) => Some(failure),
            };
            if let Some(failure) = failure {
                self.give_up(failure).await;
            }
        }
    }

    /// Sends what waits on a stream that the partner opened (XEP-0288), if there is one, until that
    /// stream ends. There is no point in dialling as long as it lasts.
    async fn go_back(&mut self) -> bool {
        if self.edge.drained.is_cancelled() {
            return false;
        }
        let Some(carried) = self.edge.returns.lend(&self.pair, &self.queue) else { return false };
        // The stream may have ended before it took the queue.
        let Ok(carried) = carried.await else { return true };
        if let Some(failure) = self.carried(carried).await {
            self.give_up(failure).await;
        }
        true
    }

    /// Shows the stream in the status while it is being made, too.
    fn list(&self) -> (String, StreamHandle) {
        let id = self.edge.random.id();
        let handle = self.edge.streams.open(StreamInfo {
            kind: StreamKind::S2sOut,
            id: id.clone(),
            local: self.pair.local.to_string(),
            peer: self.pair.remote.to_string(),
            address: String::new(),
            tls: String::new(),
            authentication: String::new(),
            state: StreamState::Opening,
        });
        (id, handle)
    }

    async fn connect(&self) -> Result<(Box<OpenStream>, Permit), LinkFailure> {
        let Pair { local, remote } = &self.pair;
        let conditions =
            self.edge.policy().conditions(local, remote).map_err(LinkFailure::Denied)?;
        let call = Call::new(local.clone(), remote.clone(), Purpose::Stanzas, conditions);
        let dialled = tokio::select! {
            biased;
            () = self.edge.drained.cancelled() => return Err(LinkFailure::GoingDown),
            dialled = call.dial(&self.edge) => dialled,
        };
        match dialled.map_err(LinkFailure::Dial)? {
            Outcome::Open(stream) => {
                let (peer, channel) =
                    (stream.peer.clone(), channel(version(stream.facts.as_ref())));
                let permit = self.edge.policy().decide(local, peer, channel);
                Ok((stream, permit.map_err(LinkFailure::Denied)?))
            }
            // Not what this call was for.
            Outcome::Verdict { .. } => Err(LinkFailure::Dial(unsteady("it only answers dialback"))),
        }
    }

    /// `Some` if there is no point in dialling again.
    async fn carry(
        &mut self,
        listed: (String, StreamHandle),
        stream: Box<OpenStream>,
        permit: Permit,
    ) -> Option<LinkFailure> {
        self.memory.succeeded(&self.pair);
        let carry = Carry::open(&self.edge, &self.queue, listed, *stream, permit);
        let carried = carry.run().await;
        self.carried(carried).await
    }

    /// What follows from how a stream ended: `Some` if there is no point in making another.
    async fn carried(&mut self, carried: Carried) -> Option<LinkFailure> {
        let Carried { delivered_any, held, reason } = carried;
        self.requeue(held, &reason).await;
        if delivered_any || self.queue.is_empty() {
            self.fruitless = 0;
            return None;
        }
        self.fruitless += 1;
        (self.fruitless >= FRUITLESS_MAX).then(|| {
            self.fruitless = 0;
            LinkFailure::Dial(unsteady(&reason))
        })
    }

    /// Gives what a broken stream did not take, as far as we know, to the next one; but only once.
    async fn requeue(&self, held: VecDeque<Waiting>, reason: &str) {
        let (again, lost): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|waiting| !waiting.retried);
        let again = again.into_iter().map(|waiting| Waiting { retried: true, ..waiting });
        self.queue.put_back(again.collect());
        if lost.is_empty() {
            return;
        }
        let refusal = unsteady(reason).refusal(&self.pair.local, &self.pair.remote);
        for waiting in lost {
            self.edge.bounce(&waiting.stanza, waiting.receipt, &refusal).await;
        }
    }

    async fn give_up(&self, failure: LinkFailure) {
        let refusal = match failure {
            LinkFailure::Denied(denial) => {
                log_denial(&self.edge, &self.pair, &denial);
                denied(&self.pair.local, &self.pair.remote)
            }
            LinkFailure::GoingDown => going_down(),
            LinkFailure::Dial(failure) => {
                let refusal = failure.refusal(&self.pair.local, &self.pair.remote);
                let (report, pick) = (failure.report(), |max| self.edge.random.up_to(max));
                let pause = self.memory.failed(&self.pair, refusal.clone(), report, pick, now());
                self.log(&failure, &refusal, pause.as_secs());
                refusal
            }
        };
        self.bounce_all(&refusal).await;
    }

    async fn bounce_all(&self, refusal: &Refusal) {
        while let Some(waiting) = self.queue.pop() {
            self.edge.bounce(&waiting.stanza, waiting.receipt, refusal).await;
        }
    }

    fn log(&self, failure: &DialFailure, refusal: &Refusal, pause_secs: u64) {
        let (peer, targets) = (&self.pair.remote, failure.targets());
        let notable = failure.is_notable();
        if notable && self.edge.domain_warnings.may_warn(peer.0.clone(), now()) {
            warn!(
                peer.domain = %peer, direction = "out", next_try_secs = pause_secs, targets,
                told = refusal.text, "no stream to this partner: {failure}"
            );
        } else {
            info!(
                peer.domain = %peer, direction = "out", next_try_secs = pause_secs, targets,
                told = refusal.text, "no stream to this partner: {failure}"
            );
        }
    }
}

fn unsteady(reason: &str) -> DialFailure {
    DialFailure::Unsteady { reason: reason.to_owned() }
}

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_identity::{AuthenticatedPeer, TlsFacts};
use gatehouse_net::{Connection, ConnectionError, Step, now};
use gatehouse_policy::{Denial, Permit, Policy};
use gatehouse_telemetry::{StreamHandle, StreamInfo, StreamKind, StreamState};
use gatehouse_trunk::Receipts;
use gatehouse_types::{Chain, Domain, Local, Machine, Remote};
use gatehouse_xmpp::s2s::{DialbackAnswer, DialbackQuestion, S2sEvent};
use gatehouse_xmpp::stream::CloseReason;
use gatehouse_xmpp::{S2sReceiver, Stanza, StreamCondition, StreamError};
use tokio::sync::{mpsc, watch};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, info_span, warn};

use super::report;
use crate::dialback;
use crate::gate::not_allowed;
use crate::intake::{forward, keep_to_rate, send_back};
use crate::outbound::{Back, Pair, reason_text};
use crate::places::Place;
use crate::shared::{Edge, channel, policy_changed, stream_proof_text, version, version_text};

/// Dialback keys of one stream that are verified at the same time.
const VERIFICATIONS_MAX: usize = 8;

/// How long a stream may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(5);

/// One stream that a partner opened to us.
pub(super) struct Session {
    edge: Arc<Edge>,
    connection: Connection<S2sReceiver>,
    address: SocketAddr,
    handle: StreamHandle,
    /// What the handshake told; nothing without TLS.
    facts: Option<TlsFacts>,
    setup_deadline: Instant,
    /// Who the first header said it is from and for; claimed, not proven.
    claimed: (Option<Remote<Domain>>, Option<Local<Domain>>),
    /// One for each pair that the machine has opened; it bounds them.
    proofs: report::Proofs,
    permits: Vec<Permit>,
    /// This stream among those of each domain that it proved.
    places: Vec<Place<Domain>>,
    /// Only once the partner tries dialback: most do not.
    answers: Option<Answers>,
    verifying: usize,
    /// What the core has acknowledged of what came in, where the partner wants to know.
    receipts: Arc<Receipts>,
    /// What goes back on this stream, if the partner wants that (XEP-0288).
    back: Back,
    /// Set once we are stopping and what is for the partner still goes out: until when.
    part_at: Option<Instant>,
    /// Why policy closed the stream, for the log only.
    detail: Option<String>,
    /// Set once the stream is being closed: when to cut the connection.
    leave_at: Option<Instant>,
}

/// What those who verify keys tell the stream.
type Answers = (
    mpsc::Sender<(DialbackQuestion, DialbackAnswer)>,
    mpsc::Receiver<(DialbackQuestion, DialbackAnswer)>,
);

/// A stanza, and its number where the partner wants to know what became of it (XEP-0198).
type Numbered = (Stanza, Option<u64>);

/// Whether a stream goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Running,
    Over,
}

impl Session {
    pub(super) fn new(
        edge: Arc<Edge>,
        connection: Connection<S2sReceiver>,
        address: SocketAddr,
        facts: Option<TlsFacts>,
        setup_deadline: Instant,
    ) -> Self {
        let handle = edge.streams.open(StreamInfo {
            kind: StreamKind::S2sIn,
            id: connection.machine().stream_id().to_string(),
            local: String::new(),
            peer: String::new(),
            address: address.to_string(),
            tls: version_text(version(facts.as_ref())).to_owned(),
            authentication: String::new(),
            state: StreamState::Opening,
        });
        Self {
            edge,
            connection,
            address,
            handle,
            facts,
            setup_deadline,
            claimed: (None, None),
            proofs: report::Proofs::default(),
            permits: Vec::new(),
            places: Vec::new(),
            answers: None,
            verifying: 0,
            receipts: Arc::default(),
            back: Back::default(),
            part_at: None,
            detail: None,
            leave_at: None,
        }
    }

    pub(super) async fn run(mut self: Box<Self>) {
        let stop = self.edge.tasks.stop();
        let mut policy = self.edge.policy.clone();
        let receipts = Arc::clone(&self.receipts);
        let drained = self.edge.drained.clone();
        loop {
            let leaving = self.leave_at.is_some();
            let parting = self.part_at.is_some();
            self.send_back();
            let sending = self.back.is_sending() || self.is_losing_back();
            tokio::select! {
                biased;
                () = stop.cancelled(), if !leaving && !parting => {
                    if self.back.is_used() {
                        // The core's last words come this way.
                        self.part_at = Some(now() + FAREWELL);
                    } else {
                        self.part();
                    }
                }
                () = sleep_until(self.part_at), if parting && !leaving => self.part(),
                () = drained.cancelled(), if parting && !leaving && self.back.is_done() => {
                    self.part();
                }
                () = sleep_until(self.leave_at), if leaving => return,
                policy = policy_changed(&mut policy), if !leaving => self.recheck(&policy),
                Some((question, answer)) = next_answer(&mut self.answers) => {
                    self.verifying = self.verifying.saturating_sub(1);
                    self.connection.machine_mut().dialback_answer(&question, answer, now());
                }
                () = receipts.news() => {
                    for number in receipts.take() {
                        self.connection.machine_mut().handled(number, now());
                    }
                }
                () = self.back.news(), if !leaving => {}
                step = next(&mut self.connection, sending) => {
                    let state = match step {
                        Ok(None) => self.flushed(),
                        // On the heap, so that an idle stream does not keep the room.
                        Ok(Some(Step::Event(event))) => {
                            if let Some(stanza) = self.note(event) {
                                Box::pin(self.take_all(stanza, &policy, &stop)).await;
                            }
                            State::Running
                        }
                        Ok(Some(Step::Upgrade)) => Box::pin(self.upgrade(&stop)).await,
                        Ok(Some(Step::Closed)) => State::Over,
                        Err(error) => {
                            debug!(
                                stream.id = %self.connection.machine().stream_id(),
                                peer.addr = %self.address, direction = "in",
                                error = %Chain(&error), "stream closed"
                            );
                            State::Over
                        }
                    };
                    if state == State::Over {
                        return;
                    }
                }
            }
        }
    }

    /// Gives the machine what waits for the partner.
    fn send_back(&mut self) {
        if self.permits.is_empty() || !self.connection.machine().takes_stanzas() {
            self.back.close();
        } else {
            self.back.send(&mut self.connection);
        }
    }

    /// True if queues are lent to a stream that takes nothing more. What the partner has acknowledged
    /// by now is told first.
    fn is_losing_back(&self) -> bool {
        self.back.is_used() && !self.connection.machine().takes_stanzas()
    }

    fn flushed(&mut self) -> State {
        self.back.flushed(&self.handle);
        if self.is_losing_back() {
            self.back.end("the stream ends");
        }
        State::Running
    }

    fn part(&mut self) {
        self.connection.machine_mut().handle_shutdown(now());
        self.leave_at = Some(now() + FAREWELL);
    }

    /// What came in one read is taken in one turn, unless somebody wants something else meanwhile.
    async fn take_all(
        &mut self,
        first: Numbered,
        policy: &watch::Receiver<Arc<Policy>>,
        stop: &CancellationToken,
    ) {
        let mut next = Some(first);
        loop {
            if let Some((stanza, number)) = next {
                self.stanza(stanza, number).await;
            }
            if stop.is_cancelled() || policy.has_changed().unwrap_or(false) {
                return;
            }
            let Some(event) = self.connection.machine_mut().poll_event() else { return };
            next = self.note(event);
        }
    }

    /// Takes what waits for nobody. A stanza may have to wait for the core: it is given back.
    fn note(&mut self, event: S2sEvent) -> Option<Numbered> {
        match event {
            S2sEvent::Stanza(stanza, number) => return Some((stanza, number)),
            S2sEvent::Header { from, to } => self.claimed = (from, to),
            S2sEvent::Opened { peer, local, rule: _ } => self.opened(peer, local),
            S2sEvent::VerifyKey(question) => self.verify(question),
            S2sEvent::Malformed { answer, reason } => {
                self.handle.note_error(&reason);
                metrics::counter!("gatehouse_s2s_dropped_total").increment(1);
                debug!(
                    stream.id = %self.connection.machine().stream_id(), peer.addr = %self.address,
                    direction = "in", reason, "a stanza was not taken"
                );
                if let Some(answer) = answer {
                    send_back(&self.edge, *answer);
                }
            }
            S2sEvent::AuthenticationFailed { method, reason } => {
                self.proofs.failed();
                self.handle.note_error(&format!("{method}: {reason}"));
                report::authentication_failed(
                    &self.edge,
                    self.connection.machine().stream_id(),
                    self.address,
                    (self.claimed.0.as_ref(), self.claimed.1.as_ref()),
                    method,
                    &reason,
                )
            }
            S2sEvent::Acknowledged(len) => self.back.acknowledged(len, &self.handle),
            S2sEvent::Closed(reason) => {
                self.back.note(&reason_text(&reason));
                self.closed(&reason);
                self.leave_at.get_or_insert_with(|| now() + FAREWELL);
            }
            // Initiators only.
            S2sEvent::KeyVerdict { .. } => {}
        }
        None
    }

    async fn upgrade(&mut self, stop: &CancellationToken) -> State {
        let Some(io) = self.connection.take_io() else { return State::Over };
        let fallback = self.claimed.1.as_ref().map(|to| &to.0);
        let accept = self.edge.starttls_acceptor.accept(io, fallback);
        let shaken = tokio::select! {
            biased;
            () = stop.cancelled() => return State::Over,
            shaken = time::timeout_at(self.setup_deadline.into(), accept) => shaken,
        };
        let shaken = shaken.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        match shaken {
            Ok((io, facts)) => {
                self.handle.update(|info| info.tls = version_text(Some(facts.version)).to_owned());
                self.facts = Some(facts.clone());
                self.connection.put_io(Box::new(io));
                self.connection.machine_mut().handle_tls(facts, now());
                State::Running
            }
            Err(error) => {
                report::tls_failed(&self.edge, self.address, self.claimed.0.as_ref(), &error);
                State::Over
            }
        }
    }

    /// A pair of domains may send from here on: the permit is what every stanza needs.
    fn opened(&mut self, peer: AuthenticatedPeer, local: Local<Domain>) {
        let permit = match self.edge.policy().decide(
            &local,
            peer.clone(),
            channel(version(self.facts.as_ref())),
        ) {
            Ok(permit) => permit,
            // Policy changed between the machine's question and now.
            Err(denial) => {
                let error = not_allowed(peer.domain(), &local);
                return self.deny(&denial, error);
            }
        };
        if !self.places.iter().any(|place| *place.key() == peer.domain().0) {
            let Some(place) = self.edge.inbound_streams.take(&peer.domain().0) else {
                let error = StreamError::new(
                    StreamCondition::ResourceConstraint,
                    "your domain has too many streams to here; close some",
                );
                return self.close_with(error);
            };
            self.places.reserve_exact(1);
            self.places.push(place);
        }
        let bidi = self.connection.machine().takes_stanzas();
        if bidi {
            let pair = Pair { local: local.clone(), remote: peer.domain().clone() };
            self.back.open(&self.edge.returns, pair);
        }
        let (id, proof) =
            (self.connection.machine().stream_id(), stream_proof_text(peer.proof(), bidi));
        info!(
            stream.id = %id, peer.domain = %peer.domain(), peer.addr = %self.address,
            direction = "in", local.domain = %local, rule = permit.rule(), proof,
            tls = version_text(version(self.facts.as_ref())), "stream opened"
        );
        self.handle.update(|info| {
            info.id = id.to_string();
            info.local = local.to_string();
            info.peer = peer.domain().to_string();
            info.authentication = proof;
            info.state = StreamState::Open;
        });
        self.proofs.opened();
        // Most streams have one.
        self.permits.reserve_exact(1);
        self.permits.push(permit);
    }

    /// Takes the question to the authoritative server without holding up the stream.
    fn verify(&mut self, question: DialbackQuestion) {
        if self.verifying >= VERIFICATIONS_MAX {
            self.connection.machine_mut().dialback_answer(&question, DialbackAnswer::Busy, now());
            return;
        }
        self.verifying += 1;
        let answers = self.answers.get_or_insert_with(|| mpsc::channel(VERIFICATIONS_MAX));
        let (edge, answer) = (Arc::clone(&self.edge), answers.0.clone());
        let address = self.address.ip();
        let span = info_span!("dialback", peer.domain = %question.originating);
        self.edge.tasks.spawn(span, async move {
            let stop = edge.tasks.stop();
            let verdict = tokio::select! {
                () = stop.cancelled() => return,
                // The stream is gone: nobody needs to know.
                () = answer.closed() => return,
                verdict = dialback::verify(&edge, address, &question) => verdict,
            };
            let _ = answer.send((question, verdict)).await;
        });
    }

    async fn stanza(&mut self, stanza: Stanza, number: Option<u64>) {
        // Whatever becomes of the stanza, its sender need not keep it once this is dropped.
        let receipt = number.map(|number| self.receipts.receipt(number)).unwrap_or_default();
        if self.leave_at.is_some() && self.permits.is_empty() {
            // Read before the stream was refused; what was refused has no way on.
            metrics::counter!("gatehouse_s2s_dropped_total").increment(1);
            return;
        }
        let permit = match (stanza.from(), stanza.to()) {
            (Some(from), Some(to)) => self.permits.iter().find(|permit| {
                permit.peer().domain().0 == *from.domain() && permit.local().0 == *to.domain()
            }),
            _ => None,
        };
        // The machine has checked this, too; a stanza without a permit must have no way on.
        let Some(permit) = permit.cloned() else {
            if self.edge.peer_warnings.may_warn(self.address.ip(), now()) {
                warn!(peer.addr = %self.address, direction = "in", "a stanza came for a pair of domains that is not open");
            }
            let text = "this stream is not open for these domains";
            return self.close_with(StreamError::new(StreamCondition::InvalidFrom, text));
        };
        debug!(
            stanza.id = %stanza.trace(), stream.id = %self.connection.machine().stream_id(),
            peer.domain = %permit.peer().domain(), kind = ?stanza.kind(),
            "a stanza came from the partner"
        );
        self.handle.stanza_in();
        let traffic = self.connection.traffic();
        self.handle.bytes(traffic.read, traffic.written);
        keep_to_rate(&self.edge, &permit).await;
        forward(&self.edge, &permit, stanza, receipt).await;
        self.connection.machine_mut().excuse_silence(now());
    }

    fn recheck(&mut self, policy: &Policy) {
        let mut permits = Vec::with_capacity(self.permits.len());
        for permit in &self.permits {
            if let Err(fault) = self.edge.still_proves(policy, permit, self.facts.as_ref()) {
                let error = not_allowed(permit.peer().domain(), permit.local());
                self.detail = Some(format!("trust or pins have changed: {fault}"));
                return self.close_with(error);
            }
            match policy.decide(
                permit.local(),
                permit.peer().clone(),
                channel(version(self.facts.as_ref())),
            ) {
                Ok(permit) => permits.push(permit),
                Err(denial) => {
                    let error = not_allowed(permit.peer().domain(), permit.local());
                    return self.deny(&denial, error);
                }
            }
        }
        self.permits = permits;
    }

    /// Closes because of policy; the log says which rule, the peer is not told.
    fn deny(&mut self, denial: &Denial, error: StreamError) {
        self.detail = Some(denial.to_string());
        self.close_with(error);
    }

    /// Refuses everything from here on.
    fn close_with(&mut self, error: StreamError) {
        self.permits.clear();
        self.connection.machine_mut().close_with(error, now());
        self.leave_at.get_or_insert_with(|| now() + FAREWELL);
    }

    fn closed(&self, reason: &CloseReason) {
        let detail = match (reason, &self.claimed) {
            _ if self.detail.is_some() => self.detail.clone(),
            (CloseReason::WeRefused(error), (Some(from), Some(to)))
                if error.condition == StreamCondition::PolicyViolation =>
            {
                self.edge.policy().conditions(to, from).err().map(|denial| denial.to_string())
            }
            _ => None,
        };
        let peer = self.permits.first().map(|permit| permit.peer().domain());
        report::closed(
            &self.edge,
            self.connection.machine().stream_id(),
            self.address,
            peer.or(self.claimed.0.as_ref()),
            reason,
            detail,
        );
    }
}

async fn next(
    connection: &mut Connection<S2sReceiver>,
    sending: bool,
) -> Result<Option<Step<S2sEvent>>, ConnectionError> {
    if sending { connection.next_or_flushed().await } else { connection.next().await.map(Some) }
}

async fn next_answer(answers: &mut Option<Answers>) -> Option<(DialbackQuestion, DialbackAnswer)> {
    match answers {
        Some((_, answers)) => answers.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

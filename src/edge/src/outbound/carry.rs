use std::time::{Duration, Instant};

use gatehouse_identity::TlsFacts;
use gatehouse_net::{Connection, ConnectionError, Step, now};
use gatehouse_policy::{Channel, Permit, Policy};
use gatehouse_telemetry::{StreamHandle, StreamState};
use gatehouse_types::{Chain, Machine};
use gatehouse_xmpp::s2s::{S2sEvent, S2sInitiator};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::dial::OpenStream;
use super::failure::reason_text;
use super::queue::{Queue, Waiting};
use crate::shared::{Edge, channel, policy_changed, proof_text, version, version_text};

/// Stanzas handed to the machine before the connection gets its turn.
const BATCH_LEN_MAX: usize = 16;

/// How long a stream may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(5);

/// Writes what waits for a pair of domains to its open stream.
pub(super) struct Carry<'a> {
    edge: &'a Edge,
    queue: &'a Queue,
    drained: &'a CancellationToken,
    connection: Connection<S2sInitiator>,
    permit: Permit,
    channel: Channel,
    /// What the handshake told.
    facts: Option<TlsFacts>,
    id: String,
    handle: StreamHandle,
    /// Given to the machine, not yet known to have left. Their receipts are kept.
    unflushed: Vec<Waiting>,
    flushed_any: bool,
    idle_at: Instant,
    /// Set once nothing more is sent: when to cut the connection.
    leave_at: Option<Instant>,
    /// True if the goodbye was ours, and not the peer's.
    we_left: bool,
    reason: Option<String>,
}

/// How a stream ended.
pub(super) struct Carried {
    /// True if at least one stanza left.
    pub(super) flushed_any: bool,
    /// What was given to the stream and did not leave.
    pub(super) unflushed: Vec<Waiting>,
    /// Why it ended, for the log.
    pub(super) reason: String,
}

impl<'a> Carry<'a> {
    pub(super) fn open(
        edge: &'a Edge,
        queue: &'a Queue,
        drained: &'a CancellationToken,
        (id, handle): (String, StreamHandle),
        stream: OpenStream,
        permit: Permit,
    ) -> Self {
        let OpenStream { connection, peer, host, address, facts } = stream;
        let version = version(facts.as_ref());
        let proof = proof_text(peer.proof());
        handle.update(|info| {
            info.address = address.to_string();
            info.tls = version_text(version).to_owned();
            info.authentication.clone_from(&proof);
            info.state = StreamState::Open;
        });
        info!(
            stream.id = id, peer.domain = %peer.domain(), peer.addr = %address, direction = "out",
            host = %host, local.domain = %permit.local(), rule = permit.rule(), proof,
            tls = version_text(version), "stream opened"
        );
        Self {
            edge,
            queue,
            drained,
            connection,
            permit,
            channel: channel(version),
            facts,
            id,
            handle,
            unflushed: Vec::new(),
            flushed_any: false,
            idle_at: now() + edge.config.limits.idle_timeout,
            leave_at: None,
            we_left: false,
            reason: None,
        }
    }

    pub(super) async fn run(mut self) -> Carried {
        let mut policy = self.edge.policy.clone();
        loop {
            self.take_batch();
            let leaving = self.leave_at.is_some();
            let wake_at = self.leave_at.unwrap_or(self.idle_at);
            let sending = !self.unflushed.is_empty();
            tokio::select! {
                biased;
                () = self.drained.cancelled(), if !leaving => {
                    self.take_batch();
                    self.leave("we are stopping");
                }
                () = time::sleep_until(wake_at.into()), if leaving || !sending => {
                    if leaving {
                        debug!(stream.id = self.id, "cut: the peer does not say goodbye");
                        break;
                    }
                    self.leave("idle");
                }
                policy = policy_changed(&mut policy), if !leaving => self.recheck(&policy),
                () = self.queue.arrived(), if !leaving => {}
                step = next(&mut self.connection, sending) => {
                    if self.take(step).is_over() {
                        break;
                    }
                }
            }
        }
        let reason = self.reason.unwrap_or_else(|| "closed".to_owned());
        Carried { flushed_any: self.flushed_any, unflushed: self.unflushed, reason }
    }

    /// Gives the machine what waits, as far as the peer keeps up.
    fn take_batch(&mut self) {
        if self.leave_at.is_some() {
            return;
        }
        for _ in 0..BATCH_LEN_MAX {
            if self.connection.is_congested() || self.unflushed.len() >= 4 * BATCH_LEN_MAX {
                return;
            }
            let Some(waiting) = self.queue.pop() else { return };
            let stanza = &waiting.stanza;
            debug!(stanza.id = %stanza.trace(), kind = ?stanza.kind(), "a stanza goes to the partner");
            self.connection.machine_mut().send(stanza, now());
            self.unflushed.push(waiting);
        }
    }

    fn leave(&mut self, reason: &str) {
        self.connection.machine_mut().handle_shutdown(now());
        self.leave_at = Some(now() + FAREWELL);
        self.we_left = true;
        self.reason.get_or_insert_with(|| reason.to_owned());
    }

    fn recheck(&mut self, policy: &Policy) {
        if let Err(fault) = self.edge.still_proves(policy, &self.permit, self.facts.as_ref()) {
            warn!(
                stream.id = self.id, peer.domain = %self.permit.peer().domain(),
                direction = "out", reason = %fault, "stream closed: its certificate proves nothing any more"
            );
            return self.leave("trust has changed");
        }
        match policy.decide(self.permit.local(), self.permit.peer().clone(), self.channel) {
            Ok(permit) => self.permit = permit,
            Err(denial) => {
                warn!(
                    stream.id = self.id, peer.domain = %self.permit.peer().domain(),
                    direction = "out", reason = %denial, "stream closed: policy has changed"
                );
                self.leave("policy has changed");
            }
        }
    }

    fn take(&mut self, step: Result<Option<Step<S2sEvent>>, ConnectionError>) -> State {
        match step {
            Ok(None) => {
                self.flushed();
                State::Running
            }
            Ok(Some(Step::Event(S2sEvent::Closed(reason)))) => {
                let reason = reason_text(&reason);
                debug!(stream.id = self.id, reason, "stream closed");
                if self.leave_at.is_none() {
                    // The peer leaves: what is not out by now goes over the next stream.
                    self.leave_at = Some(now() + FAREWELL);
                    self.reason = Some(reason);
                }
                State::Running
            }
            Ok(Some(Step::Event(event))) => {
                debug!(stream.id = self.id, ?event, "ignored on an outbound stream");
                State::Running
            }
            Ok(Some(Step::Closed)) => {
                // After our own goodbye everything before it has left, too.
                if self.we_left && self.connection.is_flushed() {
                    self.flushed();
                }
                State::Over
            }
            Ok(Some(Step::Upgrade)) => State::Over,
            Err(error) => {
                let reason = Chain(&error).to_string();
                debug!(stream.id = self.id, reason, "stream closed");
                self.reason.get_or_insert(reason);
                State::Over
            }
        }
    }

    /// All that was sent has been handed to the operating system: receipts are given back.
    fn flushed(&mut self) {
        for _ in self.unflushed.drain(..) {
            self.handle.stanza_out();
            self.flushed_any = true;
        }
        let traffic = self.connection.traffic();
        self.handle.bytes(traffic.read, traffic.written);
        self.idle_at = now() + self.edge.config.limits.idle_timeout;
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Running,
    Over,
}

impl State {
    fn is_over(self) -> bool {
        self == Self::Over
    }
}

async fn next(
    connection: &mut Connection<S2sInitiator>,
    sending: bool,
) -> Result<Option<Step<S2sEvent>>, ConnectionError> {
    if sending { connection.next_or_flushed().await } else { connection.next().await.map(Some) }
}

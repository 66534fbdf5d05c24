use std::collections::VecDeque;
use std::time::{Duration, Instant};

use gatehouse_identity::TlsFacts;
use gatehouse_net::{Connection, ConnectionError, Step, now};
use gatehouse_policy::{Channel, Permit, Policy};
use gatehouse_telemetry::{StreamHandle, StreamState};
use gatehouse_types::{Chain, Machine};
use gatehouse_xmpp::s2s::{S2sEvent, S2sInitiator, TooLong};
use gatehouse_xmpp::{ErrorKind, StanzaCondition};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::dial::OpenStream;
use super::failure::reason_text;
use super::queue::{Queue, Waiting};
use crate::bounce::Refusal;
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
    /// Given to the machine, oldest first, and not yet known to be safe: acknowledged by a partner
    /// that does so, or else handed to the operating system. Their receipts are kept.
    held: VecDeque<Waiting>,
    /// How many of them may not have left yet.
    unflushed: usize,
    delivered_any: bool,
    idle_at: Instant,
    /// Set once nothing more is sent: when to say goodbye, acknowledged or not.
    part_at: Option<Instant>,
    /// Set once goodbye was said: when to cut the connection.
    leave_at: Option<Instant>,
    /// True if the goodbye was ours, and not the peer's.
    we_left: bool,
    reason: Option<String>,
}

/// How a stream ended.
pub(super) struct Carried {
    /// True if at least one stanza is safe.
    pub(super) delivered_any: bool,
    /// What was given to the stream and is not known to be safe, oldest first.
    pub(super) held: VecDeque<Waiting>,
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
            held: VecDeque::new(),
            unflushed: 0,
            delivered_any: false,
            idle_at: now() + edge.config.limits.idle_timeout,
            part_at: None,
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
            let ending = leaving || self.part_at.is_some();
            let wake_at = self.leave_at.or(self.part_at).unwrap_or(self.idle_at);
            let sending = self.unflushed > 0;
            // An answer to what is held will come, or the machine gives the stream up.
            let idle = self.held.is_empty();
            tokio::select! {
                biased;
                () = self.drained.cancelled(), if !ending => {
                    self.take_batch();
                    self.leave("we are stopping");
                }
                () = time::sleep_until(wake_at.into()), if ending || idle => {
                    if leaving {
                        debug!(stream.id = self.id, "cut: the peer does not say goodbye");
                        break;
                    }
                    self.reason.get_or_insert_with(|| "idle".to_owned());
                    self.part();
                }
                policy = policy_changed(&mut policy), if !ending => self.recheck(&policy),
                () = self.queue.arrived(), if !ending => {}
                step = next(&mut self.connection, sending) => {
                    if self.take(step).is_over() {
                        break;
                    }
                }
            }
        }
        let reason = self.reason.unwrap_or_else(|| "closed".to_owned());
        Carried { delivered_any: self.delivered_any, held: self.held, reason }
    }

    /// Gives the machine what waits, as far as the peer keeps up.
    fn take_batch(&mut self) {
        if self.leave_at.is_some() || self.part_at.is_some() {
            return;
        }
        for _ in 0..BATCH_LEN_MAX {
            if self.connection.is_congested()
                || self.unflushed >= 4 * BATCH_LEN_MAX
                || !self.connection.machine().has_room()
            {
                return;
            }
            let Some(waiting) = self.queue.pop() else { return };
            let stanza = &waiting.stanza;
            debug!(stanza.id = %stanza.trace(), kind = ?stanza.kind(), "a stanza goes to the partner");
            if let Err(too_long) = self.connection.machine_mut().send(stanza, now()) {
                let why = too_long_for(&self.permit, too_long);
                self.edge.bounce_now(&waiting.stanza, waiting.receipt, &why);
                continue;
            }
            self.held.push_back(waiting);
            self.unflushed += 1;
        }
    }

    /// Sends nothing more, and ends the stream once the partner has acknowledged what it was sent,
    /// if it does that; at once if not.
    fn leave(&mut self, reason: &str) {
        self.reason.get_or_insert_with(|| reason.to_owned());
        if self.held.is_empty() || !self.connection.machine().is_managed() {
            self.part();
        } else {
            self.part_at = Some(now() + FAREWELL);
        }
    }

    fn part(&mut self) {
        self.connection.machine_mut().handle_shutdown(now());
        self.leave_at = Some(now() + FAREWELL);
        self.we_left = true;
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
            Ok(Some(Step::Event(S2sEvent::Acknowledged(len)))) => {
                self.delivered(len);
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

    /// All that was sent has been handed to the operating system. If nobody will acknowledge it,
    /// that has to do.
    fn flushed(&mut self) {
        self.unflushed = 0;
        if !self.connection.machine().is_managed() {
            self.delivered(self.held.len());
        }
    }

    /// The oldest `len` are safe: their receipts are given back.
    fn delivered(&mut self, len: usize) {
        for _ in self.held.drain(..len.min(self.held.len())) {
            self.handle.stanza_out();
            self.delivered_any = true;
        }
        self.unflushed = self.unflushed.min(self.held.len());
        if self.held.is_empty() && self.part_at.is_some() && self.leave_at.is_none() {
            self.part();
        }
        let traffic = self.connection.traffic();
        self.handle.bytes(traffic.read, traffic.written);
        self.idle_at = now() + self.edge.config.limits.idle_timeout;
    }
}

/// What the author of a stanza is told that the partner would close the stream for.
fn too_long_for(permit: &Permit, TooLong { bytes_max }: TooLong) -> Refusal {
    let partner = permit.peer().domain();
    let text = format!("{partner} takes messages of at most {bytes_max} bytes, and this is longer");
    Refusal::new(ErrorKind::Modify, StanzaCondition::PolicyViolation, text)
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

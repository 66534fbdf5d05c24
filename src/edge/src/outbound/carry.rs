use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_identity::TlsFacts;
use gatehouse_net::{Connection, ConnectionError, Step, now};
use gatehouse_policy::{Channel, Permit, Policy};
use gatehouse_telemetry::{StreamHandle, StreamState};
use gatehouse_trunk::Receipts;
use gatehouse_types::{Chain, Machine};
use gatehouse_xmpp::s2s::{S2sEvent, S2sInitiator, TooLong};
use gatehouse_xmpp::{ErrorKind, Stanza, StanzaCondition};
use tokio::time;
use tracing::{debug, info, warn};

use super::dial::OpenStream;
use super::failure::reason_text;
use super::held::Held;
use super::queue::{Queue, Waiting};
use crate::bounce::Refusal;
use crate::intake::{forward, keep_to_rate, send_back};
use crate::shared::{Edge, channel, policy_changed, stream_proof_text, version, version_text};

/// Stanzas handed to the machine before the connection gets its turn.
pub(super) const BATCH_LEN_MAX: usize = 16;

/// How long a stream may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(5);

/// Writes what waits for a pair of domains to its open stream.
pub(super) struct Carry<'a> {
    edge: &'a Edge,
    queue: &'a Queue,
    connection: Connection<S2sInitiator>,
    permit: Permit,
    channel: Channel,
    /// What the handshake told.
    facts: Option<TlsFacts>,
    id: String,
    handle: StreamHandle,
    held: Held<Waiting>,
    /// What the core has acknowledged of what came back, where the partner wants to know.
    receipts: Arc<Receipts>,
    delivered_any: bool,
    idle_at: Instant,
    /// Set once nothing more is sent: when to say goodbye, acknowledged or not.
    part_at: Option<Instant>,
    /// Set once goodbye was said: when to cut the connection.
    leave_at: Option<Instant>,
    /// True if the goodbye was ours, and not the peer's.
    we_left: bool,
    /// True once policy does not allow the pair any more: nothing is taken.
    denied: bool,
    reason: Option<String>,
}

/// How a stream ended.
#[derive(Debug)]
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
        (id, handle): (String, StreamHandle),
        stream: OpenStream,
        permit: Permit,
    ) -> Self {
        let OpenStream { connection, peer, host, address, facts } = stream;
        let version = version(facts.as_ref());
        let proof = stream_proof_text(peer.proof(), connection.machine().is_bidirectional());
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
            connection,
            permit,
            channel: channel(version),
            facts,
            id,
            handle,
            held: Held::default(),
            receipts: Arc::default(),
            delivered_any: false,
            idle_at: now() + edge.config.limits.idle_timeout,
            part_at: None,
            leave_at: None,
            we_left: false,
            denied: false,
            reason: None,
        }
    }

    pub(super) async fn run(mut self) -> Carried {
        let mut policy = self.edge.policy.clone();
        let receipts = Arc::clone(&self.receipts);
        loop {
            self.take_batch();
            let leaving = self.leave_at.is_some();
            let ending = leaving || self.part_at.is_some();
            let wake_at = self.leave_at.or(self.part_at).unwrap_or(self.idle_at);
            let sending = self.held.unflushed() > 0;
            // An answer to what is held will come, or the machine gives the stream up.
            let idle = self.held.is_empty();
            tokio::select! {
                biased;
                () = self.edge.drained.cancelled(), if !ending => {
                    self.take_batch();
                    self.leave("we are stopping");
                }
                () = time::sleep_until(wake_at.into()), if ending || idle => {
                    if leaving {
                        debug!(stream.id = self.id, "cut: the peer does not say goodbye");
                        break;
                    }
                    if ending {
                        self.part();
                    } else {
                        self.leave("idle");
                    }
                }
                policy = policy_changed(&mut policy), if !ending => self.recheck(&policy),
                () = self.queue.arrived(), if !ending => {}
                () = receipts.news() => {
                    for number in receipts.take() {
                        self.connection.machine_mut().handled(number, now());
                    }
                    self.part_if_done();
                }
                step = next(&mut self.connection, sending) => {
                    if self.take(step).await.is_over() {
                        break;
                    }
                }
            }
        }
        let reason = self.reason.unwrap_or_else(|| "closed".to_owned());
        Carried { delivered_any: self.delivered_any, held: self.held.into_items(), reason }
    }

    /// Gives the machine what waits, as far as the peer keeps up.
    fn take_batch(&mut self) {
        if self.leave_at.is_some() || self.part_at.is_some() {
            return;
        }
        for _ in 0..BATCH_LEN_MAX {
            let machine = self.connection.machine();
            if self.connection.is_congested()
                || self.held.unflushed() >= 4 * BATCH_LEN_MAX
                || !machine.has_room()
                || !machine.takes_stanzas()
            {
                return;
            }
            let Some(waiting) = self.queue.pop() else { return };
            let stanza = &waiting.stanza;
            debug!(stanza.id = %stanza.trace(), kind = ?stanza.kind(), "a stanza goes to the partner");
            match self.connection.machine_mut().send(stanza, now()) {
                Ok(sent) => self.held.push(waiting, sent),
                Err(too_long) => {
                    let why = too_long_for(&self.permit, too_long);
                    self.edge.bounce_now(&waiting.stanza, waiting.receipt, &why);
                }
            }
        }
    }

    /// Sends nothing more, and ends the stream once the partner has acknowledged what it was sent,
    /// if it does that; at once if not.
    fn leave(&mut self, reason: &str) {
        self.reason.get_or_insert_with(|| reason.to_owned());
        let machine = self.connection.machine();
        if !machine.is_managed() || (self.held.is_empty() && !machine.owes()) {
            self.part();
        } else {
            self.part_at = Some(now() + FAREWELL);
        }
    }

    /// Says goodbye if that is all we waited for.
    fn part_if_done(&mut self) {
        let done = self.held.is_empty() && !self.connection.machine().owes();
        if done && self.part_at.is_some() && self.leave_at.is_none() {
            self.part();
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
            self.denied = true;
            return self.leave("trust has changed");
        }
        match policy.decide(self.permit.local(), self.permit.peer().clone(), self.channel) {
            Ok(permit) => self.permit = permit,
            Err(denial) => {
                warn!(
                    stream.id = self.id, peer.domain = %self.permit.peer().domain(),
                    direction = "out", reason = %denial, "stream closed: policy has changed"
                );
                self.denied = true;
                self.leave("policy has changed");
            }
        }
    }

    async fn take(&mut self, step: Result<Option<Step<S2sEvent>>, ConnectionError>) -> State {
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
                let safe = self.held.acknowledged(len);
                self.delivered(&safe);
                State::Running
            }
            Ok(Some(Step::Event(S2sEvent::Stanza(stanza, number)))) => {
                // On the heap, so that an idle stream does not keep the room.
                Box::pin(self.came_back(stanza, number)).await;
                State::Running
            }
            Ok(Some(Step::Event(S2sEvent::Malformed { answer, reason }))) => {
                self.handle.note_error(&reason);
                metrics::counter!("gatehouse_s2s_dropped_total").increment(1);
                debug!(stream.id = self.id, reason, "a stanza was not taken");
                if let Some(answer) = answer {
                    send_back(self.edge, *answer);
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

    /// A stanza of the partner on the stream that we opened (XEP-0288). The machine has checked that
    /// it is from the domain that was proved to be there, for ours.
    async fn came_back(&mut self, stanza: Stanza, number: Option<u64>) {
        let is_ours = match (stanza.from(), stanza.to()) {
            (Some(from), Some(to)) => {
                self.permit.peer().domain().0 == *from.domain()
                    && self.permit.local().0 == *to.domain()
            }
            _ => false,
        };
        if self.denied || !is_ours {
            // Without a receipt: who counts learns that it was not taken.
            metrics::counter!("gatehouse_s2s_dropped_total").increment(1);
            return;
        }
        let receipt = number.map(|number| self.receipts.receipt(number)).unwrap_or_default();
        debug!(
            stanza.id = %stanza.trace(), stream.id = self.id,
            peer.domain = %self.permit.peer().domain(), kind = ?stanza.kind(),
            "a stanza came from the partner, on our own stream"
        );
        self.handle.stanza_in();
        self.note_traffic();
        keep_to_rate(self.edge, &self.permit).await;
        forward(self.edge, &self.permit, stanza, receipt).await;
        self.connection.machine_mut().excuse_silence(now());
    }

    /// All that was sent has been handed to the operating system. If nobody will acknowledge it,
    /// that has to do.
    fn flushed(&mut self) {
        if !self.connection.machine().is_managed() {
            self.held.nobody_counts();
        }
        let safe = self.held.flushed();
        if !safe.is_empty() {
            self.delivered(&safe);
        }
    }

    /// These are safe: their receipts are given back.
    fn delivered(&mut self, safe: &[Waiting]) {
        for _ in safe {
            self.handle.stanza_out();
            self.delivered_any = true;
        }
        self.part_if_done();
        self.note_traffic();
    }

    fn note_traffic(&mut self) {
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

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_net::{BoxedIo, Connection, ConnectionError, Step, now};
use gatehouse_sip::{
    Limits, Message, Method, SipStream, Status, StreamConfig, StreamEnd, StreamEvent,
};
use gatehouse_trunk::sip::NotSent;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, error::TrySendError};
use tracing::{Span, debug, info, warn};

use super::answer::Refused;
use super::inbound;
use super::listed::Listed;
use super::partner::Partner;
use super::shared::SipEdge;

/// Messages that wait for one connection.
const QUEUE_LEN_MAX: usize = 512;
/// Below this nobody looks whether requests under way are too old.
const PENDING_CHECKED_MIN: usize = 64;
/// Requests of ours that one connection waits for an answer to.
const PENDING_MAX: usize = 4096;
/// INVITEs of a partner whose node is remembered, for their CANCEL and their ACK.
const RECENT_MAX: usize = 256;
/// Messages that are written at once: then it is asked whether the partner reads.
const BATCH_MAX: usize = 32;
/// Then the node has given up itself: timer F of what is no INVITE, and timer C of what is.
const ANSWERED_WITHIN: Duration = Duration::from_secs(35);
const INVITE_ANSWERED_WITHIN: Duration = Duration::from_secs(200);
/// So often may a peer that has proved nothing yet be refused before we close.
const UNPROVED_REFUSALS_MAX: u32 = 16;
/// How long a partner may leave our writes unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the answer to what could not be read may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Partners promised no answer to our keep-alives: a broken path shows in our write instead.
const STREAM: StreamConfig = StreamConfig {
    limits: Limits { head_max: 16 * 1024, body_max: 64 * 1024, headers_max: 128 },
    first_message_within: Some(Duration::from_secs(30)),
    ping_after: Some(Duration::from_secs(60)),
    pong_within: None,
    idle_max: Some(Duration::from_secs(15 * 60)),
};

/// The open connections to partners, by number. A number is drawn at random: after a restart none
/// is taken for one from before.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<HashMap<u64, Handle>>);

/// How others reach a connection; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    /// SHA-256 of the certificate at the other end.
    pub(crate) certificate: Option<[u8; 32]>,
    queue: mpsc::Sender<Box<Outgoing>>,
}

/// A message for a partner. Queues hold it boxed: they make room for many at once, and most
/// connections are idle.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) message: Message,
    /// For a request of a node: what to tell it should the connection break.
    pub(crate) owed: Option<Owed>,
    /// For the status, if it had to wait for its turn.
    pub(crate) slowed: Option<Slowed>,
}

/// How a partner that is spared stands when a request leaves that waited.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Slowed {
    /// It gets so many a second, and so many wait.
    To { per_second: f64, waiting: usize },
    /// Nothing waits any more.
    Over,
}

impl Outgoing {
    /// One that goes as it comes.
    pub(crate) fn new(message: Message, owed: Option<Owed>) -> Self {
        Self { message, owed, slowed: None }
    }
}

/// A request of a node that is under way.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) node: Arc<str>,
    /// The request as the node sent it, without its body.
    pub(crate) request: Box<Message>,
}

impl Connections {
    pub(crate) fn get(&self, id: u64) -> Option<Handle> {
        self.0.lock().get(&id).cloned()
    }
}

impl Handle {
    /// Queues a message. Gives it back if the connection is gone or does not keep up.
    pub(crate) fn send(&self, outgoing: Box<Outgoing>) -> Result<(), Box<Outgoing>> {
        self.queue.try_send(outgoing).map_err(TrySendError::into_inner)
    }

    /// True once nothing more can be sent.
    pub(crate) fn is_gone(&self) -> bool {
        self.queue.is_closed()
    }
}

/// One connection to a partner, whoever opened it.
pub(crate) struct PartnerConnection {
    pub(crate) edge: Arc<SipEdge>,
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    pub(crate) partner: Partner,
    pub(crate) listed: Listed,
    queue: mpsc::Receiver<Box<Outgoing>>,
    /// The node that new sessions go to, where the port decides (static PAT).
    pub(crate) node: Option<Arc<str>>,
    /// How often it was refused before it proved anything.
    pub(crate) refusals: u32,
    /// By the branch of our Via and the method: a CANCEL has the branch of its INVITE.
    pending: HashMap<(String, Method), (Instant, Owed)>,
    /// How many there may be before those that nobody waits for any longer are looked for.
    pending_checked_at: usize,
    /// Which node took an INVITE, by the partner's own branch.
    recent: VecDeque<(String, Arc<str>)>,
}

impl PartnerConnection {
    /// A connection that can be reached at once; [`run`](Self::run) it.
    pub(crate) fn new(
        edge: Arc<SipEdge>,
        address: SocketAddr,
        partner: Partner,
        listed: Listed,
    ) -> (Box<Self>, Handle) {
        let (sender, queue) = mpsc::channel(QUEUE_LEN_MAX);
        let id = edge.random.number();
        let handle = Handle { certificate: partner.fingerprint(), queue: sender };
        edge.connections.0.lock().insert(id, handle.clone());
        let connection = Box::new(Self {
            edge,
            id,
            address,
            partner,
            listed,
            queue,
            node: None,
            refusals: 0,
            pending: HashMap::new(),
            pending_checked_at: PENDING_CHECKED_MIN,
            recent: VecDeque::new(),
        });
        (connection, handle)
    }

    /// Carries messages both ways until the connection ends.
    pub(crate) async fn run(mut self: Box<Self>, io: BoxedIo) {
        let mut connection = Connection::new(SipStream::new(STREAM, now()), io, WRITE_TIMEOUT);
        let stop = self.edge.tasks.stop();
        let end = self.carry(&mut connection).await;
        self.edge.connections.0.lock().remove(&self.id);
        match end {
            Ok(end @ (StreamEnd::Framing(_) | StreamEnd::Cut)) => {
                metrics::counter!("gatehouse_sip_framing_errors_total").increment(1);
                if self.edge.peer_warnings.may_warn(self.address.ip(), now()) {
                    warn!(peer.addr = %self.address, reason = %end, "SIP connection ended");
                } else {
                    debug!(peer.addr = %self.address, reason = %end, "SIP connection ended");
                }
            }
            Ok(end) => debug!(peer.addr = %self.address, reason = %end, "SIP connection ended"),
            Err(error) => {
                debug!(peer.addr = %self.address, %error, "SIP connection broke");
            }
        }
        self.settle(stop.is_cancelled());
    }

    async fn carry(
        &mut self,
        connection: &mut Connection<SipStream>,
    ) -> Result<StreamEnd, ConnectionError> {
        let stop = self.edge.tasks.stop();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    while let Ok(outgoing) = self.queue.try_recv() {
                        self.write(connection.machine_mut(), outgoing);
                    }
                    connection.flush().await?;
                    return Ok(StreamEnd::Stopped);
                }
                step = connection.next() => match step? {
                    Step::Event(StreamEvent::Message(message)) => {
                        self.listed.received();
                        let answer = Box::pin(inbound::take(self, message)).await;
                        if let Some(answer) = answer {
                            self.listed.sent();
                            connection.machine_mut().send(&answer, now());
                        }
                        if self.refusals >= UNPROVED_REFUSALS_MAX {
                            let _ = tokio::time::timeout(LAST_WORDS, connection.flush()).await;
                            return Ok(StreamEnd::Stopped);
                        }
                    }
                    Step::Event(StreamEvent::Ended(end)) => {
                        // An answer to what could not be read still leaves, if it can.
                        let _ = tokio::time::timeout(LAST_WORDS, connection.flush()).await;
                        return Ok(end);
                    }
                    Step::Upgrade => {}
                    Step::Closed => return Ok(StreamEnd::Closed),
                },
                outgoing = self.queue.recv(), if !connection.is_congested() => {
                    let Some(outgoing) = outgoing else { return Ok(StreamEnd::Stopped) };
                    self.write(connection.machine_mut(), outgoing);
                    // One write for what waits.
                    for _ in 1..BATCH_MAX {
                        let Ok(outgoing) = self.queue.try_recv() else { break };
                        self.write(connection.machine_mut(), outgoing);
                    }
                }
            }
        }
    }

    fn write(&mut self, stream: &mut SipStream, outgoing: Box<Outgoing>) {
        let Outgoing { message, owed, slowed } = *outgoing;
        if let Some(slowed) = slowed {
            self.listed.slowed(slowed);
        }
        if let (Some(owed), Some(key)) = (owed, request_key(&message)) {
            self.forget_old();
            if self.pending.len() >= PENDING_MAX {
                let refused = Refused::new(503, "busy", "too many requests under way");
                return self.edge.tell_node(&owed, &refused.retry_after(5));
            }
            let is_invite = key.1 == Method::Invite;
            let within = if is_invite { INVITE_ANSWERED_WITHIN } else { ANSWERED_WITHIN };
            self.pending.insert(key, (now() + within, owed));
        }
        self.listed.sent();
        stream.send(&message, now());
    }

    /// A partner that never answers must not fill the table.
    fn forget_old(&mut self) {
        if self.pending.len() >= self.pending_checked_at {
            let now = now();
            self.pending.retain(|_, (until, _)| *until > now);
            self.pending_checked_at =
                (self.pending.len() * 2).clamp(PENDING_CHECKED_MIN, PENDING_MAX);
        }
    }

    /// True if the request of this response is under way. After a final one it is no longer.
    pub(crate) fn settled(&mut self, response: &Message) -> bool {
        let Some(key) = request_key(response) else { return false };
        if response.status().is_some_and(Status::is_final) {
            self.pending.remove(&key).is_some()
        } else {
            self.pending.contains_key(&key)
        }
    }

    /// Remembers which node took an INVITE.
    pub(crate) fn remember(&mut self, branch: String, node: Arc<str>) {
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((branch, node));
    }

    /// The node that took the INVITE of this branch.
    pub(crate) fn recall(&self, branch: &str) -> Option<Arc<str>> {
        self.recent
            .iter()
            .rev()
            .find(|(known, _)| known == branch)
            .map(|(_, node)| Arc::clone(node))
    }

    /// Tells the nodes about the requests that will have no answer. When we stop, what was written
    /// may be answered yet, through another edge: then nobody is told.
    fn settle(&mut self, stopping: bool) {
        let refused = Refused::new(503, "broken", "the connection to the partner broke");
        self.queue.close();
        while let Ok(outgoing) = self.queue.try_recv() {
            if let Some(owed) = outgoing.owed {
                self.edge.tell_node(&owed, &refused);
            }
        }
        let count = self.pending.len();
        if stopping || count == 0 {
            return;
        }
        for (_, owed) in std::mem::take(&mut self.pending).into_values() {
            self.edge.tell_node(&owed, &refused);
        }
        info!(peer.addr = %self.address, count, "requests under way were answered 503");
    }
}

impl SipEdge {
    /// Answers a node in the partner's place. Never waits, because who reads what the nodes send must
    /// not wait for them: what finds no room waits by itself.
    pub(crate) fn tell_node(self: &Arc<Self>, owed: &Owed, refused: &Refused) {
        let tag = self.random.id();
        let Some(answer) = refused.answer(&owed.request, &tag) else { return };
        let Err(back) = self.nodes.send(&owed.node, answer) else { return };
        let place = Arc::clone(&self.late_answers).try_acquire_owned();
        let (true, Ok(place)) = (back.is_full(), place) else {
            debug!(error = %back, "a node does not hear that its request failed");
            return;
        };
        let (edge, node) = (Arc::clone(self), Arc::clone(&owed.node));
        self.tasks.spawn(Span::current(), async move {
            let stop = edge.tasks.stop();
            let sending = edge.nodes.send_within(&node, *back.message, inbound::NODE_PATIENCE);
            if let Some(Err(error)) = stop.run_until_cancelled(sending).await {
                edge.node_is_stuck(&node, &error);
            }
            drop(place);
        });
    }

    /// Notes that an answer for a node was dropped.
    pub(crate) fn node_is_stuck(&self, node: &str, error: &NotSent) {
        metrics::counter!("gatehouse_sip_answers_dropped_total").increment(1);
        if error.is_full() && self.node_warnings.may_warn(Arc::from(node), now()) {
            warn!(
                peer.node = node,
                "dropped: answers of SIP partners, because the core has taken nothing for ten seconds; see whether it is overloaded"
            );
        }
    }
}

/// What a request and its responses have in common.
fn request_key(message: &Message) -> Option<(String, Method)> {
    Some((top_branch(message)?, message.cseq().ok()?.method))
}

/// The branch of the top Via.
pub(crate) fn top_branch(message: &Message) -> Option<String> {
    message.top_via().ok()??.branch().map(str::to_owned)
}

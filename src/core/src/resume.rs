//! Sessions that outlive their connection (XEP-0198): what is kept, for how long, and how a client
//! gets it back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_net::now;
use gatehouse_store::AccountVersion;
use gatehouse_telemetry::{StreamHandle, StreamState};
use gatehouse_types::Jid;
use gatehouse_xmpp::sm::{AckQueue, HandledCountTooHigh, Window};
use gatehouse_xmpp::{StreamCondition, StreamError};
use tokio::sync::oneshot;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::account::Session;
use crate::acknowledging::Acknowledging;
use crate::away::{AWAY_BYTES_MAX, AWAY_SESSIONS_MAX};
use crate::backlog::Backlog;
use crate::held::note_not_held;
use crate::management::unguessable_name;
use crate::outbox::{OutboxReceiver, Outgoing};
use crate::router::Router;

/// How long a client may be away, unless it wants less.
pub(crate) const AWAY_MAX: Duration = Duration::from_secs(300);
/// How much may be under way to a client that acknowledges it.
pub(crate) const WINDOW: Window = Window { len_max: 512, bytes_max: 1 << 20 };
/// Stanzas that go into the store at a time.
const BATCH_MAX: usize = 256;
/// How long whoever has a session may take to hand it over: it may be working on a stanza.
const HAND_OVER_MAX: Duration = Duration::from_secs(10);

/// What a session has beside its connection.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) session: Arc<Session>,
    pub(crate) outbox: OutboxReceiver,
    /// Nobody looks at the client.
    pub(crate) inactive: bool,
    pub(crate) backlog: Backlog,
    pub(crate) managed: Option<Managed>,
}

/// What a session has whose client counts.
#[derive(Debug, Default)]
pub(crate) struct Managed {
    /// Sent, and not known to have arrived.
    pub(crate) unacked: AckQueue<Outgoing>,
    /// The client was asked how much it has, and did not answer.
    pub(crate) asked: bool,
    /// What it sent is acknowledged once it is safe.
    pub(crate) acknowledging: Acknowledging,
    /// For how long it may be away; `None` if it may not.
    pub(crate) away_max: Option<Duration>,
}

/// Where a session is to be handed over to.
pub(crate) type HandOver = oneshot::Sender<Box<Bound>>;

impl Bound {
    pub(crate) fn new(session: Arc<Session>, outbox: OutboxReceiver) -> Self {
        let backlog = Backlog::default();
        Self { session, outbox, inactive: false, backlog, managed: None }
    }

    /// From here on the client counts; with `resume` it may come back within `seconds`: its name, and
    /// how many it gets.
    pub(crate) fn manage(
        &mut self,
        (resume, seconds): (bool, Option<u64>),
        acknowledging: Acknowledging,
    ) -> Option<(String, u64)> {
        let wanted = seconds.map_or(AWAY_MAX, Duration::from_secs);
        let name = resume.then(unguessable_name).flatten();
        let away_max = name.is_some().then_some(wanted.min(AWAY_MAX));
        self.managed = Some(Managed { away_max, acknowledging, ..Managed::default() });
        self.session.with(|state| state.name.clone_from(&name));
        name.zip(away_max.map(|it| it.as_secs()))
    }

    /// True if more may be under way.
    pub(crate) fn has_room(&self) -> bool {
        self.managed.as_ref().is_none_or(|managed| managed.unacked.has_room(WINDOW))
    }

    /// About how much memory what waits for the client takes.
    fn weight(&self) -> usize {
        let unacked = self.managed.as_ref().map_or(0, |managed| managed.unacked.bytes());
        self.backlog.weight() + unacked
    }

    /// How long it may be away, if it may.
    pub(crate) fn away_max(&self) -> Option<Duration> {
        self.managed.as_ref().and_then(|managed| managed.away_max)
    }

    /// The client has so many. Gives the last stored message among those that it has now.
    pub(crate) fn acknowledge(&mut self, h: u32) -> Result<Option<i64>, HandledCountTooHigh> {
        let Some(managed) = &mut self.managed else { return Ok(None) };
        let mut offline = None;
        for item in managed.unacked.acknowledge(h)? {
            offline = offline.max(item.offline);
            item.copies.written();
        }
        managed.asked = false;
        self.session.outbox.set_unwritten(!managed.unacked.is_empty());
        Ok(offline)
    }
}

/// What a session did that waits for its client.
enum Waited {
    Long,
    Ended,
    HandOver(HandOver),
    Came(Vec<Outgoing>),
}

impl Router {
    /// Keeps a session whose connection broke until its client is back; then gives what it has to
    /// whoever asked for it. Otherwise ends it.
    pub(crate) async fn hibernate(
        &self,
        mut bound: Box<Bound>,
        (away_max, row): (Duration, StreamHandle),
        stop: CancellationToken,
    ) {
        let deadline = now() + away_max;
        let since_ms = self.clock.now_ms();
        bound.inactive = false;
        let Some(mut place) = self.accounts.away.take(AWAY_SESSIONS_MAX) else {
            info!(session = %bound.session.jid, "too many clients are away: one more session ends");
            return self.give_up(*bound, Some(since_ms), []).await;
        };
        // The status goes on to show it.
        row.update(|row| row.state = StreamState::Away);
        bound.session.set_away(true);
        metrics::counter!("gatehouse_c2s_hibernated_total").increment(1);
        debug!(session = %bound.session.jid, "a client is away and may come back");
        // Its connection may have been dead for some time; from here on nothing is lost with us.
        let account = bound.session.account.jid.clone();
        let unacked = bound.managed.iter().flat_map(|managed| managed.unacked.iter());
        let sent = unacked.chain(bound.backlog.iter()).collect::<Vec<_>>();
        let mut held = self.hold(&account, sent, since_ms).await;
        loop {
            if let Err(failure) = held {
                note_not_held(&failure);
                break;
            }
            if !place.weigh(bound.weight(), AWAY_BYTES_MAX) {
                info!(session = %bound.session.jid, "too much waits for clients that are away: one more session ends");
                break;
            }
            match waited(&mut bound, deadline, &stop).await {
                Waited::Came(items) => {
                    let at_ms = self.clock.now_ms();
                    held = self.hold(&account, &items, at_ms).await;
                    let mut kept = true;
                    for item in items {
                        kept &= bound.backlog.keep(item, at_ms);
                    }
                    if !kept {
                        debug!("too much waits for a client that is away");
                        break;
                    }
                }
                Waited::HandOver(to) => match to.send(bound) {
                    Ok(()) => return,
                    // Whoever asked is gone again.
                    Err(back) => bound = back,
                },
                Waited::Ended => break,
                Waited::Long => {
                    debug!(session = %bound.session.jid, "a client did not come back in time");
                    metrics::counter!("gatehouse_c2s_hibernated_expired_total").increment(1);
                    break;
                }
            }
        }
        bound.session.remember_end(bound.managed.as_ref().map_or(0, |it| it.acknowledging.taken()));
        self.give_up(*bound, Some(since_ms), []).await;
    }

    /// Ends a session; what its client did not get goes elsewhere. It was away since `since_ms`.
    pub(crate) async fn give_up(
        &self,
        bound: Bound,
        since_ms: Option<i64>,
        unwritten: impl IntoIterator<Item = Outgoing>,
    ) {
        let Bound { session, outbox, mut backlog, managed, .. } = bound;
        let unacked = managed.into_iter().flat_map(|managed| managed.unacked.into_items());
        let sent = unwritten.into_iter().chain(unacked).map(|item| (item, since_ms));
        let held = backlog.take_all().map(|held| (held.item, held.at_ms));
        self.unbind(&session, outbox, sent.chain(held)).await;
    }

    /// Takes over the session of `account` that is called `id`, wherever it is.
    ///
    /// # Errors
    /// There is no such session (XEP-0198, section 5); how much of it was handled, if it ended not
    /// long ago.
    pub(crate) async fn take_over(
        &self,
        account: &Jid,
        version: AccountVersion,
        id: &str,
    ) -> Result<Box<Bound>, Option<u32>> {
        let account = self.accounts.known(account).ok_or(None)?;
        let session = account.sessions().into_iter().find(|session| session.is_called(id));
        let session = session.ok_or_else(|| account.ended.handled(version, id))?;
        // With the password of before nobody goes on.
        if session.version != version {
            session.outbox.end(StreamError::new(
                StreamCondition::NotAuthorized,
                "the account is gone or has a new password",
            ));
            return Err(None);
        }
        let (give, mut take) = oneshot::channel();
        session.outbox.hand_over(give).ok_or(None)?;
        let taken = time::timeout(HAND_OVER_MAX, &mut take).await;
        let bound = match taken {
            Ok(given) => given.ok(),
            Err(_elapsed) => {
                // It may have been given at this very moment.
                take.close();
                take.try_recv().ok()
            }
        };
        let bound = bound.ok_or_else(|| account.ended.handled(version, id))?;
        bound.session.set_away(false);
        Ok(bound)
    }
}

async fn waited(bound: &mut Bound, deadline: Instant, stop: &CancellationToken) -> Waited {
    let OutboxReceiver { queue, kicked, wanted } = &mut bound.outbox;
    tokio::select! {
        biased;
        () = stop.cancelled() => Waited::Ended,
        _ = kicked.recv() => Waited::Ended,
        Some(to) = wanted.recv() => Waited::HandOver(to),
        Some(item) = queue.recv() => {
            let more = std::iter::from_fn(|| queue.try_recv());
            Waited::Came(std::iter::once(item).chain(more).take(BATCH_MAX).collect())
        }
        () = time::sleep_until(deadline.into()) => Waited::Long,
    }
}

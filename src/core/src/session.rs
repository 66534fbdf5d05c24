//! One client's connection: its machine, its outbox, its end.

use std::collections::VecDeque;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_identity::TlsVersion;
use gatehouse_net::{Connection, ConnectionError, Step, now};
use gatehouse_store::{AccountVersion, StoredKeys};
use gatehouse_telemetry::{StreamHandle, StreamState};
use gatehouse_types::{Chain, Jid, Machine as _};
use gatehouse_xmpp::sasl::{ScramHash, ScramKeys};
use gatehouse_xmpp::stream::CloseReason;
use gatehouse_xmpp::{C2sEvent, C2sServer, Stanza, StanzaCondition, StreamCondition, StreamError};
use tokio::time;
use tracing::{debug, error, info, info_span};

use crate::listener::ClientPorts;
use crate::login::Stranger;
use crate::management::unguessable_name;
use crate::outbox::{Outgoing, outbox};
use crate::resume::{Bound, HandOver};
use crate::sweep::Sweep;

/// How long a client may take to read our last words. A program that stops has seconds, in which what
/// the client did not read must be stored too.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// How long what a client sent may take once the program stops.
const WORK_MAX: Duration = Duration::from_secs(3);

/// A connected client, bound or not.
pub(crate) struct Client {
    pub(crate) ports: Arc<ClientPorts>,
    pub(crate) connection: Connection<C2sServer>,
    pub(crate) row: StreamHandle,
    source: IpAddr,
    /// Until it has logged in.
    stranger: Option<Stranger>,
    pub(crate) account: Option<Jid>,
    /// Of the account that was last looked up: the one that a log-in is checked against.
    pub(crate) version: Option<AccountVersion>,
    /// The keys were not read: that the log-in fails says nothing about the client.
    unchecked: bool,
    pub(crate) bound: Option<Box<Bound>>,
    /// Given to the machine, and not yet known to be written; oldest first.
    pub(crate) unwritten: VecDeque<Outgoing>,
    /// Looks after what stays unread.
    pub(crate) sweep: Sweep,
    /// Stored messages up to this one were written.
    pub(crate) offline_written: Option<i64>,
    /// It went without a word: what was on its way is lost.
    vanished: bool,
    /// It was not heard for too long; it may be there all the same.
    silent: bool,
    /// Its stream is over, and neither side can go on with it.
    over: bool,
}

/// What happened to a connection that was waited for.
enum Happened {
    Stop,
    TooLate,
    Unread,
    Kicked(StreamError),
    Wanted(HandOver),
    ToWrite(Outgoing),
    Step(Result<Option<Step<C2sEvent>>, ConnectionError>),
}

impl Client {
    pub(crate) fn new(
        ports: Arc<ClientPorts>,
        connection: Connection<C2sServer>,
        row: StreamHandle,
        source: IpAddr,
        stranger: Stranger,
    ) -> Self {
        Self {
            ports,
            connection,
            row,
            source,
            stranger: Some(stranger),
            account: None,
            version: None,
            unchecked: false,
            bound: None,
            unwritten: VecDeque::new(),
            sweep: Sweep::default(),
            offline_written: None,
            vanished: false,
            silent: false,
            over: false,
        }
    }

    /// Serves the client until one side leaves.
    pub(crate) async fn run(mut self: Box<Self>) {
        let ended = self.converse().await;
        if let Err(failure) = &ended {
            debug!(error = %Chain(failure), "a client's connection ended");
        }
        let Some(mut bound) = self.bound.take() else { return };
        let router = self.ports.router.clone();
        if let Some(id) = self.offline_written.take() {
            router.offline_written(&bound.session, id).await;
        }
        let broken = self.vanished || self.silent || ended.is_err();
        let may_come_back = broken && !self.over && !bound.session.outbox.is_gone();
        if let (true, Some(managed)) = (may_come_back, &mut bound.managed)
            && let Some(away_max) = managed.away_max
        {
            managed.handled = self.connection.machine().handled();
            // What was written before the stream was managed is not asked for again.
            let stop = self.ports.tasks.stop();
            let wait = async move { router.hibernate(bound, away_max, stop).await };
            return self.ports.tasks.spawn(info_span!("hibernation"), wait);
        }
        let since_ms = bound.managed.is_some().then(|| router.clock.now_ms());
        router.give_up(*bound, since_ms, self.unwritten).await;
    }

    async fn converse(&mut self) -> Result<(), ConnectionError> {
        let stop = self.ports.tasks.stop();
        let (mut stopping, mut closing) = (false, false);
        let mut farewell = None;
        loop {
            if self.offline_written.is_some() {
                Box::pin(self.forget_delivered()).await?;
            }
            if closing || self.connection.machine().is_closed() {
                farewell.get_or_insert_with(|| now() + FAREWELL_MAX);
            }
            let open = !closing && !self.connection.machine().is_closed();
            let has_room = self.bound.as_ref().is_none_or(|bound| bound.has_room());
            let can_write = open && has_room && !self.connection.is_congested();
            let step = async {
                if self.unwritten.is_empty() {
                    self.connection.next().await.map(Some)
                } else {
                    self.connection.next_or_flushed().await
                }
            };
            let happened = tokio::select! {
                () = until(farewell) => Happened::TooLate,
                () = stop.cancelled(), if !stopping => Happened::Stop,
                happened = told(&mut self.bound, can_write), if open => happened,
                () = self.sweep.due() => Happened::Unread,
                step = step => Happened::Step(step),
            };
            match happened {
                Happened::Stop => {
                    (stopping, closing, self.over) = (true, true, true);
                    self.connection.machine_mut().handle_shutdown(now());
                }
                Happened::Wanted(to) => {
                    if self.hand_over(to) {
                        closing = true;
                        let text = "the session goes on over another connection";
                        let error = StreamError::new(StreamCondition::Conflict, text);
                        self.connection.machine_mut().close_with(error, now());
                    }
                }
                Happened::Kicked(error) => {
                    (closing, self.over) = (true, true);
                    info!(%error, "ending a client's stream");
                    if self.connection.is_congested() {
                        // It would not read the farewell either.
                        return Ok(());
                    }
                    self.connection.machine_mut().close_with(error, now());
                }
                Happened::TooLate => {
                    debug!("a client did not read the farewell");
                    if self.connection.is_flushed() {
                        self.settle();
                    }
                    return Ok(());
                }
                Happened::ToWrite(item) => self.write(item),
                Happened::Unread => Box::pin(self.hold_unread()).await?,
                Happened::Step(step) => match step? {
                    None => self.settle(),
                    Some(Step::Event(event)) => {
                        Box::pin(self.handle(event)).await?;
                        if self.vanished {
                            return Ok(());
                        }
                    }
                    Some(Step::Upgrade) => {
                        if !Box::pin(self.upgrade()).await {
                            return Ok(());
                        }
                    }
                    Some(Step::Closed) => {
                        // All was written before the end, farewell included.
                        self.settle();
                        return Ok(());
                    }
                },
            }
        }
    }

    /// Gives a stanza to the machine.
    pub(crate) fn put(&mut self, item: Outgoing) {
        let stanza = &item.stanza;
        debug!(stanza.id = %stanza.trace(), kind = ?stanza.kind(), "a stanza goes to a client");
        let machine = self.connection.machine_mut();
        let bytes = machine.send(stanza, now());
        self.row.stanza_out();
        let Some(bound) = &mut self.bound else { return };
        bound.session.outbox.set_unwritten(true);
        self.sweep.sent();
        let Some(managed) = &mut bound.managed else { return self.unwritten.push_back(item) };
        managed.unacked.push(item, bytes);
        if !managed.asked {
            managed.asked = true;
            machine.request_ack(now());
        }
    }

    /// Gives a stanza to the machine, unless it can wait until somebody looks at the client.
    fn write(&mut self, item: Outgoing) {
        match &mut self.bound {
            Some(bound) if bound.inactive => {
                for due in bound.backlog.filter(item) {
                    self.put(due);
                }
            }
            _ => self.put(item),
        }
    }

    /// Everything given to the machine has been handed to the operating system.
    pub(crate) fn settle(&mut self) {
        for item in self.unwritten.drain(..) {
            self.offline_written = self.offline_written.max(item.offline);
            item.copies.written();
        }
        if let Some(bound) = &self.bound {
            let unacked = bound.managed.as_ref().is_some_and(|it| !it.unacked.is_empty());
            bound.session.outbox.set_unwritten(unacked);
        }
    }

    /// Removes stored messages that were written; more may be written while one lot is removed.
    async fn forget_delivered(&mut self) -> Result<(), ConnectionError> {
        while let (Some(id), Some(bound)) = (self.offline_written, &self.bound) {
            self.offline_written = None;
            let (router, session) = (self.ports.router.clone(), Arc::clone(&bound.session));
            self.while_writing(async move { router.offline_written(&session, id).await }).await?;
        }
        Ok(())
    }

    async fn handle(&mut self, event: C2sEvent) -> Result<(), ConnectionError> {
        match event {
            C2sEvent::Credentials { account } => self.credentials(&account).await,
            C2sEvent::AuthenticationFailed { account, condition, mechanism } => {
                if !std::mem::take(&mut self.unchecked) {
                    self.ports.failed_logins.note(self.source, now());
                }
                let account = account.map(|account| account.to_string());
                info!(account, condition, mechanism, "a log-in failed");
            }
            C2sEvent::Authenticated { account, mechanism } => {
                info!(%account, mechanism, "a client logged in");
                self.row.update(|row| {
                    row.local = account.domain().to_string();
                    row.peer = account.to_string();
                    row.authentication = mechanism;
                });
                self.account = Some(account);
                self.stranger = None;
            }
            C2sEvent::Bind { resource } => self.bind(resource).await,
            C2sEvent::Stanza(stanza) => return self.route(stanza).await,
            C2sEvent::Reply(stanza) => self.write(Outgoing::new(stanza)),
            C2sEvent::EnableManagement { resume, seconds } => self.manage(resume, seconds),
            C2sEvent::Resume { id, h } => self.resume(&id, h).await,
            C2sEvent::AckRequested => self.connection.machine_mut().acknowledge(now()),
            C2sEvent::Acked { h } => self.acked(h),
            C2sEvent::ClientState { active } => self.look(active),
            C2sEvent::Closed(reason) => {
                self.vanished = matches!(reason, CloseReason::Disconnected);
                self.silent = matches!(reason, CloseReason::Idle);
                self.over |= !self.vanished && !self.silent;
                debug!(?reason, "a client's stream closed");
            }
        }
        Ok(())
    }

    async fn credentials(&mut self, account: &Jid) {
        // Whoever fails often waits here. The same for accounts that exist and that do not.
        let Some(wait) = self.ports.failed_logins.wait(self.source, now()) else {
            self.unchecked = true;
            return self.connection.machine_mut().credentials_unavailable(now());
        };
        let stop = self.ports.tasks.stop();
        stop.run_until_cancelled(time::sleep(wait)).await;
        let found = match self.ports.router.store.credentials(account).await {
            Ok(found) => found,
            Err(failure) => {
                error!(error = %Chain(&failure), "cannot read credentials; the log-in fails");
                self.unchecked = true;
                return self.connection.machine_mut().credentials_unavailable(now());
            }
        };
        self.version = found.as_ref().map(|found| found.version);
        let keys = found.into_iter().flat_map(|found| found.keys).filter_map(scram_keys);
        self.connection.machine_mut().credentials(keys.collect(), now());
    }

    async fn bind(&mut self, resource: Option<String>) {
        let (Some(account), Some(version)) = (self.account.clone(), self.version) else {
            let error = StreamError::new(StreamCondition::NotAuthorized, "log in first");
            return self.connection.machine_mut().close_with(error, now());
        };
        let Some(resource) = resource.or_else(unguessable_name) else {
            error!("no randomness: a client could not be given a resource");
            let error = StreamError::from(StreamCondition::InternalServerError);
            return self.connection.machine_mut().close_with(error, now());
        };
        let (sender, receiver) = outbox(self.ports.config.limits.send_queue_len_max);
        match self.ports.router.bind(&account, version, &resource, sender).await {
            Ok(session) => {
                let jid = session.jid.clone();
                self.row.update(|row| {
                    row.peer = jid.to_string();
                    row.state = StreamState::Open;
                });
                self.bound = Some(Box::new(Bound::new(session, receiver)));
                self.connection.machine_mut().bind(jid, now());
            }
            Err(refusal) => {
                let (condition, text): (StanzaCondition, _) = (refusal.condition, refusal.text);
                self.connection.machine_mut().refuse_bind(condition, &text, now());
            }
        }
    }

    async fn route(&mut self, stanza: Stanza) -> Result<(), ConnectionError> {
        self.row.stanza_in();
        debug!(stanza.id = %stanza.trace(), kind = ?stanza.kind(), "a stanza came from a client");
        let Some(bound) = &self.bound else { return Ok(()) };
        let (router, session) = (self.ports.router.clone(), Arc::clone(&bound.session));
        // The next stanza is not read before this one is safe.
        self.while_writing(async move { router.take_from_client(&session, stanza).await }).await
    }

    /// Does `work` while the outbox goes on being written: the work may wait for room in it.
    pub(crate) async fn while_writing(
        &mut self,
        work: impl Future<Output = ()> + Send,
    ) -> Result<(), ConnectionError> {
        let mut work = pin!(work);
        let mut unflushed = true;
        let mut broken = None;
        let closed = self.connection.machine().is_closed();
        // Who may come back gets the answers then.
        let may_come_back = self.bound.as_ref().is_some_and(|it| it.away_max().is_some());
        if closed
            && !may_come_back
            && let Some(bound) = &self.bound
        {
            // These are its last words; nobody hears the answers.
            bound.session.outbox.close();
        }
        let stop = self.ports.tasks.stop();
        let mut give_up = None;
        loop {
            // By its deadlines the machine may close here too.
            let takes = !self.connection.machine().is_closed() && !self.connection.is_congested();
            let has_room = self.bound.as_ref().is_some_and(|bound| bound.has_room());
            let can_write = takes && has_room && broken.is_none();
            let keeps = may_come_back && (closed || broken.is_some());
            let flushing = broken.is_none() && unflushed;
            tokio::select! {
                () = &mut work => break,
                () = stop.cancelled(), if give_up.is_none() => {
                    give_up = Some(now() + WORK_MAX);
                }
                () = until(give_up) => {
                    info!("stopping; what a client sent last is given up");
                    break;
                }
                Some(item) = next_item(&mut self.bound), if can_write || keeps => {
                    if !keeps {
                        self.write(item);
                        unflushed = true;
                    } else if let Some(bound) = &mut self.bound
                        && !bound.backlog.keep(item, self.ports.router.clock.now_ms())
                    {
                        bound.session.outbox.close();
                    }
                }
                flushed = self.connection.flush(), if flushing => {
                    unflushed = false;
                    match flushed {
                        // After its end it may have vanished; then this was not read.
                        Ok(()) if closed => {}
                        Ok(()) => self.settle(),
                        Err(failure) => {
                            // The work goes on to its end, without this client.
                            if !may_come_back && let Some(bound) = &self.bound {
                                bound.session.outbox.close();
                            }
                            broken = Some(failure);
                        }
                    }
                }
            }
        }
        broken.map_or(Ok(()), Err)
    }

    /// STARTTLS. False if the client is not worth going on with.
    async fn upgrade(&mut self) -> bool {
        let Some(io) = self.connection.take_io() else { return false };
        let domain = self.connection.machine().requested_domain().map(|domain| domain.0.clone());
        let stop = self.ports.tasks.stop();
        let limit = self.ports.config.limits.setup_timeout;
        let handshake = time::timeout(limit, self.ports.starttls.accept(io, domain.as_ref()));
        match stop.run_until_cancelled(handshake).await {
            Some(Ok(Ok((io, facts)))) => {
                self.row.update(|row| version_name(facts.version).clone_into(&mut row.tls));
                self.connection.put_io(Box::new(io));
                self.connection.machine_mut().handle_tls(facts, now());
                true
            }
            Some(Ok(Err(failure))) => {
                debug!(error = %Chain(&failure), "a client's TLS handshake failed");
                false
            }
            Some(Err(_)) | None => false,
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn next_item(bound: &mut Option<Box<Bound>>) -> Option<Outgoing> {
    bound.as_mut()?.outbox.queue.recv().await
}

/// What the rest of the node wants of this client.
async fn told(bound: &mut Option<Box<Bound>>, can_write: bool) -> Happened {
    let Some(Bound { outbox, .. }) = bound.as_deref_mut() else {
        return std::future::pending().await;
    };
    tokio::select! {
        Some(error) = outbox.kicked.recv() => Happened::Kicked(error),
        Some(to) = outbox.wanted.recv() => Happened::Wanted(to),
        Some(item) = outbox.queue.recv(), if can_write => Happened::ToWrite(item),
        else => std::future::pending().await,
    }
}

/// A TLS version as the status shows it.
pub(crate) fn version_name(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::Tls12 => "TLSv1.2",
        TlsVersion::Tls13 => "TLSv1.3",
    }
}

fn scram_keys(stored: StoredKeys) -> Option<ScramKeys> {
    let hash = match stored.mechanism.as_str() {
        "SCRAM-SHA-1" => ScramHash::Sha1,
        "SCRAM-SHA-256" => ScramHash::Sha256,
        _ => return None,
    };
    Some(ScramKeys {
        hash,
        salt: stored.salt,
        iterations: stored.iterations,
        stored_key: stored.stored_key,
        server_key: stored.server_key,
    })
}

//! One client's connection: its machine, its outbox, its end.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse_identity::TlsVersion;
use gatehouse_net::{Connection, ConnectionError, Step, now};
use gatehouse_store::{AccountVersion, FastToken};
use gatehouse_telemetry::StreamHandle;
use gatehouse_types::{Chain, Jid, Machine as _};
use gatehouse_xmpp::stream::CloseReason;
use gatehouse_xmpp::{C2sEvent, C2sServer, Stanza, StreamCondition, StreamError};
use tokio::time;
use tracing::{debug, info, info_span};

use crate::listener::ClientPorts;
use crate::login::Stranger;
use crate::outbox::{Outgoing, Owed};
use crate::resume::{Bound, HandOver};
use crate::sweep::Sweep;

/// How long a client may take to read our last words. A program that stops has seconds, in which what
/// the client did not read must be stored too.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Messages of a client to the SIP gateway that are stored together, if it has sent so many: no more are
/// here than came with one read.
const TOGETHER_MAX: usize = 64;

/// A connected client, bound or not.
pub(crate) struct Client {
    pub(crate) ports: Arc<ClientPorts>,
    pub(crate) connection: Connection<C2sServer>,
    pub(crate) row: StreamHandle,
    pub(crate) source: IpAddr,
    /// Until it has logged in.
    stranger: Option<Stranger>,
    pub(crate) account: Option<Jid>,
    /// Of the account that was last looked up: the one that a log-in is checked against.
    pub(crate) version: Option<AccountVersion>,
    /// The keys were not read: that the log-in fails says nothing about the client.
    pub(crate) unchecked: bool,
    /// Of the installation that was last looked up.
    pub(crate) tokens: Vec<FastToken>,
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
    Safe(u32),
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
            tokens: Vec::new(),
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
            Box::pin(router.offline_written(&bound.session, id)).await;
        }
        let broken = self.vanished || self.silent || ended.is_err();
        let may_come_back = broken && !self.over && !bound.session.outbox.is_gone();
        if let (true, Some(managed)) = (may_come_back, &mut bound.managed)
            && let Some(away_max) = managed.away_max
        {
            managed.acknowledging.go_on(self.connection.machine().taken());
            self.keep_unwritten(&mut bound);
            let stop = self.ports.tasks.stop();
            let (tasks, row) = (self.ports.tasks.clone(), self.row);
            let wait = async move { router.hibernate(bound, (away_max, row), stop).await };
            return tasks.spawn(info_span!("hibernation"), wait);
        }
        let since_ms = bound.managed.is_some().then(|| router.clock.now_ms());
        // On the heap, so that a session does not keep the room for its end.
        Box::pin(router.give_up(*bound, since_ms, self.unwritten)).await;
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
                    self.acknowledge_last();
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
                    self.acknowledge_last();
                    self.connection.machine_mut().close_with(error, now());
                }
                Happened::TooLate => {
                    debug!("a client did not read the farewell");
                    if self.connection.is_flushed() {
                        self.settle();
                    }
                    return Ok(());
                }
                Happened::Safe(h) => self.connection.machine_mut().acknowledge(h, now()),
                Happened::ToWrite(item) => self.write_batch(item),
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

    async fn handle(&mut self, event: C2sEvent) -> Result<(), ConnectionError> {
        match event {
            C2sEvent::Credentials { account } => self.credentials(&account).await,
            C2sEvent::Token { account, client, mechanism } => {
                self.tokens(&account, &client, mechanism).await;
            }
            C2sEvent::Wishes(wishes) => self.fulfil(*wishes).await,
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
            C2sEvent::AckRequested => self.ack_requested(),
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

    /// Notes a stanza that was just reported; what is owed for it, if the client counts.
    fn note_in(&mut self, stanza: &Stanza) -> Owed {
        self.row.stanza_in();
        debug!(stanza.id = %stanza.trace(), kind = ?stanza.kind(), "a stanza came from a client");
        self.owed()
    }

    async fn route(&mut self, stanza: Stanza) -> Result<(), ConnectionError> {
        let mut owed = self.note_in(&stanza);
        let Some(bound) = &self.bound else { return Ok(()) };
        let (router, session) = (self.ports.router.clone(), Arc::clone(&bound.session));
        // The next stanza is not read before this one is in its place.
        if !router.is_message_for_gateway(&stanza) {
            let unread = self.ports.unread.clone();
            self.while_writing(async move {
                router.take_from_client(&session, stanza, owed.clone()).await;
                // What goes elsewhere has other keepers, which let go in their own time.
                if owed.stanza().is_some() {
                    unread.watch(owed).await;
                }
            })
            .await?;
            return self.wait_for_safety().await;
        }
        // Nor is anything read behind these: they wait for one commit.
        let (mut stanza, mut messages) = (Some(stanza), Vec::new());
        while let Some(message) = stanza.take() {
            messages.push((message, owed));
            if messages.len() >= TOGETHER_MAX {
                break;
            }
            let machine = self.connection.machine_mut();
            stanza = machine.poll_stanza(|next| router.is_message_for_gateway(next));
            owed = stanza.as_ref().map_or_else(Owed::default, |next| self.note_in(next));
        }
        let work = async move { router.take_messages_from_client(&session, messages).await };
        self.while_writing(work).await?;
        self.wait_for_safety().await
    }
}

pub(crate) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// What the rest of the node wants of this client.
async fn told(bound: &mut Option<Box<Bound>>, can_write: bool) -> Happened {
    let Some(Bound { outbox, managed, .. }) = bound.as_deref_mut() else {
        return std::future::pending().await;
    };
    let safe = async {
        match managed {
            Some(managed) => managed.acknowledging.due().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        Some(error) = outbox.kicked.recv() => Happened::Kicked(error),
        Some(to) = outbox.wanted.recv() => Happened::Wanted(to),
        h = safe => Happened::Safe(h),
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

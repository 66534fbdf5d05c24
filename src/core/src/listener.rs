//! The client ports, and what all clients share.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::rand;
use gatehouse_net::{BoxedIo, Connection, Tasks, now, serve};
use gatehouse_telemetry::{StreamInfo, StreamKind, StreamState, Streams};
use gatehouse_tls::Acceptor;
use gatehouse_types::Chain;
use gatehouse_xmpp::{C2sConfig, C2sServer, Entry, Seed};
use tokio::net::{TcpListener, TcpStream};
use tokio::time;
use tracing::{Instrument as _, Span, debug, error, info_span};

use crate::login::{FailedLogins, Strangers};
use crate::router::Router;
use crate::session::{Client, version_name};
use crate::unread::Unread;

/// What all client connections share.
#[derive(Debug)]
pub(crate) struct ClientPorts {
    pub(crate) router: Router,
    pub(crate) config: Arc<C2sConfig>,
    pub(crate) starttls: Acceptor,
    pub(crate) direct: Acceptor,
    pub(crate) failed_logins: FailedLogins,
    pub(crate) strangers: Strangers,
    /// What clients sent to each other, as far as the author counts.
    pub(crate) unread: Unread,
    pub(crate) streams: Streams,
    pub(crate) tasks: Tasks,
}

/// How a port speaks TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PortKind {
    StartTls,
    Direct,
}

impl ClientPorts {
    /// Serves one port until shutdown.
    pub(crate) fn start(self: &Arc<Self>, listener: TcpListener, kind: PortKind) {
        let ports = Arc::clone(self);
        let connections_max = self.router.config.connections_max;
        let serve = serve(listener, connections_max, self.tasks.clone(), move |stream, peer| {
            Arc::clone(&ports).handle(stream, peer, kind)
        });
        self.tasks.spawn(info_span!("c2s", ?kind), serve);
    }

    async fn handle(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, kind: PortKind) {
        // On the heap, so that an open session does not keep the room that its beginning took.
        let Some((client, span)) = Box::pin(self.open(stream, peer, kind)).await else { return };
        Box::pin(client.run()).instrument(span).await;
    }

    /// All that comes before the client's stream.
    async fn open(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        kind: PortKind,
    ) -> Option<(Box<Client>, Span)> {
        let Some(stranger) = self.strangers.enter(peer.ip()) else {
            debug!(peer.addr = %peer, "turned away: too many connections that have not logged in");
            metrics::counter!("gatehouse_c2s_turned_away_total").increment(1);
            return None;
        };
        let (io, entry) = self.enter(stream, kind).await?;
        let mut random = [0; 32];
        if rand::fill(&mut random).is_err() {
            error!("no randomness: a client was turned away");
            return None;
        }
        let tls = match &entry {
            Entry::StartTls => "",
            Entry::Direct(facts) => version_name(facts.version),
        };
        let machine = C2sServer::new(Arc::clone(&self.config), entry, Seed::new(random), now());
        let id = machine.stream_id().to_string();
        let row = self.streams.open(StreamInfo {
            kind: StreamKind::C2s,
            id: id.clone(),
            local: String::new(),
            peer: String::new(),
            address: peer.to_string(),
            tls: tls.to_owned(),
            authentication: String::new(),
            state: StreamState::Opening,
        });
        let connection = Connection::new(machine, io, self.config.limits.write_timeout);
        let client = Client::new(self, connection, row, peer.ip(), stranger);
        let span = info_span!("stream", stream.id = id, peer.addr = %peer, direction = "in");
        Some((Box::new(client), span))
    }

    async fn enter(&self, stream: TcpStream, kind: PortKind) -> Option<(BoxedIo, Entry)> {
        if kind == PortKind::StartTls {
            return Some((Box::new(stream), Entry::StartTls));
        }
        let stop = self.tasks.stop();
        let limit = self.config.limits.setup_timeout;
        let handshake = time::timeout(limit, self.direct.accept(stream, None));
        match stop.run_until_cancelled(handshake).await? {
            Ok(Ok((io, facts))) => Some((Box::new(io), Entry::Direct(facts))),
            Ok(Err(failure)) => {
                debug!(error = %Chain(&failure), "a client's TLS handshake failed");
                None
            }
            Err(_elapsed) => {
                debug!("a client did not finish its TLS handshake in time");
                None
            }
        }
    }
}

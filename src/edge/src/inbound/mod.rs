//! Streams that partners open to us.

mod report;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use gatehouse_identity::TlsFacts;
use gatehouse_net::{BoxedIo, Connection, now};
use gatehouse_resolve::Transport;
use gatehouse_xmpp::{Entry, S2sReceiver};
use tokio::net::TcpStream;
use tokio::time;

use self::session::Session;
use crate::gate::PolicyGate;
use crate::shared::Edge;

/// Serves one accepted connection until it ends.
pub(crate) async fn run(
    edge: Arc<Edge>,
    gate: Arc<PolicyGate>,
    transport: Transport,
    tcp: TcpStream,
    peer: SocketAddr,
) {
    // On the heap, so that an open stream does not keep the room that its beginning took.
    if let Some(session) = Box::pin(open(edge, gate, transport, tcp, peer)).await {
        session.run().await;
    }
}

/// All that comes before the partner's stream.
async fn open(
    edge: Arc<Edge>,
    gate: Arc<PolicyGate>,
    transport: Transport,
    tcp: TcpStream,
    peer: SocketAddr,
) -> Option<Box<Session>> {
    // One deadline for all that comes before the first stanza.
    let accepted = now();
    let setup_deadline = accepted + edge.config.limits.setup_timeout;
    let (io, entry) = match transport {
        Transport::StartTls => (Box::new(tcp) as BoxedIo, Entry::StartTls),
        Transport::DirectTls => match accept_tls(&edge, tcp, peer, setup_deadline).await {
            Some((io, facts)) => (io, Entry::Direct(facts)),
            None => return None,
        },
    };
    let facts = match &entry {
        Entry::Direct(facts) => Some(facts.clone()),
        Entry::StartTls => None,
    };
    let machine =
        S2sReceiver::new(Arc::clone(&edge.receiver), gate, entry, edge.random.seed(), accepted);
    let connection = Connection::new(machine, io, edge.config.limits.write_timeout);
    Some(Box::new(Session::new(edge, connection, peer, facts, setup_deadline)))
}

async fn accept_tls(
    edge: &Edge,
    tcp: TcpStream,
    peer: SocketAddr,
    deadline: Instant,
) -> Option<(BoxedIo, TlsFacts)> {
    let stop = edge.tasks.stop();
    let shaken = tokio::select! {
        biased;
        () = stop.cancelled() => return None,
        shaken = time::timeout_at(deadline.into(), edge.direct_acceptor.accept(tcp, None)) => shaken,
    };
    match shaken {
        Ok(Ok((io, facts))) => Some((Box::new(io), facts)),
        Ok(Err(error)) => {
            report::tls_failed(edge, peer, None, &error);
            None
        }
        Err(_) => {
            report::tls_failed(edge, peer, None, &std::io::ErrorKind::TimedOut.into());
            None
        }
    }
}

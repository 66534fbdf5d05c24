//! Streams that partners open to us.

mod report;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;

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
    let (io, entry) = match transport {
        Transport::StartTls => (Box::new(tcp) as BoxedIo, Entry::StartTls),
        Transport::DirectTls => match accept_tls(&edge, tcp, peer).await {
            Some((io, facts)) => (io, Entry::Direct(facts)),
            None => return,
        },
    };
    let version = match &entry {
        Entry::Direct(facts) => Some(facts.version),
        Entry::StartTls => None,
    };
    let machine =
        S2sReceiver::new(Arc::clone(&edge.receiver), gate, entry, edge.random.seed(), now());
    let connection = Connection::new(machine, io, edge.config.limits.write_timeout);
    Session::new(edge, connection, peer, version).run().await;
}

async fn accept_tls(edge: &Edge, tcp: TcpStream, peer: SocketAddr) -> Option<(BoxedIo, TlsFacts)> {
    let timeout = edge.config.limits.setup_timeout;
    let stop = edge.tasks.stop();
    let shaken = tokio::select! {
        biased;
        () = stop.cancelled() => return None,
        shaken = time::timeout(timeout, edge.direct_acceptor.accept(tcp, None)) => shaken,
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

//! Servers of the inside that connect to us.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use gatehouse_identity::SipCertificate;
use gatehouse_net::{BoxedIo, Tasks, serve};
use gatehouse_policy::{Evidence, HopProtocol};
use gatehouse_types::Chain;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time;
use tracing::{Span, debug, info, warn};

use super::line::{Face, Line, QUEUE_LEN_MAX};
use super::{FLOWS_START, FromInside, InsideParts, Shared};

/// How long a TLS handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

pub(super) fn start(
    parts: InsideParts,
    events: mpsc::Sender<FromInside>,
    tasks: &Tasks,
) -> Arc<Shared> {
    let mut listening: HashMap<HopProtocol, Vec<SocketAddr>> = HashMap::new();
    let listeners: Vec<(HopProtocol, TcpListener)> = parts
        .tls_listeners
        .into_iter()
        .map(|listener| (HopProtocol::Tls, listener))
        .chain(parts.tcp_listeners.into_iter().map(|listener| (HopProtocol::Tcp, listener)))
        .collect();
    for (protocol, listener) in &listeners {
        if let Ok(address) = listener.local_addr() {
            info!(listen.addr = %address, %protocol, "listening for SIP servers of the inside");
            listening.entry(*protocol).or_default().push(address);
        }
    }
    let shared = Arc::new(Shared {
        acceptor: parts.acceptor,
        connector: parts.connector,
        resolver: parts.resolver,
        settings: parts.settings,
        own: parts.own,
        listening,
        events,
        last_flow: AtomicU64::new(FLOWS_START),
        tasks: tasks.clone(),
    });
    for (protocol, listener) in listeners {
        let shared = Arc::clone(&shared);
        let accept = serve(listener, parts.connections_max, tasks.clone(), move |tcp, address| {
            accept(Arc::clone(&shared), protocol, tcp, address)
        });
        tasks.spawn(Span::none(), accept);
    }
    shared
}

/// Serves one connection until it ends.
async fn accept(shared: Arc<Shared>, protocol: HopProtocol, tcp: TcpStream, address: SocketAddr) {
    let Ok(local) = tcp.local_addr() else { return };
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    let (io, shown): (BoxedIo, Evidence) = match protocol {
        HopProtocol::Tcp => (Box::new(tcp), Evidence::Address(address.ip())),
        HopProtocol::Tls => match shake(&shared, tcp, address).await {
            Some(shaken) => shaken,
            None => return,
        },
    };
    let flow = shared.next_flow();
    let (sender, queue) = mpsc::channel(QUEUE_LEN_MAX);
    let opened = FromInside::Opened { flow, queue: sender, shown, address };
    if shared.events.send(opened).await.is_err() {
        return;
    }
    let line = Line {
        flow,
        face: Face { address: local, protocol },
        inbound: true,
        queue,
        events: shared.events.clone(),
        stop: shared.tasks.stop(),
    };
    let reason = line.run(io).await;
    debug!(peer.addr = %address, reason, "SIP connection of the inside ended");
    // If nobody hears it, we are stopping.
    let _ = shared.events.send(FromInside::Down { flow, reason }).await;
}

/// TLS with a peer on the list, or nothing.
async fn shake(
    shared: &Shared,
    tcp: TcpStream,
    address: SocketAddr,
) -> Option<(BoxedIo, Evidence)> {
    let stop = shared.tasks.stop();
    let handshake = time::timeout(HANDSHAKE_MAX, shared.acceptor.accept(tcp, Some(&shared.own)));
    let (io, facts) = match stop.run_until_cancelled(handshake).await? {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            debug!(peer.addr = %address, error = %Chain(&error), "no TLS with a SIP server of the inside");
            return None;
        }
        Err(_) => {
            debug!(peer.addr = %address, "no TLS with a SIP server of the inside: it took too long");
            return None;
        }
    };
    let certificate = SipCertificate::read(&facts.presented);
    let names = certificate.names().join(", ");
    let shown = Evidence::Certificate(Box::new(certificate));
    let name = shared.settings.borrow().peer(&shown).map(|peer| peer.name.clone());
    match name {
        Some(peer) => {
            info!(peer.addr = %address, peer, "a SIP server of the inside connected");
            Some((Box::new(io), shown))
        }
        None => {
            metrics::counter!("gatehouse_sip_inside_refused_total", "reason" => "certificate")
                .increment(1);
            warn!(peer.addr = %address, names, "refused a SIP connection: its certificate is not trusted here, or names nobody on the list [[sip.trusted]]");
            None
        }
    }
}

//! Connections that we open to next hops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_identity::{SipCertificate, SipGrounds};
use gatehouse_net::{BoxedIo, connect};
use gatehouse_policy::{Evidence, Hop, HopProtocol, NextHop};
use gatehouse_resolve::{Endpoint, Host, Place, Transport};
use gatehouse_sip::Message;
use gatehouse_types::{Chain, Domain, Remote};
use gatehouse_xmpp::Seed;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time;
use tracing::{debug, info, info_span};

use super::line::{Face, Line};
use super::listening::reached_at;
use super::{FromInside, Shared, draw};

/// What the reason begins with if there never was a connection.
pub(super) const NOT_REACHED: &str = "not reached: ";

/// How long one address may take, and all of them: the request behind it waits, and there may be
/// another next hop.
const ADDRESS_MAX: Duration = Duration::from_secs(3);
const TOTAL_MAX: Duration = Duration::from_secs(10);

/// Connects, and carries what is queued until the connection ends.
pub(super) fn start(shared: Arc<Shared>, hop: Hop, flow: u64, queue: mpsc::Receiver<Message>) {
    let span = info_span!("sip-inside", %hop, direction = "out");
    let tasks = shared.tasks.clone();
    tasks.spawn(span, async move {
        let reason = carry(&shared, &hop, flow, queue).await;
        debug!(reason, "SIP connection to a server of the inside ended");
        // If nobody hears it, we are stopping.
        let _ = shared.events.send(FromInside::Down { flow, reason }).await;
    });
}

async fn carry(shared: &Shared, hop: &Hop, flow: u64, queue: mpsc::Receiver<Message>) -> String {
    let stop = shared.tasks.stop();
    let reaching = time::timeout(TOTAL_MAX, reach(shared, hop));
    let reached = match stop.run_until_cancelled(reaching).await {
        None => return "we are stopping".to_owned(),
        Some(Err(_)) => Err("no answer in time".to_owned()),
        Some(Ok(reached)) => reached,
    };
    let (io, local, shown) = match reached {
        Ok(reached) => reached,
        Err(reason) => return format!("{NOT_REACHED}{reason}"),
    };
    info!("SIP connection to a server of the inside is up");
    if shared.events.send(FromInside::Reached { flow, shown }).await.is_err() {
        return "we are stopping".to_owned();
    }
    let listening = shared.listening.get(&hop.protocol).map(Vec::as_slice).unwrap_or_default();
    let line = Line {
        flow,
        face: Face { address: reached_at(listening, local), protocol: hop.protocol },
        inbound: false,
        queue,
        events: shared.events.clone(),
        stop,
    };
    line.run(io).await
}

/// The connection, our end of it, and what the other end shows.
type Reached = (BoxedIo, SocketAddr, Evidence);

async fn reach(shared: &Shared, hop: &Hop) -> Result<Reached, String> {
    let mut failure = "no address".to_owned();
    for endpoint in endpoints(shared, hop).await? {
        for address in endpoint.addresses {
            match try_address(shared, hop, &endpoint.host, address).await {
                Ok(reached) => return Ok(reached),
                Err(reason) => {
                    debug!(peer.addr = %address, reason, "an address of a next hop failed");
                    failure = format!("{address}: {reason}");
                }
            }
        }
    }
    Err(failure)
}

async fn endpoints(shared: &Shared, hop: &Hop) -> Result<Vec<Endpoint>, String> {
    let transport = match hop.protocol {
        HopProtocol::Tcp => Transport::StartTls,
        HopProtocol::Tls => Transport::DirectTls,
    };
    let place = |host, port| Place { host, port, transport };
    let resolver = &shared.resolver;
    let found = match &hop.next {
        NextHop::Address(address, port) => {
            let addresses = vec![SocketAddr::new(*address, *port)];
            return Ok(vec![Endpoint { host: Host::Address(*address), addresses, transport }]);
        }
        NextHop::Host(host, port) => {
            resolver.places(host, &[place(Host::Name(host.clone()), *port)]).await
        }
        NextHop::Service(domain) => {
            let mut bytes = [0; 32];
            // Without randomness the weights of DNS do not count.
            let _ = aws_lc_rs::rand::fill(&mut bytes);
            let mut seed = Seed::new(bytes);
            let mut pick = |max: u32| draw(&mut seed, max);
            resolver.sip_service(domain, transport, &mut pick).await
        }
    };
    found.map_err(|error| Chain(&error).to_string())
}

async fn try_address(
    shared: &Shared,
    hop: &Hop,
    host: &Host,
    address: SocketAddr,
) -> Result<Reached, String> {
    let told = |error: io::Error| Chain(&error).to_string();
    let tcp = connect(address, ADDRESS_MAX).await.map_err(told)?;
    let local = tcp.local_addr().map_err(told)?;
    match (hop.protocol, host) {
        (HopProtocol::Tcp, _) => Ok((Box::new(tcp), local, Evidence::Address(address.ip()))),
        (HopProtocol::Tls, Host::Address(_)) => Err("TLS needs a host name".to_owned()),
        (HopProtocol::Tls, Host::Name(name)) => {
            let shaking = time::timeout(ADDRESS_MAX, shake(shared, hop, name, tcp));
            let (io, shown) = shaking.await.map_err(|_| "no TLS in time".to_owned())??;
            Ok((io, local, shown))
        }
    }
}

async fn shake(
    shared: &Shared,
    hop: &Hop,
    name: &Domain,
    tcp: TcpStream,
) -> Result<(BoxedIo, Evidence), String> {
    let shaken = shared.connector.connect(tcp, name, &shared.own).await;
    let (io, facts) = shaken.map_err(|error| Chain(&error).to_string())?;
    let certificate = SipCertificate::read(&facts.presented);
    let shown = Evidence::Certificate(Box::new(certificate.clone()));
    let is_it = match &hop.next {
        NextHop::Host(host, _) => proves(&certificate, host),
        // DNS alone proves nothing: the host that it names must be trusted by its subject, too.
        NextHop::Service(domain) => proves(&certificate, domain).or_else(|error| {
            let is_trusted = shared.settings.borrow().peer(&shown).is_some();
            if is_trusted { proves(&certificate, name) } else { Err(error) }
        }),
        NextHop::Address(..) => Err("TLS needs a host name".to_owned()),
    };
    is_it.map(|()| (Box::new(io) as BoxedIo, shown))
}

fn proves(certificate: &SipCertificate, host: &Domain) -> Result<(), String> {
    let grounds = SipGrounds {
        rfc5922: true,
        microsoft: false,
        direct: None,
        provider: None,
        common_name: true,
        srv_targets: &[],
    };
    let proof = certificate.prove(&Remote(host.clone()), &grounds);
    proof.map(drop).map_err(|error| Chain(&error).to_string())
}

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gatehouse_resolve::Resolver;
use hickory_server::Server;
use hickory_server::proto::rr::rdata::{A, SOA, SRV};
use hickory_server::proto::rr::{Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

use super::Ports;

/// Both protocols on one port. The system gives a free one of UDP, which TCP may be using.
async fn sockets() -> (UdpSocket, TcpListener, SocketAddr) {
    for _ in 0..64 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = udp.local_addr().unwrap();
        if let Ok(tcp) = TcpListener::bind(address).await {
            return (udp, tcp, address);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

/// The zone `example`. Every host in it is this machine.
pub(crate) struct Zone(InMemoryZoneHandler);

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

impl Zone {
    pub(crate) fn new() -> Self {
        let mut zone =
            Self(InMemoryZoneHandler::empty(name("example"), ZoneType::Primary, AxfrPolicy::Deny));
        let soa = SOA::new(name("ns.example"), name("root.example"), 1, 60, 60, 60, 60);
        zone.add("example", RData::SOA(soa));
        zone.add("host.example", RData::A(A(Ipv4Addr::LOCALHOST)));
        zone
    }

    fn add(&mut self, at: &str, data: RData) {
        self.0.upsert_mut(Record::from_rdata(name(at), 60, data), 0);
    }

    /// `_xmpp-server._tcp` of `domain`.
    pub(crate) fn starttls(mut self, domain: &str, priority: u16, port: u16) -> Self {
        let srv = SRV::new(priority, 0, port, name("host.example"));
        self.add(&format!("_xmpp-server._tcp.{domain}"), RData::SRV(srv));
        self
    }

    /// `_xmpps-server._tcp` of `domain`.
    pub(crate) fn direct(mut self, domain: &str, priority: u16, port: u16) -> Self {
        let srv = SRV::new(priority, 0, port, name("host.example"));
        self.add(&format!("_xmpps-server._tcp.{domain}"), RData::SRV(srv));
        self
    }

    /// `_xmpp-server._tcp` of `domain` at a host with the addresses 127.0.0.2 and 127.0.0.1.
    pub(crate) fn at_two_addresses(mut self, domain: &str, port: u16) -> Self {
        for last in [2, 1] {
            self.add("twice.example", RData::A(A(Ipv4Addr::new(127, 0, 0, last))));
        }
        let srv = SRV::new(1, 0, port, name("twice.example"));
        self.add(&format!("_xmpp-server._tcp.{domain}"), RData::SRV(srv));
        self
    }

    /// `_sipfederationtls._tcp` of `domain`, as Lync reads it.
    pub(crate) fn sip_federation(mut self, domain: &str, host: &str, port: u16) -> Self {
        self.add(host, RData::A(A(Ipv4Addr::LOCALHOST)));
        let srv = SRV::new(10, 0, port, name(host));
        self.add(&format!("_sipfederationtls._tcp.{domain}"), RData::SRV(srv));
        self
    }

    /// `_sips._tcp` of `domain`.
    pub(crate) fn sips(mut self, domain: &str, host: &str, port: u16) -> Self {
        self.add(host, RData::A(A(Ipv4Addr::LOCALHOST)));
        let srv = SRV::new(10, 0, port, name(host));
        self.add(&format!("_sips._tcp.{domain}"), RData::SRV(srv));
        self
    }

    /// `domain` says that it has no XMPP service.
    pub(crate) fn no_service(mut self, domain: &str) -> Self {
        let srv = SRV::new(0, 0, 0, Name::root());
        self.add(&format!("_xmpp-server._tcp.{domain}"), RData::SRV(srv));
        self
    }

    /// Both records of `domain`, as far as `ports` has them.
    pub(crate) fn ports(mut self, domain: &str, ports: &Ports) -> Self {
        if let Some(address) = ports.starttls() {
            self = self.starttls(domain, 10, address.port());
        }
        if let Some(address) = ports.direct() {
            self = self.direct(domain, 10, address.port());
        }
        self
    }

    pub(crate) async fn serve(self) -> (Resolver, Server<Catalog>) {
        let mut catalog = Catalog::new();
        catalog.upsert(name("example").into(), vec![Arc::new(self.0)]);
        let mut server = Server::new(catalog);
        let (udp, tcp, address) = sockets().await;
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 16);
        (Resolver::with_servers(&[address]).unwrap(), server)
    }
}

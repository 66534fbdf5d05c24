use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gatehouse_identity::KeyPin;
use gatehouse_resolve::Resolver;
use hickory_server::Server;
use hickory_server::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_server::proto::rr::rdata::{A, SOA, SRV, TLSA};
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

    /// A TLSA record with the SHA-256 of a certificate's key, for `port` of the host.
    pub(crate) fn tlsa(mut self, port: u16, usage: u8, der: &[u8]) -> Self {
        let pin = KeyPin::of_certificate(der).unwrap().to_string();
        let digits = pin.strip_prefix("sha256:").unwrap();
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        let digest = (0..64).step_by(2).map(byte).collect();
        let record = TLSA::new(CertUsage::from(usage), Selector::Spki, Matching::Sha256, digest);
        self.add(&format!("_{port}._tcp.host.example"), RData::TLSA(record));
        self
    }

    /// With a name server in front that says of every answer that it was validated, or was not.
    pub(crate) async fn serve_validated(self, secure: bool) -> (Resolver, Validator) {
        let (address, server) = self.start().await;
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let trusted = front.local_addr().unwrap();
        let resolver = Resolver::with_servers(&[address]).unwrap().trusting_ad(&[trusted]);
        (resolver, Validator { front, zone: address, secure, _server: server })
    }

    pub(crate) async fn serve(self) -> (Resolver, Server<Catalog>) {
        let (address, server) = self.start().await;
        (Resolver::with_servers(&[address]).unwrap(), server)
    }

    async fn start(self) -> (SocketAddr, Server<Catalog>) {
        let mut catalog = Catalog::new();
        catalog.upsert(name("example").into(), vec![Arc::new(self.0)]);
        let mut server = Server::new(catalog);
        let (udp, tcp, address) = sockets().await;
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 16);
        (address, server)
    }
}

/// A name server in front of another, which sets the AD bit or clears it.
pub(crate) struct Validator {
    front: UdpSocket,
    zone: SocketAddr,
    secure: bool,
    _server: Server<Catalog>,
}

impl Validator {
    /// Answers for as long as it is polled.
    pub(crate) async fn run(&self) {
        const AD: u8 = 0x20;
        let mut buffer = [0; 4096];
        loop {
            let (len, from) = self.front.recv_from(&mut buffer).await.unwrap();
            let behind = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            behind.send_to(&buffer[..len], self.zone).await.unwrap();
            let len = behind.recv(&mut buffer).await.unwrap();
            buffer[3] = if self.secure { buffer[3] | AD } else { buffer[3] & !AD };
            self.front.send_to(&buffer[..len], from).await.unwrap();
        }
    }
}

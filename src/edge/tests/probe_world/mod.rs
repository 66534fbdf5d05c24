//! A name server, an authority and partners that say what a test tells them to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gatehouse_edge::PrivateTargets;
use gatehouse_edge::probe::{OwnSide, ProbeParts, ProbeProtocols, ProbeReport, probe};
use gatehouse_identity::KeyPin;
use gatehouse_policy::Policy;
use gatehouse_resolve::Resolver;
use gatehouse_testkit::{TestCa, TestCertificate};
use gatehouse_tls::{Acceptor, Connector, Io, KeyEntry, Keys, Roots, SystemRoots};
use gatehouse_types::{Domain, Local, Remote, Secret};
use hickory_server::Server;
use hickory_server::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_server::proto::rr::rdata::{A, SOA, SRV, TLSA};
use hickory_server::proto::rr::{Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

/// Unix seconds of a moment in the middle of the validity of every good certificate here.
#[expect(clippy::disallowed_methods, reason = "certificates are made by the wall clock")]
fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn name(text: &str) -> Name {
    if text == "." { Name::root() } else { Name::from_ascii(format!("{text}.")).unwrap() }
}

/// The zone `example`, without a record but those that a test adds.
pub(crate) struct Zone(InMemoryZoneHandler);

impl Zone {
    pub(crate) fn new() -> Self {
        let handler =
            InMemoryZoneHandler::empty(name("example"), ZoneType::Primary, AxfrPolicy::Deny);
        let soa = SOA::new(name("ns.example"), name("root.example"), 1, 60, 60, 60, 60);
        let mut zone = Self(handler);
        zone.add("example", RData::SOA(soa));
        zone
    }

    fn add(&mut self, at: &str, data: RData) {
        self.0.upsert_mut(Record::from_rdata(name(at), 60, data), 0);
    }

    pub(crate) fn host(mut self, host: &str, address: Ipv4Addr) -> Self {
        self.add(host, RData::A(A(address)));
        self
    }

    /// An SRV record for a host of this machine.
    pub(crate) fn srv(mut self, at: &str, port: u16, host: &str) -> Self {
        self.add(at, RData::SRV(SRV::new(10, 0, port, name(host))));
        self
    }

    /// A TLSA record for the public key of a certificate, `usage` 1 1, at a port of `host.example`.
    pub(crate) fn tlsa(self, port: u16, usage: u8, der: &[u8]) -> Self {
        let pin = KeyPin::of_certificate(der).unwrap().to_string();
        let digits = pin.strip_prefix("sha256:").unwrap();
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        self.tlsa_of(port, usage, (0..64).step_by(2).map(byte).collect())
    }

    /// The same with any data.
    pub(crate) fn tlsa_of(mut self, port: u16, usage: u8, data: Vec<u8>) -> Self {
        let record = TLSA::new(CertUsage::from(usage), Selector::Spki, Matching::Sha256, data);
        self.add(&format!("_{port}._tcp.host.example"), RData::TLSA(record));
        self
    }

    async fn serve(self) -> (SocketAddr, Server<Catalog>) {
        let mut catalog = Catalog::new();
        catalog.upsert(name("example").into(), vec![Arc::new(self.0)]);
        let mut server = Server::new(catalog);
        for _ in 0..64 {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = udp.local_addr().unwrap();
            // The port is free for UDP; TCP may be using it.
            if let Ok(tcp) = TcpListener::bind(address).await {
                server.register_socket(udp);
                server.register_listener(tcp, Duration::from_secs(5), 16);
                return (address, server);
            }
        }
        panic!("no port is free for both UDP and TCP");
    }
}

/// Us and the partner, `them.example`.
pub(crate) struct World {
    pub(crate) ca: TestCa,
    pub(crate) zone: Zone,
    pub(crate) policy: Policy,
    pub(crate) protocols: ProbeProtocols,
    pub(crate) private: PrivateTargets,
    pub(crate) ours: TestCertificate,
    pub(crate) sip_listens: bool,
    pub(crate) total: Duration,
    /// A name server in front that says of every answer that it was validated, or was not, and whose
    /// word counts.
    pub(crate) validated: Option<bool>,
}

/// Answers in the place of the name server at `zone`, with the AD bit set or cleared, for as long as
/// it is polled.
async fn validate(front: UdpSocket, zone: SocketAddr, secure: bool) {
    const AD: u8 = 0x20;
    let mut buffer = vec![0; 4096];
    loop {
        let (len, from) = front.recv_from(&mut buffer).await.unwrap();
        let behind = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        behind.send_to(&buffer[..len], zone).await.unwrap();
        let len = behind.recv(&mut buffer).await.unwrap();
        buffer[3] = if secure { buffer[3] | AD } else { buffer[3] & !AD };
        front.send_to(&buffer[..len], from).await.unwrap();
    }
}

impl World {
    /// All is well with us: records, certificate, port.
    pub(crate) fn new() -> Self {
        let ca = TestCa::new();
        let ours = ca
            .issue()
            .dns("ours.example")
            .dns("sip.ours.example")
            .srv("_xmpp-server.ours.example")
            .make();
        let zone = Zone::new()
            .host("sip.ours.example", Ipv4Addr::LOCALHOST)
            .host("host.example", Ipv4Addr::LOCALHOST)
            .host("sip.them.example", Ipv4Addr::LOCALHOST)
            .srv("_xmpp-server._tcp.ours.example", 5269, "host.example")
            .srv("_sipfederationtls._tcp.ours.example", 5061, "sip.ours.example");
        Self {
            ca,
            zone,
            policy: Policy::open_with_certificate(),
            protocols: ProbeProtocols::Xmpp,
            private: PrivateTargets::Allow,
            ours,
            sip_listens: true,
            total: Duration::from_secs(20),
            validated: None,
        }
    }

    pub(crate) fn with(self, change: impl FnOnce(&mut Self)) -> Self {
        let mut world = self;
        change(&mut world);
        world
    }

    pub(crate) fn zone(self, change: impl FnOnce(Zone) -> Zone) -> Self {
        Self { zone: change(self.zone), ..self }
    }

    /// An empty zone but for these records.
    pub(crate) fn only(self, change: impl FnOnce(Zone) -> Zone) -> Self {
        Self { zone: change(Zone::new()), ..self }
    }

    pub(crate) fn sip(self, policy: &str) -> Self {
        let policy = toml::from_str(policy).unwrap();
        Self { policy, protocols: ProbeProtocols::Sip, ..self }
    }

    pub(crate) async fn probe(self) -> ProbeReport {
        let root = self.ca.root_pem().to_owned();
        self.probe_trusting(root).await
    }

    /// Trusts this authority and no other.
    pub(crate) async fn probe_trusting(self, root_pem: String) -> ProbeReport {
        let roots = Roots::new(&[root_pem], SystemRoots::Ignore).unwrap();
        let (address, _server) = self.zone.serve().await;
        let resolver = Resolver::with_servers(&[address]).unwrap();
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let resolver = match self.validated {
            Some(_) => resolver.trusting_ad(&[front.local_addr().unwrap()]),
            None => resolver,
        };
        let (keys, _) = keys("ours.example", &self.ours, &self.ca);
        let parts = ProbeParts {
            local: Local("ours.example".parse().unwrap()),
            remote: Remote("them.example".parse().unwrap()),
            protocols: self.protocols,
            policy: self.policy,
            resolver,
            plain_connector: Connector::new(&keys, &roots, &[]).unwrap(),
            direct_connector: Connector::new(&keys, &roots, &["xmpp-server"]).unwrap(),
            dialback_secret: Some(Secret::new(b"a secret of thirty-two bytes....".to_vec())),
            private_targets: self.private,
            own: OwnSide {
                chain: vec![self.ours.der.clone()],
                problem: None,
                issued_here: false,
                sip_host: Some("sip.ours.example".parse().unwrap()),
                sip_port: 5061,
                sip_listens: self.sip_listens,
            },
            unix_now: unix_now(),
            total: self.total,
        };
        tokio::select! {
            report = Box::pin(probe(&parts, &|_| {})) => report.unwrap(),
            () = validate(front, address, self.validated == Some(true)) => unreachable!(),
        }
    }
}

pub(crate) fn keys(domain: &str, certificate: &TestCertificate, ca: &TestCa) -> (Keys, Roots) {
    let keys = Keys::empty();
    let domains: Vec<Domain> = vec![domain.parse().unwrap()];
    let (chain_pem, key_pem) = (certificate.chain_pem.clone(), certificate.key_pem.clone());
    keys.replace(vec![KeyEntry { domains, chain_pem, key_pem }]).unwrap();
    (keys, Roots::new(&[ca.root_pem().to_owned()], SystemRoots::Ignore).unwrap())
}

/// A partner's server.
pub(crate) struct Partner {
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Drop for Partner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What an XMPP partner offers and says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    pub(crate) features: &'static str,
    /// The answer to `<auth/>`, or to a dialback key.
    pub(crate) answer: &'static str,
}

pub(crate) const EXTERNAL: &str = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>EXTERNAL</mechanism></mechanisms>";
pub(crate) const DIALBACK: &str = "<dialback xmlns='urn:xmpp:features:dialback'/>";
pub(crate) const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
    xmlns:stream='http://etherx.jabber.org/streams' \
    from='them.example' to='ours.example' id='x1' version='1.0'>";

#[expect(clippy::disallowed_methods, reason = "ends with the test")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

impl Partner {
    /// STARTTLS, then these manners.
    pub(crate) async fn xmpp(certificate: &TestCertificate, ca: &TestCa, manners: Manners) -> Self {
        let (keys, roots) = keys("them.example", certificate, ca);
        let acceptor = Acceptor::new(&keys, &roots, &[]).unwrap();
        let (listener, port) = listener().await;
        let task = spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let _ = xmpp(tcp, &acceptor, manners).await;
            }
        });
        Self { port, task }
    }

    /// TLS, then this answer to the first request (`{via}` and the like are the request's own).
    pub(crate) async fn sip(
        certificate: &TestCertificate,
        ca: &TestCa,
        status: &'static str,
        headers: &'static str,
    ) -> Self {
        let (keys, roots) = keys("them.example", certificate, ca);
        let acceptor = Acceptor::new(&keys, &roots, &[]).unwrap();
        let (listener, port) = listener().await;
        let task = spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok((mut io, _)) = acceptor.accept(tcp, None).await else { continue };
                let Some(request) = read_until(&mut io, "\r\n\r\n").await else { continue };
                assert!(request.starts_with("OPTIONS sip:them.example SIP/2.0\r\n"), "{request}");
                let kept = request.lines().filter(|line| {
                    let name = line.split(':').next().unwrap_or_default();
                    ["Via", "From", "To", "Call-ID", "CSeq"].contains(&name)
                });
                let kept: Vec<&str> = kept.collect();
                let answer = format!(
                    "SIP/2.0 {status}\r\n{}\r\n{headers}Content-Length: 0\r\n\r\n",
                    kept.join("\r\n")
                );
                let _ = io.write_all(answer.as_bytes()).await;
                let _ = io.flush().await;
                let _ = read_until(&mut io, "never").await;
            }
        });
        Self { port, task }
    }

    /// Takes the connection and says nothing.
    pub(crate) async fn silent() -> Self {
        let (listener, port) = listener().await;
        let task = spawn(async move {
            let mut held = Vec::new();
            while let Ok((tcp, _)) = listener.accept().await {
                held.push(tcp);
            }
        });
        Self { port, task }
    }
}

async fn read_until(io: &mut (impl Io + ?Sized), end: &str) -> Option<String> {
    let mut heard = String::new();
    let mut byte = [0];
    while !heard.ends_with(end) {
        if io.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        heard.push(char::from(byte[0]));
    }
    Some(heard)
}

async fn xmpp(mut tcp: TcpStream, acceptor: &Acceptor, manners: Manners) -> Option<()> {
    read_until(&mut tcp, "xml:lang").await;
    read_until(&mut tcp, ">").await?;
    let starttls = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\
        </stream:features>";
    tcp.write_all(format!("{HEADER}{starttls}").as_bytes()).await.ok()?;
    read_until(&mut tcp, "/>").await?;
    tcp.write_all(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await.ok()?;
    let (mut io, _) = acceptor.accept(tcp, None).await.ok()?;
    read_until(&mut io, "version").await?;
    read_until(&mut io, ">").await?;
    let features = format!("{HEADER}<stream:features>{}</stream:features>", manners.features);
    io.write_all(features.as_bytes()).await.ok()?;
    io.flush().await.ok()?;
    let asked = read_until(&mut io, "</").await?;
    io.write_all(manners.answer.as_bytes()).await.ok()?;
    io.flush().await.ok()?;
    if asked.contains("EXTERNAL") && manners.answer == SUCCESS {
        read_until(&mut io, "version").await?;
        read_until(&mut io, ">").await?;
        io.write_all(format!("{HEADER}<stream:features/>").as_bytes()).await.ok()?;
        io.flush().await.ok()?;
    }
    read_until(&mut io, "never").await;
    Some(())
}

/// A closed port of this machine.
pub(crate) async fn closed_port() -> u16 {
    listener().await.1
}

pub(crate) fn is_loopback(address: &str) -> bool {
    address
        .parse::<SocketAddr>()
        .is_ok_and(|address| address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST))
}

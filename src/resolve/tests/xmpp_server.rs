//! The resolver against a name server in the same process.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a broken test world is a failed test"
)]

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gatehouse_resolve::{Endpoint, Host, Place, ResolveError, Resolver, Transport};
use gatehouse_types::Domain;
use hickory_server::Server;
use hickory_server::proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_server::proto::rr::{Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

/// The zone `example`; every other name is refused.
struct Zone(InMemoryZoneHandler);

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

impl Zone {
    fn new() -> Self {
        let mut zone =
            Self(InMemoryZoneHandler::empty(name("example"), ZoneType::Primary, AxfrPolicy::Deny));
        let soa = SOA::new(name("ns.example"), name("root.example"), 1, 60, 60, 60, 60);
        zone.add("example", RData::SOA(soa));
        zone
    }

    fn add(&mut self, at: &str, data: RData) {
        self.0.upsert_mut(Record::from_rdata(name(at), 60, data), 0);
    }

    fn srv(mut self, at: &str, priority: u16, weight: u16, port: u16, target: &str) -> Self {
        let target = if target == "." { Name::root() } else { name(target) };
        self.add(at, RData::SRV(SRV::new(priority, weight, port, target)));
        self
    }

    fn address(mut self, at: &str, address: &str) -> Self {
        let data = match address.parse().unwrap() {
            std::net::IpAddr::V4(four) => RData::A(A(four)),
            std::net::IpAddr::V6(six) => RData::AAAA(AAAA(six)),
        };
        self.add(at, data);
        self
    }

    async fn serve(self) -> (Resolver, Server<Catalog>) {
        let mut catalog = Catalog::new();
        catalog.upsert(name("example").into(), vec![Arc::new(self.0)]);
        let mut server = Server::new(catalog);
        // The port must be free for both.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 16);
        (Resolver::with_servers(&[address]).unwrap(), server)
    }
}

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

async fn ask(resolver: &Resolver, name: &str) -> Result<Vec<Endpoint>, ResolveError> {
    resolver.xmpp_server(&domain(name), &mut |_| 0).await
}

/// `a.example:5269 starttls, b.example:5270 direct`
fn told(endpoints: &[Endpoint]) -> String {
    let lines = endpoints.iter().map(|endpoint| {
        let transport = match endpoint.transport {
            Transport::DirectTls => "direct",
            Transport::StartTls => "starttls",
        };
        format!("{}:{} {transport}", endpoint.host, endpoint.addresses[0].port())
    });
    lines.collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn both_sets_are_one_list_by_priority_and_weight() {
    let (resolver, _server) = Zone::new()
        .srv("_xmpps-server._tcp.them.example", 10, 10, 5270, "a.example")
        .srv("_xmpp-server._tcp.them.example", 10, 30, 5269, "b.example")
        .srv("_xmpp-server._tcp.them.example", 5, 0, 5269, "c.example")
        .srv("_xmpps-server._tcp.them.example", 20, 0, 443, "c.example")
        .address("a.example", "192.0.2.1")
        .address("b.example", "192.0.2.2")
        .address("c.example", "192.0.2.3")
        .serve()
        .await;
    for (draw, want) in [
        (
            1,
            "c.example:5269 starttls, a.example:5270 direct, b.example:5269 starttls, c.example:443 direct",
        ),
        (
            40,
            "c.example:5269 starttls, b.example:5269 starttls, a.example:5270 direct, c.example:443 direct",
        ),
    ] {
        let endpoints = resolver
            .xmpp_server(&domain("them.example"), &mut |max| if max == 40 { draw } else { 0 })
            .await
            .unwrap();
        assert_eq!(told(&endpoints), want, "draw {draw}");
    }
}

#[tokio::test]
async fn addresses_of_both_families_take_turns() {
    let (resolver, _server) = Zone::new()
        .srv("_xmpp-server._tcp.them.example", 0, 0, 7, "a.example")
        .address("a.example", "192.0.2.1")
        .address("a.example", "192.0.2.2")
        .address("a.example", "2001:db8::1")
        .serve()
        .await;
    let endpoints = ask(&resolver, "them.example").await.unwrap();
    let families: Vec<bool> = endpoints[0].addresses.iter().map(SocketAddr::is_ipv6).collect();
    assert_eq!(families, [true, false, false]);
}

#[tokio::test]
async fn without_srv_the_domain_itself_is_dialled() {
    let (resolver, _server) = Zone::new().address("them.example", "192.0.2.1").serve().await;
    let endpoints = ask(&resolver, "them.example").await.unwrap();
    assert_eq!(told(&endpoints), "them.example:5269 starttls");
}

#[tokio::test]
async fn with_srv_the_domain_itself_is_not_dialled() {
    let (resolver, _server) = Zone::new()
        .srv("_xmpp-server._tcp.them.example", 0, 0, 5269, "gone.example")
        .address("them.example", "192.0.2.1")
        .serve()
        .await;
    let error = ask(&resolver, "them.example").await.unwrap_err();
    assert_eq!(error, ResolveError::NoAddress(domain("them.example")));
}

#[tokio::test]
async fn a_dot_means_no() {
    let (resolver, _server) = Zone::new()
        .srv("_xmpp-server._tcp.one.example", 0, 0, 0, ".")
        .address("one.example", "192.0.2.1")
        .srv("_xmpp-server._tcp.both.example", 0, 0, 0, ".")
        .srv("_xmpps-server._tcp.both.example", 0, 0, 0, ".")
        .srv("_xmpp-server._tcp.direct.example", 0, 0, 0, ".")
        .srv("_xmpps-server._tcp.direct.example", 0, 0, 5270, "a.example")
        .address("a.example", "192.0.2.1")
        .serve()
        .await;
    for name in ["one.example", "both.example"] {
        assert_eq!(ask(&resolver, name).await, Err(ResolveError::NoService(domain(name))));
    }
    // The other set still counts.
    let endpoints = ask(&resolver, "direct.example").await.unwrap();
    assert_eq!(told(&endpoints), "a.example:5270 direct");
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_not_found() {
    let (resolver, _server) = Zone::new().serve().await;
    let error = ask(&resolver, "nobody.example").await.unwrap_err();
    assert_eq!(error, ResolveError::NotFound(domain("nobody.example")));
}

#[tokio::test]
async fn a_target_that_is_no_host_is_passed_over() {
    let (resolver, _server) = Zone::new()
        .srv("_xmpp-server._tcp.them.example", 0, 0, 5269, "un_der.example")
        .srv("_xmpp-server._tcp.them.example", 1, 0, 0, "a.example")
        .srv("_xmpp-server._tcp.them.example", 2, 0, 5269, "a.example")
        .address("un_der.example", "192.0.2.1")
        .address("a.example", "192.0.2.1")
        .serve()
        .await;
    let endpoints = ask(&resolver, "them.example").await.unwrap();
    assert_eq!(told(&endpoints), "a.example:5269 starttls");
}

#[tokio::test]
async fn the_number_of_endpoints_is_bounded() {
    let mut zone = Zone::new();
    for port in 1..=40 {
        zone = zone.srv("_xmpp-server._tcp.them.example", port, 0, port, "a.example");
    }
    let (resolver, _server) = zone.address("a.example", "192.0.2.1").serve().await;
    let endpoints = ask(&resolver, "them.example").await.unwrap();
    let ports: Vec<u16> = endpoints.iter().map(|endpoint| endpoint.addresses[0].port()).collect();
    assert_eq!(ports, (1..=16).collect::<Vec<u16>>());
}

#[tokio::test]
async fn an_error_answer_is_not_no_records() {
    // The server is not responsible for this name and answers REFUSED.
    let (resolver, _server) = Zone::new().serve().await;
    let error = ask(&resolver, "elsewhere.org").await.unwrap_err();
    assert!(matches!(error, ResolveError::Failed { .. }), "{error}");
}

#[tokio::test]
async fn servfail_on_one_set_is_no_answer_but_the_other_set_counts() {
    let (socket, address) = silent_server().await;
    let resolver = Resolver::with_servers(&[address]).unwrap();
    let answer = beside(servfail(&socket), ask(&resolver, "them.example")).await;
    let error = answer.unwrap_err();
    assert!(error.to_string().contains("_xmpp"), "{error}");
    assert!(matches!(error, ResolveError::Failed { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_after_five_seconds() {
    let (_socket, address) = silent_server().await;
    let resolver = Resolver::with_servers(&[address]).unwrap();
    let start = tokio::time::Instant::now();
    let error = ask(&resolver, "them.example").await.unwrap_err();
    assert!(matches!(error, ResolveError::Failed { .. }), "{error}");
    assert!(start.elapsed() <= Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn no_name_server_is_a_mistake() {
    assert!(Resolver::with_servers(&[]).is_err());
}

async fn silent_server() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Answers every question with SERVFAIL.
async fn servfail(socket: &UdpSocket) {
    let mut packet = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut packet).await.unwrap();
        packet[2] |= 0x80; // QR: a response
        packet[3] = 0x82; // RA, RCODE 2
        socket.send_to(&packet[..length], from).await.unwrap();
    }
}

async fn beside<T>(server: impl Future<Output = ()>, question: impl Future<Output = T>) -> T {
    tokio::select! {
        answer = question => answer,
        () = server => unreachable!(),
    }
}

#[tokio::test]
async fn places_are_taken_as_they_are_and_in_their_order() {
    let zone = Zone::new()
        .srv("_xmpp-server._tcp.them.example", 1, 0, 5269, "n.them.example")
        .address("n.them.example", "192.0.2.1")
        .address("other.example", "192.0.2.2")
        .address("other.example", "2001:db8::2");
    let (resolver, _server) = zone.serve().await;
    let place = |host: Host, port, transport| Place { host, port, transport };
    let by_name = |text: &str| Host::Name(domain(text));
    let endpoints = resolver
        .places(
            &domain("them.example"),
            &[
                place(Host::Address("192.0.2.9".parse().unwrap()), 1, Transport::StartTls),
                place(by_name("nobody.example"), 2, Transport::StartTls),
                place(by_name("other.example"), 3, Transport::DirectTls),
            ],
        )
        .await
        .unwrap();
    assert_eq!(told(&endpoints), "192.0.2.9:1 starttls, other.example:3 direct");
    assert_eq!(endpoints[1].addresses.len(), 2);
    let nowhere = place(by_name("nobody.example"), 2, Transport::StartTls);
    assert_eq!(
        resolver.places(&domain("them.example"), &[nowhere]).await,
        Err(ResolveError::NoRoute(domain("them.example")))
    );
}

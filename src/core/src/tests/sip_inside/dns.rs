use std::net::Ipv4Addr;
use std::sync::Arc;

use gatehouse_resolve::Resolver;
use hickory_server::Server;
use hickory_server::proto::rr::rdata::{A, SOA, SRV};
use hickory_server::proto::rr::{Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::UdpSocket;

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

/// The zone `example`, with one SRV record that names `host.example`, this machine.
pub(super) async fn serve(service: &str, port: u16) -> (Resolver, Server<Catalog>) {
    let mut zone: InMemoryZoneHandler =
        InMemoryZoneHandler::empty(name("example"), ZoneType::Primary, AxfrPolicy::Deny);
    let soa = SOA::new(name("ns.example"), name("root.example"), 1, 60, 60, 60, 60);
    for (at, data) in [
        ("example", RData::SOA(soa)),
        ("host.example", RData::A(A(Ipv4Addr::LOCALHOST))),
        (service, RData::SRV(SRV::new(1, 1, port, name("host.example")))),
    ] {
        zone.upsert_mut(Record::from_rdata(name(at), 60, data), 0);
    }
    let mut catalog = Catalog::new();
    catalog.upsert(name("example").into(), vec![Arc::new(zone)]);
    let mut server = Server::new(catalog);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    server.register_socket(socket);
    (Resolver::with_servers(&[address]).unwrap(), server)
}

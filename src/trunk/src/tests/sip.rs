//! SIP links beside the trunk for XMPP, on the same port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use gatehouse_net::Tasks;
use gatehouse_sip::{HeaderName, Message, Method, Uri};
use gatehouse_testkit::TestCa;
use gatehouse_tls::{Acceptor, Connector};
use gatehouse_types::Domain;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::world::{
    Diary, Node, Proxy, any_of_ours, core_for, domain, id, inward, keys, roots, soon, tuning,
};
use crate::sip::{self, Edge, SipCoreEnd, SipEdgeEnd};
use crate::{ALPN, EdgeAddress, ListenConfig, listen_with_sip};

/// An edge with a door for SIP.
async fn edge(ca: &TestCa, cores: &[&str]) -> (Node, SipEdgeEnd, Diary) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tasks, diary, links) = (Tasks::default(), Diary::new(), Diary::new());
    let config = ListenConfig {
        own: domain("edge.example"),
        listeners: vec![listener],
        cores: cores.iter().map(|name| any_of_ours(name)).collect(),
        tuning: tuning(),
        observer: Arc::new(diary.clone()),
    };
    let keys = keys(ca, "edge.example");
    let acceptor = Acceptor::new(&keys, &roots(ca), &[ALPN, sip::ALPN]).unwrap();
    let (trunk, end) = listen_with_sip(config, acceptor, Arc::new(links.clone()), &tasks);
    (Node { trunk, diary, tasks, address }, end, links)
}

/// The SIP half of a core.
fn dial(ca: &TestCa, name: &str, address: SocketAddr) -> (SipCoreEnd, Diary, Tasks) {
    let (tasks, diary) = (Tasks::default(), Diary::new());
    let connector = Connector::new(&keys(ca, name), &roots(ca), &[sip::ALPN]).unwrap();
    let edges = vec![EdgeAddress { name: domain("edge.example"), address: address.to_string() }];
    let observer: Arc<dyn crate::TrunkObserver> = Arc::new(diary.clone());
    let end = sip::dial(&domain(name), edges, &connector, &observer, &tasks);
    (end, diary, tasks)
}

fn request(call: &str) -> Message {
    let mut request =
        Message::request(Method::Message, Uri::parse("sip:bob@them.example").unwrap());
    for (name, value) in [
        (HeaderName::Via, "SIP/2.0/TLS core;branch=z9hG4bK1"),
        (HeaderName::From, "<sip:alice@ours.example>;tag=1"),
        (HeaderName::To, "<sip:bob@them.example>"),
        (HeaderName::CallId, call),
        (HeaderName::CSeq, "1 MESSAGE"),
        (HeaderName::MaxForwards, "70"),
    ] {
        request.headers.push(name, value).unwrap();
    }
    request
}

#[tokio::test]
async fn messages_cross_both_ways_beside_stanzas() {
    let ca = TestCa::new();
    let (edge, mut end, links) = edge(&ca, &["core.example"]).await;
    let (mut core, diary, _tasks) = dial(&ca, "core.example", edge.address);
    let (_, domains) = watch::channel(vec![domain("ours.example")]);
    let mut xmpp =
        core_for(&ca, "core.example", domains, &[("edge.example", edge.address)], tuning());
    diary.wait("up edge.example", 1).await;
    links.wait("up core.example", 1).await;
    core.edges.send(Edge::For("call 1"), request("call-1")).unwrap();
    let heard = soon(end.incoming.recv()).await.unwrap();
    assert_eq!(
        (&*heard.node, heard.message.call_id().unwrap().as_str()),
        ("core.example", "call-1")
    );
    end.nodes.send("core.example", request("call-2")).unwrap();
    let heard = soon(core.incoming.recv()).await.unwrap();
    assert_eq!(
        (&*heard.edge, heard.message.call_id().unwrap().as_str()),
        ("edge.example", "call-2")
    );
    edge.diary.wait("up core.example", 1).await;
    edge.trunk.sender.send(inward(7)).await.unwrap();
    assert_eq!(id(&soon(xmpp.trunk.incoming.recv()).await.unwrap()), 7);
}

/// What the edge knows of one node.
fn served(end: &SipEdgeEnd, node: &str) -> Vec<String> {
    let nodes = end.nodes.list();
    let node = nodes.into_iter().find(|one| &*one.name == node).unwrap();
    node.domains.unwrap().iter().map(Domain::to_string).collect()
}

#[tokio::test]
async fn a_node_serves_what_it_announced_for_xmpp_and_nothing_before() {
    let ca = TestCa::new();
    let (edge, end, links) = edge(&ca, &["c1.example", "c2.example"]).await;
    let (_core, _, _tasks) = dial(&ca, "c2.example", edge.address);
    links.wait("up c2.example", 1).await;
    assert_eq!(served(&end, "c2.example"), Vec::<String>::new());
    let announces = watch::Sender::new(vec![domain("b.example"), domain("not-ours.example")]);
    let edges = [("edge.example", edge.address)];
    let _xmpp = core_for(&ca, "c2.example", announces.subscribe(), &edges, tuning());
    edge.diary.wait("c2.example serves b.example", 1).await;
    assert_eq!(served(&end, "c2.example"), ["b.example"]);
    announces.send_replace(vec![domain("b.example"), domain("ours.example")]);
    edge.diary.wait("c2.example serves b.example ours.example", 1).await;
    assert_eq!(served(&end, "c2.example"), ["b.example", "ours.example"]);
}

#[tokio::test]
async fn a_link_that_breaks_is_told_at_both_ends_and_comes_back() {
    let ca = TestCa::new();
    let (edge, mut end, links) = edge(&ca, &["core.example"]).await;
    let proxy = Proxy::to(edge.address).await;
    let (core, diary, _tasks) = dial(&ca, "core.example", proxy.address);
    links.wait("up core.example", 1).await;
    proxy.turn(None);
    diary.wait("down edge.example", 1).await;
    links.wait("down core.example", 1).await;
    assert!(core.edges.send(Edge::For("x"), request("lost")).is_err());
    assert!(end.nodes.send("core.example", request("lost")).is_err());
    proxy.turn(Some(edge.address));
    diary.wait("up edge.example", 2).await;
    links.wait("up core.example", 2).await;
    core.edges.send(Edge::For("x"), request("again")).unwrap();
    let heard = soon(end.incoming.recv()).await.unwrap();
    assert_eq!(heard.message.call_id().unwrap(), "again");
}

#[tokio::test]
async fn nobody_but_a_listed_core_gets_a_link() {
    let ca = TestCa::new();
    let other = TestCa::new();
    let (edge, end, links) = edge(&ca, &["core.example"]).await;
    let proxy = Proxy::to(edge.address).await;
    // One by a name that is not listed, one by the right name from another authority.
    for (authority, name) in [(&ca, "other.example"), (&other, "core.example")] {
        let connector = Connector::new(&keys(authority, name), &roots(&ca), &[sip::ALPN]).unwrap();
        let tcp = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let (mut io, _) =
            soon(connector.connect(tcp, &domain("edge.example"), &domain(name))).await.unwrap();
        let mut byte = [0];
        let read = soon(tokio::io::AsyncReadExt::read(&mut io, &mut byte)).await;
        assert!(!matches!(read, Ok(count) if count > 0), "{name} heard something");
    }
    assert!(end.nodes.list().is_empty());
    assert_eq!(links.entries(), Vec::<String>::new());
}

#[tokio::test]
async fn an_edge_that_speaks_no_sip_has_no_door_for_it() {
    let ca = TestCa::new();
    let edge = super::world::edge(&ca, "edge.example", &["core.example"], tuning()).await;
    let connector = Connector::new(&keys(&ca, "core.example"), &roots(&ca), &[sip::ALPN]).unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // One that refuses is told from one that is away: it is asked less and less.
    for (address, refuses) in [(edge.address, true), (closed, false)] {
        let edge = EdgeAddress { name: domain("edge.example"), address: address.to_string() };
        let reached = soon(sip::reach(&edge, &domain("core.example"), &connector)).await;
        let Err(failure) = reached else { panic!("a link") };
        assert_eq!(failure.speaks_no_sip, refuses, "{failure:?}");
        assert_eq!(failure.reason.contains("listen.sip"), refuses, "{failure:?}");
    }
}

//! SIP of the inside over sockets: who is let in, what it may say, and where what is for it goes.

mod dns;
mod peer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_bridge::GatewayConfig;
use gatehouse_bridge::profile::Profile;
use gatehouse_net::{Tasks, bind};
use gatehouse_policy::{
    Hop, HopProtocol, InsideSip, Policy, RouteBy, RoutePattern, RouteTable, StaticRoute,
    TrustedPeer,
};
use gatehouse_resolve::Resolver;
use gatehouse_store::Store;
use gatehouse_testkit::{TestCa, TestCertificate};
use gatehouse_tls::{Acceptor, Connector, KeyEntry, Keys, Roots, SystemRoots};
use gatehouse_trunk::sip::SipEdgeEnd;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Client, World, address, config};
use crate::router::Router;
use crate::sip::{self, InsideParts, SipGatewayParts};
use crate::stamp::WallClock;
use peer::Peer;

const PATIENCE: Duration = Duration::from_secs(20);

struct Inside {
    world: World,
    ca: TestCa,
    settings: watch::Sender<Arc<InsideSip>>,
    tls: SocketAddr,
    tcp: SocketAddr,
    edge: SipEdgeEnd,
    _tasks: Tasks,
}

fn keys(certificate: TestCertificate, domain: &str) -> Keys {
    let keys = Keys::empty();
    let entry = KeyEntry {
        domains: vec![domain.parse().unwrap()],
        chain_pem: certificate.chain_pem,
        key_pem: certificate.key_pem,
    };
    keys.replace(vec![entry]).unwrap();
    keys
}

fn roots(ca: &TestCa) -> Roots {
    Roots::new(&[ca.root_pem().to_owned()], SystemRoots::Ignore).unwrap()
}

/// A peer that is trusted by this subject, or this address, and speaks for `phones.example`.
fn trusted(subjects: &[&str], addresses: &[&str]) -> TrustedPeer {
    TrustedPeer {
        name: "pbx".to_owned(),
        subjects: subjects.iter().map(|one| one.parse().unwrap()).collect(),
        addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
        domains: vec!["phones.example".parse().unwrap()],
        kind: None,
    }
}

/// Everything for `phones.example` to one next hop.
fn route(host: &str, port: u16, protocol: HopProtocol, priority: u16) -> StaticRoute {
    StaticRoute {
        pattern: RoutePattern::parse(RouteBy::Domain, "phones.example").unwrap(),
        within: None,
        kind: None,
        hop: Hop::new(host, Some(port), protocol).unwrap(),
        priority: priority.try_into().unwrap(),
        weight: 1.try_into().unwrap(),
        less_specific: true,
        in_service: true,
        block: false,
    }
}

fn settings(trusted: Vec<TrustedPeer>, routes: Vec<StaticRoute>) -> InsideSip {
    InsideSip { trusted, routes: RouteTable::new(routes, &[]).unwrap() }
}

impl Inside {
    async fn start(settings: InsideSip) -> Self {
        Self::with(settings, Resolver::with_servers(&["127.0.0.1:1".parse().unwrap()]).unwrap())
            .await
    }

    async fn with(settings: InsideSip, resolver: Resolver) -> Self {
        let ca = TestCa::new();
        let files = tempfile::tempdir().unwrap();
        let store = Store::open(&files.path().join("db.sqlite")).await.unwrap();
        for name in ["alice", "bob"] {
            store.add_account(&address(&format!("{name}@ours.example")), &[]).await.unwrap();
        }
        let tasks = Tasks::default();
        let (settings, receiver) = watch::channel(Arc::new(settings));
        let [tls, tcp] = ["127.0.0.1:0"; 2].map(|one| bind(one.parse().unwrap()).unwrap());
        let (tls_address, tcp_address) = (tls.local_addr().unwrap(), tcp.local_addr().unwrap());
        let own = keys(ca.issue_for("ours.example"), "ours.example");
        let inside = InsideParts {
            settings: receiver,
            tls_listeners: vec![tls],
            tcp_listeners: vec![tcp],
            acceptor: Acceptor::new(&own, &roots(&ca), &[]).unwrap(),
            connector: Connector::new(&own, &roots(&ca), &[]).unwrap(),
            resolver,
            own: "ours.example".parse().unwrap(),
            connections_max: 20,
        };
        let (trunk, edge) = gatehouse_trunk::sip::in_process();
        let parts = SipGatewayParts {
            config: GatewayConfig {
                default_profile: Profile::Standard,
                contact: "core".to_owned(),
                ..GatewayConfig::default()
            },
            node: "core".to_owned(),
            policy: watch::channel(Arc::new(Policy::open_with_certificate())).1,
            trunk,
            inside: Some(inside),
        };
        let (port, idle) = sip::port(parts);
        let (core, far) = gatehouse_trunk::in_process();
        let router = Router::new(config(), store, core.sender, Some(port), WallClock::system());
        sip::start(idle, &router, &tasks);
        let world = World { router, edge: far, _files: files };
        Self { world, ca, settings, tls: tls_address, tcp: tcp_address, edge, _tasks: tasks }
    }

    async fn tcp(&self) -> Peer {
        Peer::tcp(self.tcp).await
    }

    /// Shows a certificate of `ca` that names `name`.
    async fn tls(&self, ca: &TestCa, name: &str) -> Option<Peer> {
        let connector =
            Connector::new(&keys(ca.issue_for(name), name), &roots(&self.ca), &[]).unwrap();
        Peer::tls(self.tls, &connector, name).await
    }

    async fn alice(&self) -> Client {
        let alice = self.world.bind("alice", "a").await;
        alice.send("<presence/>").await;
        alice
    }

    /// Nothing went to an edge, by either protocol.
    fn nothing_left(&mut self) {
        assert!(self.edge.incoming.try_recv().is_err(), "an edge got SIP");
        let sent = self.world.sent();
        assert!(sent.iter().all(|one| !one.contains("phones.example")), "{sent:?}");
    }
}

/// What came for a client that has `text` in it.
async fn until(client: &mut Client, text: &str) -> String {
    let wait = async {
        loop {
            if let Some(found) = client.got().into_iter().find(|one| one.contains(text)) {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap()
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port that nobody listens on: it was free a moment ago, and stays taken by us.
async fn closed_port() -> (tokio::net::TcpSocket, u16) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

#[tokio::test]
async fn a_trusted_address_talks_to_users_and_only_for_its_domains() {
    let inside = Inside::start(settings(vec![trusted(&[], &["127.0.0.1"])], vec![])).await;
    let mut alice = inside.alice().await;
    let mut pbx = inside.tcp().await;
    let ask = [
        ("sip:1001@phones.example", "sip:alice@ours.example", 200),
        ("sip:1001@phones.example", "sip:nobody@ours.example", 403),
        // Not for a domain that its row does not name, least of all for ours.
        ("sip:1001@other.example", "sip:alice@ours.example", 403),
        ("sip:bob@ours.example", "sip:alice@ours.example", 403),
        ("sip:1001@10.0.0.1", "sip:alice@ours.example", 403),
        // No relay.
        ("sip:1001@phones.example", "sip:x@them.example", 404),
    ];
    for (from, to, wanted) in ask {
        assert_eq!(pbx.message(from, to, "hi").await, wanted, "{from} to {to}");
    }
    assert_eq!(pbx.options().await, 200, "it may ask whether we live");
    let got = until(&mut alice, "1001@phones.example").await;
    assert!(got.contains("1001@phones.example") && got.contains("hi"), "{got}");
}

#[tokio::test]
async fn a_stranger_without_tls_hears_403_and_is_closed() {
    let inside = Inside::start(settings(vec![trusted(&["pbx.example"], &["127.0.0.2"])], vec![]));
    let inside = inside.await;
    let mut stranger = inside.tcp().await;
    let status = stranger.message("sip:1001@phones.example", "sip:alice@ours.example", "hi").await;
    assert_eq!(status, 403);
    assert!(stranger.is_closed().await);
    let mut asks = inside.tcp().await;
    assert_eq!(asks.options().await, 403);
}

#[tokio::test]
async fn over_tls_the_subject_decides() {
    let inside =
        Inside::start(settings(vec![trusted(&["pbx.example"], &["127.0.0.1"])], vec![])).await;
    let (from, to) = ("sip:1001@phones.example", "sip:alice@ours.example");
    let mut pbx = inside.tls(&inside.ca, "pbx.example").await.unwrap();
    assert_eq!(pbx.message(from, to, "hi").await, 200);
    // Another subject, even from a trusted address, and the right one of a strange authority.
    let strange = TestCa::named("strange");
    for (ca, name) in [(&inside.ca, "other.example"), (&strange, "pbx.example")] {
        if let Some(mut refused) = inside.tls(ca, name).await {
            assert!(refused.is_closed().await, "{name}");
        }
    }
    // Taken off the list: gone at once.
    inside.settings.send_replace(Arc::new(settings(vec![], vec![])));
    assert!(pbx.is_closed().await);
}

#[tokio::test]
async fn a_phone_server_watches_a_user_over_its_own_connection() {
    let inside = Inside::start(settings(vec![trusted(&["pbx.example"], &[])], vec![])).await;
    let mut alice = inside.alice().await;
    let mut pbx = inside.tls(&inside.ca, "pbx.example").await.unwrap();
    let status = pbx.subscribe("sip:1001@phones.example", "sip:alice@ours.example").await;
    assert!((200..300).contains(&status), "{status}");
    let notify = pbx.request("NOTIFY").await;
    let via = notify.vias().unwrap().remove(0);
    assert_eq!((via.transport.as_str(), via.port), ("TLS", Some(inside.tls.port())));
    assert!(!notify.to_bytes().windows(5).any(|word| word == b"@core"), "{notify:?}");
    until(&mut alice, "subscribe").await;
    alice.send("<presence to='1001@phones.example' type='subscribed'/>").await;
    let notify = pbx.request("NOTIFY").await;
    let state = notify.subscription_state().unwrap().unwrap();
    assert!(format!("{state:?}").to_lowercase().contains("active"), "{state:?}");
}

#[tokio::test]
async fn a_row_says_what_the_software_of_its_domain_is() {
    let standard = TrustedPeer {
        kind: Some(gatehouse_policy::SipKind::Standard),
        ..trusted(&[], &["127.0.0.1"])
    };
    let inside = Inside::start(settings(vec![standard.clone()], vec![])).await;
    let alice = inside.alice().await;
    let mut pbx = inside.tcp().await;
    let (phone, user) = ("sip:1001@phones.example", "sip:alice@ours.example");
    let chat = "<message to='1002@phones.example' type='chat'><body>hi</body></message>";
    // One phone's headers look like Lync: that says nothing against the row.
    let allow = "INVITE, MESSAGE, INFO, BENOTIFY";
    assert_eq!(pbx.message_allowing(phone, user, allow).await, 200);
    alice.send(chat).await;
    pbx.request("MESSAGE").await;
    // Without a word in the row they do, and a reload is enough.
    let auto = TrustedPeer { kind: None, ..standard };
    inside.settings.send_replace(Arc::new(settings(vec![auto], vec![])));
    assert_eq!(pbx.message_allowing(phone, user, allow).await, 200);
    alice.send(chat).await;
    pbx.refuse("INVITE", 488).await;
}

#[tokio::test]
async fn a_user_of_a_partner_is_not_inside_by_its_name() {
    let (listener, port) = listen().await;
    let users = StaticRoute {
        pattern: RoutePattern::parse(RouteBy::User, "10..").unwrap(),
        ..route("127.0.0.1", port, HopProtocol::Tcp, 1)
    };
    let mut inside = Inside::start(settings(vec![trusted(&[], &["127.0.0.1"])], vec![users])).await;
    let alice = inside.alice().await;
    alice.send("<message to='1001@partner.example'><body>not inside</body></message>").await;
    alice.send("<message to='1001@phones.example'><body>inside</body></message>").await;
    let mut hop = Peer::accept(&listener).await;
    assert_eq!(hop.request("MESSAGE").await.body.as_ref(), b"inside");
    let sent = inside.world.sent();
    assert!(sent.iter().any(|one| one.contains("not inside")), "by XMPP, as policy says: {sent:?}");
}

#[tokio::test]
async fn a_static_route_leads_inside_and_to_the_next_hop_on_failure() {
    let (_closed, first) = closed_port().await;
    let (listener, second) = listen().await;
    let routes = vec![
        route("127.0.0.1", first, HopProtocol::Tcp, 1),
        route("127.0.0.1", second, HopProtocol::Tcp, 2),
    ];
    let mut inside = Inside::start(settings(vec![trusted(&[], &["127.0.0.1"])], routes)).await;
    let alice = inside.alice().await;
    for body in ["one", "two"] {
        alice
            .send(&format!(
                "<message to='1001@phones.example' type='chat'><body>{body}</body></message>"
            ))
            .await;
    }
    let mut hop = Peer::accept(&listener).await;
    for body in ["one", "two"] {
        let message = hop.request("MESSAGE").await;
        assert_eq!(message.uri().unwrap().to_string(), "sip:1001@phones.example");
        assert_eq!(message.body.as_ref(), body.as_bytes());
    }
    // It answers on the connection that we opened, as one that is trusted.
    let status = hop.message("sip:1001@phones.example", "sip:alice@ours.example", "back").await;
    assert_eq!(status, 200);
    inside.nothing_left();
}

#[tokio::test]
async fn a_next_hop_that_answers_503_is_passed_over() {
    let ((busy, first), (listener, second)) = (listen().await, listen().await);
    let routes = vec![
        route("127.0.0.1", first, HopProtocol::Tcp, 1),
        route("127.0.0.1", second, HopProtocol::Tcp, 2),
    ];
    let mut inside = Inside::start(settings(vec![], routes)).await;
    let alice = inside.alice().await;
    let mut busy = Peer::accept(&busy).await;
    alice.send("<message to='1001@phones.example'><body>hi</body></message>").await;
    busy.refuse("MESSAGE", 503).await;
    let mut hop = Peer::accept(&listener).await;
    assert_eq!(hop.request("MESSAGE").await.body.as_ref(), b"hi");
    // A next hop that nobody trusts may answer, and not ask.
    let status = hop.message("sip:1001@phones.example", "sip:alice@ours.example", "no").await;
    assert_eq!(status, 403);
    inside.nothing_left();
}

#[tokio::test]
async fn blocked_and_withdrawn_routes() {
    let (listener, port) = listen().await;
    let mut blocked = route("127.0.0.1", port, HopProtocol::Tcp, 1);
    blocked.block = true;
    let mut inside = Inside::start(settings(vec![], vec![blocked.clone()])).await;
    let mut alice = inside.alice().await;
    let hi = "<message to='1001@phones.example' id='x'><body>hi</body></message>";
    alice.send(hi).await;
    let error = until(&mut alice, "message:error").await;
    assert!(error.contains("forbidden") || error.contains("not-allowed"), "{error}");
    inside.nothing_left();
    // Out of service: nobody is left to carry it, and it does not go elsewhere.
    let withdrawn =
        StaticRoute { block: false, in_service: false, less_specific: false, ..blocked.clone() };
    inside.settings.send_replace(Arc::new(settings(vec![], vec![withdrawn])));
    alice.send(hi).await;
    let error = until(&mut alice, "message:error").await;
    assert!(!error.contains("forbidden"), "{error}");
    inside.nothing_left();
    // And back.
    let open = StaticRoute { block: false, ..blocked };
    inside.settings.send_replace(Arc::new(settings(vec![], vec![open])));
    alice.send(hi).await;
    let mut hop = Peer::accept(&listener).await;
    assert_eq!(hop.request("MESSAGE").await.body.as_ref(), b"hi");
}

#[tokio::test]
async fn port_0_asks_dns_and_the_certificate_decides() {
    for (named, trusts, taken) in [
        // The next hop as it is written.
        ("pbx.example", false, true),
        // The host that DNS names: only if it is trusted.
        ("host.example", true, true),
        ("host.example", false, false),
        ("other.example", true, false),
    ] {
        let (listener, port) = listen().await;
        let (resolver, _dns) = dns::serve("_sips._tcp.pbx.example", port).await;
        let routes = vec![route("pbx.example", 0, HopProtocol::Tls, 1)];
        let subjects: &[&str] = if trusts { &["host.example"] } else { &[] };
        let trusted = vec![trusted(subjects, &[])];
        let mut inside = Inside::with(settings(trusted, routes), resolver).await;
        let own = keys(inside.ca.issue_for(named), named);
        let acceptor = Acceptor::new(&own, &roots(&inside.ca), &[]).unwrap();
        let mut alice = inside.alice().await;
        alice.send("<message to='1001@phones.example'><body>hi</body></message>").await;
        let hop = Peer::accept_tls(&listener, &acceptor).await;
        if taken {
            assert_eq!(hop.unwrap().request("MESSAGE").await.body.as_ref(), b"hi", "{named}");
        } else {
            until(&mut alice, "message:error").await;
        }
        inside.nothing_left();
    }
}

#[tokio::test]
async fn an_edge_cannot_speak_for_an_inside_domain() {
    let mut inside = Inside::start(settings(vec![trusted(&[], &["127.0.0.1"])], vec![])).await;
    let request =
        peer::text("MESSAGE", "sip:1001@phones.example", "sip:alice@ours.example", "1", "x");
    let mut framer = gatehouse_sip::Framer::new(peer::LIMITS);
    framer.push(request.as_bytes());
    let Ok(Some(gatehouse_sip::Received::Message(message))) = framer.next() else {
        panic!("a message")
    };
    inside.edge.nodes.send("core", message).unwrap();
    let answer = tokio::time::timeout(PATIENCE, inside.edge.incoming.recv()).await.unwrap();
    assert_eq!(answer.unwrap().message.status().unwrap().code(), 403);
}

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::Tasks;
use gatehouse_testkit::TestCa;
use gatehouse_tls::{Acceptor, Connector, KeyEntry, Keys, Roots, SystemRoots};
use gatehouse_types::Domain;
use gatehouse_xmpp::Stanza;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::Span;

use crate::{
    ALPN, CoreNode, DialConfig, EdgeAddress, ListenConfig, Receipt, Transfer, Trunk, TrunkObserver,
    Tuning, dial, listen,
};

/// Long enough for anything that will ever happen on a busy machine.
const SOON: Duration = Duration::from_secs(30);

pub(super) fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

/// Waits for it, but not for ever.
pub(super) async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(SOON, work).await.expect("it did not happen in time")
}

pub(super) fn message(from: &str, to: &str, id: usize) -> Stanza {
    let text = format!(
        "<message xmlns='jabber:client' from='a@{from}/x' to='b@{to}' id='{id}'>\
         <body>number {id}</body></message>"
    );
    Stanza::from_element(text.parse().unwrap()).unwrap()
}

pub(super) fn out(id: usize) -> Stanza {
    message("ours.example", "them.example", id)
}

pub(super) fn inward(id: usize) -> Stanza {
    message("them.example", "ours.example", id)
}

pub(super) fn id(transfer: &Transfer) -> usize {
    transfer.stanza.id().unwrap().parse().unwrap()
}

/// Times short enough for a test.
pub(super) fn tuning() -> Tuning {
    Tuning { patience: Duration::from_secs(20), ..Tuning::default() }
}

/// Keys of one node.
pub(super) fn keys(ca: &TestCa, name: &str) -> Keys {
    let certificate = ca.issue().dns(name).make();
    let keys = Keys::empty();
    keys.replace(vec![KeyEntry {
        domains: vec![domain(name)],
        chain_pem: certificate.chain_pem,
        key_pem: certificate.key_pem,
    }])
    .unwrap();
    keys
}

pub(super) fn roots(ca: &TestCa) -> Roots {
    Roots::new(&[ca.root_pem().to_owned()], SystemRoots::Ignore).unwrap()
}

pub(super) fn acceptor(keys: &Keys, roots: &Roots) -> Acceptor {
    Acceptor::new(keys, roots, &[ALPN]).unwrap()
}

pub(super) fn connector(keys: &Keys, roots: &Roots) -> Connector {
    Connector::new(keys, roots, &[ALPN]).unwrap()
}

/// What was observed: `up core.example`, `down core.example`.
#[derive(Clone)]
pub(super) struct Diary(Arc<watch::Sender<Vec<String>>>);

impl Diary {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }

    pub(super) fn entries(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// Waits until there are so many entries of this kind.
    pub(super) async fn wait(&self, entry: &str, times: usize) {
        let count = |all: &Vec<String>| all.iter().filter(|one| *one == entry).count();
        let mut diary = self.0.subscribe();
        soon(diary.wait_for(|all| count(all) >= times)).await.unwrap();
    }
}

impl TrunkObserver for Diary {
    fn up(&self, peer: &str, _address: &str, tls: &'static str) {
        assert_eq!(tls, "TLSv1.3");
        self.0.send_modify(|all| all.push(format!("up {peer}")));
    }

    fn serves(&self, peer: &str, domains: &[Domain]) {
        let domains: Vec<_> = domains.iter().map(Domain::as_str).collect();
        if domains != ["ours.example"] {
            self.0.send_modify(|all| all.push(format!("{peer} serves {}", domains.join(" "))));
        }
    }

    fn overstepped(&self, peer: &str, _what: &str) {
        self.0.send_modify(|all| all.push(format!("{peer} overstepped")));
    }

    fn down(&self, peer: &str, _reason: &str) {
        self.0.send_modify(|all| all.push(format!("down {peer}")));
    }
}

/// One role.
pub(super) struct Node {
    pub(super) trunk: Trunk,
    pub(super) diary: Diary,
    pub(super) tasks: Tasks,
    /// Where an edge listens.
    pub(super) address: SocketAddr,
}

/// A core that may serve every domain of the edge.
pub(super) fn any_of_ours(name: &str) -> CoreNode {
    row(name, &["ours.example", "b.example"])
}

pub(super) fn row(name: &str, domains: &[&str]) -> CoreNode {
    CoreNode { name: domain(name), domains: domains.iter().map(|name| domain(name)).collect() }
}

pub(super) async fn edge(ca: &TestCa, name: &str, cores: &[&str], tuning: Tuning) -> Node {
    edge_of(ca, name, cores.iter().map(|name| any_of_ours(name)).collect(), tuning).await
}

pub(super) async fn edge_of(ca: &TestCa, name: &str, cores: Vec<CoreNode>, tuning: Tuning) -> Node {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tasks, diary) = (Tasks::default(), Diary::new());
    let config = ListenConfig {
        own: domain(name),
        listeners: vec![listener],
        cores,
        tuning,
        observer: Arc::new(diary.clone()),
    };
    let trunk = listen(config, acceptor(&keys(ca, name), &roots(ca)), &tasks);
    Node { trunk, diary, tasks, address }
}

pub(super) fn core(ca: &TestCa, name: &str, edges: &[(&str, SocketAddr)], tuning: Tuning) -> Node {
    let (_, domains) = watch::channel(vec![domain("ours.example")]);
    core_for(ca, name, domains, edges, tuning)
}

/// A core that says by itself what it serves.
pub(super) fn core_for(
    ca: &TestCa,
    name: &str,
    domains: watch::Receiver<Vec<Domain>>,
    edges: &[(&str, SocketAddr)],
    tuning: Tuning,
) -> Node {
    let (tasks, diary) = (Tasks::default(), Diary::new());
    let config = DialConfig {
        own: domain(name),
        edges: edges
            .iter()
            .map(|(name, address)| EdgeAddress { name: domain(name), address: address.to_string() })
            .collect(),
        domains,
        tuning,
        observer: Arc::new(diary.clone()),
    };
    let trunk = dial(config, connector(&keys(ca, name), &roots(ca)), &tasks);
    Node { trunk, diary, tasks, address: (Ipv4Addr::LOCALHOST, 0).into() }
}

/// A TCP proxy that a test can cut and turn elsewhere.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
    cuts: watch::Sender<()>,
    /// Connections that went nowhere.
    turned_away: watch::Receiver<usize>,
    _tasks: Tasks,
}

impl Proxy {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new(Some(target)));
        let cuts = watch::Sender::new(());
        let (away, turned_away) = watch::channel(0);
        let tasks = Tasks::default();
        let (spawner, aim, cut) = (tasks.clone(), Arc::clone(&target), cuts.subscribe());
        tasks.spawn(Span::none(), async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let Some(target) = *aim.lock() else {
                    away.send_modify(|count| *count += 1);
                    continue;
                };
                let mut cut = cut.clone();
                cut.mark_unchanged();
                spawner.spawn(Span::none(), async move {
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    let copy = tokio::io::copy_bidirectional(&mut near, &mut far);
                    tokio::select! {
                        _ = cut.changed() => {}
                        _ = copy => {}
                    }
                });
            }
        });
        Self { address, target, cuts, turned_away, _tasks: tasks }
    }

    /// Waits until a connection went nowhere.
    pub(super) async fn turns_one_away(&self) {
        soon(self.turned_away.clone().wait_for(|count| *count > 0)).await.unwrap();
    }

    /// Breaks every connection.
    pub(super) fn cut(&self) {
        self.cuts.send_replace(());
    }

    /// Breaks every connection; new ones go to `target`, or nowhere.
    pub(super) fn turn(&self, target: Option<SocketAddr>) {
        *self.target.lock() = target;
        self.cut();
    }
}

/// Takes `len` stanzas; receipts are dropped late and out of order, as by a busy role.
pub(super) async fn take(
    node: &mut Node,
    len: usize,
    mut between: impl FnMut(usize),
) -> Vec<usize> {
    let (mut ids, mut held) = (Vec::new(), Vec::<Receipt>::new());
    while ids.len() < len {
        let transfer = soon(node.trunk.incoming.recv()).await.unwrap();
        ids.push(id(&transfer));
        held.push(transfer.receipt);
        if held.len() == 3 {
            for which in [1, 1, 0] {
                drop(held.remove(which));
            }
        }
        between(ids.len());
    }
    ids
}

pub(super) fn numbers(len: usize) -> Vec<usize> {
    (0..len).collect()
}

//! SIP: several edges and core nodes that speak the trunk, and partners that speak TLS.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use gatehouse_edge::{PrivateTargets, SipConfig, SipParts};
use gatehouse_net::{BoxedIo, Connection, Step, Tasks, connect, now};
use gatehouse_policy::{Policy, SipMode, SipPartner};
use gatehouse_resolve::Resolver;
use gatehouse_sip::{
    Framer, HeaderName, Limits, Message, Method, SipStream, Start, Status, StreamConfig,
    StreamEvent, Uri,
};
use gatehouse_telemetry::{Reach, Streams};
use gatehouse_testkit::{TestCa, TestCertificate};
use gatehouse_tls::{Acceptor, Connector, KeyEntry, Keys, Roots, SystemRoots};
use gatehouse_trunk::CoreNode;
use gatehouse_trunk::sip::{Edge, FromEdge, SipCoreEnd, SipEdges, mesh};
use gatehouse_types::{Domain, Local, Secret};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time;

use super::{PATIENCE, port};

/// What stands in messages of the inside, and in none that leaves.
const INSIDE: [&str; 8] =
    ["inside", "10.11.12.", "core-1", "core-2", "core-3", "edge-1", "edge-2", "edge.invalid"];

/// Every byte that partners were sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire(Arc<Mutex<Vec<u8>>>);

impl Wire {
    fn saw(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }

    /// Nothing of the inside left.
    pub(crate) fn assert_clean(&self) {
        let bytes = self.0.lock().unwrap();
        assert!(!bytes.is_empty(), "nothing left at all");
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        for secret in INSIDE {
            if let Some(at) = text.find(secret) {
                let around: String = text.chars().skip(at.saturating_sub(200)).take(400).collect();
                panic!("`{secret}` left:\n{around}");
            }
        }
    }
}

/// A transport that keeps what is read from it.
struct Tap(BoxedIo, Wire);

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.0).poll_read(cx, buf);
        self.1.saw(&buf.filled()[before..]);
        read
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A row of the policy that lets in whoever proves one of these domains.
pub(crate) fn row(remote: &[&str], mode: SipMode) -> SipPartner {
    SipPartner {
        name: "partners".to_owned(),
        remote: remote.iter().map(|remote| remote.parse().unwrap()).collect(),
        local: None,
        action: gatehouse_policy::Action::Allow,
        mode,
        host: None,
        route: None,
        proof: None,
        common_name: false,
        kind: None,
        messages_per_second: None,
        send_per_second: None,
    }
}

pub(crate) fn policy(rows: Vec<SipPartner>) -> Policy {
    Policy { sip: rows, ..Policy::default() }
}

fn keys_of(names: &[&str], certificate: Option<&TestCertificate>, ca: &TestCa) -> (Keys, Roots) {
    let keys = Keys::empty();
    if let Some(certificate) = certificate {
        keys.replace(vec![KeyEntry {
            domains: names.iter().map(|name| name.parse().unwrap()).collect(),
            chain_pem: certificate.chain_pem.clone(),
            key_pem: certificate.key_pem.clone(),
        }])
        .unwrap();
    }
    (keys, Roots::new(&[ca.root_pem().to_owned()], SystemRoots::Ignore).unwrap())
}

/// One running edge.
pub(crate) struct SipEdgeSide {
    pub(crate) address: SocketAddr,
    /// Of each node that has a port of its own, in their order.
    pub(crate) node_addresses: Vec<SocketAddr>,
    /// What its admin port knows.
    pub(crate) reach: Reach,
    tasks: Tasks,
}

impl SipEdgeSide {
    pub(crate) async fn stop(self) {
        self.tasks.shut_down(Duration::from_secs(10)).await.unwrap();
    }
}

/// What a node heard: which node, through which edge, what.
pub(crate) struct Heard {
    pub(crate) node: &'static str,
    pub(crate) edge: Arc<str>,
    pub(crate) message: Message,
}

/// A core node: answers whether it lives, and passes the rest on to the test.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) edges: SipEdges,
    /// It keeps its link and says nothing.
    pub(crate) is_silent: Arc<AtomicBool>,
    /// Whoever holds the one permit keeps it from reading.
    pub(crate) reads: Arc<Semaphore>,
    answered: Arc<AtomicUsize>,
}

impl Node {
    fn run(name: &'static str, end: SipCoreEnd, heard: mpsc::Sender<Heard>) -> Self {
        let SipCoreEnd { edges, mut incoming } = end;
        let node = Self {
            edges,
            is_silent: Arc::default(),
            reads: Arc::new(Semaphore::new(1)),
            answered: Arc::default(),
        };
        let this = node.clone();
        Tasks::default().spawn(tracing::Span::none(), async move {
            while let Some(FromEdge { edge, message }) = incoming.recv().await {
                if this.reads.available_permits() == 0 {
                    drop(this.reads.acquire().await);
                }
                if this.is_silent.load(Ordering::Relaxed) {
                    continue;
                }
                if message.method() == Some(Method::Options) && message.status().is_none() {
                    let answer = Message::response_to(&message, Status::of(200), Some("node"));
                    // An edge that has stopped takes nothing.
                    let _ = this.edges.send(Edge::Named(&edge), answer);
                    this.answered.fetch_add(1, Ordering::Relaxed);
                } else if heard.send(Heard { node: name, edge, message }).await.is_err() {
                    return;
                }
            }
        });
        node
    }
}

pub(crate) const NODES: [&str; 3] = ["core-1", "core-2", "core-3"];
const EDGES: [&str; 2] = ["edge-1", "edge-2"];

/// The inside: three nodes, two edges, all linked.
pub(crate) struct Inside {
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<SipEdgeSide>,
    pub(crate) heard: mpsc::Receiver<Heard>,
    pub(crate) policy: watch::Sender<Arc<Policy>>,
    /// Whom the edges trust.
    pub(crate) roots: Vec<Roots>,
}

pub(crate) fn secret() -> Secret<Vec<u8>> {
    Secret::new(vec![42; 32])
}

impl Inside {
    pub(crate) async fn start(ca: &TestCa, resolver: &Resolver, policy: Policy) -> Self {
        Self::start_with(ca, resolver, policy, PrivateTargets::Allow).await
    }

    pub(crate) async fn start_with(
        ca: &TestCa,
        resolver: &Resolver,
        policy: Policy,
        private_targets: PrivateTargets,
    ) -> Self {
        Self::start_of(ca, resolver, policy, private_targets, None).await
    }

    /// Where each node may speak for its own domains only.
    pub(crate) async fn start_apart(
        ca: &TestCa,
        resolver: &Resolver,
        policy: Policy,
        rights: &[&[&str]],
    ) -> Self {
        let domain = |name: &&str| name.parse().unwrap();
        let core = |(name, domains): (&&str, &&[&str])| CoreNode {
            name: domain(name),
            domains: domains.iter().map(domain).collect(),
        };
        let cores = NODES.iter().zip(rights).map(core).collect();
        Self::start_of(ca, resolver, policy, PrivateTargets::Allow, Some(cores)).await
    }

    async fn start_of(
        ca: &TestCa,
        resolver: &Resolver,
        policy: Policy,
        private_targets: PrivateTargets,
        rights: Option<Vec<CoreNode>>,
    ) -> Self {
        let (cores, ends) = mesh(&NODES, &EDGES);
        let (sender, heard) = mpsc::channel(4096);
        let nodes = NODES
            .iter()
            .zip(cores)
            .map(|(name, end)| Node::run(name, end, sender.clone()))
            .collect::<Vec<_>>();
        let policy = watch::Sender::new(Arc::new(policy));
        let certificate = ca.issue().dns("sip.ours.example").make();
        let (mut edges, mut trusted) = (Vec::new(), Vec::new());
        for trunk in ends {
            let trunk = match &rights {
                Some(rights) => trunk.with_rights(rights.clone()),
                None => trunk,
            };
            let names = ["sip.ours.example", "ours.example", "second.example"];
            let (keys, roots) = keys_of(&names, Some(&certificate), ca);
            trusted.push(roots.clone());
            let (tasks, reach) = (Tasks::default(), Reach::default());
            let (listener, own) = (port().await, port().await);
            let address = listener.local_addr().unwrap();
            let node_addresses = vec![own.local_addr().unwrap()];
            let parts = SipParts {
                config: SipConfig {
                    domains: ["ours.example", "second.example"]
                        .map(|name| Local(name.parse().unwrap()))
                        .to_vec(),
                    host_label: "sip".to_owned(),
                    public_port: 5061,
                    token_secrets: vec![secret()],
                    routing_nodes: NODES.iter().map(|name| (*name).to_owned()).collect(),
                    edges: 1.try_into().unwrap(),
                    connections_max: 64,
                    private_targets,
                },
                listeners: vec![listener],
                node_listeners: vec![(NODES[2].to_owned(), own)],
                acceptor: Acceptor::new(&keys, &roots, &[]).unwrap(),
                connector: Connector::new(&keys, &roots, &[]).unwrap(),
                resolver: resolver.clone(),
                policy: policy.subscribe(),
                streams: Streams::default(),
                reach: reach.clone(),
                trunk,
            };
            gatehouse_edge::start_sip(parts, &tasks);
            edges.push(SipEdgeSide { address, node_addresses, reach, tasks });
        }
        Self { nodes, edges, heard, policy, roots: trusted }
    }

    /// Both edges stop; the nodes and what they know stay.
    pub(crate) async fn stop(mut self) {
        for edge in std::mem::take(&mut self.edges) {
            edge.stop().await;
        }
        self.assert_silence();
    }

    /// What a node hears next.
    pub(crate) async fn hear(&mut self) -> Heard {
        time::timeout(PATIENCE, self.heard.recv()).await.expect("no node heard anything").unwrap()
    }

    /// A node sends through an edge; waits while the edge does not keep up.
    pub(crate) async fn send_slowly(&self, node: usize, edge: usize, message: Message) {
        while self.nodes[node].edges.send(Edge::Named(EDGES[edge]), message.clone()).is_err() {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn assert_silence(&mut self) {
        if let Ok(heard) = self.heard.try_recv() {
            panic!("{} heard {:?}", heard.node, heard.message);
        }
    }

    /// A node sends through an edge.
    pub(crate) fn send(&self, node: usize, edge: usize, message: Message) {
        self.nodes[node].edges.send(Edge::Named(EDGES[edge]), message).unwrap();
    }

    /// A node answers what it heard.
    pub(crate) fn answer(&self, heard: &Heard, code: u16) {
        let node = NODES.iter().position(|name| *name == heard.node).unwrap();
        let answer = answer_inside(&heard.message, code, node);
        self.nodes[node].edges.send(Edge::Named(&heard.edge), answer).unwrap();
    }

    /// Waits until every node has told both edges that it lives.
    pub(crate) async fn ready(&self) {
        let wait = async {
            while self.nodes.iter().any(|node| node.answered.load(Ordering::Relaxed) < 2) {
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        time::timeout(PATIENCE, wait).await.expect("a node was never asked");
    }
}

/// A request of a node, full of what must not leave.
pub(crate) fn request_inside(node: usize, method: &str, uri: &str, id: &str) -> Message {
    let name = NODES[node];
    let sdp = "v=0\r\no=- 1 1 IN IP4 10.11.12.13\r\ns=session\r\nc=IN IP4 10.11.12.13\r\n\
               t=0 0\r\nm=message 5060 sip null\r\na=accept-types:text/plain\r\n";
    let (kind, body) = match method {
        "INVITE" => ("Content-Type: application/sdp\r\n", sdp),
        _ => ("", ""),
    };
    let sequence = if method == "CANCEL" || method == "ACK" { "1" } else { "7" };
    let sequence = if method == "INVITE" { "1" } else { sequence };
    parse(&format!(
        "{method} {uri} SIP/2.0\r\n\
         Via: SIP/2.0/TLS {name}.inside.example:15061;branch=z9hG4bK{id}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:alice@ours.example>;tag=f{id}\r\n\
         To: <sip:bob@them.example>\r\n\
         Call-ID: {id}\r\n\
         CSeq: {sequence} {method}\r\n\
         Contact: <sip:{id}@{name}.inside.example:15061;transport=tls;x={id}>;+sip.instance=\"inside\"\r\n\
         Record-Route: <sip:{name}.inside.example;lr>\r\n\
         User-Agent: Gatehouse/{name}.inside.example\r\n\
         P-Asserted-Identity: <sip:alice@{name}.inside.example>\r\n\
         Warning: 399 10.11.12.13 \"a warning\"\r\n\
         {kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// The answer of a node.
pub(crate) fn answer_inside(request: &Message, code: u16, node: usize) -> Message {
    let name = NODES[node];
    let status = Status::of(code);
    let mut answer = Message::response_to(request, status, Some(&format!("node{node}")));
    if (200..300).contains(&code) {
        answer
            .headers
            .push_first(HeaderName::RecordRoute, format!("<sip:{name}.inside.example;lr>"))
            .unwrap();
        let id = request.call_id().unwrap();
        let contact = format!("<sip:{id}@{name}.inside.example:15061;transport=tls>");
        answer.headers.push(HeaderName::Contact, contact).unwrap();
    }
    answer.headers.push(HeaderName::Server, format!("{name}.inside.example")).unwrap();
    answer
}

pub(crate) fn parse(text: &str) -> Message {
    Framer::datagram(Limits::default(), text.as_bytes()).unwrap()
}

/// A partner's request from `bob@them.example`, outside any dialog.
pub(crate) fn request(method: &str, uri: &str, id: &str) -> Message {
    request_from("them.example", method, uri, id)
}

pub(crate) fn request_from(domain: &str, method: &str, uri: &str, id: &str) -> Message {
    parse(&format!(
        "{method} {uri} SIP/2.0\r\n\
         Via: SIP/2.0/TLS sip.{domain}:5061;branch=z9hG4bK{id}\r\n\
         Via: SIP/2.0/TLS pool.{domain}:5061;branch=z9hG4bKp{id}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:bob@{domain}>;tag=f{id}\r\n\
         To: <sip:alice@ours.example>\r\n\
         Call-ID: {id}\r\n\
         CSeq: 1 {method}\r\n\
         Record-Route: <sip:sip.{domain}:5061;transport=tls;lr;opaque=state:T:F>\r\n\
         Contact: <sip:bob@{domain};opaque=user:epid:x;gruu>\r\n\
         Content-Length: 0\r\n\r\n"
    ))
}

pub(crate) fn set(mut message: Message, name: HeaderName, value: &str) -> Message {
    message.headers.set(name, value).unwrap();
    message
}

pub(crate) fn with_uri(mut message: Message, to: &str) -> Message {
    if let Start::Request { uri, .. } = &mut message.start {
        *uri = Uri::parse(to).unwrap();
    }
    message
}

const STREAM: StreamConfig = StreamConfig {
    limits: Limits { head_max: 64 * 1024, body_max: 64 * 1024, headers_max: 256 },
    first_message_within: None,
    ping_after: None,
    pong_within: None,
    idle_max: None,
};

/// One end of a connection of a partner.
pub(crate) struct Phone {
    connection: Connection<SipStream>,
    early: VecDeque<Message>,
}

impl Phone {
    fn over(io: Box<dyn gatehouse_net::Io>, wire: &Wire) -> Self {
        let tapped = Box::new(Tap(io, wire.clone()));
        let stream = SipStream::new(STREAM, now());
        let connection = Connection::new(stream, tapped, Duration::from_secs(10));
        Self { connection, early: VecDeque::new() }
    }

    pub(crate) async fn send(&mut self, message: &Message) {
        self.connection.machine_mut().send(message, now());
        self.connection.flush().await.unwrap();
    }

    /// The next message; `None` once the edge has closed.
    pub(crate) async fn next_or_end(&mut self) -> Option<Message> {
        if let Some(message) = self.early.pop_front() {
            return Some(message);
        }
        loop {
            match self.connection.next().await {
                Ok(Step::Event(StreamEvent::Message(message))) => return Some(message),
                Ok(Step::Upgrade) => {}
                Ok(Step::Event(StreamEvent::Ended(_)) | Step::Closed) | Err(_) => return None,
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Message {
        let next = time::timeout(PATIENCE, self.next_or_end()).await;
        next.expect("the edge says nothing").expect("the edge closed the connection")
    }

    /// `403 1010;reason="..."` of the answer to this request.
    pub(crate) async fn ask(&mut self, message: &Message) -> String {
        self.send(message).await;
        told(&self.next().await)
    }
}

/// Status, and what else says why.
pub(crate) fn told(answer: &Message) -> String {
    let mut told = answer.status().expect("a response").to_string();
    for name in [HeaderName::MsDiagnosticsPublic, HeaderName::RetryAfter, HeaderName::Unsupported] {
        if let Some(value) = answer.headers.get(&name) {
            told += &format!(" {value}");
        }
    }
    told
}

/// A partner: dials the edges, and takes their calls.
pub(crate) struct SipPeer {
    pub(crate) wire: Wire,
    keys: Keys,
    roots: Roots,
    name: Domain,
}

impl SipPeer {
    pub(crate) fn new(certificate: Option<&TestCertificate>, ca: &TestCa, wire: &Wire) -> Self {
        let (keys, roots) = keys_of(&["sip.them.example"], certificate, ca);
        Self { wire: wire.clone(), keys, roots, name: "sip.them.example".parse().unwrap() }
    }

    /// TLS with an edge, for whatever bytes.
    pub(crate) async fn dial_raw(&self, edge: SocketAddr) -> BoxedIo {
        let connector = Connector::new(&self.keys, &self.roots, &[]).unwrap();
        let tcp = connect(edge, Duration::from_secs(5)).await.unwrap();
        let host = "sip.ours.example".parse().unwrap();
        let (io, _) = connector.connect(tcp, &host, &self.name).await.unwrap();
        Box::new(Tap(Box::new(io), self.wire.clone()))
    }

    pub(crate) async fn dial(&self, edge: SocketAddr) -> Phone {
        Phone::over(self.dial_raw(edge).await, &Wire::default())
    }

    /// A call of an edge.
    pub(crate) async fn accept(&self, listener: &TcpListener) -> Phone {
        let acceptor = Acceptor::new(&self.keys, &self.roots, &[]).unwrap();
        let (tcp, _) = time::timeout(PATIENCE, listener.accept()).await.expect("no call").unwrap();
        let (io, _) = acceptor.accept(tcp, None).await.unwrap();
        Phone::over(Box::new(io), &self.wire)
    }
}

/// Writes, and reads until the edge closes.
pub(crate) async fn say_all(mut io: BoxedIo, bytes: &[u8]) -> String {
    io.write_all(bytes).await.unwrap();
    io.flush().await.unwrap();
    let mut heard = Vec::new();
    let read = time::timeout(PATIENCE, io.read_to_end(&mut heard)).await;
    let _ = read.expect("the edge does not close");
    String::from_utf8_lossy(&heard).into_owned()
}

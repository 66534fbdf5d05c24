use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gatehouse_net::Tasks;
use gatehouse_sip::{Framer, HeaderName, Limits, Message, Method, Status};
use gatehouse_tls::{Connector, KeyEntry, Keys, Roots, SystemRoots, TlsError};
use gatehouse_trunk::sip::{self, Edge, FromEdge, SipCoreEnd, SipEdges};
use gatehouse_trunk::{ALPN, DialConfig, EdgeAddress, NoObserver, TrunkObserver, Tuning};
use gatehouse_types::Domain;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::ledger::Ledger;
use crate::clock::now;
use crate::failure::Failure;

/// The name of a node in its trunk certificate.
pub(crate) fn name(node: usize) -> String {
    format!("node-{}", node + 1)
}

/// What a node needs to reach the edges.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// The edges by name, and where their trunk is.
    pub(crate) edges: Vec<(String, SocketAddr)>,
    /// The IM domain that all nodes serve.
    pub(crate) domain: String,
}

/// A core node that is a test's: it speaks both links of the trunk with the product's own code, says
/// that it lives, answers every request with 200, and writes down what it hears. It runs on threads of
/// its own, so that it can be ended like a process: at once, without a farewell.
pub(crate) struct Node {
    number: usize,
    links: Links,
    keys: Keys,
    roots: Roots,
    ledger: Arc<Mutex<Ledger>>,
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    edges: SipEdges,
    /// It keeps its links and says nothing.
    is_silent: Arc<AtomicBool>,
    /// Withdraws the domain when it is dropped, so it is kept.
    _domains: watch::Sender<Vec<Domain>>,
}

impl Node {
    /// The node of this number, whose trunk certificate is in `directory`.
    pub(crate) fn new(
        number: usize,
        directory: &Path,
        links: &Links,
        ledger: &Arc<Mutex<Ledger>>,
    ) -> Result<Self, Failure> {
        let own = name(number);
        let read = |file: &str| {
            let file = directory.join(file);
            fs::read_to_string(&file).map_err(Failure::io("read", &file))
        };
        let keys = Keys::empty();
        keys.replace(vec![KeyEntry {
            domains: vec![domain(&own)?],
            chain_pem: read(&format!("{own}.crt"))?,
            key_pem: read(&format!("{own}.key"))?,
        }])
        .map_err(setup)?;
        let roots = Roots::new(&[read("trunk-ca.crt")?], SystemRoots::Ignore).map_err(setup)?;
        let (links, ledger) = (links.clone(), Arc::clone(ledger));
        Ok(Self { number, links, keys, roots, ledger, running: None })
    }

    /// Dials all edges, and goes on doing so.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failure::world(format!("cannot make a runtime: {error}")))?;
        let own = domain(&name(self.number))?;
        let edges = self
            .links
            .edges
            .iter()
            .map(|(edge, at)| Ok(EdgeAddress { name: domain(edge)?, address: at.to_string() }));
        let edges: Vec<EdgeAddress> = edges.collect::<Result<_, Failure>>()?;
        let (domains, served) = watch::channel(vec![domain(&self.links.domain)?]);
        let connector = |alpn| Connector::new(&self.keys, &self.roots, &[alpn]).map_err(setup);
        let (plain, for_sip) = (connector(ALPN)?, connector(sip::ALPN)?);
        let observer: Arc<dyn TrunkObserver> = Arc::new(NoObserver);
        let config = DialConfig {
            own: own.clone(),
            edges: edges.clone(),
            domains: served,
            tuning: Tuning::default(),
            observer: Arc::clone(&observer),
        };
        let inside = runtime.enter();
        let tasks = Tasks::default();
        let mut trunk = gatehouse_trunk::dial(config, plain, &tasks);
        let SipCoreEnd { edges, mut incoming } =
            sip::dial(&own, edges, &for_sip, &observer, &tasks);
        drop(inside);
        // Nobody writes to it by XMPP; what the edges say of themselves is taken and dropped.
        runtime.spawn(async move { while trunk.incoming.recv().await.is_some() {} });
        let is_silent = Arc::new(AtomicBool::new(false));
        let host = Host {
            number: self.number,
            edges: edges.clone(),
            ledger: Arc::clone(&self.ledger),
            is_silent: Arc::clone(&is_silent),
        };
        runtime.spawn(async move {
            while let Some(FromEdge { edge, message }) = incoming.recv().await {
                host.take(&edge, &message);
            }
        });
        self.running = Some(Running { runtime, edges, is_silent, _domains: domains });
        Ok(())
    }

    /// Ends at once: its connections are closed by the system, and nobody hears a farewell.
    pub(crate) fn kill(&mut self) -> bool {
        let running = self.running.take();
        running.map(|running| running.runtime.shutdown_background()).is_some()
    }

    /// Keeps its links and says nothing more, or speaks again.
    pub(crate) fn silence(&self, is_silent: bool) -> bool {
        let running = self.running.as_ref();
        running.map(|running| running.is_silent.store(is_silent, Ordering::Relaxed)).is_some()
    }

    /// Whether it is linked with all edges, if it runs.
    pub(crate) fn is_linked(&self) -> bool {
        let all = self.links.edges.len();
        self.running.as_ref().is_none_or(|running| running.edges.names().len() == all)
    }

    /// Begins a dialog through one of the edges. False while that takes no more.
    pub(crate) fn begin(
        &self,
        edge: &str,
        (method, call_id): (&str, &str),
        remote: &str,
    ) -> Result<bool, Failure> {
        let request = request(self.number, method, call_id, (&self.links.domain, remote))?;
        let Some(running) = &self.running else {
            return Err(Failure::world(format!("{} does not run", name(self.number))));
        };
        self.ledger.lock().begin(self.number, call_id);
        Ok(running.edges.send(Edge::Named(edge), request).is_ok())
    }
}

/// What a running node does with what it hears.
struct Host {
    number: usize,
    edges: SipEdges,
    ledger: Arc<Mutex<Ledger>>,
    is_silent: Arc<AtomicBool>,
}

impl Host {
    fn take(&self, edge: &str, message: &Message) {
        if self.is_silent.load(Ordering::Relaxed) {
            return;
        }
        if message.status().is_some() {
            return self.ledger.lock().response(self.number, message);
        }
        match message.method() {
            Some(Method::Options) => {}
            Some(Method::Ack) => return,
            _ if message.to().is_ok_and(|to| to.tag().is_some()) => {
                let own = contact(self.number, &message.call_id().unwrap_or_default());
                self.ledger.lock().in_dialog(self.number, message, &own);
            }
            _ => self.ledger.lock().session(self.number, now()),
        }
        let mut answer = Message::response_to(message, Status::of(200), Some("node"));
        // Says where it comes from, as a careless server would: that must not leave.
        let server = format!("{}.inside.example", name(self.number));
        if answer.headers.push(HeaderName::Server, server).is_ok() {
            // An edge that has gone takes nothing; another one does, if there is one.
            let _gone = self.edges.send(Edge::Named(edge), answer);
        }
    }
}

/// The branch of a node's request.
pub(crate) fn branch(call_id: &str) -> String {
    format!("z9hG4bK{call_id}")
}

/// The Contact that a node gives in a dialog.
pub(crate) fn contact(node: usize, call_id: &str) -> String {
    format!("sip:{call_id}@{}.inside.example:15061;transport=tls;x={call_id}", name(node))
}

/// A request of a node that begins a dialog, full of what must not leave.
pub(crate) fn request(
    node: usize,
    method: &str,
    call_id: &str,
    (local, remote): (&str, &str),
) -> Result<Message, Failure> {
    let (name, branch, contact) = (name(node), branch(call_id), contact(node, call_id));
    let sdp = "v=0\r\no=- 1 1 IN IP4 10.11.12.13\r\ns=session\r\nc=IN IP4 10.11.12.13\r\n\
               t=0 0\r\nm=message 5060 sip null\r\na=accept-types:text/plain\r\n";
    let (more, body) = match method {
        "INVITE" => ("Content-Type: application/sdp\r\n", sdp),
        _ => ("Event: presence\r\nExpires: 3600\r\n", ""),
    };
    parse(&format!(
        "{method} sip:bob@{remote} SIP/2.0\r\n\
         Via: SIP/2.0/TLS {name}.inside.example:15061;branch={branch}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:alice@{local}>;tag=f{call_id}\r\n\
         To: <sip:bob@{remote}>\r\n\
         Call-ID: {call_id}\r\n\
         CSeq: 1 {method}\r\n\
         Contact: <{contact}>;+sip.instance=\"inside\"\r\n\
         Record-Route: <sip:{name}.inside.example;lr>\r\n\
         User-Agent: Gatehouse/{name}.inside.example\r\n\
         P-Asserted-Identity: <sip:alice@{name}.inside.example>\r\n\
         Warning: 399 10.11.12.13 \"a warning\"\r\n\
         {more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// One whole message.
pub(crate) fn parse(text: &str) -> Result<Message, Failure> {
    Framer::datagram(Limits::default(), text.as_bytes())
        .map_err(|error| Failure::world(format!("a node's own request is no SIP: {error}")))
}

pub(crate) fn domain(name: &str) -> Result<Domain, Failure> {
    name.parse().map_err(|error: gatehouse_types::InvalidDomain| Failure::world(error.to_string()))
}

fn setup(error: TlsError) -> Failure {
    Failure::world(format!("cannot set up TLS: {error}"))
}

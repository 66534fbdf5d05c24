use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use gatehouse_tls::{Acceptor, Connector, Io, KeyEntry, Keys, Roots, SystemRoots, TlsError};
use gatehouse_types::Domain;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::node::domain;
use super::text::Text;
use crate::authority::Files;
use crate::failure::Failure;

/// How long a handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// After this a request counts as never answered.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Between two attempts to reach an edge.
const DIAL_EVERY: Duration = Duration::from_millis(50);
/// Requests and answers that wait to be written to one connection.
const QUEUE_LEN: usize = 1024;

/// Where the partner is, and whom it speaks to.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// Its domain.
    pub(crate) remote: String,
    /// Its host.
    pub(crate) host: String,
    /// Where it listens.
    pub(crate) at: SocketAddr,
    /// Ours.
    pub(crate) local: String,
    /// Where our edges listen for partners, in their order.
    pub(crate) edges: Vec<SocketAddr>,
}

/// A dialog that a node began, as the partner knows it.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    /// INVITE or SUBSCRIBE.
    pub(crate) method: String,
    /// The Call-ID.
    pub(crate) call_id: String,
    /// The address that the edge gave in the Contact.
    pub(crate) contact: String,
    /// The tag of our user.
    pub(crate) tag: String,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// A final answer, and whether it says when to try again.
    Answered(u16, bool),
    /// There was no connection to write it to.
    Unsent,
    /// No answer came.
    Silence,
}

/// A SIP partner with mutual TLS, written by hand: it keeps one connection up to each edge, takes the
/// calls of the edges, and answers what the nodes ask. It keeps every byte it ever received.
#[derive(Clone)]
pub(crate) struct Partner {
    shared: Arc<Shared>,
    handle: Handle,
}

struct Shared {
    ends: Ends,
    connector: Connector,
    acceptor: Acceptor,
    lines: Vec<Mutex<Option<mpsc::Sender<String>>>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Text>>>,
    dialogs: Mutex<Vec<Dialog>>,
    /// Answers that it has not given yet; every other one is held back while that is wanted.
    held: Mutex<Vec<String>>,
    holds: std::sync::atomic::AtomicBool,
    record: Mutex<File>,
    /// Why the record is not all that it received.
    unrecorded: Mutex<Option<std::io::Error>>,
    branches: AtomicU32,
    calls: AtomicUsize,
    /// Answers to nothing that it waited for.
    surplus: AtomicUsize,
    /// Requests in dialogs that it began.
    notified: AtomicUsize,
    /// Its subscriptions that are active, by Call-ID.
    active: Mutex<HashSet<String>>,
}

impl Partner {
    /// Listens, and dials the edges, on the runtime of `handle`.
    pub(crate) fn start(
        ends: Ends,
        files: &Files,
        record: File,
        handle: &Handle,
    ) -> Result<Self, Failure> {
        let read = |file| std::fs::read_to_string(file).map_err(Failure::io("read", file));
        let keys = Keys::empty();
        keys.replace(vec![KeyEntry {
            domains: vec![domain(&ends.host)?],
            chain_pem: read(&files.certificate)?,
            key_pem: read(&files.key)?,
        }])
        .map_err(setup)?;
        let roots = Roots::new(&[], SystemRoots::Ignore).map_err(setup)?;
        let shared = Arc::new(Shared {
            connector: Connector::new(&keys, &roots, &[]).map_err(setup)?,
            acceptor: Acceptor::new(&keys, &roots, &[]).map_err(setup)?,
            lines: ends.edges.iter().map(|_| Mutex::default()).collect(),
            waiting: Mutex::default(),
            dialogs: Mutex::default(),
            held: Mutex::default(),
            holds: std::sync::atomic::AtomicBool::new(false),
            record: Mutex::new(record),
            unrecorded: Mutex::default(),
            branches: AtomicU32::new(0),
            calls: AtomicUsize::new(0),
            surplus: AtomicUsize::new(0),
            notified: AtomicUsize::new(0),
            active: Mutex::default(),
            ends,
        });
        let at = shared.ends.at;
        let bound = std::net::TcpListener::bind(at).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let _inside = handle.enter();
            TcpListener::from_std(listener)
        });
        let listener =
            bound.map_err(|error| Failure::world(format!("cannot listen on {at}: {error}")))?;
        handle.spawn(take_calls(Arc::clone(&shared), listener, handle.clone()));
        let (near, far) =
            (domain(&format!("sip.{}", shared.ends.local))?, domain(&shared.ends.host)?);
        for (edge, at) in shared.ends.edges.iter().enumerate() {
            let names = (near.clone(), far.clone());
            handle.spawn(keep_up(Arc::clone(&shared), edge, *at, names));
        }
        Ok(Self { shared, handle: handle.clone() })
    }

    /// Where tasks of the partner run.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The number of its connections to edges that are up now.
    pub(crate) fn line_count(&self) -> usize {
        self.shared.lines.iter().filter(|line| line.lock().is_some()).count()
    }

    /// How many dialogs nodes began.
    pub(crate) fn dialog_count(&self) -> usize {
        self.shared.dialogs.lock().len()
    }

    /// All dialogs that nodes began.
    pub(crate) fn dialogs(&self) -> Vec<Dialog> {
        self.shared.dialogs.lock().clone()
    }

    /// How many calls of edges it took.
    pub(crate) fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::Relaxed)
    }

    /// Fails if the record is not all that it received: nothing may be said of what is not in it.
    pub(crate) fn recorded(&self) -> Result<(), String> {
        match &*self.shared.unrecorded.lock() {
            None => Ok(()),
            Some(error) => Err(format!("what the partner received could not be recorded: {error}")),
        }
    }

    /// How many answers came that nobody waited for any more.
    pub(crate) fn surplus(&self) -> usize {
        self.shared.surplus.load(Ordering::Relaxed)
    }

    /// How many requests in dialogs that it began itself came, NOTIFY above all.
    pub(crate) fn notified(&self) -> usize {
        self.shared.notified.load(Ordering::Relaxed)
    }

    /// How many of its subscriptions are active, as the last NOTIFY of each says.
    pub(crate) fn active(&self) -> usize {
        self.shared.active.lock().len()
    }

    /// From now on every other answer is held back, or none.
    pub(crate) fn hold(&self, holds: bool) {
        self.shared.holds.store(holds, Ordering::Relaxed);
    }

    /// How many answers are held back.
    pub(crate) fn held_count(&self) -> usize {
        self.shared.held.lock().len()
    }

    /// Takes the answers that were held back.
    pub(crate) fn take_held(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.held.lock())
    }

    /// Writes text to the connection to an edge. False if there is none.
    pub(crate) async fn write(&self, edge: usize, text: String) -> bool {
        let line = self.shared.lines.get(edge).and_then(|line| line.lock().clone());
        match line {
            Some(line) => line.send(text).await.is_ok(),
            None => false,
        }
    }

    /// A request in a dialog, through an edge; `contact` where the Request-URI is not the dialog's.
    pub(crate) async fn ask_in(
        &self,
        edge: usize,
        dialog: &Dialog,
        (method, number): (&str, u32),
        contact: Option<&str>,
    ) -> Outcome {
        let more = if method == "NOTIFY" {
            "Event: presence\r\nSubscription-State: active;expires=3600\r\n"
        } else {
            ""
        };
        self.ask(
            edge,
            &Request {
                method,
                number,
                uri: contact.unwrap_or(&dialog.contact),
                from: "bob",
                to: &format!("<sip:alice@{}>;tag={}", self.shared.ends.local, dialog.tag),
                call_id: &dialog.call_id,
                more,
            },
        )
        .await
    }

    /// A MESSAGE outside any dialog, through an edge.
    pub(crate) async fn ask_new(&self, edge: usize, call_id: &str) -> Outcome {
        let alice = format!("sip:alice@{}", self.shared.ends.local);
        let to = format!("<{alice}>");
        let (method, number, more) = ("MESSAGE", 1, "");
        let request = Request { method, number, uri: &alice, from: "bob", to: &to, call_id, more };
        self.ask(edge, &request).await
    }

    /// `from` of the partner's users wants to watch the user `whom` of ours.
    pub(crate) async fn watch(&self, edge: usize, from: &str, whom: &str) -> Outcome {
        let uri = format!("sip:{whom}@{}", self.shared.ends.local);
        let request = Request {
            method: "SUBSCRIBE",
            number: 1,
            uri: &uri,
            from,
            to: &format!("<{uri}>"),
            call_id: &format!("{from}-watches-{whom}"),
            more: "Event: presence\r\nExpires: 7200\r\nAccept: application/pidf+xml\r\n",
        };
        self.ask(edge, &request).await
    }

    async fn ask(&self, edge: usize, request: &Request<'_>) -> Outcome {
        let Ends { remote, host, .. } = &self.shared.ends;
        let Request { method, number, uri, from, to, call_id, more } = request;
        let count = self.shared.branches.fetch_add(1, Ordering::Relaxed);
        let branch = format!("z9hG4bKpartner{count}");
        let text = format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/TLS {host}:5061;branch={branch}\r\n\
             Via: SIP/2.0/TLS pool.{remote}:5061;branch=z9hG4bKpool{count}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{from}@{remote}>;tag=theirs\r\n\
             To: {to}\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {number} {method}\r\n\
             Contact: <sip:{from}@{remote};opaque=user:epid:x;gruu>\r\n\
             {more}Content-Length: 0\r\n\r\n"
        );
        let (sender, answer) = oneshot::channel();
        self.shared.waiting.lock().insert(branch.clone(), sender);
        let outcome = if self.write(edge, text).await {
            match timeout(ANSWER_WITHIN, answer).await {
                Ok(Ok(text)) => Outcome::Answered(
                    text.code().unwrap_or_default(),
                    text.first("retry-after").is_some(),
                ),
                _ => Outcome::Silence,
            }
        } else {
            Outcome::Unsent
        };
        self.shared.waiting.lock().remove(&branch);
        outcome
    }
}

/// What the partner asks.
struct Request<'a> {
    method: &'a str,
    number: u32,
    uri: &'a str,
    from: &'a str,
    to: &'a str,
    call_id: &'a str,
    /// Further lines.
    more: &'a str,
}

/// Keeps a connection to an edge.
async fn keep_up(shared: Arc<Shared>, edge: usize, at: SocketAddr, names: (Domain, Domain)) {
    let Some(line) = shared.lines.get(edge) else { return };
    loop {
        if let Ok(tcp) = TcpStream::connect(at).await {
            let _slower = tcp.set_nodelay(true);
            let shaken = Box::pin(shared.connector.connect(tcp, &names.0, &names.1));
            if let Ok(Ok((io, _))) = timeout(HANDSHAKE_WITHIN, shaken).await {
                let (sender, queue) = mpsc::channel(QUEUE_LEN);
                *line.lock() = Some(sender);
                carry(&shared, Box::new(io), queue).await;
                *line.lock() = None;
            }
        }
        sleep(DIAL_EVERY).await;
    }
}

async fn take_calls(shared: Arc<Shared>, listener: TcpListener, handle: Handle) {
    while let Ok((tcp, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        shared.calls.fetch_add(1, Ordering::Relaxed);
        handle.spawn(async move {
            let _slower = tcp.set_nodelay(true);
            let shaken = timeout(HANDSHAKE_WITHIN, shared.acceptor.accept(tcp, None)).await;
            if let Ok(Ok((io, _))) = shaken {
                // Nothing but answers is written here, and `carry` writes those itself.
                let (_nobody, queue) = mpsc::channel(1);
                carry(&shared, Box::new(io), queue).await;
            }
        });
    }
}

/// Both ways of one connection, until it ends.
async fn carry(shared: &Shared, mut io: Box<dyn Io>, mut queue: mpsc::Receiver<String>) {
    let (mut heard, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let out = tokio::select! {
            count = io.read(&mut buffer) => {
                let Some(bytes) = count.ok().and_then(|count| buffer.get(..count)) else { return };
                if bytes.is_empty() {
                    return;
                }
                if let Err(error) = shared.record.lock().write_all(bytes) {
                    shared.unrecorded.lock().get_or_insert(error);
                }
                heard.extend_from_slice(bytes);
                shared.hear(&mut heard)
            }
            Some(mut text) = queue.recv() => {
                while let Ok(more) = queue.try_recv() {
                    text += &more;
                }
                text
            }
        };
        let written = async {
            io.write_all(out.as_bytes()).await?;
            io.flush().await
        };
        if written.await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// Takes all whole messages, and gives what is to be written in answer.
    fn hear(&self, heard: &mut Vec<u8>) -> String {
        let (mut out, mut pings) = (String::new(), 0);
        while let Some(text) = Text::take(heard, &mut pings) {
            if text.code().is_some_and(|code| code >= 200) {
                let waiting = text.branch().and_then(|branch| self.waiting.lock().remove(branch));
                if waiting.is_none_or(|waiting| waiting.send(text).is_err()) {
                    self.surplus.fetch_add(1, Ordering::Relaxed);
                }
            } else if text.code().is_none() && text.method() != "ACK" {
                out += &self.take(&text);
            }
        }
        out + &"\r\n".repeat(pings)
    }

    /// A node's request, and the answer if it is given at once.
    fn take(&self, request: &Text) -> String {
        let Ends { remote, host, .. } = &self.ends;
        let mut more = format!(
            "Record-Route: <sip:{host}:5061;transport=tls;lr;opaque=state:T>\r\n\
             Contact: <sip:bob@{remote};opaque=user:epid:x;gruu>\r\n"
        );
        let mut body = String::new();
        if request.method() == "INVITE" {
            more += "Content-Type: application/sdp\r\n";
            body = format!(
                "v=0\r\no=- 0 0 IN IP4 {host}\r\ns=session\r\nc=IN IP4 {host}\r\nt=0 0\r\n\
                 m=message 5060 sip null\r\na=accept-types:text/plain\r\n"
            );
        }
        let answer = request.answer("200 OK", "theirs", &more, &body);
        if request.tag("to").is_some() {
            self.notified.fetch_add(1, Ordering::Relaxed);
            let call_id = request.first("call-id").unwrap_or_default().to_owned();
            let state = request.first("subscription-state").unwrap_or_default();
            if state.starts_with("active") {
                self.active.lock().insert(call_id);
            } else if !state.is_empty() {
                self.active.lock().remove(&call_id);
            }
            return answer;
        }
        let dialog = || {
            Some(Dialog {
                method: request.method().to_owned(),
                call_id: request.first("call-id")?.to_owned(),
                contact: request.contact()?.to_owned(),
                tag: request.tag("from")?.to_owned(),
            })
        };
        let Some(dialog) = dialog() else { return answer };
        let mut dialogs = self.dialogs.lock();
        dialogs.push(dialog);
        if self.holds.load(Ordering::Relaxed) && dialogs.len().is_multiple_of(2) {
            self.held.lock().push(answer);
            return String::new();
        }
        answer
    }
}

fn setup(error: TlsError) -> Failure {
    Failure::world(format!("cannot set up TLS: {error}"))
}

//! SIP of the inside: servers that the settings trust speak to the gateway over connections of
//! their own, and what static routes or those servers' domains claim goes to them and not to an
//! edge (docs/protocols/sip-inside.md).
//!
//! **Invariants.** A request reaches the gateway only from a peer that is on the list at that moment,
//! From a domain that its row names, to one of ours. What belongs inside never goes to an edge.

mod accept;
mod admit;
mod calls;
mod dial;
mod hops;
mod line;
mod listening;
mod way;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use gatehouse_net::{Tasks, now};
use gatehouse_policy::{Evidence, Hop, HopProtocol, InsideSip};
use gatehouse_resolve::Resolver;
use gatehouse_sip::{Flow, Message};
use gatehouse_tls::{Acceptor, Connector};
use gatehouse_types::Domain;
use gatehouse_xmpp::Seed;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

pub(super) use self::admit::Refused;
use self::calls::Calls;
use self::hops::Hops;
pub(super) use self::way::Way;

/// Where the numbers of these flows begin: above those of the edges.
const FLOWS_START: u64 = 1 << 32;
/// Messages of all connections that the gateway has not read yet.
const EVENTS_LEN_MAX: usize = 1024;

/// What SIP of the inside stands on, made by `main`.
#[derive(Debug)]
pub struct InsideParts {
    /// The settings in force.
    pub settings: watch::Receiver<Arc<InsideSip>>,
    /// Off, if there is none.
    pub tls_listeners: Vec<TcpListener>,
    /// Off, if there is none.
    pub tcp_listeners: Vec<TcpListener>,
    /// No ALPN.
    pub acceptor: Acceptor,
    /// No ALPN.
    pub connector: Connector,
    /// DNS.
    pub resolver: Resolver,
    /// The domain whose certificate we show, and in whose name we ask next hops whether they live.
    pub own: Domain,
    /// Connections at a time, for each listener.
    pub connections_max: usize,
}

/// What a connection tells the gateway's task.
pub(super) enum FromInside {
    /// A peer connected.
    Opened { flow: u64, queue: mpsc::Sender<Message>, shown: Evidence, address: SocketAddr },
    /// A connection of ours is up.
    Reached { flow: u64, shown: Evidence },
    /// It sent this.
    Message { flow: u64, message: Message },
    /// It is over, or could not be made.
    Down { flow: u64, reason: String },
}

/// What the connections share.
struct Shared {
    acceptor: Acceptor,
    connector: Connector,
    resolver: Resolver,
    settings: watch::Receiver<Arc<InsideSip>>,
    own: Domain,
    /// Where we listen, so that a next hop can reach us.
    listening: HashMap<HopProtocol, Vec<SocketAddr>>,
    events: mpsc::Sender<FromInside>,
    last_flow: AtomicU64,
    tasks: Tasks,
}

impl Shared {
    fn next_flow(&self) -> u64 {
        self.last_flow.fetch_add(1, Ordering::Relaxed)
    }
}

/// The gateway's side of it. Without parts nothing is inside.
pub(super) struct Inside {
    shared: Option<Arc<Shared>>,
    settings: watch::Receiver<Arc<InsideSip>>,
    events: mpsc::Receiver<FromInside>,
    /// Keeps the queue of events open where there are no parts.
    _open: mpsc::Sender<FromInside>,
    lines: HashMap<u64, Known>,
    hops: Hops,
    calls: Calls,
}

/// A connection as the gateway knows it.
struct Known {
    queue: mpsc::Sender<Message>,
    shown: Option<Evidence>,
    address: Option<SocketAddr>,
    hop: Option<Hop>,
    /// A refusal was told already.
    told: bool,
}

/// What the gateway's task is to do about an event.
pub(super) enum Heard {
    Message(Flow, Box<Message>),
    Lost(Flow),
    Nothing,
}

fn flow_of(id: u64) -> Flow {
    Flow { id, reliable: true }
}

impl Inside {
    /// Starts the listeners.
    pub(super) fn start(parts: Option<InsideParts>, tasks: &Tasks) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_LEN_MAX);
        let (settings, shared) = match parts {
            None => (watch::Sender::new(Arc::default()).subscribe(), None),
            Some(parts) => {
                let settings = parts.settings.clone();
                (settings, Some(accept::start(parts, sender.clone(), tasks)))
            }
        };
        let mut inside = Self {
            shared,
            settings,
            events,
            _open: sender,
            lines: HashMap::new(),
            hops: Hops::default(),
            calls: Calls::default(),
        };
        inside.reload();
        inside
    }

    /// The next thing that a connection says.
    pub(super) async fn next(&mut self) -> FromInside {
        match self.events.recv().await {
            Some(event) => event,
            // We hold a sender: it does not close.
            None => std::future::pending().await,
        }
    }

    /// Ends once the settings have changed; call [`reload`](Self::reload) then.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<InsideSip>> {
        self.settings.clone()
    }

    /// Takes the settings in force: who is no longer trusted goes, and so do connections to what is
    /// no next hop any more.
    pub(super) fn reload(&mut self) {
        let settings = Arc::clone(&self.settings.borrow());
        let used = settings.routes.routes().filter(|route| route.in_service && !route.block);
        self.hops.replace(used.map(|route| &route.hop), now());
        let hops = &self.hops;
        self.lines.retain(|_, line| match (&line.hop, &line.shown) {
            (Some(hop), _) => hops.has(hop),
            (None, Some(shown)) => settings.peer(shown).is_some(),
            (None, None) => false,
        });
        self.measure();
    }

    /// What is to be done about an event.
    pub(super) fn hear(&mut self, event: FromInside) -> Heard {
        match event {
            FromInside::Opened { flow, queue, shown, address } => {
                let known = Known {
                    queue,
                    shown: Some(shown),
                    address: Some(address),
                    hop: None,
                    told: false,
                };
                self.lines.insert(flow, known);
                self.measure();
                Heard::Nothing
            }
            FromInside::Reached { flow, shown } => {
                if let Some(line) = self.lines.get_mut(&flow) {
                    line.shown = Some(shown);
                }
                Heard::Nothing
            }
            FromInside::Message { flow, message } => {
                if !self.lines.contains_key(&flow) {
                    return Heard::Nothing;
                }
                Heard::Message(flow_of(flow), Box::new(message))
            }
            FromInside::Down { flow, reason } => {
                let line = self.lines.remove(&flow);
                if let Some(hop) = line.and_then(|line| line.hop) {
                    self.hop_lost(&hop, &reason);
                }
                self.measure();
                Heard::Lost(flow_of(flow))
            }
        }
    }

    /// A connection that broke is not a server that is down: the next request finds out.
    fn hop_lost(&mut self, hop: &Hop, reason: &str) {
        if reason.starts_with(dial::NOT_REACHED) {
            self.hop_failed(hop, reason);
        }
    }

    /// A request there failed, or an OPTIONS was not answered.
    pub(super) fn hop_failed(&mut self, hop: &Hop, reason: &str) {
        if self.hops.failed(hop, now()) {
            warn!(%hop, reason, "a SIP server of the inside does not answer; it is passed over");
        }
        self.measure();
    }

    pub(super) fn hop_works(&mut self, hop: &Hop) {
        if self.hops.works(hop, now()) {
            info!(%hop, "a SIP server of the inside answers again");
        }
        self.measure();
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn measure(&self) {
        metrics::gauge!("gatehouse_sip_inside_connections").set(self.lines.len() as f64);
        metrics::gauge!("gatehouse_sip_inside_hops_down").set(self.hops.down() as f64);
    }

    /// True if the flow is one of these and not an edge's.
    pub(super) fn has(flow: Flow) -> bool {
        flow.id >= FLOWS_START
    }

    /// Hands a message to its connection. False if it is gone or does not keep up.
    pub(super) fn send(&self, flow: Flow, message: Message) -> bool {
        self.lines.get(&flow.id).is_some_and(|line| line.queue.try_send(message).is_ok())
    }

    /// Who a stranger without TLS is, it hears once.
    pub(super) fn close_stranger(&mut self, flow: Flow) {
        let settings = self.settings.borrow();
        let is_stranger = self.lines.get(&flow.id).is_some_and(|line| {
            line.hop.is_none()
                && line.shown.as_ref().is_none_or(|shown| settings.peer(shown).is_none())
        });
        drop(settings);
        if is_stranger {
            // Its queue closes: what is in it leaves, and then the connection ends.
            self.lines.remove(&flow.id);
            self.measure();
        }
    }

    /// A next hop that is to be asked now whether it lives, with the domain that asks.
    pub(super) fn due(&mut self) -> Option<(Hop, Domain)> {
        let own = self.shared.as_ref()?.own.clone();
        self.hops.due(now()).map(|hop| (hop, own))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.hops.poll_timeout()
    }
}

/// A user part without percent-encoding and parameters (`1001;phone-context=x`).
pub(super) fn plain(user: &str) -> Option<String> {
    let user = user.split(';').next().unwrap_or_default();
    let mut bytes = user.bytes();
    let mut out = Vec::with_capacity(user.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (high, low) = (char::from(bytes.next()?), char::from(bytes.next()?));
        let value = high.to_digit(16)? * 16 + low.to_digit(16)?;
        out.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(out).ok()
}

/// From `0..=max`; so little more often some than others that no weight shows it.
fn draw(seed: &mut Seed, max: u32) -> u32 {
    let [a, b, c, d, ..] = seed.next_bytes();
    u32::from_be_bytes([a, b, c, d]).checked_rem(max.saturating_add(1)).unwrap_or_default()
}

//! The SIP gateway's driver: carries out what [`gatehouse_bridge::Gateway`] says, over the SIP trunk,
//! towards the router and into the store.
//!
//! One task owns the gateway and its transactions. It waits for nobody who may wait for it: the
//! router's part is done by lanes, which have a budget; while that is used up nothing is read from
//! the edges.

mod attempts;
mod driver;
mod full;
mod inside;
mod keep;
mod lanes;
mod late;
mod records;
mod windows;

use std::sync::Arc;

use gatehouse_bridge::profile::Profile;
use gatehouse_bridge::{Gateway, GatewayConfig};
use gatehouse_net::Tasks;
use gatehouse_policy::{InsideSip, Policy, Protocol, SipKind};
use gatehouse_trunk::sip::SipCoreEnd;
use gatehouse_types::{Domain, Jid, Local, Remote};
use gatehouse_xmpp::{Seed, Stanza};
use tokio::sync::{mpsc, watch};
use tracing::{Span, error};

use self::attempts::Attempts;
use self::driver::Driver;
pub use self::inside::InsideParts;
use self::keep::Wish;
pub(crate) use self::keep::stopping;
pub(crate) use self::lanes::Answer;
use crate::outbox::Owed;
use crate::router::Router;

/// Stanzas that wait for the gateway; then their senders wait.
const QUEUE_LEN_MAX: usize = 1024;

/// What the SIP gateway stands on, made by `main`.
#[derive(Debug)]
pub struct SipGatewayParts {
    /// Settings; the profiles of partners come from the policy.
    pub config: GatewayConfig,
    /// This node's name on the trunk; partners never see it.
    pub node: String,
    /// The policy in force: which domains speak SIP.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// The core's end of the SIP trunk.
    pub trunk: SipCoreEnd,
    /// SIP of the inside, if there is any.
    pub inside: Option<InsideParts>,
}

/// The router's way to SIP partners.
#[derive(Debug)]
pub(crate) struct SipPort {
    policy: watch::Receiver<Arc<Policy>>,
    inside: Option<watch::Receiver<Arc<InsideSip>>>,
    queue: mpsc::Sender<(Stanza, Owed)>,
    replies: mpsc::Sender<Stanza>,
    keep: mpsc::Sender<Wish>,
    attempts: Arc<Attempts>,
}

/// The gateway before it runs: the router must know its port first.
#[derive(Debug)]
pub(crate) struct Idle {
    parts: SipGatewayParts,
    stanzas: mpsc::Receiver<(Stanza, Owed)>,
    replies: mpsc::Receiver<Stanza>,
    wishes: mpsc::Receiver<Wish>,
    attempts: Arc<Attempts>,
}

/// The port and what is behind it.
pub(crate) fn port(parts: SipGatewayParts) -> (SipPort, Idle) {
    let (queue, stanzas) = mpsc::channel(QUEUE_LEN_MAX);
    let policy = parts.policy.clone();
    let inside = parts.inside.as_ref().map(|inside| inside.settings.clone());
    let (sender, replies) = mpsc::channel(QUEUE_LEN_MAX);
    let attempts = Arc::<Attempts>::default();
    let (keep, wishes) = keep::queue();
    let idle = Idle { parts, stanzas, replies, wishes, attempts: Arc::clone(&attempts) };
    (SipPort { policy, inside, queue, replies: sender, keep, attempts }, idle)
}

/// Starts the gateway: reads what was stored and renews it.
pub(crate) fn start(idle: Idle, router: &Router, tasks: &Tasks) {
    let mut bytes = [0; 32];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        error!("the SIP gateway does not start: the system gives no randomness");
        return;
    }
    let mut seed = Seed::new(bytes);
    let inside = idle.parts.inside.as_ref().map(|inside| Arc::clone(&inside.settings.borrow()));
    let config = config(&idle.parts, &inside.unwrap_or_default());
    let gateway = Gateway::new(config, Seed::new(seed.next_bytes()));
    let driver = Driver::new(gateway, idle, router, tasks, seed);
    tasks.spawn(Span::none(), driver.run());
}

/// The settings with what the policy says about kinds of partners, and the inside about its domains.
fn config(parts: &SipGatewayParts, inside: &InsideSip) -> GatewayConfig {
    let mut config = parts.config.clone();
    // What is inside is no partner: its rows come first. It is named as well.
    for (domain, kind) in inside.kinds() {
        config.profiles.entry(domain).or_insert_with(|| profile_of(kind));
    }
    config.named.extend(inside.trusted.iter().flat_map(|peer| peer.domains.iter().cloned()));
    let policy = parts.policy.borrow();
    for row in &policy.sip {
        config.named.extend(row.remote.iter().filter_map(|pattern| match pattern {
            gatehouse_policy::Pattern::Exact(domain) => Some(domain.clone()),
            _ => None,
        }));
        let Some(kind) = row.kind else { continue };
        for pattern in &row.remote {
            if let gatehouse_policy::Pattern::Exact(domain) = pattern {
                config.profiles.entry(domain.clone()).or_insert_with(|| profile_of(kind));
            }
        }
    }
    config
}

fn profile_of(kind: SipKind) -> Profile {
    match kind {
        SipKind::Lync => Profile::Lync,
        SipKind::Standard => Profile::Standard,
    }
}

impl SipPort {
    /// True if what goes from `from` to `to` is for SIP: a partner, or a server of the inside. A
    /// domain of which nobody said what it speaks is XMPP until it was heard by SIP; settings and policy are
    /// asked each time, so that a block or a change holds at once.
    pub(crate) fn takes(&self, from: &Jid, to: &Jid) -> bool {
        if let Some(inside) = &self.inside {
            let inside = inside.borrow();
            if !inside.is_empty() && inside.takes(user_of(to).as_deref(), to.domain()) {
                return true;
            }
        }
        let (local, remote) = (from.domain(), to.domain());
        match self.protocol(local, remote) {
            Some(Protocol::Sip) => true,
            Some(Protocol::XmppThenSip) => self.attempts.is_sip(remote),
            Some(Protocol::Xmpp) | None => false,
        }
    }

    /// Remembers a stanza that goes out by XMPP to a domain that may turn out to speak SIP.
    pub(crate) fn tried_by_xmpp(&self, stanza: &Stanza) {
        let (Some(from), Some(to)) = (stanza.from(), stanza.to()) else { return };
        if self.protocol(from.domain(), to.domain()) == Some(Protocol::XmppThenSip) {
            self.attempts.remember(stanza);
        }
    }

    /// The stanza that this error is about, if its domain is to be tried by SIP now.
    pub(crate) fn failed_by_xmpp(&self, error: &Stanza) -> Option<Stanza> {
        let (Some(from), Some(to)) = (error.from(), error.to()) else { return None };
        if self.protocol(to.domain(), from.domain()) != Some(Protocol::XmppThenSip) {
            return None;
        }
        self.attempts.failed(error)
    }

    /// Hands over what a stanza of the gateway itself brought about. It takes these even while it
    /// takes nothing else, so that the two never wait for each other.
    pub(crate) async fn reply(&self, stanza: Stanza) -> Result<(), Stanza> {
        self.replies.send(stanza).await.map_err(|back| back.0)
    }

    /// Hands a stanza to the gateway, which answers for it from then on. Gives it back if the gateway
    /// stops, unless it is stored for the next start.
    pub(crate) async fn send(&self, stanza: Stanza, owed: Owed) -> Result<(), Stanza> {
        let Err(back) = self.queue.send((stanza, owed)).await else { return Ok(()) };
        let (stanza, owed) = back.0;
        if owed.keep() { Ok(()) } else { Err(stanza) }
    }

    /// The same without a wait: gives the stanza back if there is no room.
    pub(crate) fn try_send(&self, stanza: Stanza, owed: Owed) -> Result<(), Stanza> {
        self.queue.try_send((stanza, owed)).map_err(|back| back.into_inner().0)
    }

    fn protocol(&self, local: &Domain, remote: &Domain) -> Option<Protocol> {
        let policy = self.policy.borrow();
        policy.protocol(&Local(local.clone()), &Remote(remote.clone())).ok()
    }
}

/// The user part of the SIP address, without percent-encoding.
fn user_of(jid: &Jid) -> Option<String> {
    inside::plain(&gatehouse_bridge::address::to_uri(jid).user?)
}

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gatehouse_net::Tasks;
use gatehouse_policy::{PeerRate, Policy};
use gatehouse_resolve::Resolver;
use gatehouse_sip::{Host, Message, NameAddr};
use gatehouse_telemetry::Streams;
use gatehouse_tls::{Acceptor, Connector};
use gatehouse_trunk::sip::SipNodes;
use gatehouse_types::{Domain, Local, Remote};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::SipConfig;
use super::connection::{Connections, Outgoing};
use super::face::Face;
use super::ladder::Ladder;
use super::outbound::Pairs;
use super::pat::Pat;
use super::routing::Routing;
use super::shaper::Shaper;
use crate::random::Random;
use crate::warnings::Warnings;
use gatehouse_net::Source;

/// What everything that speaks SIP with partners shares.
#[derive(Debug)]
pub(crate) struct SipEdge {
    pub(crate) config: SipConfig,
    /// Our IM domains, each with what partners see of it.
    pub(crate) faces: HashMap<Domain, Face>,
    /// Their hosts.
    pub(crate) face_hosts: HashSet<String>,
    pub(crate) policy: watch::Receiver<Arc<Policy>>,
    pub(crate) resolver: Resolver,
    pub(crate) acceptor: Acceptor,
    pub(crate) connector: Connector,
    pub(crate) streams: Streams,
    pub(crate) nodes: SipNodes,
    pub(crate) routing: Mutex<Routing>,
    pub(crate) pat: Pat,
    pub(crate) connections: Connections,
    pub(crate) pairs: Pairs,
    pub(crate) rate: PeerRate,
    pub(crate) ladder: Mutex<Ladder>,
    /// What waits for partners that are to be spared.
    pub(crate) shaper: Mutex<Shaper<(Pair, Box<Outgoing>)>>,
    /// Places for answers of our own that a node has no room for at the moment.
    pub(crate) late_answers: Arc<Semaphore>,
    pub(crate) random: Random,
    pub(crate) peer_warnings: Warnings<Source>,
    pub(crate) domain_warnings: Warnings<Domain>,
    pub(crate) node_warnings: Warnings<Arc<str>>,
    pub(crate) tasks: Tasks,
}

impl SipEdge {
    /// The policy in force.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    /// One of our domains, if the address is in one.
    pub(crate) fn local_of(&self, address: &NameAddr) -> Option<Local<Domain>> {
        let domain = address.uri.domain()?;
        self.faces.contains_key(&domain).then_some(Local(domain))
    }

    /// True if this is how partners know one of our domains.
    pub(crate) fn is_face(&self, host: &Host) -> bool {
        matches!(host, Host::Name(name) if self.face_hosts.contains(name))
    }

    /// What partners see of one of our domains.
    pub(crate) fn face(&self, local: &Local<Domain>) -> Option<&Face> {
        self.faces.get(&local.0)
    }

    /// The two domains of a request or response that goes outside in: From is theirs, To is ours.
    /// For what goes inside out, the other way round.
    pub(crate) fn pair(&self, ours: &NameAddr, theirs: &NameAddr) -> Option<Pair> {
        let remote = theirs.uri.domain()?;
        // A domain of ours is never a partner: that is a loop or a forgery.
        if self.faces.contains_key(&remote) {
            return None;
        }
        Some(Pair { local: self.local_of(ours)?, remote: Remote(remote) })
    }

    /// The pair of domains of a response to a request of ours.
    pub(crate) fn pair_out_of_response(&self, response: &Message) -> Option<Pair> {
        let (from, to) = (response.from().ok()?, response.to().ok()?);
        self.pair(&from, &to)
    }

    /// The pair of domains of a message that one of our users sent, or answers.
    pub(crate) fn pair_out(&self, message: &Message) -> Option<Pair> {
        let (from, to) = (message.from().ok()?, message.to().ok()?);
        if message.status().is_some() { self.pair(&to, &from) } else { self.pair(&from, &to) }
    }
}

/// One of our domains and a partner's.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Pair {
    pub(crate) local: Local<Domain>,
    pub(crate) remote: Remote<Domain>,
}

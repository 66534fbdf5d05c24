//! Where a request of ours goes.

use std::sync::Arc;

use gatehouse_policy::{Hop, InsideSip, Selection};
use gatehouse_sip::{Flow, Message};
use gatehouse_types::Domain;
use gatehouse_xmpp::Seed;
use tokio::sync::mpsc;
use tracing::info;

use super::line::QUEUE_LEN_MAX;
use super::{Inside, Known, dial, draw, flow_of, plain};

/// How many next hops one request is offered to.
const TRIES_MAX: usize = 8;

/// Where a request of ours goes.
pub(in crate::sip) enum Way {
    /// To an edge.
    Outside,
    /// A route refuses it.
    Blocked,
    /// It belongs inside, and nobody there can take it now.
    Nobody,
    /// Here; then, if it fails, to these.
    Flow(Flow, Vec<Hop>),
}

impl Inside {
    /// Where a request of ours goes: what it is about is the person in To.
    pub(in crate::sip) fn way(&mut self, request: &Message, seed: &mut Seed) -> Way {
        let (Ok(to), Ok(call)) = (request.to(), request.call_id()) else { return Way::Outside };
        let Some(domain) = to.uri.domain() else { return Way::Outside };
        let user = to.uri.user.as_deref().and_then(plain);
        let settings = Arc::clone(&self.settings.borrow());
        let mut pick = |max: u32| draw(seed, max);
        let routes = match settings.select(user.as_deref(), &domain, &mut pick) {
            Selection::Blocked(route) => {
                info!(pattern = %route.pattern, "a static route blocks a request");
                return Way::Blocked;
            }
            Selection::Elsewhere if !settings.is_inside(&domain) => return Way::Outside,
            Selection::Elsewhere => Vec::new(),
            Selection::Via(routes) => routes,
        };
        // A dialog stays where it is while its connection lives.
        if let Some(flow) = self.calls.flow(&call).filter(|flow| self.lines.contains_key(flow)) {
            return Way::Flow(flow_of(flow), Vec::new());
        }
        let mut hops: Vec<Hop> = Vec::new();
        for route in routes {
            if hops.len() < TRIES_MAX && !hops.contains(&route.hop) && self.hops.is_up(&route.hop) {
                hops.push(route.hop.clone());
            }
        }
        let way = self.next_hop(hops, &call);
        match (way, self.line_of(&settings, &domain)) {
            (Way::Nobody, Some(flow)) => {
                self.calls.remember(call, flow);
                Way::Flow(flow_of(flow), Vec::new())
            }
            (way, _) => way,
        }
    }

    /// To the first of these, and the others later.
    pub(in crate::sip) fn next_hop(&mut self, mut hops: Vec<Hop>, call: &str) -> Way {
        while !hops.is_empty() {
            let hop = hops.remove(0);
            if let Some(flow) = self.flow_to(&hop) {
                self.calls.remember(call.to_owned(), flow.id);
                return Way::Flow(flow, hops);
            }
        }
        Way::Nobody
    }

    /// A connection that a peer opened which speaks for this domain.
    fn line_of(&self, settings: &InsideSip, domain: &Domain) -> Option<u64> {
        let speaks = |line: &Known| {
            let peer = line.shown.as_ref().and_then(|shown| settings.peer(shown));
            peer.is_some_and(|peer| peer.domains.contains(domain))
        };
        self.lines.iter().filter(|(_, line)| speaks(line)).map(|(flow, _)| *flow).max()
    }

    /// The connection to a next hop; made now if there is none.
    pub(in crate::sip) fn flow_to(&mut self, hop: &Hop) -> Option<Flow> {
        let open = |line: &Known| line.hop.as_ref() == Some(hop) && !line.queue.is_closed();
        if let Some((flow, _)) = self.lines.iter().find(|(_, line)| open(line)) {
            return Some(flow_of(*flow));
        }
        let shared = Arc::clone(self.shared.as_ref()?);
        let flow = shared.next_flow();
        let (sender, queue) = mpsc::channel(QUEUE_LEN_MAX);
        let known = Known {
            queue: sender,
            shown: None,
            address: None,
            hop: Some(hop.clone()),
            told: false,
        };
        self.lines.insert(flow, known);
        dial::start(shared, hop.clone(), flow, queue);
        Some(flow_of(flow))
    }
}

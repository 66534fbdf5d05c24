//! Which way a message of the gateway takes: an edge, or a server of the inside, and the next one
//! if that one fails.

use gatehouse_bridge::{Failure, OutgoingId};
use gatehouse_net::now;
use gatehouse_policy::Hop;
use gatehouse_sip::{
    Flow, HeaderName, Host, Message, Method, NameAddr, Params, Scheme, Status, Uri,
};
use gatehouse_trunk::sip::Edge;
use gatehouse_types::Domain;
use tracing::debug;

use super::Driver;
use crate::sip::inside::{FromInside, Heard, Inside, Way};
use crate::sip::windows::Turn;

/// A request that may still go to other next hops.
pub(super) struct Attempt {
    /// Without a Via.
    request: Message,
    rest: Vec<Hop>,
}

impl Driver {
    pub(super) fn request(&mut self, id: OutgoingId, request: Message) {
        match self.inside.way(&request, &mut self.seed) {
            Way::Outside => match self.windows.enter(id, request, now()) {
                Turn::Now(request) => self.go_outside(id, *request),
                Turn::Later => {}
                Turn::Never => self.gateway.handle_failure(id, Failure::Unreachable, now()),
            },
            way => self.go(id, way, request),
        }
    }

    /// To a partner, now that it is its turn.
    pub(super) fn go_outside(&mut self, id: OutgoingId, request: Message) {
        match self.flow_for(&request) {
            Some(flow) => self.start(id, flow, request),
            None => {
                self.windows.leave(id);
                self.gateway.handle_failure(id, Failure::Unreachable, now());
            }
        }
    }

    /// Gives up what has waited too long for its turn.
    pub(super) fn expire(&mut self) {
        while let Some(id) = self.windows.expired(now()) {
            self.gateway.handle_failure(id, Failure::Unreachable, now());
        }
    }

    /// To the inside, or back to the gateway.
    fn go(&mut self, id: OutgoingId, way: Way, request: Message) {
        match way {
            Way::Flow(flow, rest) => {
                if !rest.is_empty() {
                    self.attempts.insert(id, Attempt { request: request.clone(), rest });
                }
                self.start(id, flow, request);
            }
            Way::Blocked => {
                let tag = self.seed.next_hex();
                let no = Message::response_to(&request, Status::of(403), Some(&tag));
                self.gateway.handle_response(id, no, now());
            }
            Way::Nobody | Way::Outside => {
                self.gateway.handle_failure(id, Failure::Unreachable, now());
            }
        }
    }

    fn start(&mut self, id: OutgoingId, flow: Flow, mut request: Message) {
        let sent = self.add_via(&mut request).then(|| {
            let sent = self.transactions.request(flow, request, now());
            sent.map_err(|_| ())
        });
        match sent {
            Some(Ok(key)) => {
                self.outgoing.insert(key.clone(), id);
                self.clients.insert(id, key);
            }
            Some(Err(())) | None => {
                self.attempts.remove(&id);
                self.windows.leave(id);
                self.gateway.handle_failure(id, Failure::Unreachable, now());
            }
        }
    }

    /// The same request to the next hop, if there is one. One that was silent may have taken it,
    /// so that is no reason.
    pub(super) fn try_next(&mut self, id: OutgoingId) -> bool {
        let Some(Attempt { request, rest }) = self.attempts.remove(&id) else { return false };
        let call = request.call_id().unwrap_or_default();
        match self.inside.next_hop(rest, &call) {
            Way::Nobody => false,
            way => {
                metrics::counter!("gatehouse_sip_inside_failovers_total").increment(1);
                self.forget_client(id);
                self.go(id, way, request);
                true
            }
        }
    }

    pub(super) fn send_ack(&mut self, mut ack: Message) {
        let flow = match self.inside.way(&ack, &mut self.seed) {
            Way::Outside => self.flow_for(&ack),
            Way::Flow(flow, _) => Some(flow),
            Way::Blocked | Way::Nobody => None,
        };
        if let Some(flow) = flow
            && self.add_via(&mut ack)
        {
            self.transactions.send_ack(flow, ack);
        }
    }

    /// The edge that carries what belongs to this Call-ID.
    fn flow_for(&mut self, message: &Message) -> Option<Flow> {
        let call_id = message.call_id().ok()?;
        let edge = self.parts.trunk.edges.edge_for(&call_id)?;
        let flow = self.flows.of(&edge);
        self.note_links();
        Some(flow)
    }

    fn add_via(&mut self, message: &mut Message) -> bool {
        let branch = self.seed.next_hex();
        let via = format!("SIP/2.0/TLS {};branch=z9hG4bK{branch}", self.parts.node);
        message.headers.push_first(HeaderName::Via, via).is_ok()
    }

    pub(super) fn transmit(&mut self, flow: Flow, message: Message) {
        if Inside::has(flow) {
            let is_request = message.status().is_none();
            // Its transaction fails now and not by its timer.
            if !self.inside.send(flow, message) && is_request {
                self.transactions.flow_lost(flow, now());
            }
            return;
        }
        let Some(name) = self.flows.name(flow).cloned() else { return };
        let unsent = if self.late.waits_for(&name) {
            self.late.push(&name, message).err()
        } else {
            match self.edges().send(Edge::Named(&name), message) {
                Ok(()) => None,
                Err(full) if full.is_full() => self.late.push(&name, *full.message).err(),
                Err(error) => {
                    debug!(%error, "a SIP message was not sent");
                    Some(error.message)
                }
            }
        };
        if let Some(message) = unsent {
            // Everything else over this edge goes on.
            self.transactions.unsent(&message);
        }
    }

    /// What waited for room at an edge, as far as there is some.
    pub(super) fn send_late(&mut self) {
        for name in self.late.edges() {
            while let Some(message) = self.late.pop(&name) {
                // Nobody waits for an answer any more, and its author knows.
                if !self.transactions.is_wanted(&message) {
                    continue;
                }
                match self.edges().send(Edge::Named(&name), message) {
                    Ok(()) => {}
                    Err(full) if full.is_full() => {
                        self.late.put_back(&name, *full.message);
                        break;
                    }
                    Err(error) => {
                        debug!(%error, "a SIP message was not sent");
                        self.transactions.unsent(&error.message);
                    }
                }
            }
        }
    }

    pub(super) fn forget_client(&mut self, id: OutgoingId) {
        if let Some(key) = self.clients.remove(&id) {
            self.outgoing.remove(&key);
        }
    }

    /// What a connection of the inside says.
    pub(super) fn hear_inside(&mut self, event: FromInside) {
        match self.inside.hear(event) {
            Heard::Message(flow, message) => self.transactions.receive(flow, *message, now()),
            Heard::Lost(flow) => self.transactions.flow_lost(flow, now()),
            Heard::Nothing => {}
        }
    }

    /// Asks the next hops that are due whether they live.
    pub(super) fn probe(&mut self) {
        while let Some((hop, own)) = self.inside.due() {
            let Some(request) = self.options(&own) else { return };
            let sent = self.inside.flow_to(&hop).map(|flow| {
                let mut request = request;
                let _ = self.add_via(&mut request);
                self.transactions.request(flow, request, now())
            });
            match sent {
                Some(Ok(key)) => {
                    self.probes.insert(key, hop);
                }
                Some(Err(_)) | None => self.inside.hop_failed(&hop, "it could not be asked"),
            }
        }
    }

    fn options(&mut self, own: &Domain) -> Option<Message> {
        let uri = Uri {
            scheme: Scheme::Sip,
            user: None,
            host: Host::Name(own.as_str().to_owned()),
            port: None,
            params: Params::default(),
            headers: None,
        };
        let mut request = Message::request(Method::Options, uri.clone());
        let address = NameAddr { display: None, uri, params: Params::default() };
        let from = address.clone().with_tag(&self.seed.next_hex()).to_string();
        let call = self.seed.next_hex();
        for (name, value) in [
            (HeaderName::From, from),
            (HeaderName::To, address.to_string()),
            (HeaderName::CallId, call),
            (HeaderName::CSeq, "1 OPTIONS".to_owned()),
            (HeaderName::MaxForwards, "70".to_owned()),
        ] {
            request.headers.push(name, value).ok()?;
        }
        Some(request)
    }
}

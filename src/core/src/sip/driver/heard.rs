//! What the transactions say: requests of partners, who may make them, and answers.

use gatehouse_bridge::{Failure, RequestKey};
use gatehouse_net::now;
use gatehouse_policy::Hop;
use gatehouse_sip::{
    ClientKey, Flow, Message, Method, NameAddr, ServerKey, Status, TransactionEvent, UsedUp,
};
use tracing::{debug, info};

use super::{ACCEPTED_KEPT, Driver, speak_sip};
use crate::sip::inside::{Inside, Refused};

impl Driver {
    pub(super) fn heard(&mut self, event: TransactionEvent) {
        match event {
            TransactionEvent::Request { key, flow, request } => {
                if request.method() == Some(Method::Options) && is_of_the_edge(flow, &request) {
                    // The edge asks whether we live.
                    let answer = Message::response_to(&request, Status::of(200), Some("alive"));
                    self.transactions.respond(&key, answer, now());
                    return;
                }
                if !self.admit(&key, flow, &request) {
                    return;
                }
                debug!(
                    edge = self.flows.name(flow).map(|name| &**name),
                    method = method_text(&request),
                    "a SIP request of a partner"
                );
                self.speaks_sip(request.from().ok());
                self.last_request += 1;
                let name = RequestKey(self.last_request);
                self.requests.insert(name, key);
                self.gateway.handle_request(name, request, now());
            }
            TransactionEvent::Ack { flow, request } => {
                let router = &self.router;
                if self.inside.admit(flow, &request, |domain| router.is_ours(domain)).is_ok() {
                    self.gateway.handle_ack(&request, now());
                }
            }
            TransactionEvent::Response { key, response } => {
                let response_is_503 = response.status().is_some_and(|status| status.code() == 503);
                if let Some(hop) = self.probes.get(&key).cloned() {
                    return self.probed(&key, &hop, &response);
                }
                let Some(id) = self.outgoing.get(&key).copied() else { return };
                // It works, and wants none: perhaps another does (RFC 3263 section 4.3).
                if response_is_503 && self.try_next(id) {
                    return;
                }
                let status = response.status();
                // An INVITE that the partner is at work on may take its time.
                if key.method == Method::Invite || status.is_some_and(Status::is_final) {
                    self.windows.leave(id);
                }
                // A 2xx of an INVITE may come again; the gateway answers each.
                let success = status.is_some_and(Status::is_success);
                if success && key.method == Method::Invite {
                    if self.accepted_ids.insert(id) {
                        self.accepted.push_back((now() + ACCEPTED_KEPT, id));
                    }
                } else if status.is_some_and(Status::is_final) {
                    self.forget_client(id);
                }
                if success {
                    self.speaks_sip(response.to().ok());
                }
                if status.is_some_and(Status::is_final) {
                    self.attempts.remove(&id);
                }
                self.gateway.handle_response(id, response, now());
            }
            TransactionEvent::Failed { key, timed_out } => {
                if let Some(hop) = self.probes.remove(&key) {
                    return self.inside.hop_failed(&hop, "no answer to OPTIONS");
                }
                let Some(id) = self.outgoing.get(&key).copied() else { return };
                if !timed_out && self.try_next(id) {
                    return;
                }
                self.attempts.remove(&id);
                self.windows.leave(id);
                self.forget_client(id);
                let failure = if timed_out { Failure::TimedOut } else { Failure::Unreachable };
                self.gateway.handle_failure(id, failure, now());
            }
            TransactionEvent::Full { whose, domain } => {
                let whose = match whose {
                    UsedUp::All => "node",
                    UsedUp::Domain => "partner",
                    UsedUp::Strangers => "strangers",
                };
                if let Some(domain) = domain {
                    self.full.note(("requests", whose, domain), now());
                }
            }
            // An INVITE is answered at once: a CANCEL finds nothing any more.
            TransactionEvent::Cancelled { .. } | TransactionEvent::Stray { .. } => {}
        }
    }

    /// The domain answers by SIP, or asks: what is for it goes that way from now on.
    fn speaks_sip(&self, who: Option<NameAddr>) {
        if let Some(domain) = who.and_then(|who| who.uri.domain()) {
            self.attempts_by_xmpp.speaks_sip(domain);
        }
    }

    /// The policy of this node, which is asked again: a partner's request must go to a domain of ours
    /// that may talk to it by SIP.
    fn is_permitted(&self, request: &Message) -> bool {
        let domain = |who: Option<NameAddr>| who.and_then(|who| who.uri.domain());
        let (from, to) = (domain(request.from().ok()), domain(request.to().ok()));
        let (Some(remote), Some(local)) = (from, to) else { return false };
        self.router.is_ours(&local) && speak_sip(&self.policy.borrow(), &local, &remote)
    }

    /// Answers what may not reach the gateway, and what a server of the inside asks of us alone.
    fn admit(&mut self, key: &ServerKey, flow: Flow, request: &Message) -> bool {
        let router = &self.router;
        let verdict = self.inside.admit(flow, request, |domain| router.is_ours(domain));
        let status = match verdict {
            Err(Refused { status, .. }) => status,
            Ok(()) if !Inside::has(flow) && !self.is_permitted(request) => {
                info!(
                    "refused a SIP request of a partner: policy does not let it talk to us by SIP"
                );
                403
            }
            Ok(()) if Inside::has(flow) && request.method() == Some(Method::Options) => 200,
            Ok(()) => return true,
        };
        if request.method() != Some(Method::Benotify) {
            let tag = self.seed.next_hex();
            let answer = Message::response_to(request, Status::of(status), Some(&tag));
            self.transactions.respond(key, answer, now());
            while let Some((flow, message)) = self.transactions.poll_transmit() {
                self.transmit(flow, message);
            }
        }
        self.inside.close_stranger(flow);
        false
    }

    fn probed(&mut self, key: &ClientKey, hop: &Hop, response: &Message) {
        let Some(status) = response.status().filter(|status| status.is_final()) else { return };
        self.probes.remove(key);
        if status.code() == 503 {
            self.inside.hop_failed(hop, "it answers 503");
        } else {
            self.inside.hop_works(hop);
        }
    }
}

/// Its question whether we live goes to no user.
fn is_of_the_edge(flow: Flow, request: &Message) -> bool {
    !Inside::has(flow)
        && request.uri().is_some_and(
            |uri| matches!(&uri.host, gatehouse_sip::Host::Name(name) if name == "core.invalid"),
        )
}

fn method_text(request: &Message) -> String {
    request.method().map(|method| method.to_string()).unwrap_or_default()
}

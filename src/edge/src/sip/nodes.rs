//! What the core nodes send, and whether they live.

use std::sync::Arc;

use gatehouse_net::now;
use gatehouse_sip::{HeaderName, Message, Method, Status, Uri};
use gatehouse_trunk::sip::FromNode;
use tokio::sync::mpsc;
use tokio::time::{self, MissedTickBehavior};
use tracing::{debug, warn};

use super::answer::Refused;
use super::connection::{Outgoing, Owed};
use super::ladder::who;
use super::outbound;
use super::pat;
use super::routing::ASK_EVERY;
use super::shared::SipEdge;
use super::sparing;

/// What the branch of our own question to a node begins with.
const HEALTH: &str = "z9hG4bKhealth";

/// Takes what the nodes send until shutdown.
pub(crate) async fn run(edge: Arc<SipEdge>, mut incoming: mpsc::Receiver<FromNode>) {
    let stop = edge.tasks.stop();
    let mut changes = edge.nodes.changes();
    let mut ask = time::interval(ASK_EVERY);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = 0_u64;
    edge.routing.lock().links(edge.nodes.list());
    loop {
        let due_at = edge.shaper.lock().poll_timeout();
        tokio::select! {
            biased;
            () = stop.cancelled() => return sparing::give_up(&edge),
            () = sparing::due(due_at) => sparing::send_due(&edge),
            _ = ask.tick() => {
                // What a node serves may have changed, though its link did not.
                edge.routing.lock().links(edge.nodes.list());
                asked += 1;
                ask_all(&edge, asked);
            }
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                edge.routing.lock().links(edge.nodes.list());
                asked += 1;
                ask_all(&edge, asked);
            }
            message = incoming.recv() => match message {
                None => return,
                Some(FromNode { node, message }) => {
                    edge.routing.lock().answered(&node, now());
                    take(&edge, node, message);
                }
            }
        }
    }
}

/// OPTIONS to every node (RFC 3261 section 11).
fn ask_all(edge: &SipEdge, number: u64) {
    for node in edge.nodes.list() {
        if let Some(question) = question(number)
            && let Err(error) = edge.nodes.send(&node.name, question)
        {
            debug!(%error, "a node cannot be asked whether it lives");
        }
    }
}

fn question(number: u64) -> Option<Message> {
    let mut question = Message::request(Method::Options, Uri::parse("sip:core.invalid").ok()?);
    let via = pat::inner_via(&format!("{HEALTH}{number}"), 0).ok()?;
    for (name, value) in [
        (HeaderName::Via, via.to_string()),
        (HeaderName::MaxForwards, "0".to_owned()),
        (HeaderName::From, "<sip:edge.invalid>;tag=health".to_owned()),
        (HeaderName::To, "<sip:core.invalid>".to_owned()),
        (HeaderName::CallId, format!("health{number}")),
        (HeaderName::CSeq, "1 OPTIONS".to_owned()),
    ] {
        question.headers.push(name, value).ok()?;
    }
    Some(question)
}

fn take(edge: &Arc<SipEdge>, node: Arc<str>, message: Message) {
    if message.status().is_some() {
        response(edge, &node, message);
    } else {
        request(edge, node, message);
    }
}

/// A node's request for a partner.
fn request(edge: &Arc<SipEdge>, node: Arc<str>, request: Message) {
    let owed = |request: &Message| {
        let request = Message { body: bytes::Bytes::new(), ..request.clone() };
        Owed { node: Arc::clone(&node), request: Box::new(request) }
    };
    let Some(pair) = edge.pair_out(&request) else {
        let reason = "a request must go from a domain of ours to one that is not";
        // Our own node did this; no partner and no user can.
        if edge.node_warnings.may_warn(Arc::clone(&node), now()) {
            warn!(peer.node = %node, "dropped: {reason}");
        }
        return edge.tell_node(&owed(&request), &Refused::new(403, "not-ours", reason));
    };
    if !edge.nodes.may_speak(&node, &pair.local.0) {
        let domain = &pair.local;
        edge.nodes.overstepped(
            &node,
            &format!("it sent for {domain}, which its row in trunk.cores does not name"),
        );
        if edge.node_warnings.may_warn(Arc::clone(&node), now()) {
            warn!(peer.node = %node, %domain, "refused: a core sends for a domain that its row in trunk.cores does not name");
        }
        let reason = "the node may not send for this domain";
        return edge.tell_node(&owed(&request), &Refused::new(403, "not-its-domain", reason));
    }
    // The policy of now, not that of when the dialog began: a block holds at once.
    let conditions = match edge.policy().sip_conditions(&pair.local, &pair.remote) {
        Ok(conditions) => conditions,
        Err(denial) => {
            let refused = Refused::new(403, denial.as_str(), denial.to_string());
            return edge.tell_node(&owed(&request), &refused);
        }
    };
    let Some(face) = edge.face(&pair.local) else { return };
    let owed = owed(&request);
    match edge.pat.request_out(request, &node, &pair.remote, face) {
        Ok(message) => {
            let is_answered =
                !matches!(message.method(), Some(Method::Ack | Method::Benotify) | None);
            let owed = is_answered.then_some(owed);
            let outgoing = Box::new(Outgoing::new(message, owed));
            sparing::send(edge, pair, &conditions, outgoing);
        }
        Err(invalid) => {
            let code = invalid.status.code();
            edge.tell_node(&owed, &Refused::new(code, "malformed", invalid.to_string()));
        }
    }
}

/// A node's response to a partner: by the number in our Via to the connection it came on; should
/// that be gone, over any other connection to the partner.
fn response(edge: &Arc<SipEdge>, node: &Arc<str>, response: Message) {
    let Ok(Some(via)) = response.top_via() else { return };
    let Some(branch) = via.branch() else { return };
    if branch.starts_with(HEALTH) {
        return;
    }
    let connection = pat::connection_of(branch).and_then(|id| edge.connections.get(id));
    let Some(pair) = edge.pair_out(&response) else {
        if edge.node_warnings.may_warn(Arc::clone(node), now()) {
            warn!(peer.node = %node, "dropped: a response between domains that are no pair");
        }
        return;
    };
    let is_its_own = edge.nodes.may_speak(node, &pair.local.0);
    if !is_its_own || !edge.pat.may_answer(&response, node, &pair) {
        edge.nodes.overstepped(node, "it answered a SIP request that it was not given");
        if edge.node_warnings.may_warn(Arc::clone(node), now()) {
            warn!(peer.node = %node, domain = %pair.local, "dropped: a core answers a SIP request that it was not given");
        }
        return;
    }
    if edge.policy().sip_conditions(&pair.local, &pair.remote).is_err() {
        return;
    }
    if let Some(status) = response.status().filter(|status| status.is_final()) {
        let good = status.code() < 400 || status == Status::of(481);
        let certificate = connection.as_ref().and_then(|connection| connection.certificate);
        edge.ladder.lock().answered(&who(&pair.remote, certificate), good);
    }
    let Some(face) = edge.face(&pair.local) else { return };
    let message = match edge.pat.response_out(response, node, &pair.remote, face) {
        Ok(message) => message,
        Err(error) => {
            if edge.node_warnings.may_warn(Arc::clone(node), now()) {
                warn!(peer.node = %node, %error, "dropped: a node's response");
            }
            return;
        }
    };
    let outgoing = Box::new(Outgoing::new(message, None));
    match connection {
        Some(connection) => match connection.send(outgoing) {
            Ok(()) => {}
            Err(outgoing) if connection.is_gone() => outbound::send(edge, pair, outgoing),
            Err(_) => debug!(peer.domain = %pair.remote, "a partner does not read its answers"),
        },
        None => outbound::send(edge, pair, outgoing),
    }
}

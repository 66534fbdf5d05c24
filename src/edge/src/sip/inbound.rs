//! What partners send us.

use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::now;
use gatehouse_policy::{SipMode, SipPermit};
use gatehouse_sip::{HeaderName, Message, Method, NameAddr, Uri, proxy};
use gatehouse_trunk::sip::NotSent;
use tokio::time;
use tracing::{debug, warn};

use super::answer::Refused;
use super::connection::{PartnerConnection, top_branch};
use super::ladder::{self, Over};
use super::pat;
use super::scrub;
use super::shared::Pair;

/// How long a partner that is over its rate is slowed down before it is refused.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an answer waits for room at its node: far less than the 32 s after which the node gives
/// up by itself. A link over which nothing moves for four seconds is cut before that.
pub(crate) const NODE_PATIENCE: Duration = Duration::from_secs(10);

/// What partners may ask of us.
const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, MESSAGE, INFO, SUBSCRIBE, NOTIFY, OPTIONS";

/// Takes one message; gives what is to be said on the same connection.
pub(crate) async fn take(connection: &mut PartnerConnection, message: Message) -> Option<Message> {
    if message.status().is_some() {
        response(connection, message).await;
        return None;
    }
    let verdict = match message.check() {
        Ok(()) => request(connection, &message).await,
        Err(invalid) => {
            let code = invalid.status.code();
            Err(Refused::new(code, "malformed", invalid.to_string()))
        }
    };
    let refused = match verdict {
        Ok(answer) => return answer,
        Err(refused) => refused,
    };
    if !connection.partner.has_proved() {
        connection.refusals += 1;
    }
    report(connection, &message, &refused);
    refused.answer(&message, &connection.edge.random.id())
}

/// One request. `Ok(None)` if it went on to a node.
async fn request(
    connection: &mut PartnerConnection,
    request: &Message,
) -> Result<Option<Message>, Refused> {
    let malformed = |error: gatehouse_sip::InvalidMessage| {
        Refused::new(error.status.code(), "malformed", error.to_string())
    };
    let (from, to) = (request.from().map_err(malformed)?, request.to().map_err(malformed)?);
    let Some(method) = request.method() else { return Ok(None) };
    let pair = pair_in(connection, request, &from, &to)?;
    let permit =
        connection.partner.permit(&Arc::clone(&connection.edge), &pair.local, &pair.remote).await?;
    connection.listed.proved(&permit);
    slow_down(connection, &permit, &to).await?;
    let routed = no_relay(connection, request)
        .and_then(|()| requires(request, &method))
        .and_then(|()| route(connection, request, &method, to.tag().is_some(), &pair));
    let (node, mut inner) = match routed {
        Ok(Some(routed)) => routed,
        Ok(None) => return Ok(options(connection, request)),
        Err(refused) => {
            if permit.conditions().mode == SipMode::Open && refused.status.code() < 500 {
                let who = ladder::who(&pair.remote, connection.partner.fingerprint());
                connection.edge.ladder.lock().answered(&who, false);
            }
            return Err(refused);
        }
    };
    if method == Method::Invite {
        connection.remember(top_branch(request).unwrap_or_default(), Arc::clone(&node));
    }
    forward(connection, &node, &pair, &mut inner).map_err(malformed)?;
    // An ACK is never answered, so that nobody would hear that it was lost.
    let sent = if method == Method::Ack {
        send_surely(connection, &node, inner).await
    } else {
        connection.edge.nodes.offer(&node, inner)
    };
    match sent {
        Ok(()) => {
            metrics::counter!("gatehouse_sip_requests_in_total").increment(1);
            Ok(None)
        }
        Err(error) => Err(Refused::new(503, "node-down", error.to_string()).retry_after(5)),
    }
}

/// Where a request goes, and what it is there; `None` for a question about ourselves.
fn route(
    connection: &PartnerConnection,
    request: &Message,
    method: &Method,
    in_dialog: bool,
    pair: &Pair,
) -> Result<Option<(Arc<str>, Message)>, Refused> {
    let routed = match method {
        Method::Options if !in_dialog => return Ok(None),
        // The CANCEL, and the ACK of a refusal, have the Request-URI of their INVITE: a token if
        // that was in a dialog, else none.
        Method::Cancel | Method::Ack => match in_this_dialog(connection, request, pair) {
            Ok(routed) => routed,
            Err(_) => (of_invite(connection, request)?, request.clone()),
        },
        _ if in_dialog => in_this_dialog(connection, request, pair)?,
        method => (new_session(connection, method, pair)?, request.clone()),
    };
    // A token outlives the settings: what was a node's domain may be another's by now.
    if !connection.edge.nodes.may_speak(&routed.0, &pair.local.0) {
        return Err(no_dialog());
    }
    Ok(Some(routed))
}

/// A Route that leads past us, and a Via of ours below the partner's, are no way in: what goes in
/// ends here (RFC 3261 sections 16.3, step 4, and 16.4; RFC 5393). The first Route brought it here,
/// by whatever name the partner's administrator entered.
fn no_relay(connection: &PartnerConnection, request: &Message) -> Result<(), Refused> {
    let edge = &connection.edge;
    let routes = request.routes().unwrap_or_default();
    if !routes.iter().skip(1).all(|route| edge.is_face(&route.uri.host)) {
        return Err(Refused::new(403, "relay", "a Route leads on from here")
            .told(1003, "Requests are not relayed to other hosts"));
    }
    let vias = request.vias().unwrap_or_default();
    if vias.iter().any(|via| edge.is_face(&via.host)) {
        return Err(Refused::new(482, "loop", "it has been here before"));
    }
    Ok(())
}

/// RFC 3261 section 16.3, step 5: we know no extension of proxies, so none can be required of us.
fn requires(request: &Message, method: &Method) -> Result<(), Refused> {
    let wanted = request.headers.list(&HeaderName::ProxyRequire);
    if wanted.is_empty() || matches!(method, Method::Cancel | Method::Ack) {
        return Ok(());
    }
    Err(Refused::new(420, "extension", "it requires an extension of proxies")
        .with(HeaderName::Unsupported, wanted.join(", ")))
}

/// Whose request it is, and for which of our domains: no relay, whoever asks.
fn pair_in(
    connection: &PartnerConnection,
    request: &Message,
    from: &NameAddr,
    to: &NameAddr,
) -> Result<Pair, Refused> {
    let not_ours = |what: &str| {
        Refused::new(404, "not-ours", format!("{what} is in none of our domains"))
            .told(1003, "The recipient does not exist here")
    };
    if connection.edge.local_of(from).is_some() {
        return Err(Refused::new(403, "forged", "the sender is in a domain of ours")
            .told(1010, "The certificate does not prove the sender's domain"));
    }
    let pair = connection.edge.pair(to, from).ok_or_else(|| not_ours("the recipient"))?;
    let uri = request.uri().ok_or_else(|| not_ours("the Request-URI"))?;
    if uri.scheme == gatehouse_sip::Scheme::Sips {
        // RFC 7247 section 6: not to be carried over a hop that may not be TLS.
        return Err(Refused::new(416, "scheme", "a sips URI is not carried on"));
    }
    if uri.scheme != gatehouse_sip::Scheme::Sip {
        return Err(Refused::new(416, "scheme", "the Request-URI is no SIP URI"));
    }
    let is_ours = |uri: &Uri| {
        let face = connection.edge.face(&pair.local);
        uri.domain().is_some_and(|domain| domain == pair.local.0)
            || face.is_some_and(|face| face.is_at(uri))
    };
    if is_ours(uri) { Ok(pair) } else { Err(not_ours("the Request-URI")) }
}

/// The limits of a row, and those of a stranger: slower first, then no.
async fn slow_down(
    connection: &PartnerConnection,
    permit: &SipPermit,
    to: &NameAddr,
) -> Result<(), Refused> {
    let edge = &connection.edge;
    let (conditions, partner) = (permit.conditions(), permit.peer().domain());
    let who = ladder::who(partner, connection.partner.fingerprint());
    let busy = |reason: &str| {
        Refused::new(503, "rate", reason).retry_after(5).told(1007, "Temporarily over the limit")
    };
    if conditions.mode == SipMode::Open {
        let address = format!("{}@{}", to.uri.user.as_deref().unwrap_or_default(), permit.local());
        loop {
            let verdict = edge.ladder.lock().admit(&who, &address, now());
            match verdict {
                Ok(()) => break,
                Err(Over::Rate { wait, suspicious: false }) if wait <= PATIENCE => {
                    time::sleep(wait).await;
                }
                Err(Over::Rate { .. }) => return Err(busy("a stranger is over its rate")),
                Err(Over::Addresses) => return Err(busy("a stranger wrote to too many users")),
            }
        }
    }
    let patience = now() + PATIENCE;
    while let Some(per_second) = conditions.messages_per_second
        && let Err(over) = edge.rate.spend(partner, per_second)
    {
        // Others of the same partner may wait as well, on other connections.
        if now() + over.wait > patience {
            return Err(busy("over the rate of its row"));
        }
        time::sleep(over.wait).await;
    }
    Ok(())
}

/// The node that holds the dialog, and the request with its own Contact as Request-URI.
fn in_this_dialog(
    connection: &PartnerConnection,
    request: &Message,
    pair: &Pair,
) -> Result<(Arc<str>, Message), Refused> {
    let token = connection.edge.pat.dialog_in(request, &pair.remote).map_err(|_| no_dialog())?;
    let contact = Uri::parse(&token.contact).map_err(|_| no_dialog())?;
    let mut inner = request.clone();
    if let gatehouse_sip::Start::Request { uri, .. } = &mut inner.start {
        *uri = contact;
    }
    Ok((Arc::from(token.node), inner))
}

fn no_dialog() -> Refused {
    Refused::new(481, "no-dialog", "no dialog of ours with this partner")
        .told(1004, "The dialog does not exist")
}

/// Where the INVITE of this CANCEL or ACK went.
fn of_invite(connection: &PartnerConnection, request: &Message) -> Result<Arc<str>, Refused> {
    top_branch(request)
        .and_then(|branch| connection.recall(&branch))
        .ok_or_else(|| Refused::new(481, "no-invite", "no INVITE of this branch is under way"))
}

fn new_session(
    connection: &PartnerConnection,
    method: &Method,
    pair: &Pair,
) -> Result<Arc<str>, Refused> {
    match method {
        Method::Invite | Method::Message | Method::Subscribe => {}
        Method::Notify
        | Method::Bye
        | Method::Info
        | Method::Update
        | Method::Refer
        | Method::Prack => {
            return Err(Refused::new(481, "no-dialog", format!("{method} outside a dialog")));
        }
        other => {
            let reason = format!("{other} is not taken from partners");
            return Err(Refused::new(405, "method", reason)
                .with(HeaderName::Allow, ALLOW)
                .told(1027, "This type of request is not routed between organisations"));
        }
    }
    if let Some(node) = &connection.node {
        let is_able = connection.edge.routing.lock().is_able(node, &pair.local, now());
        return is_able.then(|| Arc::clone(node)).ok_or_else(|| {
            Refused::new(503, "no-node", "the node of this port is not healthy")
                .retry_after(10)
                .told(1007, "The service is temporarily not available")
        });
    }
    let edge = &connection.edge;
    let mut routing = edge.routing.lock();
    let chosen = routing.choose(&pair.local, now()).or_else(|| {
        // A node may have said only now what it serves.
        routing.links(edge.nodes.list());
        routing.choose(&pair.local, now())
    });
    chosen.ok_or_else(|| {
        Refused::new(503, "no-node", "no core node is healthy and serves the domain")
            .retry_after(10)
            .told(1007, "The service is temporarily not available")
    })
}

/// We live: no more is said about us (RFC 3261 section 11.2).
fn options(connection: &PartnerConnection, request: &Message) -> Option<Message> {
    let tag = connection.edge.random.id();
    let mut answer = Message::response_to(request, gatehouse_sip::Status::of(200), Some(&tag));
    answer.headers.push(HeaderName::Allow, ALLOW).ok()?;
    Some(answer)
}

/// Our Via on top, by which the response finds the connection.
fn forward(
    connection: &PartnerConnection,
    node: &str,
    pair: &Pair,
    inner: &mut Message,
) -> Result<(), gatehouse_sip::InvalidMessage> {
    proxy::count_down(inner)?;
    scrub::distrust(&mut inner.headers);
    let recorded = inner.headers.list(&HeaderName::RecordRoute).len();
    // A Route that brought it here has done its duty (RFC 3261 section 16.4).
    inner.headers.remove(&HeaderName::Route);
    let branch = connection.edge.pat.inner_branch(connection.id, node, pair, inner);
    inner.headers.push_first(HeaderName::Via, pat::inner_via(&branch, recorded)?.to_string())?;
    debug!(peer.addr = %connection.address, peer.node = node, "a partner's request goes in");
    Ok(())
}

/// One response to a request of ours: by its token to the node that asked.
async fn response(connection: &mut PartnerConnection, response: Message) {
    let edge = Arc::clone(&connection.edge);
    if let Err(invalid) = response.check() {
        if edge.peer_warnings.may_warn(connection.address.ip(), now()) {
            warn!(peer.addr = %connection.address, %invalid, "dropped: a malformed response");
        }
        return;
    }
    let Some(pair) = edge.pair_out_of_response(&response) else {
        debug!(peer.addr = %connection.address, "dropped: a response to nothing of ours");
        return;
    };
    // Only who speaks for the domain may answer in its name.
    let permit = match connection.partner.permit(&edge, &pair.local, &pair.remote).await {
        Ok(permit) => permit,
        Err(refused) => return report(connection, &response, &refused),
    };
    // One that nobody waits for here may come after a restart; a stranger has no right to many.
    if !connection.settled(&response) && permit.conditions().mode == SipMode::Open {
        let who = ladder::who(&pair.remote, connection.partner.fingerprint());
        if edge.ladder.lock().admit(&who, "", now()).is_err() {
            debug!(peer.addr = %connection.address, "dropped: a stranger answers what was not asked");
            return;
        }
    }
    match edge.pat.response_in(response, &pair.remote) {
        Ok((node, _)) if !edge.nodes.may_speak(&node, &pair.local.0) => {
            debug!(
                peer.node = node,
                "dropped: a response for a node that no longer has this domain"
            );
        }
        Ok((node, mut response)) => {
            scrub::distrust(&mut response.headers);
            if let Err(error) = send_surely(connection, &node, response).await {
                debug!(%error, "a partner's response finds no node");
            }
        }
        Err(error) => {
            metrics::counter!("gatehouse_sip_bad_tokens_total").increment(1);
            debug!(peer.addr = %connection.address, %error, "dropped: a response");
        }
    }
}

/// To a node that waits for it. While the node has no room, nothing more is read from this partner:
/// its answers wait in its own connection, and those of others in theirs.
async fn send_surely(
    connection: &PartnerConnection,
    node: &str,
    message: Message,
) -> Result<(), NotSent> {
    let edge = &connection.edge;
    let Err(back) = edge.nodes.send(node, message) else { return Ok(()) };
    if !back.is_full() {
        return Err(back);
    }
    metrics::counter!("gatehouse_sip_answers_held_total").increment(1);
    let stop = edge.tasks.stop();
    let sending = edge.nodes.send_within(node, *back.message, NODE_PATIENCE);
    match stop.run_until_cancelled(sending).await {
        // We are stopping: the node's timers speak for what is lost.
        None | Some(Ok(())) => Ok(()),
        Some(Err(error)) => {
            edge.node_is_stuck(node, &error);
            Err(error)
        }
    }
}

fn report(connection: &PartnerConnection, message: &Message, refused: &Refused) {
    metrics::counter!("gatehouse_sip_refused_total", "reason" => refused.label).increment(1);
    connection.listed.refused(&refused.reason);
    let from = message.from().ok().and_then(|from| from.uri.domain());
    let domain = from.map(|domain| domain.to_string()).unwrap_or_default();
    let status = refused.status.code();
    let (address, reason) = (connection.address, &refused.reason);
    let is_normal = matches!(refused.label, "no-dialog" | "no-invite" | "method" | "extension");
    if is_normal {
        debug!(peer.addr = %address, peer.domain = domain, status, reason, "refused a SIP request");
    } else if connection.edge.peer_warnings.may_warn(address.ip(), now()) {
        warn!(peer.addr = %address, peer.domain = domain, status, reason, "refused a SIP request");
    } else {
        // A peer must not fill the log either.
        debug!(peer.addr = %address, peer.domain = domain, status, reason, "refused a SIP request");
    }
}

//! What the log and the metrics are told about inbound streams, each thing once.

use std::io;
use std::net::SocketAddr;

use gatehouse_net::now;
use gatehouse_policy::Require;
use gatehouse_types::{Domain, Local, Remote, StreamId};
use gatehouse_xmpp::StreamCondition;
use gatehouse_xmpp::stream::CloseReason;
use tracing::{debug, warn};

use crate::outbound::reason_text;
use crate::shared::Edge;

/// A TLS handshake failed.
pub(super) fn tls_failed(
    edge: &Edge,
    address: SocketAddr,
    peer: Option<&Remote<Domain>>,
    error: &io::Error,
) {
    metrics::counter!("gatehouse_s2s_refused_total", "reason" => "tls").increment(1);
    let peer = peer.map(tracing::field::display);
    // Whoever hangs up before the handshake is a probe, and nobody needs to look.
    let hung_up = error.kind() == io::ErrorKind::UnexpectedEof;
    if !hung_up && edge.peer_warnings.may_warn(address.ip(), now()) {
        warn!(peer.addr = %address, peer.domain = peer, direction = "in", %error, "TLS handshake failed");
    } else {
        debug!(peer.addr = %address, peer.domain = peer, direction = "in", %error, "TLS handshake failed");
    }
}

/// Whether a stream has proved anybody; one that tried and never did is counted when it ends. Not
/// before: dialback may follow where a certificate proves nothing.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    failed: bool,
    opened: bool,
}

impl Proofs {
    pub(super) fn failed(&mut self) {
        self.failed = true;
    }

    pub(super) fn opened(&mut self) {
        self.opened = true;
    }
}

impl Drop for Proofs {
    fn drop(&mut self) {
        if self.failed && !self.opened {
            metrics::counter!("gatehouse_s2s_refused_total", "reason" => "authentication")
                .increment(1);
        }
    }
}

/// A way of authentication failed. Where policy asks for a certificate someone should look, because
/// this partner cannot get in; else dialback may still do.
pub(super) fn authentication_failed(
    edge: &Edge,
    id: &StreamId,
    address: SocketAddr,
    claimed: (Option<&Remote<Domain>>, Option<&Local<Domain>>),
    method: &str,
    reason: &str,
) {
    let needs_certificate = match claimed {
        (Some(from), Some(to)) => edge
            .policy()
            .conditions(to, from)
            .is_ok_and(|conditions| conditions.require == Require::Certificate),
        _ => false,
    };
    let peer = claimed.0.map(tracing::field::display);
    if needs_certificate && edge.peer_warnings.may_warn(address.ip(), now()) {
        warn!(
            stream.id = %id, peer.addr = %address, peer.domain = peer, direction = "in", method,
            reason, fault = "peer", "authentication failed, and policy asks for a certificate"
        );
    } else {
        debug!(
            stream.id = %id, peer.addr = %address, peer.domain = peer, direction = "in", method,
            reason, "authentication failed; the stream goes on"
        );
    }
}

/// A stream ended. `detail` says what the peer was not told, such as the policy rule.
pub(super) fn closed(
    edge: &Edge,
    id: &StreamId,
    address: SocketAddr,
    peer: Option<&Remote<Domain>>,
    reason: &CloseReason,
    detail: Option<String>,
) {
    let peer = peer.map(tracing::field::display);
    let text = reason_text(reason);
    let Some((label, fault)) = refusal(reason) else {
        debug!(stream.id = %id, peer.addr = %address, peer.domain = peer, direction = "in", reason = text, "stream closed");
        return;
    };
    metrics::counter!("gatehouse_s2s_refused_total", "reason" => label).increment(1);
    if edge.peer_warnings.may_warn(address.ip(), now()) {
        warn!(
            stream.id = %id, peer.addr = %address, peer.domain = peer, direction = "in",
            reason = text, fault, detail, "stream refused"
        );
    } else {
        debug!(
            stream.id = %id, peer.addr = %address, peer.domain = peer, direction = "in",
            reason = text, fault, detail, "stream refused"
        );
    }
}

/// A label from a closed set and whose fault it is; `None` for a normal end.
fn refusal(reason: &CloseReason) -> Option<(&'static str, &'static str)> {
    match reason {
        CloseReason::PeerClosed
        | CloseReason::Disconnected
        | CloseReason::Shutdown
        | CloseReason::Idle => None,
        CloseReason::SetupTimeout => Some(("setup-timeout", "network")),
        CloseReason::PeerRefused(error) => match error.condition {
            // Its way of saying goodbye.
            StreamCondition::SystemShutdown
            | StreamCondition::ConnectionTimeout
            | StreamCondition::Reset => None,
            _ => Some(("peer-refused", "peer")),
        },
        CloseReason::NoAgreement(_) => Some(("no-agreement", "peer")),
        CloseReason::WeRefused(error) => {
            let fault = match error.condition {
                StreamCondition::PolicyViolation => "policy",
                StreamCondition::InternalServerError | StreamCondition::ResourceConstraint => "us",
                StreamCondition::RemoteConnectionFailed | StreamCondition::ConnectionTimeout => {
                    "network"
                }
                _ => "peer",
            };
            Some((error.condition.as_str(), fault))
        }
    }
}

//! The receiving server's question to the authoritative server (XEP-0220, section 2.1.2).

use gatehouse_policy::Require;
use gatehouse_xmpp::s2s::{DialbackAnswer, DialbackQuestion, Purpose};
use tokio::time;
use tracing::{debug, info};

use crate::gate::terms;
use crate::outbound::dial::{Call, Outcome};
use crate::shared::Edge;

/// Asks the server that DNS names for the originating domain whether it made this key.
///
/// A domain that policy refuses is not dialled, so that nobody can make us dial whom they like.
pub(crate) async fn verify(edge: &Edge, question: &DialbackQuestion) -> DialbackAnswer {
    let DialbackQuestion { originating, receiving, .. } = question;
    let conditions = match edge.policy().conditions(receiving, originating) {
        Ok(conditions) if conditions.require == Require::CertificateOrDialback => conditions,
        Ok(_) | Err(_) => {
            debug!(peer.domain = %originating, "dialback key not verified: policy does not ask for it");
            return DialbackAnswer::Unreachable("dialback is not accepted here".into());
        }
    };
    if edge.serves(&originating.0) || !edge.serves(&receiving.0) {
        return DialbackAnswer::Unreachable("dialback is not accepted here".into());
    }
    let Ok(_slot) = edge.verifications.try_acquire() else {
        return DialbackAnswer::Unreachable("too many dialback keys are being verified".into());
    };
    let call = Call {
        local: receiving.clone(),
        remote: originating.clone(),
        purpose: Purpose::VerifyKey(question.clone()),
        terms: terms(&conditions),
    };
    // The answer must come while the stream that waits for it is still being set up.
    let timeout = edge.config.connect_timeout.min(edge.config.limits.setup_timeout);
    match time::timeout(timeout, call.dial(edge)).await {
        Ok(Ok(Outcome::Verdict { valid: true })) => DialbackAnswer::Valid,
        Ok(Ok(Outcome::Verdict { valid: false })) => {
            info!(peer.domain = %originating, "the authoritative server denies the dialback key");
            DialbackAnswer::Invalid
        }
        Ok(Ok(Outcome::Open(_))) => {
            DialbackAnswer::Unreachable("the authoritative server gave no answer".into())
        }
        Ok(Err(failure)) => {
            info!(peer.domain = %originating, targets = %failure.targets(), "dialback key not verified: {failure}");
            DialbackAnswer::Unreachable(failure.refusal(&call.local, &call.remote).text)
        }
        Err(_) => {
            DialbackAnswer::Unreachable(format!("the server of {originating} does not answer"))
        }
    }
}

//! The way of a partner's stanza to the core, whichever side opened the stream it came on.

use gatehouse_net::now;
use gatehouse_policy::Permit;
use gatehouse_trunk::Receipt;
use gatehouse_xmpp::{ErrorKind, Stanza, StanzaCondition};
use tokio::time;
use tracing::{debug, warn};

use crate::shared::Edge;

/// Over its rate a partner is not read from, so that its own queue fills up first.
pub(crate) async fn keep_to_rate(edge: &Edge, permit: &Permit) {
    let Some(per_second) = permit.stanzas_per_second() else { return };
    let stop = edge.tasks.stop();
    while let Err(over) = edge.rate.spend(permit.peer().domain(), per_second) {
        metrics::counter!("gatehouse_s2s_slowed_total").increment(1);
        if stop.run_until_cancelled(time::sleep(over.wait)).await.is_none() {
            return;
        }
    }
}

/// Hands a stanza to the core. The permit is proof that its sender was proven, that policy allows
/// it, and that it is for a domain of ours.
///
/// Waiting here slows the partner: nothing more is read from its stream meanwhile.
pub(crate) async fn forward(edge: &Edge, permit: &Permit, stanza: Stanza, receipt: Receipt) {
    let Err(unreachable) = edge.core.send_with(stanza, receipt).await else { return };
    if edge.domain_warnings.may_warn(permit.local().0.clone(), now()) {
        warn!(error = %unreachable, peer.domain = %permit.peer().domain(), "a stanza from outside cannot be taken");
    }
    let text = format!("{} cannot take messages right now; try again later", permit.local());
    let answer =
        unreachable.stanza.bounce(ErrorKind::Wait, StanzaCondition::RecipientUnavailable, &text);
    let Some(answer) = answer else {
        metrics::counter!("gatehouse_s2s_dropped_total").increment(1);
        return;
    };
    let condition = StanzaCondition::RecipientUnavailable.as_str();
    metrics::counter!("gatehouse_s2s_bounces_total", "condition" => condition).increment(1);
    send_back(edge, answer);
}

/// Sends an answer of our own to an author outside. A peer can cause many of them, so nobody waits
/// for room.
pub(crate) fn send_back(edge: &Edge, answer: Stanza) {
    if edge.answers.try_send(answer).is_err() {
        metrics::counter!("gatehouse_s2s_dropped_total").increment(1);
        debug!("an answer was dropped: too many are waiting");
    }
}

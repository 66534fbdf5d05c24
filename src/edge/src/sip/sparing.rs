//! Partners that are sent no more than they take: what is too fast for them waits.

use std::sync::{Arc, Weak};
use std::time::Instant;

use gatehouse_net::now;
use gatehouse_policy::SipConditions;
use gatehouse_sip::Method;
use gatehouse_telemetry::{PaceSource, Paced};
use tokio::time;
use tracing::{debug, warn};

use super::answer::Refused;
use super::connection::{Outgoing, Slowed};
use super::outbound;
use super::shaper::{Haste, Known, Offered};
use super::shared::{Pair, SipEdge};

/// A request of a node on its way out, at the pace of the policy. ACK and CANCEL never wait: one
/// completes, and the other ends, what the partner is at work on. A node sends CANCEL only after a
/// provisional answer, so that its INVITE is out by then.
pub(crate) fn send(
    edge: &Arc<SipEdge>,
    pair: Pair,
    conditions: &SipConditions,
    outgoing: Box<Outgoing>,
) {
    let Some(rate) = conditions.send_per_second else {
        return outbound::send(edge, pair, outgoing);
    };
    let (partner, now) = (pair.remote.0.clone(), now());
    let haste = match outgoing.message.method() {
        Some(Method::Ack | Method::Cancel) => {
            edge.shaper.lock().passed(&partner, rate, now);
            return outbound::send(edge, pair, outgoing);
        }
        Some(Method::Notify | Method::Benotify) => Haste::Patient,
        _ => Haste::Urgent,
    };
    // The lock is not held while something is sent.
    let offered = edge.shaper.lock().offer(&partner, rate, haste, (pair, outgoing), now);
    match offered {
        Offered::Now((pair, outgoing)) => outbound::send(edge, pair, outgoing),
        Offered::Later => {
            metrics::counter!("gatehouse_sip_shaped_total", "outcome" => "delayed").increment(1);
        }
        Offered::Over((pair, outgoing), wait) => {
            metrics::counter!("gatehouse_sip_shaped_total", "outcome" => "refused").increment(1);
            if edge.domain_warnings.may_warn(pair.remote.0.clone(), now) {
                warn!(
                    peer.domain = %pair.remote, per_second = rate.get(),
                    "more waits for a SIP partner than it is sent in time: the core is told 503"
                );
            }
            let after = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
            let refused = Refused::new(503, "shaped", "the partner is sent no more at a time");
            outbound::fail(edge, outgoing, &refused.retry_after(after));
        }
    }
}

/// Sends what is due, and gives back what has waited too long.
pub(crate) fn send_due(edge: &Arc<SipEdge>) {
    let expired = || edge.shaper.lock().expired(now());
    while let Some((_, outgoing)) = expired() {
        metrics::counter!("gatehouse_sip_shaped_total", "outcome" => "expired").increment(1);
        let refused = Refused::new(503, "shaped", "others went before it for too long");
        outbound::fail(edge, outgoing, &refused.retry_after(5));
    }
    loop {
        let now = now();
        let mut shaper = edge.shaper.lock();
        let Some((pair, mut outgoing)) = shaper.poll(now) else { return };
        let slowed = shaper.slowed().find(|slowed| slowed.partner == pair.remote.0);
        drop(shaper);
        outgoing.slowed = Some(slowed.map_or(Slowed::Over, |slowed| Slowed::To {
            per_second: slowed.per_second,
            waiting: slowed.waiting,
        }));
        debug!(peer.domain = %pair.remote, "a request that waited for its partner goes out");
        outbound::send(edge, pair, outgoing);
    }
}

/// Ends when something is due; never if nothing waits.
pub(crate) async fn due(at: Option<Instant>) {
    match at {
        Some(at) => time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Tells the admin port of the pace of partners, as long as the edge runs.
pub(crate) struct Paces(pub(crate) Weak<SipEdge>);

impl PaceSource for Paces {
    fn paces(&self) -> Vec<Paced> {
        let Some(edge) = self.0.upgrade() else { return Vec::new() };
        let now = now();
        let shaper = edge.shaper.lock();
        shaper.known().map(|known| paced(known, now)).collect()
    }
}

fn paced(known: Known<'_>, now: Instant) -> Paced {
    Paced {
        peer: known.partner.to_string(),
        per_second: known.per_second,
        waiting: known.waiting,
        waiting_secs: known.since.map_or(0, |since| now.saturating_duration_since(since).as_secs()),
        clear_in_secs: clear_in(known.waiting, known.per_second),
    }
}

/// At most 16, or the request was refused; and as many as there are edges for a pace below one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small and not negative"
)]
fn clear_in(waiting: usize, per_second: f64) -> u64 {
    (waiting as f64 / per_second).ceil() as u64
}

/// The edge is stopping: the nodes hear of what was not sent.
pub(crate) fn give_up(edge: &Arc<SipEdge>) {
    let waiting: Vec<_> = edge.shaper.lock().drain().collect();
    let refused = Refused::new(503, "busy", "the edge is stopping").retry_after(5);
    for (_, outgoing) in waiting {
        outbound::fail(edge, outgoing, &refused);
    }
}

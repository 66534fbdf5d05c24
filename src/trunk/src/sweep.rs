use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::now;
use gatehouse_xmpp::{ErrorKind, Stanza, StanzaCondition};
use tokio::time::{self, MissedTickBehavior};
use tracing::warn;

use crate::stream::Hub;
use crate::{Receipt, Transfer};

/// How often it is looked whether a lost node's stanzas must move or go back.
const EVERY: Duration = Duration::from_millis(250);

/// Moves stanzas away from nodes that stay lost, and tells the authors of those that nobody can
/// take.
pub(crate) async fn sweep(hub: Arc<Hub>) {
    let mut ticks = time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = hub.stop.cancelled() => return,
        }
        let given_back = hub.dispatch.sweep(now());
        if given_back.is_empty() {
            continue;
        }
        warn!(stanzas = given_back.len(), "the trunk was down too long: telling the authors");
        for parcel in given_back {
            let Some(stanza) = bounce(&parcel.stanza) else { continue };
            let transfer = Transfer { stanza, receipt: Receipt::default() };
            if hub.incoming.send(transfer).await.is_err() {
                return;
            }
        }
    }
}

/// What the author is told, as if by the other side. Answers are not answered, only counted.
fn bounce(stanza: &Stanza) -> Option<Stanza> {
    let text = "The server could not pass this on in time. Try again later.";
    let bounce = stanza.bounce(ErrorKind::Wait, StanzaCondition::RemoteServerTimeout, text);
    let outcome = if bounce.is_some() { "bounced" } else { "dropped" };
    metrics::counter!("gatehouse_trunk_undeliverable_total", "outcome" => outcome).increment(1);
    bounce
}

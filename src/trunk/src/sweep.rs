use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::now;
use tokio::time::{self, MissedTickBehavior};
use tracing::warn;

use crate::give_back::give_back;
use crate::stream::Hub;

/// How often it is looked whether a lost node's stanzas must move or go back.
pub(crate) const EVERY: Duration = Duration::from_millis(250);

/// Moves stanzas away from nodes that stay lost, and tells the authors of those that nobody can
/// take.
pub(crate) async fn sweep(hub: Arc<Hub>) {
    let reason = hub.dispatch.away();
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
            let Some(transfer) = give_back(&parcel.stanza, reason) else { continue };
            if hub.incoming.send(transfer).await.is_err() {
                return;
            }
        }
    }
}

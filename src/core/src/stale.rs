//! Ends sessions whose account was removed or got other keys, by a command in another process.

use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::Tasks;
use gatehouse_store::StoreError;
use gatehouse_types::{Chain, Jid};
use gatehouse_xmpp::{StreamCondition, StreamError};
use tokio::time::{self, MissedTickBehavior};
use tracing::{error, info_span};

use crate::account::Account;
use crate::router::Router;

/// How often the store is asked: a session outlives its account for no longer than this.
const INTERVAL: Duration = Duration::from_secs(15);
/// Accounts in one question.
const ACCOUNTS_MAX: usize = 500;

/// Starts the task that looks again and again.
pub(crate) fn start(router: &Router, tasks: &Tasks) {
    let (router, stop) = (router.clone(), tasks.stop());
    tasks.spawn(info_span!("stale"), async move {
        let work = async {
            let mut interval = time::interval(INTERVAL);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                if let Err(failure) = router.end_stale().await {
                    error!(error = %Chain(&failure), "cannot see which accounts were removed");
                }
            }
        };
        stop.run_until_cancelled(work).await;
    });
}

impl Router {
    /// Ends the sessions that logged in to something that is no longer there.
    pub(crate) async fn end_stale(&self) -> Result<(), StoreError> {
        let connected = self.accounts.all_connected();
        for accounts in connected.chunks(ACCOUNTS_MAX) {
            let names: Vec<&Jid> = accounts.iter().map(|account| &account.jid).collect();
            let current = self.store.account_versions(&names).await?;
            for account in accounts {
                let current = current.iter().find(|(jid, _)| *jid == account.jid);
                let current = current.map(|(_, version)| *version);
                end_others(account, current);
            }
        }
        Ok(())
    }
}

fn end_others(account: &Arc<Account>, current: Option<gatehouse_store::AccountVersion>) {
    for session in account.sessions_where(|session| Some(session.version) != current) {
        if current.is_some() {
            // The list may be that of the account that was there before. If there is none now, it
            // is still needed: whoever is blocked is not told that the user left.
            account.blocked_changed();
        }
        session.outbox.end(StreamError::new(
            StreamCondition::NotAuthorized,
            "the account is gone or has a new password",
        ));
    }
}

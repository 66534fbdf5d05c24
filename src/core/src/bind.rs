//! Binding and ending sessions (RFC 6120, section 7).

use std::sync::Arc;

use gatehouse_store::AccountVersion;
use gatehouse_types::Jid;
use gatehouse_xmpp::{StanzaCondition, StreamCondition, StreamError};

use crate::account::{Session, TooManySessions};
use crate::outbox::{Outbox, OutboxReceiver, Outgoing};
use crate::refusal::Refusal;
use crate::router::Router;

impl Router {
    /// Binds a client that logged in to this `version` of `account` to `resource`. An older session of that address ends with
    /// `conflict` (RFC 6120, section 7.7.2.2, case 3), and its contacts have seen it leave before
    /// this returns.
    pub(crate) async fn bind(
        &self,
        account: &Jid,
        version: AccountVersion,
        resource: &str,
        outbox: Outbox,
    ) -> Result<Arc<Session>, Refusal> {
        let full = account.with_resource(resource).map_err(|_| {
            Refusal::modify(StanzaCondition::BadRequest, "This resource cannot be used.")
        })?;
        self.recover().await?;
        // A store that fails is not a reason to let anybody in.
        let current = self.store.account_versions(&[account]).await?;
        if !current.iter().any(|(_, current)| *current == version) {
            return Err(Refusal::cancel(
                StanzaCondition::NotAllowed,
                "The account is gone or has a new password; log in again.",
            ));
        }
        let account = self.accounts.get(account);
        let session =
            Arc::new(Session::new(self.next_id(), full, Arc::clone(&account), version, outbox));
        let sessions_max = self.config.sessions_per_account_max;
        let mut added = account.add(&session, sessions_max);
        if added.is_err()
            && let Some(away) = account.longest_away()
        {
            // Somebody who is here comes before somebody who may come back.
            away.outbox.end(StreamError::new(
                StreamCondition::ResourceConstraint,
                "another client needs the place",
            ));
            account.settled().await;
            if account.take_out(away.id) {
                self.announce_gone(&away).await;
            }
            added = account.add(&session, sessions_max);
        }
        match added {
            Ok(None) => {}
            Ok(Some(older)) => {
                older.outbox.end(StreamError::new(
                    StreamCondition::Conflict,
                    "another client has taken this resource",
                ));
                // What it did not get is stored before this one can be sent anything.
                account.settled().await;
                self.announce_gone(&older).await;
            }
            Err(TooManySessions) => {
                return Err(Refusal::wait(
                    StanzaCondition::ResourceConstraint,
                    format!("An account has at most {sessions_max} sessions; close one first."),
                ));
            }
        }
        session.be_ready();
        Ok(session)
    }

    /// Ends a session: takes what its client did not get where it goes now, and tells the world.
    /// `unwritten` was taken from the queue and perhaps not written, oldest first, each with the
    /// time (Unix milliseconds) since when it has waited for a client that was away.
    pub(crate) async fn unbind(
        &self,
        session: &Session,
        mut outbox: OutboxReceiver,
        unwritten: impl IntoIterator<Item = (Outgoing, Option<i64>)>,
    ) {
        session.outbox.close();
        // From here nothing more is queued, so nothing is left behind; and nothing newer is stored
        // before what is left here.
        outbox.queue.close();
        session.outbox.set_unwritten(true);
        for (lost, since_ms) in unwritten {
            self.route_again(&session.account, lost, since_ms).await;
        }
        while let Some(lost) = outbox.queue.recv().await {
            self.route_again(&session.account, lost, None).await;
        }
        self.release_offline(session).await;
        session.settle();
        if session.account.take_out(session.id) {
            self.announce_gone(session).await;
        }
        self.let_go().await;
    }
}

//! What happens to a stanza for a local user (RFC 6121, section 8.5).

use std::sync::Arc;

use gatehouse_types::{Chain, Jid};
use gatehouse_xmpp::{Stanza, StanzaCondition, StanzaKind};
use tracing::{debug, warn};

use crate::account::{Account, Session};
use crate::delivery::{Decision, Sort, decide};
use crate::offline::Kept;
use crate::outbox::{Copies, Outgoing};
use crate::presence;
use crate::refusal::Refusal;
use crate::router::{Consequences, Origin, Router};
use crate::services::blocking;
use crate::subscription::Action;

impl Router {
    /// Delivers, stores, answers or drops a stanza for a user of ours.
    pub(crate) async fn deliver(
        &self,
        stanza: Stanza,
        origin: &Origin,
        consequences: &mut Consequences,
    ) {
        let stanza = Arc::new(stanza);
        if let Err(refusal) = self.try_deliver(&stanza, origin, consequences).await {
            // An error is not answered. Of a message to a SIP partner it is told after the next start.
            let later = [StanzaCondition::ResourceConstraint, StanzaCondition::InternalServerError];
            if later.contains(&refusal.condition) && origin.owed().keep() {
                warn!(stanza.id = %stanza.trace(), reason = %refusal.text, "an author is told after the next start that a message to a SIP partner was not delivered");
            }
            consequences.extend(refusal.answer(&stanza));
        }
    }

    async fn try_deliver(
        &self,
        stanza: &Arc<Stanza>,
        origin: &Origin,
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        let (Some(from), Some(to)) = (stanza.from(), stanza.to()) else { return Ok(()) };
        let Some(account) = self.account(&to.to_bare()).await? else {
            return no_such_user(stanza, from, to, consequences);
        };
        if !from.same_bare(&account.jid) {
            let blocked = account.blocked(&self.store).await?;
            if blocking::is_blocked(&blocked, from) {
                return refuse_blocked(stanza);
            }
        }
        if stanza.kind() == StanzaKind::Presence {
            match stanza.type_() {
                Some("probe") => return self.answer_probe(&account, stanza, consequences).await,
                None | Some("unavailable") => {
                    // Presence goes on, whatever becomes of what hangs on it.
                    let _told = Box::pin(self.pep_presence(&account, stanza, consequences)).await;
                }
                // Delivered like presence; an unknown type is dropped.
                Some("error") => {}
                Some(other) => {
                    let Some(action) = Action::from_type(other) else { return Ok(()) };
                    return self.subscription_in(&account, stanza, action, consequences).await;
                }
            }
        }
        if stanza.kind() == StanzaKind::Iq && stanza.is_answer() && to.is_bare() {
            Box::pin(self.pep_answer(stanza, consequences)).await;
            return Ok(());
        }
        self.deliver_by_rule(&account, to, stanza, origin, consequences).await
    }

    async fn deliver_by_rule(
        &self,
        account: &Arc<Account>,
        to: &Jid,
        stanza: &Arc<Stanza>,
        origin: &Origin,
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        // Around again only if a session ended in between; ended sessions are out of reach.
        loop {
            // That a message to a SIP partner did not arrive is not dropped because its author is away.
            let sort = match Sort::of(stanza) {
                Sort::MessageError if origin.owed().is_outgoing() => Sort::Chat,
                sort => sort,
            };
            let decision = decide(sort, account.reach(to));
            debug!(stanza.id = %stanza.trace(), ?decision, "a stanza for a local user");
            match decision {
                Decision::Resource => {
                    let sessions = Vec::from_iter(account.session_at(to));
                    if self.send_copies(account, &sessions, stanza, origin).await {
                        return Ok(());
                    }
                }
                Decision::Willing => {
                    let sessions = account.sessions_where(Session::is_willing);
                    if self.send_copies(account, &sessions, stanza, origin).await {
                        return Ok(());
                    }
                }
                Decision::Available => {
                    let available = |session: &Session| session.presence().is_some();
                    let sessions = account.sessions_where(available);
                    self.send_copies(account, &sessions, stanza, origin).await;
                    return Ok(());
                }
                Decision::Store => match self.keep(account, to, stanza, origin).await? {
                    Kept::Settled => return Ok(()),
                    Kept::UserIsBack => {}
                },
                Decision::Serve => {
                    consequences.extend(self.serve_account(account, stanza).await);
                    return Ok(());
                }
                Decision::Refuse => return Err(Refusal::unavailable()),
                Decision::Drop => return Ok(()),
            }
        }
    }

    /// Sends one copy to each session; true if at least one took it, and it was not lost meanwhile.
    async fn send_copies(
        &self,
        account: &Account,
        sessions: &[Arc<Session>],
        stanza: &Arc<Stanza>,
        origin: &Origin,
    ) -> bool {
        let owed = origin.owed();
        owed.is_for(stanza);
        let copies = Copies::owing(owed);
        let copy = || Outgoing {
            stanza: Arc::clone(stanza),
            copies: copies.clone(),
            offline: None,
            is_extra: false,
        };
        if sessions.iter().all(|session| session.is_away())
            && !sessions.is_empty()
            && let Err(failure) = self.hold(&account.jid, [&copy()], self.clock.now_ms()).await
        {
            // The session notices, too, and gives up.
            debug!(error = %Chain(&failure), "cannot store a message for a client that is away");
        }
        let mut sent = false;
        for session in sessions {
            let copy = copy();
            sent |= match origin {
                Origin::Trunk(_) => session.outbox.offer(copy).is_ok(),
                Origin::Here(_) | Origin::Gateway(_) | Origin::Leftover(_) => {
                    session.outbox.send(copy).await.is_ok()
                }
            };
        }
        if sent {
            self.copy_received(account, sessions, stanza, (&copies, origin)).await;
        }
        // A session may have ended while another was waited for. It did not route its copy again, for
        // this one was still there.
        sent && copies.lost().is_none()
    }
}

/// RFC 6121, section 8.5.1. A probe gets the answer that a stranger's probe gets, so that it does
/// not tell who has an account.
fn no_such_user(
    stanza: &Stanza,
    from: &Jid,
    to: &Jid,
    consequences: &mut Consequences,
) -> Result<(), Refusal> {
    match (stanza.kind(), stanza.type_()) {
        (StanzaKind::Presence, Some("probe")) => {
            let answer = presence::of_type(Some("unsubscribed"), to.to_bare(), from.to_bare());
            consequences.extend(answer);
            Ok(())
        }
        (StanzaKind::Presence, _) => Ok(()),
        (StanzaKind::Message, Some("headline")) => Ok(()),
        (StanzaKind::Message | StanzaKind::Iq, _) => Err(Refusal::unavailable()),
    }
}

/// XEP-0191, section 3.2: to a blocked contact the user looks like nobody.
fn refuse_blocked(stanza: &Stanza) -> Result<(), Refusal> {
    match (stanza.kind(), stanza.type_()) {
        (StanzaKind::Presence, _) | (StanzaKind::Message, Some("headline")) => Ok(()),
        (StanzaKind::Message | StanzaKind::Iq, _) => Err(Refusal::unavailable()),
    }
}

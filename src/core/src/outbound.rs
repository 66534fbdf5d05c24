//! What happens to a stanza that a client of ours sends (RFC 6121, sections 2 to 4 and 8.1).

use std::sync::Arc;

use gatehouse_xmpp::{Stanza, StanzaKind};

use crate::account::Session;
use crate::carbons;
use crate::iq;
use crate::outbox::Owed;
use crate::refusal::Refusal;
use crate::router::{Consequences, Origin, Router};
use crate::services::blocking;
use crate::subscription::Action;

impl Router {
    /// Takes a stanza from a bound client; `from` is its full address. Returns once the stanza and
    /// whatever it brought about has been handed on, stored or answered. Whoever a message was handed
    /// to holds `owed` until that is safe.
    pub(crate) async fn take_from_client(
        &self,
        session: &Arc<Session>,
        stanza: Stanza,
        owed: Owed,
    ) {
        if let Err(refusal) = iq::check_shape(&stanza) {
            return self.answer(session, refusal.answer(&stanza)).await;
        }
        if let Err(answer) = self.check_blocked(session, &stanza).await {
            return self.answer(session, answer).await;
        }
        match stanza.kind() {
            StanzaKind::Message => {
                let mut stanza = stanza;
                // RFC 6120, section 10.3.1.
                if stanza.to().is_none() {
                    stanza.set_to(Some(session.account.jid.clone()));
                }
                self.copy_sent(session, &stanza).await;
                self.route([stanza], Origin::Here(owed), None).await;
            }
            StanzaKind::Presence => {
                let turn = session.account.turn.lock().await;
                if !session.account.has(session.id) {
                    // A newer session has its address, and the world was told that it left.
                    return;
                }
                let mut consequences = Consequences::new();
                self.presence_from(session, stanza, &mut consequences).await;
                let left = self.route_in_turn(consequences).await;
                drop(turn);
                self.route_left(left).await;
            }
            StanzaKind::Iq => self.iq_from(session, stanza).await,
        }
    }

    /// Takes messages to the SIP gateway that a client sent one behind the other, in their order: they are
    /// stored together. Whoever is told anything about one of them knows what became of those before it.
    pub(crate) async fn take_messages_from_client(
        &self,
        session: &Arc<Session>,
        messages: Vec<(Stanza, Owed)>,
    ) {
        let mut together = Vec::with_capacity(messages.len());
        for (message, owed) in messages {
            if let Err(answer) = self.check_blocked(session, &message).await {
                self.route_to_gateway(std::mem::take(&mut together)).await;
                self.answer(session, answer).await;
                continue;
            }
            self.copy_sent(session, &message).await;
            together.push((message, owed));
        }
        self.route_to_gateway(together).await;
    }

    async fn presence_from(
        &self,
        session: &Arc<Session>,
        stanza: Stanza,
        consequences: &mut Consequences,
    ) {
        let Some(action) = stanza.type_().and_then(Action::from_type) else {
            return Box::pin(self.presence_out(session, stanza, consequences)).await;
        };
        let outcome = self.subscription_out(session, stanza.clone(), action, consequences).await;
        if let Err(refusal) = outcome {
            self.answer(session, refusal.answer(&stanza)).await;
        }
    }

    async fn iq_from(&self, session: &Arc<Session>, stanza: Stanza) {
        let own = &session.account.jid;
        let is_own = stanza.to().is_none_or(|to| to == own);
        if !is_own {
            return self.route_all([stanza]).await;
        }
        // An answer to a push, or to a question of ours.
        if stanza.is_answer() {
            let mut consequences = Consequences::new();
            self.pep_answer(&stanza, &mut consequences).await;
            return self.route_all(consequences).await;
        }
        if let Some(outcome) = carbons::switch(session, &stanza) {
            let answer = match outcome {
                Ok(()) => stanza.result(None),
                Err(refusal) => refusal.answer(&stanza),
            };
            return self.answer(session, answer).await;
        }
        let turn = session.account.turn.lock().await;
        let mut consequences = Consequences::new();
        Box::pin(self.serve_own(session, &stanza, &mut consequences)).await;
        let left = self.route_in_turn(consequences).await;
        drop(turn);
        self.route_left(left).await;
    }

    /// Fails with what the author of a stanza is told if it is for somebody whom they block.
    async fn check_blocked(
        &self,
        session: &Session,
        stanza: &Stanza,
    ) -> Result<(), Option<Stanza>> {
        match self.is_to_blocked(session, stanza).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(blocking::refuse_to_blocked(stanza)),
            Err(refusal) => Err(refusal.answer(stanza)),
        }
    }

    async fn is_to_blocked(&self, session: &Session, stanza: &Stanza) -> Result<bool, Refusal> {
        let account = &session.account;
        let Some(to) = stanza.to().filter(|to| !to.same_bare(&account.jid)) else {
            return Ok(false);
        };
        let blocked = account.blocked(&self.store).await?;
        Ok(blocking::is_blocked(&blocked, to))
    }

    async fn answer(&self, session: &Session, answer: Option<Stanza>) {
        if let Some(answer) = answer {
            self.send(session, answer).await;
        }
    }
}

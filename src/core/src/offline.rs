//! Messages for users who are away: which are kept, and how they are handed out.

use std::sync::Arc;

use gatehouse_store::{OutgoingLimits, StoreError};
use gatehouse_types::{Chain, Jid};
use gatehouse_xmpp::{Element, Payload, Stanza, StanzaCondition};
use tracing::{error, warn};

use crate::account::{Account, Claim, Inbox, Session};
use crate::outbox::{Copies, Outgoing};
use crate::refusal::Refusal;
use crate::router::{Origin, Router};
use crate::stamp;
use crate::xml;

/// Chat states (XEP-0085).
const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// Processing hints (XEP-0334).
const HINTS: &str = "urn:xmpp:hints";
/// Stanza ids (XEP-0359).
const STANZA_IDS: &str = "urn:xmpp:sid:0";

/// What became of a message that was to be kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kept {
    /// It is stored, or not worth it.
    Settled,
    /// The user became available meanwhile: deliver it.
    UserIsBack,
}

/// Whether a message is worth keeping.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Worth {
    Keep,
    /// It means nothing later.
    Forget,
    /// Its author forbids it, and should know that it was not read.
    Forbidden,
}

fn worth(message: &Stanza) -> Worth {
    let hint = |name| message.payloads().any(|payload| payload.is(name, HINTS));
    let is_content = |payload: Payload<'_>| {
        let passing = [CHAT_STATES, HINTS, STANZA_IDS].iter().any(|name| payload.has_ns(name));
        !passing && payload.name() != "thread"
    };
    let has_content = message.payloads().any(is_content);
    let has_body = message.payloads().any(|payload| payload.name() == "body");
    match (hint("no-store"), has_body, has_content || hint("store")) {
        (true, true, _) => Worth::Forbidden,
        (true, false, _) | (false, _, false) => Worth::Forget,
        (false, _, true) => Worth::Keep,
    }
}

/// True if a message means something to a user who reads it later.
pub(crate) fn is_worth_keeping(message: &Stanza) -> bool {
    worth(message) == Worth::Keep
}

impl Router {
    /// Stores a message for a user who is away. Once this returns, it survives a crash.
    pub(crate) async fn keep(
        &self,
        account: &Account,
        to: &Jid,
        stanza: &Stanza,
        origin: &Origin,
    ) -> Result<Kept, Refusal> {
        match worth(stanza) {
            Worth::Keep => {}
            Worth::Forget => return Ok(Kept::Settled),
            Worth::Forbidden => {
                return Err(Refusal::cancel(
                    StanzaCondition::ServiceUnavailable,
                    "The recipient is away, and this message says that it must not be stored.",
                ));
            }
        }
        let text = xml::storable(&stanza.to_element()).ok_or_else(|| {
            Refusal::modify(
                StanzaCondition::NotAcceptable,
                "The recipient is away, and this message holds XML that cannot be stored.",
            )
        })?;
        let mut inbox = account.inbox.lock().await;
        let waits = !matches!(origin, Origin::Leftover(_));
        if waits && account.is_settling() {
            // Older messages are about to be stored.
            drop(inbox);
            account.settled().await;
            inbox = account.inbox.lock().await;
        }
        let reach = account.reach(to);
        if reach.willing || reach.resource {
            return Ok(Kept::UserIsBack);
        }
        let mut limits = self.config.offline;
        if origin.owed().is_outgoing() {
            // Whoever wrote it was promised to hear of it. There are no more than those that were stored.
            let kept = OutgoingLimits::default();
            limits.per_account = limits.per_account.saturating_add(kept.per_account.0);
            limits.per_node = limits.per_node.saturating_add(kept.per_node.0);
        }
        let stored =
            self.store.push_offline(&account.jid, self.clock.now_ms(), &text, limits).await;
        drop(inbox);
        match stored {
            Ok(()) => {
                metrics::counter!("gatehouse_offline_messages_total").increment(1);
                Ok(Kept::Settled)
            }
            Err(StoreError::Full { .. }) => Err(Refusal::wait(
                StanzaCondition::ResourceConstraint,
                "The recipient is away and the store for offline messages is full. Try again later.",
            )),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Makes `session` available by `change`. If it becomes willing to take messages, it gets the
    /// waiting ones first, so that none overtakes an older one.
    pub(crate) async fn become_available(
        &self,
        session: &Session,
        willing: bool,
        change: impl FnOnce(),
    ) {
        let mut inbox = session.account.inbox.lock().await;
        if willing && !session.is_willing() {
            self.hand_out(session, &mut inbox).await;
        }
        change();
    }

    /// Sends the waiting messages to `session`, unless another session is being sent them.
    async fn hand_out(&self, session: &Session, inbox: &mut Inbox) {
        if inbox.claim.is_some() {
            return;
        }
        let waiting = match self.store.offline(&session.account.jid).await {
            Ok(waiting) => waiting,
            Err(failure) => {
                error!(error = %Chain(&failure), "cannot read offline messages; they stay stored");
                return;
            }
        };
        let domain = session.jid.domain();
        for message in waiting {
            let read = message.stanza.parse::<Element>().ok();
            let Some(Ok(mut stanza)) = read.map(Stanza::from_element) else {
                self.remove_unreadable(session, message.id).await;
                continue;
            };
            // Claimed first: the session may have it written before this task goes on.
            inbox.claim = Some(Claim { session: session.id, up_to: message.id });
            if let Some(delay) = stamp::delay(domain, message.received_ms) {
                stanza.payload_mut().append_child(delay);
            }
            let item = Outgoing {
                stanza: Arc::new(stanza),
                copies: Copies::default(),
                offline: Some(message.id),
                is_extra: false,
            };
            if session.outbox.send(item).await.is_err() {
                return;
            }
        }
    }

    /// A row that nobody can read would take up room for ever.
    async fn remove_unreadable(&self, session: &Session, id: i64) {
        let account = &session.account.jid;
        warn!(%account, message.id = id, "an offline message cannot be read; it is removed");
        if let Err(failure) = self.store.remove_one_offline(account, id).await {
            error!(error = %Chain(&failure), "cannot remove an unreadable offline message");
        }
    }

    /// `session` has written all stored messages up to `id` to its client: they can go.
    pub(crate) async fn offline_written(&self, session: &Session, id: i64) {
        let account = &session.account;
        let mut inbox = account.inbox.lock().await;
        if let Err(failure) = self.store.remove_offline(&account.jid, id).await {
            // They will come twice, which is better than not at all; but not to this session, or
            // they would come without end.
            error!(error = %Chain(&failure), "cannot remove delivered offline messages");
            return;
        }
        if inbox.claim.is_some_and(|claim| claim.session == session.id && claim.up_to <= id) {
            inbox.claim = None;
            self.hand_out_to_anyone(account, &mut inbox).await;
        }
    }

    /// `session` is over: what it was being sent and did not get goes to another one, or waits.
    pub(crate) async fn release_offline(&self, session: &Session) {
        let mut inbox = session.account.inbox.lock().await;
        if inbox.claim.is_some_and(|claim| claim.session == session.id) {
            inbox.claim = None;
            self.hand_out_to_anyone(&session.account, &mut inbox).await;
        }
    }

    async fn hand_out_to_anyone(&self, account: &Account, inbox: &mut Inbox) {
        if let Some(session) = account.sessions_where(Session::is_willing).first() {
            self.hand_out(session, inbox).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_keeping() {
        for (payload, expected) in [
            ("<body>hi</body>", Worth::Keep),
            ("<x xmlns='jabber:x:conference' jid='r@c.example'/>", Worth::Keep),
            ("<received xmlns='urn:xmpp:receipts' id='1'/>", Worth::Keep),
            ("<body>hi</body><no-permanent-store xmlns='urn:xmpp:hints'/>", Worth::Keep),
            ("<composing xmlns='http://jabber.org/protocol/chatstates'/>", Worth::Forget),
            (
                "<active xmlns='http://jabber.org/protocol/chatstates'/><thread>t</thread>",
                Worth::Forget,
            ),
            ("", Worth::Forget),
            ("<x xmlns='a'/><no-store xmlns='urn:xmpp:hints'/>", Worth::Forget),
            ("<body>hi</body><no-store xmlns='urn:xmpp:hints'/>", Worth::Forbidden),
            ("<store xmlns='urn:xmpp:hints'/>", Worth::Keep),
        ] {
            let message: Element =
                format!("<message xmlns='jabber:client'>{payload}</message>").parse().unwrap();
            let message = Stanza::from_element(message).unwrap();
            assert_eq!(worth(&message), expected, "{payload}");
        }
    }
}

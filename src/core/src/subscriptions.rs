//! Subscriptions: what the state machine decides is stored, pushed and sent.

use gatehouse_store::{Contact, ContactLimits, StoreError};
use gatehouse_types::Jid;
use gatehouse_xmpp::{Stanza, StanzaCondition};
use tracing::info;

use crate::account::{Account, Session};
use crate::presence;
use crate::refusal::Refusal;
use crate::roster;
use crate::router::{Consequences, Router};
use crate::subscription::{Action, Change, Effect, Outcome, inbound, outbound};
use crate::xml;

/// A stored request is what the asking side wrote; one that is long or cannot be read
/// again is stored without its payload.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

impl Router {
    /// A user of ours manages a subscription; its session holds the account's turn.
    pub(crate) async fn subscription_out(
        &self,
        session: &Session,
        mut stanza: Stanza,
        action: Action,
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        let account = &session.account;
        let Some(contact) = stanza.to().map(Jid::to_bare) else {
            return Err(Refusal::bad_request("A subscription needs a contact in `to`."));
        };
        if contact == account.jid {
            return Ok(());
        }
        // RFC 6121, section 3.1.2.
        stanza.set_from(Some(account.jid.clone()));
        stanza.set_to(Some(contact.clone()));
        let roster = account.roster.lock().await;
        let current = self.store.contact(&account.jid, &contact).await?;
        let outcome = outbound(current.as_ref(), &contact, action);
        self.carry_out(account, &contact, outcome, &stanza, consequences).await?;
        drop(roster);
        Ok(())
    }

    /// A contact manages its subscription to, or ours from, a user of ours.
    pub(crate) async fn subscription_in(
        &self,
        account: &Account,
        stanza: &Stanza,
        action: Action,
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        let Some(contact) = stanza.from().map(Jid::to_bare) else { return Ok(()) };
        if contact == account.jid {
            return Ok(());
        }
        let mut stanza = stanza.clone();
        stanza.set_from(Some(contact.clone()));
        stanza.set_to(Some(account.jid.clone()));
        let roster = account.roster.lock().await;
        let current = self.store.contact(&account.jid, &contact).await?;
        let outcome = inbound(current.as_ref(), &contact, action, &request_text(&stanza));
        let done = self.carry_out(account, &contact, outcome, &stanza, consequences).await;
        drop(roster);
        match done {
            Err(refusal)
                if matches!(
                    refusal.condition,
                    StanzaCondition::ResourceConstraint | StanzaCondition::NotAllowed
                ) =>
            {
                info!(
                    %contact, account = %account.jid, text = %refusal.text,
                    "a subscription was not taken"
                );
                if action == Action::Subscribe {
                    // RFC 6121, section 3.2: denied on behalf of the user.
                    let (from, to) = (account.jid.clone(), contact);
                    let denied = presence::of_type(Some(Action::Unsubscribed.as_str()), from, to);
                    consequences.extend(denied);
                }
                Ok(())
            }
            done => done,
        }
    }

    /// Stores the change, then does what follows. The caller holds the account's roster.
    pub(crate) async fn carry_out(
        &self,
        account: &Account,
        contact: &Jid,
        outcome: Outcome,
        stanza: &Stanza,
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        let (version, after) = self.store_change(account, contact, outcome.change).await?;
        for effect in outcome.effects {
            match effect {
                Effect::AutoReply(action) => {
                    let (from, to) = (account.jid.clone(), contact.clone());
                    consequences.extend(presence::of_type(Some(action.as_str()), from, to));
                }
                Effect::Route(action) if stanza.type_() == Some(action.as_str()) => {
                    consequences.push(stanza.clone());
                }
                Effect::Route(action) => {
                    let (from, to) = (account.jid.clone(), contact.clone());
                    consequences.extend(presence::of_type(Some(action.as_str()), from, to));
                }
                Effect::Deliver => self.show(account, stanza),
                Effect::Push => {
                    let item = match &after {
                        Some(contact) if contact.in_roster => roster::item(contact),
                        _ => roster::removed_item(contact),
                    };
                    self.push_item(account, &item, version).await;
                }
                Effect::SendPresence => {
                    Self::presence_for(account, contact, true, consequences);
                    // The change is made, whatever becomes of what hangs on it.
                    let _told = self.pep_granted(account, contact, consequences).await;
                }
                Effect::SendUnavailable => {
                    Self::presence_for(account, contact, false, consequences);
                }
            }
        }
        Ok(())
    }

    /// Gives the roster version, and the contact as it is afterwards.
    async fn store_change(
        &self,
        account: &Account,
        contact: &Jid,
        change: Change,
    ) -> Result<(u64, Option<Contact>), Refusal> {
        let cap = u64::try_from(self.config.contacts_max).unwrap_or(u64::MAX);
        // Strangers' requests have a part of their own, of the same size.
        let watchers = u64::try_from(self.config.watchers_max).unwrap_or(u64::MAX);
        let limits = ContactLimits { roster: cap, requests: cap, watchers };
        match change {
            Change::Put(contact) => {
                let stored = self.store.put_contact_within(&account.jid, &contact, limits).await;
                account.watchers.changed();
                let version = stored.map_err(|failure| match failure {
                    StoreError::Full { what, limit: 0 } => Refusal::cancel(
                        StanzaCondition::NotAllowed,
                        format!("This server allows nobody in {what}."),
                    ),
                    StoreError::Full { what, limit } => Refusal::wait(
                        StanzaCondition::ResourceConstraint,
                        format!("There is room for {limit} in {what}; remove somebody first."),
                    ),
                    failure => failure.into(),
                })?;
                Ok((version, Some(contact)))
            }
            Change::Remove => {
                let removed = self.store.remove_contact(&account.jid, contact).await;
                account.watchers.changed();
                Ok((removed?, None))
            }
            Change::Unchanged => {
                let contacts = self.store.contacts(&account.jid).await?;
                let after = contacts.contacts.into_iter().find(|one| one.jid == *contact);
                Ok((contacts.version, after))
            }
        }
    }

    /// RFC 6121, sections 3.1.3 and 3.1.6: requests to who is available, answers to who knows the
    /// roster.
    fn show(&self, account: &Account, stanza: &Stanza) {
        let is_request = stanza.type_() == Some("subscribe");
        let sessions = account.sessions_where(|session| {
            session.with(|state| match is_request {
                true => state.presence.is_some(),
                false => state.interested,
            })
        });
        for session in sessions {
            self.offer(&session, stanza.clone());
        }
    }
}

/// The request as it is kept until the user answers it.
fn request_text(stanza: &Stanza) -> String {
    let whole = xml::storable(&stanza.to_element());
    if let Some(text) = whole.filter(|text| text.len() <= REQUEST_BYTES_MAX) {
        return text;
    }
    let mut stanza = stanza.clone();
    stanza.payload_mut().take_nodes();
    xml::storable(&stanza.to_element()).unwrap_or_default()
}

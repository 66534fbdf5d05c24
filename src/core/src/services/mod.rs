//! What the server itself answers: for its domains, for an account that is asked by its bare
//! address, and for a client about its own account.

pub(crate) mod blocking;
mod disco;
mod ping;
mod vcard;
mod version;

use std::sync::Arc;

use gatehouse_xmpp::{Element, Stanza, StanzaKind, ns};

use crate::account::{Account, Session};
use crate::pep;
use crate::presence;
use crate::refusal::Refusal;
use crate::router::{Consequences, Router};
use crate::xml;

/// The answer to a request: the payload of the result, if it has one.
pub(crate) type Answer = Result<Option<Element>, Refusal>;

/// The name and namespace of a request, and whether it is a `set`.
fn request(stanza: &Stanza) -> Option<(&Element, String, bool)> {
    let is_set = match (stanza.kind(), stanza.type_()) {
        (StanzaKind::Iq, Some("get")) => false,
        (StanzaKind::Iq, Some("set")) => true,
        _ => return None,
    };
    let payload = xml::only_child(stanza.element())?;
    Some((payload, payload.ns(), is_set))
}

/// The stanza that says `answer` to `stanza`.
fn reply(stanza: &Stanza, answer: Answer) -> Option<Stanza> {
    match answer {
        Ok(payload) => stanza.result(payload),
        Err(refusal) => refusal.answer(stanza),
    }
}

impl Router {
    /// A stanza to one of our domains (RFC 6121, section 8.3). Presence is ignored.
    pub(crate) fn serve_domain(&self, stanza: &Stanza, consequences: &mut Consequences) {
        if stanza.kind() == StanzaKind::Presence {
            return;
        }
        let answer = match request(stanza) {
            Some((query, namespace, false)) => match namespace.as_str() {
                ns::DISCO_INFO => disco::server_info(query),
                ns::DISCO_ITEMS => disco::no_items(query),
                ns::PING => ping::answer(query),
                ns::VERSION => version::answer(query),
                _ => Err(Refusal::unsupported()),
            },
            Some(_) => Err(Refusal::unsupported()),
            // A message; nobody reads it.
            None => Err(Refusal::unavailable()),
        };
        consequences.extend(reply(stanza, answer));
    }

    /// A request to an account from somebody else, answered on its behalf (RFC 6121, section
    /// 8.5.2.1.3). What shows that the account exists is for those who see its presence, but for
    /// the vCard, which is public.
    pub(crate) async fn serve_account(&self, account: &Account, stanza: &Stanza) -> Option<Stanza> {
        let answer = match request(stanza) {
            Some((query, namespace, false)) => match namespace.as_str() {
                ns::VCARD => self.vcard_of(account, query).await,
                ns::DISCO_INFO if self.may_see(account, stanza).await => disco::account_info(query),
                ns::DISCO_ITEMS if self.may_see(account, stanza).await => {
                    self.nodes_of(account, query, false).await
                }
                pep::PUBSUB => {
                    let is_watcher = self.may_see(account, stanza).await;
                    return self.pep_other(account, stanza, query, is_watcher).await;
                }
                ns::PING if self.may_see(account, stanza).await => ping::answer(query),
                _ => Err(Refusal::unavailable()),
            },
            _ => Err(Refusal::unavailable()),
        };
        reply(stanza, answer)
    }

    async fn nodes_of(&self, account: &Account, query: &Element, is_owner: bool) -> Answer {
        let nodes = self.pep_list(account, is_owner).await?;
        disco::account_items(query, &account.jid, &nodes)
    }

    async fn may_see(&self, account: &Account, stanza: &Stanza) -> bool {
        let Some(from) = stanza.from() else { return false };
        let contact = self.store.contact(&account.jid, &from.to_bare()).await;
        contact.is_ok_and(|contact| contact.as_ref().is_some_and(presence::is_watcher))
    }

    /// A request of a client about its own account. The answer is queued before anything that
    /// follows from it.
    pub(crate) async fn serve_own(
        &self,
        session: &Arc<Session>,
        stanza: &Stanza,
        consequences: &mut Consequences,
    ) {
        let Some((query, namespace, is_set)) = request(stanza) else { return };
        let account = &session.account;
        let mut afterwards = Vec::new();
        let answer = match (namespace.as_str(), is_set) {
            (ns::ROSTER, _) if query.name() != "query" => Err(Refusal::unsupported()),
            (ns::ROSTER, false) => {
                let _roster = account.roster.lock().await;
                let (answer, pushes) = match self.roster_get(session, query).await {
                    Ok((payload, pushes)) => (Ok(payload), pushes),
                    Err(refusal) => (Err(refusal), Vec::new()),
                };
                // Sent while no other change can be pushed: versions arrive in order.
                for stanza in reply(stanza, answer).into_iter().chain(pushes) {
                    self.send(session, stanza).await;
                }
                return;
            }
            (ns::ROSTER, true) => {
                let _roster = account.roster.lock().await;
                self.roster_set(session, stanza, query, consequences).await.map(|()| None)
            }
            (ns::BLOCKING, is_set) => {
                self.blocking(session, query, is_set, consequences, &mut afterwards).await
            }
            (ns::VCARD, false) => self.own_vcard(account, query).await,
            (ns::VCARD, true) => self.set_vcard(account, query).await.map(|()| None),
            (ns::DISCO_INFO, false) => disco::account_info(query),
            (ns::DISCO_ITEMS, false) => self.nodes_of(account, query, true).await,
            (ns::PING, false) => ping::answer(query),
            (pep::PUBSUB | pep::PUBSUB_OWNER, is_set) => {
                let reply = self.pep_own(session, stanza, query, is_set, consequences).await;
                if let Some(reply) = reply {
                    self.send(session, reply).await;
                }
                return;
            }
            _ => Err(Refusal::unsupported()),
        };
        if let Some(reply) = reply(stanza, answer) {
            self.send(session, reply).await;
        }
        for (session, stanza) in afterwards {
            self.send(&session, stanza).await;
        }
    }
}

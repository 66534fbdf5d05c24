//! Who is told of what an account publishes (XEP-0163, section 4).

use std::sync::Arc;

use gatehouse_net::now;
use gatehouse_store::{PepAccess, PepItem, PepNode, Subscription};
use gatehouse_types::Jid;
use gatehouse_xmpp::parsers::minidom::rxml::xml_ncname;
use gatehouse_xmpp::{Element, Stanza, StanzaKind, ns};

use super::caps::{Kind, Knowledge, Pair, Wanted};
use super::others::{item, may_read};
use super::{Denial, EVENT};
use crate::account::Account;
use crate::refusal::Refusal;
use crate::router::{Consequences, Router};
use crate::services::blocking;
use crate::xml;

/// What happened to a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    Published(&'a PepItem),
    Retracted { id: &'a str },
    Deleted,
    Purged,
}

impl Event<'_> {
    fn to_stanza(self, account: &Jid, node: &str) -> Option<Stanza> {
        let name = match self {
            Self::Published(_) | Self::Retracted { .. } => "items",
            Self::Deleted => "delete",
            Self::Purged => "purge",
        };
        let mut inside = xml::element(name, EVENT);
        xml::set(&mut inside, xml_ncname!("node"), node);
        match self {
            Self::Published(found) => {
                inside.append_child(item(found, EVENT));
            }
            Self::Retracted { id } => {
                let mut retract = xml::element("retract", EVENT);
                xml::set(&mut retract, xml_ncname!("id"), id);
                inside.append_child(retract);
            }
            Self::Deleted | Self::Purged => {}
        }
        let mut event = xml::element("event", EVENT);
        event.append_child(inside);
        let mut message = xml::element("message", ns::CLIENT);
        xml::set(&mut message, xml_ncname!("type"), "headline");
        message.append_child(event);
        let mut stanza = Stanza::from_element(message).ok()?;
        stanza.set_from(Some(account.clone()));
        Some(stanza)
    }
}

fn copy_for(stanza: &Stanza, client: &Jid) -> Stanza {
    let mut copy = stanza.clone();
    copy.set_to(Some(client.clone()));
    copy
}

impl Router {
    /// Presence that came for `account` from somebody else's client.
    pub(crate) async fn pep_presence(
        &self,
        account: &Account,
        presence: &Stanza,
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        let Some(client) = presence.from().filter(|from| !from.is_bare()) else { return Ok(()) };
        let is_stranger = !self.is_ours(client.domain());
        match presence.type_() {
            None => {}
            Some(_) => {
                if is_stranger {
                    self.capabilities.gone(client);
                }
                account.personal.gone(client);
                return Ok(());
            }
        }
        // A client of ours is looked at when something is published.
        let learns = is_stranger && account.is_connected();
        if !learns && account.personal.nodes() == Some(false) {
            return Ok(());
        }
        let Some(kind) = Kind::of(presence.element()) else { return Ok(()) };
        let watchers = account.watchers(&self.store).await?;
        if !watchers.iter().any(|watcher| watcher.same_bare(client)) {
            // Whom the user sees may come to see the user, and will not say again what it is.
            if learns
                && let Some(contact) = self.store.contact(&account.jid, &client.to_bare()).await?
                && contact.subscription != Subscription::None
            {
                self.capabilities.seen(client, &kind);
            }
            return Ok(());
        }
        if learns {
            self.capabilities.seen(client, &kind);
        }
        self.pep_available(account, client, &kind, consequences).await
    }

    /// A client that may see the account's presence is available, perhaps the account's own: it gets
    /// the last items that it wants.
    async fn pep_available(
        &self,
        account: &Account,
        client: &Jid,
        kind: &Arc<Kind>,
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        if account.personal.nodes().is_none() {
            let nodes = self.store.pep_nodes(&account.jid).await?;
            account.personal.has_nodes(!nodes.is_empty());
        }
        let is_own = client.same_bare(&account.jid);
        if account.personal.nodes() != Some(true)
            || !account.personal.tells(client, kind, is_own, now())
        {
            return Ok(());
        }
        if let Some(wanted) = self.wants(account, client, kind, consequences) {
            self.pep_last_items(account, client, &wanted, consequences).await?;
        }
        Ok(())
    }

    /// Presence of a client of the account itself.
    pub(crate) async fn pep_own_presence(
        &self,
        account: &Account,
        client: &Jid,
        presence: &Stanza,
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        match Kind::of(presence.element()) {
            Some(kind) => self.pep_available(account, client, &kind, consequences).await,
            None => Ok(()),
        }
    }

    /// A contact sees the account's presence from now on.
    pub(crate) async fn pep_granted(
        &self,
        account: &Account,
        contact: &Jid,
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        let clients = if self.is_ours(contact.domain()) {
            self.accounts.connected(contact).map(|contact| local_clients(&contact))
        } else {
            Some(self.capabilities.clients_of(contact))
        };
        for (client, kind) in clients.unwrap_or_default() {
            self.pep_available(account, &client, &kind, consequences).await?;
        }
        Ok(())
    }

    /// What a client wants, if it is known; else it is asked, and gets the last items when it has
    /// answered.
    fn wants(
        &self,
        account: &Account,
        client: &Jid,
        kind: &Arc<Kind>,
        consequences: &mut Consequences,
    ) -> Option<Wanted> {
        let pair = Pair { account: account.jid.clone(), client: client.clone() };
        match self.capabilities.look_up(kind, pair, now()) {
            Knowledge::Wants(wanted) => return Some(wanted),
            Knowledge::Waits => {}
            Knowledge::Ask => {
                let id = format!("caps-{}", self.next_id());
                if self.capabilities.asks(&id, client, kind, now()) {
                    consequences.extend(question(&id, &account.jid, client, kind));
                }
            }
        }
        None
    }

    /// An answer to a bare address of ours, perhaps to a question of ours.
    pub(crate) async fn pep_answer(&self, answer: &Stanza, consequences: &mut Consequences) {
        let (StanzaKind::Iq, Some(id), Some(client)) = (answer.kind(), answer.id(), answer.from())
        else {
            return;
        };
        let is_result = answer.type_() == Some("result");
        let info = is_result.then(|| xml::only_child(answer.element())).flatten();
        let Some((pairs, wanted)) = self.capabilities.answered(id, client, info) else { return };
        for Pair { account, client } in pairs {
            let told = match self.may_hear(&account, &client).await {
                Ok(Some(account)) => {
                    self.pep_last_items(&account, &client, &wanted, consequences).await
                }
                Ok(None) => Ok(()),
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = told {
                tracing::debug!(%account, text = %refusal.text, "cannot tell what is published");
            }
        }
    }

    /// The account, if `client` may hear of its nodes: who waited for an answer may have lost the right
    /// to what it waited for.
    async fn may_hear(&self, account: &Jid, client: &Jid) -> Result<Option<Arc<Account>>, Refusal> {
        let Some(account) = self.account(account).await? else { return Ok(None) };
        if client.same_bare(&account.jid) {
            return Ok(Some(account));
        }
        let watchers = account.watchers(&self.store).await?;
        if !watchers.iter().any(|watcher| watcher.same_bare(client)) {
            return Ok(None);
        }
        let blocked = account.blocked(&self.store).await?;
        Ok((!blocking::is_blocked(&blocked, client)).then_some(account))
    }

    /// The newest item of each node that the client wants and may read, unless it has it.
    async fn pep_last_items(
        &self,
        account: &Account,
        client: &Jid,
        wanted: &Wanted,
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        if wanted.is_empty() {
            return Ok(());
        }
        let (personal, account) = (&account.personal, &account.jid);
        let is_own = client.same_bare(account);
        let mut bytes = 0;
        for PepNode { node, config } in self.store.pep_nodes(account).await? {
            // Only watchers and own clients come here.
            let may = is_own || may_read(config.access, true);
            if !may || !config.send_last || !wanted.contains(&node) {
                continue;
            }
            let newest = self.store.newest_pep_items(account, &node, 1).await?;
            let Some(newest) = newest.first() else { continue };
            if personal.is_news(client, &node, (&newest.id, &newest.payload)) {
                bytes += newest.payload.len();
                let stanza = Event::Published(newest).to_stanza(account, &node);
                consequences.extend(stanza.map(|stanza| copy_for(&stanza, client)));
            }
        }
        if !is_own {
            personal.sent(client, bytes, now());
        }
        Ok(())
    }

    /// Tells everybody who wants to hear of it that something happened to a node.
    pub(super) async fn pep_tell(
        &self,
        account: &Account,
        node: &PepNode,
        event: Event<'_>,
        consequences: &mut Consequences,
    ) -> Result<(), Denial> {
        let Some(stanza) = event.to_stanza(&account.jid, &node.node) else { return Ok(()) };
        let mut clients = local_clients(account);
        if node.config.access != PepAccess::Whitelist {
            let blocked = account.blocked(&self.store).await?;
            let watchers = account.watchers(&self.store).await?;
            for watcher in watchers.iter().filter(|jid| !blocking::is_blocked(&blocked, jid)) {
                if !self.is_ours(watcher.domain()) {
                    clients.extend(self.capabilities.clients_of(watcher));
                } else if let Some(contact) = self.accounts.connected(watcher) {
                    clients.extend(local_clients(&contact));
                }
            }
        }
        for (client, kind) in clients {
            if let Some(wanted) = self.wants(account, &client, &kind, consequences)
                && wanted.contains(&node.node)
            {
                if let Event::Published(item) = event {
                    account.personal.is_news(&client, &node.node, (&item.id, &item.payload));
                }
                consequences.push(copy_for(&stanza, &client));
            }
        }
        Ok(())
    }
}

/// The available clients of an account that say what they can do.
fn local_clients(account: &Account) -> Vec<(Jid, Arc<Kind>)> {
    let sessions = account.sessions();
    let clients = sessions.iter().filter_map(|session| {
        let kind = Kind::of(session.presence()?.element())?;
        Some((session.jid.clone(), kind))
    });
    clients.collect()
}

/// Service discovery of a client (XEP-0115, section 6.2).
fn question(id: &str, account: &Jid, client: &Jid, kind: &Kind) -> Option<Stanza> {
    let mut iq: Element = xml::element("iq", ns::CLIENT);
    xml::set(&mut iq, xml_ncname!("type"), "get");
    xml::set(&mut iq, xml_ncname!("id"), id);
    let mut query = xml::element("query", ns::DISCO_INFO);
    xml::set(&mut query, xml_ncname!("node"), kind.node());
    iq.append_child(query);
    let mut stanza = Stanza::from_element(iq).ok()?;
    stanza.set_from(Some(account.clone()));
    stanza.set_to(Some(client.clone()));
    Some(stanza)
}

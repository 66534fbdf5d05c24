//! What the owner of an account asks about its nodes.

use std::sync::Arc;

use gatehouse_store::{PepAccess, PepItem, PepNode};
use gatehouse_xmpp::parsers::minidom::rxml::xml_ncname;
use gatehouse_xmpp::{Element, Stanza, StanzaCondition};

use super::config::{self, Wishes};
use super::notify::Event;
use super::request::{self, Request};
use super::{Denial, LIMITS, Outcome, PUBSUB, PUBSUB_OWNER, reply};
use crate::account::{Account, Session};
use crate::refusal::Refusal;
use crate::router::{Consequences, Router};
use crate::xml;

impl Router {
    /// A request of a client about its own account, which holds the account's turn.
    pub(crate) async fn pep_own(
        &self,
        session: &Arc<Session>,
        stanza: &Stanza,
        query: &Element,
        is_set: bool,
        consequences: &mut Consequences,
    ) -> Option<Stanza> {
        let account = &session.account;
        let fresh = format!("item-{:x}", self.clock.now_ms().wrapping_add_unsigned(self.next_id()));
        let outcome = match request::read(query, is_set, &fresh) {
            Ok(request) => self.pep_do(account, request, consequences).await,
            Err(denial) => Err(denial),
        };
        reply(stanza, outcome)
    }

    async fn pep_do(
        &self,
        account: &Arc<Account>,
        request: Request,
        consequences: &mut Consequences,
    ) -> Outcome {
        match request {
            Request::Publish { node, item, options } => {
                self.pep_publish(account, node, item, options, consequences).await
            }
            Request::Items { node, ids, newest } => {
                self.pep_node(account, &node).await?;
                self.pep_items(account, &node, &ids, newest).await
            }
            Request::Retract { node, item, notify } => {
                let node = self.pep_node(account, &node).await?;
                let removed =
                    self.store.remove_pep_items(&account.jid, &node.node, Some(&item)).await?;
                if !removed {
                    return Err(Denial::no_node());
                }
                if notify {
                    let event = Event::Retracted { id: &item };
                    self.pep_tell(account, &node, event, consequences).await?;
                }
                Ok(None)
            }
            Request::Create { node, config } => {
                if self.find_pep_node(account, &node).await?.is_some() {
                    return Err(Refusal::cancel(
                        StanzaCondition::Conflict,
                        "There is a node of this name.",
                    )
                    .into());
                }
                let node = PepNode { node, config: config.apply(config::DEFAULT) };
                self.store.put_pep_node(&account.jid, &node, LIMITS).await?;
                account.personal.has_nodes(true);
                Ok(None)
            }
            Request::Configuration { node } => {
                let node = self.pep_node(account, &node).await?;
                let mut configure = xml::element("configure", PUBSUB_OWNER);
                xml::set(&mut configure, xml_ncname!("node"), node.node);
                configure.append_child(config::form(node.config));
                Ok(Some(around(configure, PUBSUB_OWNER)))
            }
            Request::Configure { node, config } => {
                let mut node = self.pep_node(account, &node).await?;
                node.config = config.apply(node.config);
                self.store.put_pep_node(&account.jid, &node, LIMITS).await?;
                Ok(None)
            }
            Request::Delete { node } => {
                let node = self.pep_node(account, &node).await?;
                self.store.remove_pep_node(&account.jid, &node.node).await?;
                self.pep_tell(account, &node, Event::Deleted, consequences).await?;
                Ok(None)
            }
            Request::Purge { node } => {
                let node = self.pep_node(account, &node).await?;
                self.store.remove_pep_items(&account.jid, &node.node, None).await?;
                self.pep_tell(account, &node, Event::Purged, consequences).await?;
                Ok(None)
            }
        }
    }

    async fn pep_publish(
        &self,
        account: &Arc<Account>,
        name: String,
        item: Option<PepItem>,
        options: Wishes,
        consequences: &mut Consequences,
    ) -> Outcome {
        let known = self.find_pep_node(account, &name).await?;
        let node = match known {
            Some(node) if !options.hold_for(node.config) => {
                return Err(Denial::with(
                    "precondition-not-met",
                    Refusal::cancel(
                        StanzaCondition::Conflict,
                        "The node has other settings than what is published asks for.",
                    ),
                ));
            }
            Some(node) => node,
            None => PepNode { node: name, config: options.apply(config::DEFAULT) },
        };
        let Some(item) = item else {
            return Err(Denial::with(
                "item-required",
                Refusal::bad_request("There is nothing to publish."),
            ));
        };
        self.store.publish_pep(&account.jid, &node, &item, LIMITS).await?;
        account.personal.has_nodes(true);
        self.pep_tell(account, &node, Event::Published(&item), consequences).await?;
        let mut published = xml::element("item", PUBSUB);
        xml::set(&mut published, xml_ncname!("id"), item.id);
        let mut publish = xml::element("publish", PUBSUB);
        xml::set(&mut publish, xml_ncname!("node"), node.node);
        publish.append_child(published);
        Ok(Some(around(publish, PUBSUB)))
    }

    pub(super) async fn find_pep_node(
        &self,
        account: &Account,
        name: &str,
    ) -> Result<Option<PepNode>, Denial> {
        let nodes = self.store.pep_nodes(&account.jid).await?;
        Ok(nodes.into_iter().find(|node| node.node == name))
    }

    async fn pep_node(&self, account: &Account, name: &str) -> Result<PepNode, Denial> {
        self.find_pep_node(account, name).await?.ok_or_else(Denial::no_node)
    }

    /// The nodes of an account as service discovery lists them.
    pub(crate) async fn pep_list(
        &self,
        account: &Account,
        is_owner: bool,
    ) -> Result<Vec<String>, Refusal> {
        let nodes = self.store.pep_nodes(&account.jid).await?;
        let shown = |node: &PepNode| is_owner || node.config.access != PepAccess::Whitelist;
        Ok(nodes.into_iter().filter(shown).map(|node| node.node).collect())
    }
}

/// `pubsub` with `child` in it.
pub(super) fn around(child: Element, namespace: &str) -> Element {
    let mut pubsub = xml::element("pubsub", namespace);
    pubsub.append_child(child);
    pubsub
}

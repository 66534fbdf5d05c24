//! What others ask about an account's nodes, and how items are read.

use gatehouse_store::{PepAccess, PepItem};
use gatehouse_xmpp::parsers::minidom::rxml::xml_ncname;
use gatehouse_xmpp::{Element, Stanza, StanzaCondition};

use super::own::around;
use super::request::{self, Request};
use super::{ANSWER_BYTES_MAX, Denial, ITEMS_MAX, Outcome, PUBSUB, reply};
use crate::account::Account;
use crate::refusal::Refusal;
use crate::router::Router;
use crate::xml;

impl Router {
    /// A request of somebody else, who sees the account's presence or does not.
    pub(crate) async fn pep_other(
        &self,
        account: &Account,
        stanza: &Stanza,
        query: &Element,
        is_watcher: bool,
    ) -> Option<Stanza> {
        let outcome = match request::read(query, false, "") {
            Ok(Request::Items { node, ids, newest }) => {
                match self.find_pep_node(account, &node).await {
                    Ok(Some(found)) if may_read(found.config.access, is_watcher) => {
                        self.pep_items(account, &node, &ids, newest).await
                    }
                    // A node that is private looks like one that is not there; to strangers the
                    // account does, too.
                    Ok(_) if is_watcher => Err(Denial::no_node()),
                    Ok(_) => Err(Refusal::unavailable().into()),
                    Err(denial) => Err(denial),
                }
            }
            Ok(_) | Err(_) if !is_watcher => Err(Refusal::unavailable().into()),
            Ok(_) => Err(Refusal::cancel(
                StanzaCondition::Forbidden,
                "Only its owner may change or configure a node.",
            )
            .into()),
            Err(denial) => Err(denial),
        };
        reply(stanza, outcome)
    }

    /// The items that were asked for: those of these ids, or the newest. Together they are not more
    /// than fits any stream; who wants the others asks for them by their ids.
    pub(super) async fn pep_items(
        &self,
        account: &Account,
        node: &str,
        ids: &[String],
        newest: Option<u64>,
    ) -> Outcome {
        let count = if ids.is_empty() { newest.unwrap_or(ITEMS_MAX) } else { ITEMS_MAX };
        let found = self.store.newest_pep_items(&account.jid, node, count).await?;
        let mut room = ANSWER_BYTES_MAX;
        let mut shown: Vec<Element> = Vec::new();
        for found in found.iter().rev().filter(|one| ids.is_empty() || ids.contains(&one.id)) {
            let Some(left) = room.checked_sub(found.payload.len() + found.id.len()) else { break };
            room = left;
            shown.push(item(found, PUBSUB));
        }
        let mut items = xml::element("items", PUBSUB);
        xml::set(&mut items, xml_ncname!("node"), node);
        for item in shown.into_iter().rev() {
            items.append_child(item);
        }
        Ok(Some(around(items, PUBSUB)))
    }
}

/// Who is not the owner.
pub(super) fn may_read(access: PepAccess, is_watcher: bool) -> bool {
    match access {
        PepAccess::Open => true,
        PepAccess::Presence => is_watcher,
        PepAccess::Whitelist => false,
    }
}

/// An item with its payload.
pub(super) fn item(found: &PepItem, namespace: &str) -> Element {
    let mut item = xml::element("item", namespace);
    xml::set(&mut item, xml_ncname!("id"), &found.id);
    // What was stored was read again before.
    if let Ok(payload) = found.payload.parse::<Element>() {
        item.append_child(payload);
    }
    item
}

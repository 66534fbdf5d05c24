//! Rosters: get, set, push, versions (RFC 6121, section 2).

use std::collections::BTreeSet;
use std::sync::Arc;

use gatehouse_store::{Contact, RosterChange};
use gatehouse_types::Jid;
use gatehouse_xmpp::parsers::minidom::rxml::xml_ncname;
use gatehouse_xmpp::{Element, Stanza, StanzaCondition, ns};

use crate::account::{Account, Session};
use crate::refusal::Refusal;
use crate::router::{Consequences, Router};
use crate::subscription::{NotInRoster, roster_remove, roster_set};
use crate::xml;

/// Bytes of a contact's name, and of a group's.
const NAME_BYTES_MAX: usize = 1023;
/// Groups of one contact.
const GROUPS_MAX: usize = 50;

/// What a roster set asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Wish {
    Set { contact: Jid, name: Option<String>, groups: Vec<String> },
    Remove { contact: Jid },
}

/// The roster item of a contact.
pub(crate) fn item(contact: &Contact) -> Element {
    let mut item = xml::element("item", ns::ROSTER);
    xml::set(&mut item, xml_ncname!("jid"), contact.jid.to_string());
    xml::set(&mut item, xml_ncname!("subscription"), contact.subscription.as_str());
    if let Some(name) = &contact.name {
        xml::set(&mut item, xml_ncname!("name"), name);
    }
    if contact.pending_out {
        xml::set(&mut item, xml_ncname!("ask"), "subscribe");
    }
    if contact.approved {
        xml::set(&mut item, xml_ncname!("approved"), "true");
    }
    for group in &contact.groups {
        item.append_child(xml::text("group", ns::ROSTER, group));
    }
    item
}

/// The item that says that a contact is no longer in the roster.
pub(crate) fn removed_item(contact: &Jid) -> Element {
    let mut item = xml::element("item", ns::ROSTER);
    xml::set(&mut item, xml_ncname!("jid"), contact.to_string());
    xml::set(&mut item, xml_ncname!("subscription"), "remove");
    item
}

impl Router {
    /// A roster get (RFC 6121, sections 2.2 and 2.6): the answer, and what is sent after it.
    pub(crate) async fn roster_get(
        &self,
        session: &Session,
        query: &Element,
    ) -> Result<(Option<Element>, Vec<Stanza>), Refusal> {
        if query.children().next().is_some() {
            return Err(Refusal::bad_request("A roster get has nothing inside."));
        }
        let account = &session.account;
        // Interested from now on, and nothing is pushed before this is read.
        session.with(|state| state.interested = true);
        let known = query.attr("ver").and_then(|version| version.parse::<u64>().ok());
        if let Some(known) = known
            && let Some(changes) = self.store.contacts_since(&account.jid, known).await?
        {
            let pushes = changes.iter().filter_map(|change| {
                let item = match change {
                    RosterChange::Changed { contact, .. } => item(contact),
                    RosterChange::Removed { jid, .. } => removed_item(jid),
                };
                self.push(session, &item, change.version())
            });
            return Ok((None, pushes.collect()));
        }
        let contacts = self.store.contacts(&account.jid).await?;
        let mut roster = xml::element("query", ns::ROSTER);
        xml::set(&mut roster, xml_ncname!("ver"), contacts.version.to_string());
        for contact in contacts.contacts.iter().filter(|contact| contact.in_roster) {
            roster.append_child(item(contact));
        }
        Ok((Some(roster), Vec::new()))
    }

    /// A roster set (RFC 6121, sections 2.3 to 2.5).
    pub(crate) async fn roster_set(
        &self,
        session: &Arc<Session>,
        request: &Stanza,
        query: &Element,
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        let account = &session.account;
        let wish = read_wish(query)?;
        let contact = wish.contact().clone();
        if contact == account.jid {
            return Err(Refusal::cancel(
                StanzaCondition::NotAllowed,
                "Your own address cannot be a contact.",
            ));
        }
        let current = self.store.contact(&account.jid, &contact).await?;
        let outcome = match &wish {
            Wish::Set { name, groups, .. } => {
                roster_set(current.as_ref(), &contact, name.as_deref(), groups)
            }
            Wish::Remove { .. } => roster_remove(current.as_ref()).map_err(|NotInRoster| {
                Refusal::cancel(
                    StanzaCondition::ItemNotFound,
                    format!("{contact} is not in your roster."),
                )
            })?,
        };
        self.carry_out(account, &contact, outcome, request, consequences).await
    }

    /// Tells every interested resource of a changed item. The caller holds the account's roster.
    pub(crate) async fn push_item(&self, account: &Account, item: &Element, version: u64) {
        for session in account.sessions_where(|session| session.with(|state| state.interested)) {
            if let Some(push) = self.push(&session, item, version) {
                self.offer(&session, push);
            }
        }
    }

    fn push(&self, session: &Session, item: &Element, version: u64) -> Option<Stanza> {
        let mut query = xml::element("query", ns::ROSTER);
        xml::set(&mut query, xml_ncname!("ver"), version.to_string());
        query.append_child(item.clone());
        self.server_push(session, query)
    }

    /// An IQ set from the account itself to one of its resources.
    pub(crate) fn server_push(&self, session: &Session, payload: Element) -> Option<Stanza> {
        let mut iq = xml::element("iq", ns::CLIENT);
        xml::set(&mut iq, xml_ncname!("type"), "set");
        xml::set(&mut iq, xml_ncname!("id"), format!("push-{}", self.next_id()));
        iq.append_child(payload);
        let mut push = Stanza::from_element(iq).ok()?;
        push.set_to(Some(session.jid.clone()));
        Some(push)
    }
}

impl Wish {
    fn contact(&self) -> &Jid {
        match self {
            Self::Set { contact, .. } | Self::Remove { contact } => contact,
        }
    }
}

/// RFC 6121, sections 2.1.5 and 2.3.3. What a client says of `subscription` (but for `remove`),
/// `ask` and `approved` is ignored, as section 2.1.2 asks.
fn read_wish(query: &Element) -> Result<Wish, Refusal> {
    let item = xml::only_child(query)
        .filter(|child| child.is("item", ns::ROSTER))
        .ok_or_else(|| Refusal::bad_request("A roster set has exactly one item."))?;
    let contact = item
        .attr("jid")
        .ok_or_else(|| Refusal::bad_request("A roster item needs a `jid`."))?
        .parse::<Jid>()
        .map_err(|_| {
            Refusal::modify(StanzaCondition::JidMalformed, "The `jid` is not an address.")
        })?
        .to_bare();
    if item.attr("subscription") == Some("remove") {
        return Ok(Wish::Remove { contact });
    }
    let name = item.attr("name").map(str::to_owned);
    if name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX) {
        return Err(not_acceptable(format!("A name has at most {NAME_BYTES_MAX} bytes.")));
    }
    let groups: Vec<String> =
        item.children().filter(|child| child.is("group", ns::ROSTER)).map(Element::text).collect();
    check_groups(&groups)?;
    Ok(Wish::Set { contact, name, groups })
}

fn check_groups(groups: &[String]) -> Result<(), Refusal> {
    if groups.len() > GROUPS_MAX {
        return Err(not_acceptable(format!("A contact is in at most {GROUPS_MAX} groups.")));
    }
    if groups.iter().any(|group| group.trim().is_empty()) {
        return Err(not_acceptable("A group needs a name."));
    }
    if groups.iter().any(|group| group.len() > NAME_BYTES_MAX) {
        return Err(not_acceptable(format!("A group has at most {NAME_BYTES_MAX} bytes.")));
    }
    if groups.iter().collect::<BTreeSet<_>>().len() < groups.len() {
        return Err(Refusal::bad_request("A contact is in each group once."));
    }
    Ok(())
}

fn not_acceptable(text: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::modify(StanzaCondition::NotAcceptable, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(items: &str) -> Result<Wish, StanzaCondition> {
        let query = format!("<query xmlns='jabber:iq:roster'>{items}</query>");
        read_wish(&query.parse().unwrap()).map_err(|refusal| refusal.condition)
    }

    #[test]
    fn a_good_item_is_read() {
        assert_eq!(
            wish("<item jid='A@b.example/r' name='Al' subscription='both'><group>G</group></item>"),
            Ok(Wish::Set {
                contact: "a@b.example".parse().unwrap(),
                name: Some("Al".into()),
                groups: vec!["G".into()],
            })
        );
    }

    #[test]
    fn a_bad_item_is_refused_for_its_one_fault() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for (items, condition) in [
            (String::new(), StanzaCondition::BadRequest),
            (
                "<item jid='a@b.example'/><item jid='c@b.example'/>".into(),
                StanzaCondition::BadRequest,
            ),
            ("<item/>".into(), StanzaCondition::BadRequest),
            ("<item jid='@'/>".into(), StanzaCondition::JidMalformed),
            ("<item xmlns='other' jid='a@b.example'/>".into(), StanzaCondition::BadRequest),
            (
                "<item jid='a@b.example'><group>G</group><group>G</group></item>".into(),
                StanzaCondition::BadRequest,
            ),
            ("<item jid='a@b.example'><group/></item>".into(), StanzaCondition::NotAcceptable),
            (format!("<item jid='a@b.example' name='{long}'/>"), StanzaCondition::NotAcceptable),
            (
                format!("<item jid='a@b.example'><group>{long}</group></item>"),
                StanzaCondition::NotAcceptable,
            ),
        ] {
            assert_eq!(wish(&items), Err(condition), "{items}");
        }
    }
}

//! Blocking (XEP-0191).

use std::sync::Arc;

use gatehouse_types::Jid;
use gatehouse_xmpp::parsers::minidom::rxml::xml_ncname;
use gatehouse_xmpp::{Element, Stanza, StanzaCondition, ns};

use super::Answer;
use crate::account::{Account, Session};
use crate::presence;
use crate::refusal::Refusal;
use crate::router::{Consequences, Router};
use crate::xml;

/// Addresses of one block list.
const BLOCKED_MAX: usize = 1000;

/// True if the list holds `jid` itself, its account, or its domain (XEP-0191, section 3.5).
pub(crate) fn is_blocked(list: &[Jid], jid: &Jid) -> bool {
    list.iter().any(|entry| {
        let same_local = entry.local() == jid.local() || entry.local().is_none();
        let same_resource = entry.resource().is_none() || entry.resource() == jid.resource();
        let whole = match (entry.local(), entry.resource()) {
            // `domain/resource` is that address and no other.
            (None, Some(_)) => jid.local().is_none(),
            _ => true,
        };
        entry.domain() == jid.domain() && same_local && same_resource && whole
    })
}

/// The error for a stanza to a contact that its author has blocked (XEP-0191, section 3.3).
pub(crate) fn refuse_to_blocked(stanza: &Stanza) -> Option<Stanza> {
    let refusal = Refusal::cancel(
        StanzaCondition::NotAcceptable,
        "You have blocked this contact; unblock it to write to it.",
    );
    let mut answer = refusal.answer(stanza)?;
    if let Some(error) = answer.payload_mut().get_child_mut("error", ns::CLIENT) {
        error.append_child(xml::element("blocked", ns::BLOCKING_ERRORS));
    }
    Some(answer)
}

impl Router {
    /// The three requests. `afterwards` gets the pushes.
    pub(super) async fn blocking(
        &self,
        session: &Arc<Session>,
        request: &Element,
        is_set: bool,
        consequences: &mut Consequences,
        afterwards: &mut Vec<(Arc<Session>, Stanza)>,
    ) -> Answer {
        let account = &session.account;
        match (request.name(), is_set) {
            ("blocklist", false) => {
                session.with(|state| state.wants_blocklist = true);
                let mut answer = xml::element("blocklist", ns::BLOCKING);
                for jid in account.blocked(&self.store).await?.iter() {
                    answer.append_child(item(jid));
                }
                return Ok(Some(answer));
            }
            ("block", true) => {
                let jids = read_items(request)?;
                if jids.is_empty() {
                    return Err(Refusal::bad_request("Say whom to block."));
                }
                self.block(account, &jids, consequences).await?;
            }
            ("unblock", true) => {
                let jids = read_items(request)?;
                self.unblock(account, &jids, consequences).await?;
            }
            _ => return Err(Refusal::unavailable()),
        }
        for other in account.sessions_where(|other| other.with(|state| state.wants_blocklist)) {
            if let Some(push) = self.server_push(&other, request.clone()) {
                afterwards.push((other, push));
            }
        }
        Ok(None)
    }

    async fn block(
        &self,
        account: &Account,
        jids: &[Jid],
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        let before = account.blocked(&self.store).await?;
        if before.len() + jids.len() > BLOCKED_MAX {
            return Err(Refusal::wait(
                StanzaCondition::ResourceConstraint,
                format!("A block list has room for {BLOCKED_MAX} addresses."),
            ));
        }
        self.store.block(&account.jid, jids).await?;
        account.blocked_changed();
        // It must be known even if the account is removed by another process.
        account.blocked(&self.store).await?;
        // To them the user has gone (section 3.3), if they knew that the user was there.
        for contact in account.watchers(&self.store).await?.iter() {
            if !is_blocked(&before, contact) && is_blocked(jids, contact) {
                Self::presence_for(account, contact, false, consequences);
            }
        }
        for session in account.sessions() {
            let gone: Vec<Jid> = session.with(|state| {
                let gone = state.directed.iter().filter(|jid| is_blocked(jids, jid)).cloned();
                let gone = gone.collect();
                state.directed.retain(|jid| !is_blocked(jids, jid));
                gone
            });
            consequences.extend(gone.into_iter().filter_map(|contact| {
                presence::of_type(Some("unavailable"), session.jid.clone(), contact)
            }));
        }
        Ok(())
    }

    async fn unblock(
        &self,
        account: &Account,
        jids: &[Jid],
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        let before = account.blocked(&self.store).await?;
        self.store.unblock(&account.jid, jids).await?;
        account.blocked_changed();
        let after = account.blocked(&self.store).await?;
        for contact in account.watchers(&self.store).await?.iter() {
            if is_blocked(&before, contact) && !is_blocked(&after, contact) {
                Self::presence_for(account, contact, true, consequences);
            }
        }
        Ok(())
    }
}

fn item(jid: &Jid) -> Element {
    let mut item = xml::element("item", ns::BLOCKING);
    xml::set(&mut item, xml_ncname!("jid"), jid.to_string());
    item
}

fn read_items(request: &Element) -> Result<Vec<Jid>, Refusal> {
    request
        .children()
        .map(|item| {
            if !item.is("item", ns::BLOCKING) {
                return Err(Refusal::bad_request("A block list has items and nothing else."));
            }
            let jid = item
                .attr("jid")
                .ok_or_else(|| Refusal::bad_request("An item of a block list needs a `jid`."))?;
            jid.parse().map_err(|_| {
                Refusal::modify(StanzaCondition::JidMalformed, "The `jid` is not an address.")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching() {
        let address = |text: &str| text.parse::<Jid>().unwrap();
        for (entry, jid, expected) in [
            ("a@b.example/r", "a@b.example/r", true),
            ("a@b.example/r", "a@b.example/s", false),
            ("a@b.example/r", "a@b.example", false),
            ("a@b.example", "a@b.example/r", true),
            ("a@b.example", "a@b.example", true),
            ("a@b.example", "c@b.example", false),
            ("a@b.example", "b.example", false),
            ("b.example", "a@b.example/r", true),
            ("b.example", "b.example", true),
            ("b.example", "a@sub.b.example", false),
            ("b.example/r", "b.example/r", true),
            ("b.example/r", "a@b.example/r", false),
        ] {
            assert_eq!(is_blocked(&[address(entry)], &address(jid)), expected, "{entry} {jid}");
        }
    }
}

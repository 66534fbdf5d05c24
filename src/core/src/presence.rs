//! Presence that a user sends: broadcast, directed, gone (RFC 6121, section 4).

use std::sync::Arc;

use gatehouse_store::{Contact, Contacts, Subscription};
use gatehouse_types::{Chain, Jid};
use gatehouse_xmpp::parsers::minidom::rxml::xml_ncname;
use gatehouse_xmpp::{Element, ErrorKind, Stanza, StanzaCondition, ns};
use tracing::error;

use crate::account::{Account, Session};
use crate::refusal::Refusal;
use crate::router::{Consequences, Router};
use crate::services::blocking;
use crate::xml;

/// How many addresses one session may send directed presence to; each must be told when it leaves.
const DIRECTED_MAX: usize = 1000;

/// Bare presence of a type.
pub(crate) fn of_type(kind: Option<&str>, from: Jid, to: Jid) -> Option<Stanza> {
    let mut element = xml::element("presence", ns::CLIENT);
    if let Some(kind) = kind {
        xml::set(&mut element, xml_ncname!("type"), kind);
    }
    let mut stanza = Stanza::from_element(element).ok()?;
    stanza.set_from(Some(from));
    stanza.set_to(Some(to));
    Some(stanza)
}

/// The same presence for `to`.
pub(crate) fn copy_for(presence: &Stanza, to: &Jid) -> Stanza {
    let mut copy = presence.clone();
    copy.set_to(Some(to.clone()));
    copy
}

/// True if the contact sees the user's presence.
pub(crate) fn is_watcher(contact: &Contact) -> bool {
    contact.subscription.is_watcher()
}

/// True if the user sees the contact's presence.
fn is_watched(contact: &Contact) -> bool {
    matches!(contact.subscription, Subscription::To | Subscription::Both)
}

/// RFC 6121, section 4.7.2.3.
fn priority(presence: &Element) -> Result<i8, Refusal> {
    let mut found = presence.children().filter(|child| child.is("priority", ns::CLIENT));
    match (found.next(), found.next()) {
        (None, _) => Ok(0),
        (Some(one), None) => one
            .text()
            .trim()
            .parse()
            .map_err(|_| Refusal::bad_request("A priority is a number from -128 to 127.")),
        (Some(_), Some(_)) => Err(Refusal::bad_request("Presence has at most one priority.")),
    }
}

/// A presence error; RFC 6120 has none for most presence, but the sender itself may be told.
fn error_to_sender(presence: &Stanza, refusal: &Refusal) -> Option<Stanza> {
    let mut error = xml::element("error", ns::CLIENT);
    let kind: ErrorKind = refusal.kind;
    xml::set(&mut error, xml_ncname!("type"), kind.as_str());
    error.append_child(xml::element(refusal.condition.as_str(), ns::STANZA_ERRORS));
    error.append_child(xml::text("text", ns::STANZA_ERRORS, &refusal.text));
    let mut element = xml::element("presence", ns::CLIENT);
    xml::set(&mut element, xml_ncname!("type"), "error");
    if let Some(id) = presence.id() {
        xml::set(&mut element, xml_ncname!("id"), id);
    }
    element.append_child(error);
    let mut answer = Stanza::from_element(element).ok()?;
    answer.set_from(presence.to().cloned());
    answer.set_to(presence.from().cloned());
    Some(answer)
}

impl Router {
    /// Presence of a session of ours; it holds its account's turn.
    pub(crate) async fn presence_out(
        &self,
        session: &Arc<Session>,
        stanza: Stanza,
        consequences: &mut Consequences,
    ) {
        let kind = stanza.type_().map(str::to_owned);
        let outcome = match (kind.as_deref(), stanza.to().cloned()) {
            (None, None) => self.available(session, &stanza, consequences).await,
            (Some("unavailable"), None) => {
                self.unavailable(session, &stanza, consequences).await;
                Ok(())
            }
            (None | Some("unavailable"), Some(to)) => {
                directed(session, &stanza, &to).map(|()| consequences.push(stanza.clone()))
            }
            (Some("error"), Some(_)) => {
                consequences.push(stanza.clone());
                Ok(())
            }
            // Probes are the server's to send (RFC 6121, section 4.3).
            (Some("probe"), _) => Ok(()),
            _ => Err(Refusal::bad_request("This presence has no meaning.")),
        };
        if let Err(refusal) = outcome
            && let Some(error) = error_to_sender(&stanza, &refusal)
        {
            self.send(session, error).await;
        }
    }

    /// RFC 6121, sections 4.2 and 4.4.
    async fn available(
        &self,
        session: &Arc<Session>,
        stanza: &Stanza,
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        let priority = priority(stanza.element())?;
        let account = &session.account;
        let presence = Arc::new(stanza.clone());
        let is_initial = session.presence().is_none();
        let change = || {
            session.with(|state| {
                state.presence = Some(Arc::clone(&presence));
                state.priority = priority;
            });
        };
        self.become_available(session, priority >= 0, change).await;
        if is_initial {
            return self.initial(session, stanza, consequences).await;
        }
        let watchers = account.watchers(&self.store).await?;
        let blocked = account.blocked(&self.store).await?;
        self.tell_own_resources(account, stanza).await;
        let watchers = watchers.iter().filter(|jid| !blocking::is_blocked(&blocked, jid));
        consequences.extend(watchers.map(|jid| copy_for(stanza, jid)));
        self.pep_own_presence(account, &session.jid, stanza, consequences).await
    }

    /// RFC 6121, section 4.2.2: contacts are told, and asked.
    async fn initial(
        &self,
        session: &Arc<Session>,
        stanza: &Stanza,
        consequences: &mut Consequences,
    ) -> Result<(), Refusal> {
        let account = &session.account;
        let generation = account.watchers.generation();
        // Read now: a request that comes in between is seen here or delivered, or both.
        let contacts = self.store.contacts(&account.jid).await?;
        let watchers = account.watchers.learn(generation, &contacts.contacts);
        let blocked = account.blocked(&self.store).await?;

        self.tell_own_resources(account, stanza).await;
        self.welcome(session, &contacts, &blocked).await;
        let allowed = |jid: &&Jid| !blocking::is_blocked(&blocked, jid);
        consequences.extend(watchers.iter().filter(allowed).map(|jid| copy_for(stanza, jid)));
        let watched = contacts.contacts.iter().filter(|contact| is_watched(contact));
        for jid in watched.map(|contact| &contact.jid).filter(allowed) {
            consequences.extend(of_type(Some("probe"), account.jid.clone(), jid.clone()));
        }
        self.pep_own_presence(account, &session.jid, stanza, consequences).await
    }

    /// What a newly available resource is told: the account's other resources, and the requests
    /// that wait for an answer (RFC 6121, sections 4.2.2 and 3.1.3).
    async fn welcome(&self, session: &Arc<Session>, contacts: &Contacts, blocked: &[Jid]) {
        for other in session.account.sessions() {
            if let Some(presence) = other.presence().filter(|_| other.id != session.id) {
                self.send(session, copy_for(&presence, &session.jid)).await;
            }
        }
        for contact in &contacts.contacts {
            let Some(request) = &contact.pending_in else { continue };
            if blocking::is_blocked(blocked, &contact.jid) {
                continue;
            }
            let element = request.parse::<Element>().ok();
            let request = element.and_then(|element| Stanza::from_element(element).ok());
            // If what came with it cannot be read, the request itself is still there.
            let bare = || {
                let (from, to) = (contact.jid.clone(), session.account.jid.clone());
                of_type(Some("subscribe"), from, to)
            };
            if let Some(request) = request.or_else(bare) {
                self.send(session, request).await;
            }
        }
    }

    async fn tell_own_resources(&self, account: &Account, stanza: &Stanza) {
        for session in account.sessions_where(|session| session.presence().is_some()) {
            self.send(&session, copy_for(stanza, &session.jid)).await;
        }
    }

    /// RFC 6121, sections 4.5 and 4.6.3: everybody who saw the resource is told once.
    async fn unavailable(
        &self,
        session: &Session,
        stanza: &Stanza,
        consequences: &mut Consequences,
    ) {
        let account = &session.account;
        let (was_available, mut audience) = session
            .with(|state| (state.presence.take().is_some(), std::mem::take(&mut state.directed)));
        account.personal.gone(&session.jid);
        if was_available {
            self.tell_own_resources(account, stanza).await;
            // Known since the resource became available, even if the account is removed by now.
            match account.watchers(&self.store).await {
                Ok(watchers) => audience.extend(watchers.iter().cloned()),
                Err(failure) => {
                    error!(error = %Chain(&failure), "cannot tell contacts that a user left");
                }
            }
        }
        let blocked = account.blocked(&self.store).await.unwrap_or_default();
        audience.retain(|jid| !blocking::is_blocked(&blocked, jid));
        consequences.extend(audience.iter().map(|jid| copy_for(stanza, jid)));
    }

    /// Tells the world that a session is over, unless it said so itself.
    pub(crate) async fn announce_gone(&self, session: &Session) {
        let turn = session.account.turn.lock().await;
        let Some(mut farewell) =
            of_type(Some("unavailable"), session.jid.clone(), session.account.jid.clone())
        else {
            return;
        };
        farewell.set_to(None);
        let mut consequences = Consequences::new();
        self.unavailable(session, &farewell, &mut consequences).await;
        session.account.forget_unless_connected();
        let left = self.route_in_turn(consequences).await;
        drop(turn);
        self.route_left(left).await;
    }

    /// The presence of each available resource, or its absence, for one contact.
    pub(crate) fn presence_for(
        account: &Account,
        contact: &Jid,
        available: bool,
        consequences: &mut Consequences,
    ) {
        for session in account.sessions() {
            let Some(presence) = session.presence() else { continue };
            if available {
                consequences.push(copy_for(&presence, contact));
            } else {
                let gone = of_type(Some("unavailable"), session.jid.clone(), contact.clone());
                consequences.extend(gone);
            }
        }
    }
}

/// RFC 6121, section 4.6: remembered, so that the recipient learns when the resource leaves.
fn directed(session: &Session, stanza: &Stanza, to: &Jid) -> Result<(), Refusal> {
    session.with(|state| {
        if stanza.type_().is_some() {
            state.directed.remove(to);
            return Ok(());
        }
        if state.directed.len() >= DIRECTED_MAX && !state.directed.contains(to) {
            return Err(Refusal::wait(
                StanzaCondition::PolicyViolation,
                format!("Directed presence can go to {DIRECTED_MAX} addresses at most."),
            ));
        }
        state.directed.insert(to.clone());
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities() {
        for (text, expected) in [
            ("", Some(0)),
            ("<priority>5</priority>", Some(5)),
            ("<priority> -128 </priority>", Some(-128)),
            ("<priority>127</priority>", Some(127)),
            ("<priority>128</priority>", None),
            ("<priority>high</priority>", None),
            ("<priority/>", None),
            ("<priority>1</priority><priority>2</priority>", None),
            ("<priority xmlns='other'>high</priority>", Some(0)),
        ] {
            let presence: Element =
                format!("<presence xmlns='jabber:client'>{text}</presence>").parse().unwrap();
            assert_eq!(priority(&presence).ok(), expected, "{text}");
        }
    }
}

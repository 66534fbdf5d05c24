//! Service discovery (XEP-0030).

use gatehouse_types::Jid;
use gatehouse_xmpp::parsers::minidom::rxml::xml_ncname;
use gatehouse_xmpp::{Element, StanzaCondition, ns};

use super::Answer;
use crate::pep;
use crate::refusal::Refusal;
use crate::xml;

/// What a server of ours can do.
const SERVER_FEATURES: [&str; 8] = [
    ns::BLOCKING,
    ns::CARBONS,
    ns::DISCO_INFO,
    ns::DISCO_ITEMS,
    ns::VERSION,
    // Offline messages (XEP-0160).
    "msgoffline",
    ns::PING,
    ns::VCARD,
];

/// What a server of ours answers for an account.
const ACCOUNT_FEATURES: [&str; 4] = [ns::DISCO_INFO, ns::DISCO_ITEMS, ns::PING, ns::VCARD];

pub(super) fn server_info(query: &Element) -> Answer {
    info(query, &[("server", "im")], &[&SERVER_FEATURES])
}

/// An account publishes, too (XEP-0163, section 6).
pub(super) fn account_info(query: &Element) -> Answer {
    let identities = [("account", "registered"), ("pubsub", "pep")];
    info(query, &identities, &[&ACCOUNT_FEATURES, &pep::FEATURES])
}

/// The nodes that an account publishes.
pub(super) fn account_items(query: &Element, account: &Jid, nodes: &[String]) -> Answer {
    check(query)?;
    let mut answer = xml::element("query", ns::DISCO_ITEMS);
    for node in nodes {
        let mut item = xml::element("item", ns::DISCO_ITEMS);
        xml::set(&mut item, xml_ncname!("jid"), account.to_string());
        xml::set(&mut item, xml_ncname!("node"), node);
        answer.append_child(item);
    }
    Ok(Some(answer))
}

/// We have no items: an empty list.
pub(super) fn no_items(query: &Element) -> Answer {
    check(query)?;
    Ok(Some(xml::element("query", ns::DISCO_ITEMS)))
}

fn info(query: &Element, identities: &[(&str, &str)], features: &[&[&str]]) -> Answer {
    check(query)?;
    let mut answer = xml::element("query", ns::DISCO_INFO);
    for (category, kind) in identities {
        let mut identity = xml::element("identity", ns::DISCO_INFO);
        xml::set(&mut identity, xml_ncname!("category"), *category);
        xml::set(&mut identity, xml_ncname!("type"), *kind);
        if *category == "server" {
            xml::set(&mut identity, xml_ncname!("name"), "Gatehouse");
        }
        answer.append_child(identity);
    }
    for feature in features.iter().copied().flatten() {
        let mut element = xml::element("feature", ns::DISCO_INFO);
        xml::set(&mut element, xml_ncname!("var"), *feature);
        answer.append_child(element);
    }
    Ok(Some(answer))
}

fn check(query: &Element) -> Result<(), Refusal> {
    if query.name() != "query" {
        return Err(Refusal::unavailable());
    }
    if query.attr("node").is_some() {
        return Err(Refusal::cancel(StanzaCondition::ItemNotFound, "There is no such node."));
    }
    Ok(())
}

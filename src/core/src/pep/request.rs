//! Requests about nodes, read and bounded (XEP-0060).

use gatehouse_xmpp::Element;

use super::config::Wishes;
use super::{DATA, Denial, ITEM_BYTES_MAX, ITEMS_MAX, NAME_BYTES_MAX, PUBSUB, PUBSUB_OWNER};
use crate::refusal::Refusal;
use crate::xml;
use gatehouse_store::PepItem;
use gatehouse_xmpp::StanzaCondition;

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Request {
    /// 7.1
    Publish {
        node: String,
        item: Option<PepItem>,
        options: Wishes,
    },
    /// 7.2
    Retract {
        node: String,
        item: String,
        notify: bool,
    },
    /// 6.5
    Items {
        node: String,
        ids: Vec<String>,
        newest: Option<u64>,
    },
    /// 8.1
    Create {
        node: String,
        config: Wishes,
    },
    /// 8.2
    Configuration {
        node: String,
    },
    Configure {
        node: String,
        config: Wishes,
    },
    /// 8.4
    Delete {
        node: String,
    },
    /// 8.5
    Purge {
        node: String,
    },
}

/// Reads a `pubsub` element; an item without an id gets `fresh`.
pub(super) fn read(query: &Element, is_set: bool, fresh: &str) -> Result<Request, Denial> {
    if query.name() != "pubsub" {
        return Err(Refusal::unsupported().into());
    }
    let namespace = query.ns();
    let child = |name: &str| query.children().find(|child| child.is(name, namespace.as_str()));
    let mut actions = query.children().filter(|child| {
        child.has_ns(namespace.as_str()) && !matches!(child.name(), "publish-options")
    });
    let Some(action) = actions.next() else {
        return Err(Refusal::bad_request("A pubsub request needs something to do.").into());
    };
    match (namespace.as_str(), action.name(), is_set) {
        (PUBSUB, "publish", true) => {
            let options = child("publish-options").map(form_in).transpose()?.unwrap_or_default();
            Ok(Request::Publish { node: node(action)?, item: published(action, fresh)?, options })
        }
        (PUBSUB, "retract", true) => {
            let item = xml::only_child(action)
                .and_then(|item| item.attr("id"))
                .ok_or_else(|| Denial::with("item-required", needs("exactly one item")))?;
            let notify = matches!(action.attr("notify"), Some("true" | "1"));
            Ok(Request::Retract { node: node(action)?, item: name(item)?, notify })
        }
        (PUBSUB, "items", false) => {
            let ids = action.children().filter_map(|item| item.attr("id")).map(str::to_owned);
            let newest = action.attr("max_items").map(str::parse).transpose();
            let newest = newest.map_err(|_| Refusal::bad_request("`max_items` is a number."))?;
            // More than there can be are not looked for.
            let ids = ids.take(usize::try_from(ITEMS_MAX).unwrap_or(usize::MAX)).collect();
            Ok(Request::Items { node: node(action)?, ids, newest })
        }
        (PUBSUB, "create", true) => {
            let config = child("configure").map(form_in).transpose()?.unwrap_or_default();
            Ok(Request::Create { node: node(action)?, config })
        }
        (PUBSUB_OWNER, "configure", false) => Ok(Request::Configuration { node: node(action)? }),
        (PUBSUB_OWNER, "configure", true) => {
            Ok(Request::Configure { node: node(action)?, config: form_in(action)? })
        }
        (PUBSUB_OWNER, "delete", true) => Ok(Request::Delete { node: node(action)? }),
        (PUBSUB_OWNER, "purge", true) => Ok(Request::Purge { node: node(action)? }),
        _ => Err(Denial::with(
            "unsupported",
            Refusal::cancel(
                StanzaCondition::FeatureNotImplemented,
                "This request about nodes is not supported here.",
            ),
        )),
    }
}

fn node(action: &Element) -> Result<String, Denial> {
    match action.attr("node") {
        Some(text) if !text.is_empty() => name(text),
        _ => Err(Denial::with("nodeid-required", needs("a node"))),
    }
}

fn name(text: &str) -> Result<String, Denial> {
    if text.len() > NAME_BYTES_MAX {
        return Err(Refusal::modify(
            StanzaCondition::NotAcceptable,
            format!("The name of a node or an item has at most {NAME_BYTES_MAX} bytes."),
        )
        .into());
    }
    Ok(text.to_owned())
}

fn needs(what: &str) -> Refusal {
    Refusal::bad_request(format!("This request needs {what}."))
}

/// The item, if there is one.
fn published(publish: &Element, fresh: &str) -> Result<Option<PepItem>, Denial> {
    let mut items = publish.children();
    let (item, more) = (items.next(), items.next());
    if more.is_some() {
        return Err(Denial::with("max-items-exceeded", needs("one item at a time")));
    }
    let Some(item) = item else { return Ok(None) };
    if !item.is("item", PUBSUB) {
        return Err(Refusal::bad_request("What is published is an `item`.").into());
    }
    let id = item.attr("id").filter(|id| !id.is_empty()).unwrap_or(fresh);
    let mut payloads = item.children();
    let (payload, more) = (payloads.next(), payloads.next());
    if more.is_some() {
        return Err(Denial::with("invalid-payload", needs("one payload in an item")));
    }
    let Some(payload) = payload else {
        return Ok(Some(PepItem { id: name(id)?, payload: String::new() }));
    };
    let payload = xml::storable(payload).ok_or_else(|| {
        Denial::with(
            "invalid-payload",
            Refusal::modify(StanzaCondition::NotAcceptable, "This XML cannot be stored."),
        )
    })?;
    if payload.len() > ITEM_BYTES_MAX {
        return Err(Denial::with(
            "payload-too-big",
            Refusal::modify(
                StanzaCondition::NotAcceptable,
                format!("An item has at most {ITEM_BYTES_MAX} bytes."),
            ),
        ));
    }
    Ok(Some(PepItem { id: name(id)?, payload }))
}

fn form_in(around: &Element) -> Result<Wishes, Denial> {
    around
        .children()
        .find(|child| child.is("x", DATA))
        .map_or_else(|| Ok(Wishes::default()), Wishes::read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(inside: &str, is_set: bool) -> Result<Request, (StanzaCondition, Option<&'static str>)> {
        let text = format!("<pubsub xmlns='{PUBSUB}'>{inside}</pubsub>");
        read(&text.parse().unwrap(), is_set, "fresh")
            .map_err(|denial| (denial.refusal.condition, denial.detail))
    }

    #[test]
    fn good_requests_are_read() {
        let Ok(Request::Publish { node, item: Some(item), .. }) =
            ask("<publish node='n'><item><nick xmlns='x'>Al</nick></item></publish>", true)
        else {
            panic!("not read");
        };
        assert_eq!((node.as_str(), item.id.as_str()), ("n", "fresh"));
        assert!(item.payload.contains("Al"));
        assert_eq!(
            ask("<items node='n' max_items='2'><item id='a'/></items>", false),
            Ok(Request::Items { node: "n".into(), ids: vec!["a".into()], newest: Some(2) })
        );
        assert_eq!(
            ask("<retract node='n' notify='1'><item id='a'/></retract>", true),
            Ok(Request::Retract { node: "n".into(), item: "a".into(), notify: true })
        );
    }

    #[test]
    fn bad_requests_are_refused_for_their_one_fault() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let heavy = "x".repeat(ITEM_BYTES_MAX);
        use StanzaCondition::{BadRequest, FeatureNotImplemented, NotAcceptable};
        for (inside, is_set, expected) in [
            (String::new(), true, (BadRequest, None)),
            ("<publish/>".into(), true, (BadRequest, Some("nodeid-required"))),
            (format!("<publish node='{long}'/>"), true, (NotAcceptable, None)),
            (
                "<publish node='n'><item/><item/></publish>".into(),
                true,
                (BadRequest, Some("max-items-exceeded")),
            ),
            (
                "<publish node='n'><item><a xmlns='x'/><b xmlns='x'/></item></publish>".into(),
                true,
                (BadRequest, Some("invalid-payload")),
            ),
            (
                format!("<publish node='n'><item><a xmlns='x'>{heavy}</a></item></publish>"),
                true,
                (NotAcceptable, Some("payload-too-big")),
            ),
            ("<retract node='n'/>".into(), true, (BadRequest, Some("item-required"))),
            ("<items node='n' max_items='-1'/>".into(), false, (BadRequest, None)),
            (
                "<subscribe node='n' jid='a@b'/>".into(),
                true,
                (FeatureNotImplemented, Some("unsupported")),
            ),
            ("<publish node='n'/>".into(), false, (FeatureNotImplemented, Some("unsupported"))),
        ] {
            assert_eq!(ask(&inside, is_set), Err(expected), "{inside}");
        }
    }
}

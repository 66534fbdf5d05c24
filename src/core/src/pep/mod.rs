//! Personal eventing (XEP-0163): what a user publishes for those who see its presence, such as a
//! nick (XEP-0172), an avatar (XEP-0084), or bookmarks for itself alone (XEP-0402).
//!
//! Nobody subscribes by hand: who is told follows from presence and from what a client says that it
//! wants (`+notify` in its capabilities, XEP-0115).

mod caps;
mod config;
mod notify;
mod others;
mod own;
mod request;
mod told;
mod verification;

pub(crate) use self::caps::Capabilities;
pub(crate) use self::told::Personal;

use gatehouse_store::PepLimits;
use gatehouse_xmpp::{Element, Stanza, StanzaCondition, ns};

use crate::refusal::Refusal;
use crate::xml;

/// Requests of everybody (XEP-0060).
pub(crate) const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
/// Requests of the owner.
pub(crate) const PUBSUB_OWNER: &str = "http://jabber.org/protocol/pubsub#owner";
/// Notifications.
const EVENT: &str = "http://jabber.org/protocol/pubsub#event";
/// Conditions inside a stanza's `error`.
const ERRORS: &str = "http://jabber.org/protocol/pubsub#errors";
/// Data forms (XEP-0004).
const DATA: &str = "jabber:x:data";
/// Entity capabilities (XEP-0115).
const CAPS: &str = "http://jabber.org/protocol/caps";

/// What the server can do for an account, as service discovery tells it (XEP-0060, section 10).
pub(crate) const FEATURES: [&str; 15] = [
    "http://jabber.org/protocol/pubsub#access-open",
    "http://jabber.org/protocol/pubsub#access-presence",
    "http://jabber.org/protocol/pubsub#access-whitelist",
    "http://jabber.org/protocol/pubsub#auto-create",
    "http://jabber.org/protocol/pubsub#config-node",
    "http://jabber.org/protocol/pubsub#config-node-max",
    "http://jabber.org/protocol/pubsub#create-nodes",
    "http://jabber.org/protocol/pubsub#delete-items",
    "http://jabber.org/protocol/pubsub#delete-nodes",
    "http://jabber.org/protocol/pubsub#filtered-notifications",
    "http://jabber.org/protocol/pubsub#item-ids",
    "http://jabber.org/protocol/pubsub#last-published",
    "http://jabber.org/protocol/pubsub#persistent-items",
    "http://jabber.org/protocol/pubsub#publish",
    "http://jabber.org/protocol/pubsub#publish-options",
];

/// Bounds of one account: nodes, and bytes of all that is stored.
const LIMITS: PepLimits = PepLimits { nodes: 60, bytes: 1024 * 1024 };
/// Items of one node.
const ITEMS_MAX: u64 = 500;
/// Bytes of one item; an avatar is the largest.
const ITEM_BYTES_MAX: usize = 100 * 1024;
/// Bytes of a node's name, and of an item's id.
const NAME_BYTES_MAX: usize = 256;
/// Bytes of the items in one answer: it must fit the limits of any stream.
const ANSWER_BYTES_MAX: usize = 200 * 1024;

/// A request that is refused, with the condition that XEP-0060 adds to the general one.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Denial {
    refusal: Refusal,
    detail: Option<&'static str>,
}

impl Denial {
    fn with(detail: &'static str, refusal: Refusal) -> Self {
        Self { refusal, detail: Some(detail) }
    }

    fn no_node() -> Self {
        Refusal::cancel(StanzaCondition::ItemNotFound, "There is no such node or item.").into()
    }
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, detail: None }
    }
}

impl From<gatehouse_store::StoreError> for Denial {
    fn from(failure: gatehouse_store::StoreError) -> Self {
        match failure {
            gatehouse_store::StoreError::Full { what, limit } => Refusal::cancel(
                StanzaCondition::ResourceConstraint,
                format!("There is no room: {what} is full, {limit} at most. Remove something."),
            )
            .into(),
            failure => Refusal::from(failure).into(),
        }
    }
}

/// The payload of a result, or why not.
type Outcome = Result<Option<Element>, Denial>;

/// The stanza that says `outcome` to `stanza`.
fn reply(stanza: &Stanza, outcome: Outcome) -> Option<Stanza> {
    match outcome {
        Ok(payload) => stanza.result(payload),
        Err(Denial { refusal, detail }) => {
            let mut answer = refusal.answer(stanza)?;
            if let Some(detail) = detail
                && let Some(error) = answer.payload_mut().get_child_mut("error", ns::CLIENT)
            {
                error.append_child(xml::element(detail, ERRORS));
            }
            Some(answer)
        }
    }
}

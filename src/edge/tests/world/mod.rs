//! Two edges, a name server and an authority in one process, each on ports of its own.
#![allow(dead_code, reason = "each test file uses its part of the world")]
#![allow(unused_imports, reason = "each test file uses its part of the world")]

mod dns;
mod old;
mod peer;
mod receiver;
mod side;
pub(crate) mod sip;

use std::time::Duration;

use gatehouse_policy::{Pattern, Policy, Require};
use gatehouse_trunk::Trunk;
use gatehouse_xmpp::{Element, Stanza, ns};
use tokio::time;

pub(crate) use self::dns::{Validator, Zone};
pub(crate) use self::old::Old;
pub(crate) use self::peer::Peer;
pub(crate) use self::receiver::{Manners, Receiver};
pub(crate) use self::side::{Ports, Side, SideConfig, port};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn stanza(xml: &str) -> Stanza {
    Stanza::from_element(xml.parse::<Element>().unwrap()).unwrap()
}

pub(crate) fn message(from: &str, to: &str, id: &str) -> Stanza {
    stanza(&format!(
        "<message xmlns='jabber:client' from='{from}' to='{to}' id='{id}' type='chat'>\
         <body>hello</body></message>"
    ))
}

/// What the core receives next.
pub(crate) async fn receive(core: &mut Trunk) -> Stanza {
    time::timeout(PATIENCE, core.incoming.recv()).await.expect("nothing came").unwrap().stanza
}

/// Nothing more may have come to the core.
pub(crate) fn assert_nothing(core: &mut Trunk) {
    if let Ok(transfer) = core.incoming.try_recv() {
        panic!("unexpected: {:?}", transfer.stanza);
    }
}

/// `cancel remote-server-not-found: sentence` of an error stanza.
pub(crate) fn told(stanza: &Stanza) -> String {
    assert_eq!(stanza.type_(), Some("error"), "{stanza:?}");
    let error = stanza.element().get_child("error", ns::CLIENT).expect("an error element");
    let condition = error
        .children()
        .find(|child| child.ns() == ns::STANZA_ERRORS && child.name() != "text")
        .expect("a condition");
    let text = error.get_child("text", ns::STANZA_ERRORS).map(Element::text).unwrap_or_default();
    format!("{} {}: {text}", error.attr("type").unwrap_or_default(), condition.name())
}

/// The open policy, with dialback where certificates prove nothing.
pub(crate) fn dialback_allowed() -> Policy {
    let mut policy = Policy::open_with_certificate();
    policy.rules[0].name = "dialback allowed".into();
    policy.rules[0].require = Require::CertificateOrDialback;
    policy
}

/// The open policy, without `domain`.
pub(crate) fn blocks(domain: &str) -> Policy {
    let mut policy = Policy::open_with_certificate();
    let mut block = policy.rules[0].clone();
    block.name = "blocked".into();
    block.remote = vec![domain.parse::<Pattern>().unwrap()];
    block.action = gatehouse_policy::Action::Block;
    policy.rules.insert(0, block);
    policy
}

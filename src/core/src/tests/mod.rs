//! The router at the level of stanzas: sessions without sockets over a store in a directory of its
//! own, and the edge's end of the trunk in the test's hand.

mod blocking;
mod carbons;
mod messages;
mod offline;
mod pep;
mod presence;
mod roster;
mod services;
mod sessions;
mod sip_inside;
mod subscriptions;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gatehouse_store::{OfflineLimits, Store};
use gatehouse_trunk::{Trunk, in_process};
use gatehouse_types::{Jid, Local, Secret, StreamLimits};
use gatehouse_xmpp::{Element, Stanza};

use crate::CoreConfig;
use crate::account::Session;
use crate::outbox::{OutboxReceiver, Owed, outbox};
use crate::refusal::Refusal;
use crate::router::Router;
use crate::stamp::WallClock;

pub(super) struct World {
    router: Router,
    edge: Trunk,
    _files: tempfile::TempDir,
}

/// A bound client without a socket.
pub(super) struct Client {
    session: Arc<Session>,
    outbox: OutboxReceiver,
    router: Router,
}

pub(super) fn config() -> CoreConfig {
    CoreConfig {
        domains: vec![Local("ours.example".parse().unwrap())],
        limits: StreamLimits::client(),
        connections_max: 10,
        sessions_per_account_max: 3,
        contacts_max: 5,
        watchers_max: 4,
        offline: OfflineLimits { per_account: 3, per_node: 100 },
        decoy_secret: Secret::new(vec![7; 32]),
    }
}

impl World {
    /// With accounts alice, bob and carol.
    pub(super) async fn new() -> Self {
        Self::with(config()).await
    }

    /// The same with other settings.
    pub(super) async fn with(config: CoreConfig) -> Self {
        let files = tempfile::tempdir().unwrap();
        let store = Store::open(&files.path().join("db.sqlite")).await.unwrap();
        for name in ["alice", "bob", "carol"] {
            store.add_account(&address(&format!("{name}@ours.example")), &[]).await.unwrap();
        }
        let (core, edge) = in_process();
        // A second passes with each look at the clock.
        let time = AtomicI64::new(1_700_000_000_000);
        let clock = WallClock::new(move || time.fetch_add(1000, Ordering::Relaxed));
        let router = Router::new(config, store, core.sender, None, clock);
        Self { router, edge, _files: files }
    }

    /// Binds `name` at `resource`, without presence.
    pub(super) async fn try_bind(&self, name: &str, resource: &str) -> Result<Client, Refusal> {
        let account = address(&format!("{name}@ours.example"));
        let (store, alice) = (&self.router.store, address("alice@ours.example"));
        let known = store.account_versions(&[&account, &alice]).await.unwrap();
        let own = known.iter().find(|(jid, _)| *jid == account).or_else(|| known.first());
        let (sender, receiver) = outbox(256);
        let session = self.router.bind(&account, own.unwrap().1, resource, sender).await?;
        Ok(Client { session, outbox: receiver, router: self.router.clone() })
    }

    pub(super) async fn bind(&self, name: &str, resource: &str) -> Client {
        self.try_bind(name, resource).await.unwrap()
    }

    /// Binds and becomes available with priority 0; what that brings is dropped.
    pub(super) async fn online(&mut self, name: &str, resource: &str) -> Client {
        let mut client = self.bind(name, resource).await;
        client.send("<presence/>").await;
        client.got();
        self.sent();
        client
    }

    /// A stanza from another domain.
    pub(super) async fn receive(&self, xml: &str) {
        self.router.take_from_edge(stanza(xml), Owed::default()).await;
    }

    /// What went out to other domains since the last call.
    pub(super) fn sent(&mut self) -> Vec<String> {
        let mut sent = Vec::new();
        while let Ok(transfer) = self.edge.incoming.try_recv() {
            sent.push(show(&transfer.stanza));
        }
        sent
    }

    /// Makes `user` and `contact` (both local, bare) see each other.
    pub(super) async fn befriend(&self, user: &str, contact: &str) {
        for (one, other) in [(user, contact), (contact, user)] {
            let contact = gatehouse_store::Contact {
                jid: address(other),
                in_roster: true,
                name: None,
                subscription: gatehouse_store::Subscription::Both,
                pending_out: false,
                pending_in: None,
                approved: false,
                groups: vec![],
            };
            let account = address(one);
            if self.router.store.has_account(&account).await.unwrap() {
                self.router.store.put_contact(&account, &contact).await.unwrap();
                self.router.accounts.get(&account).watchers.changed();
            }
        }
    }
}

impl Client {
    pub(super) async fn send(&self, xml: &str) {
        self.send_stanza(stanza(xml)).await;
    }

    pub(super) async fn send_stanza(&self, mut stanza: Stanza) {
        stanza.set_from(Some(self.session.jid.clone()));
        self.router.take_from_client(&self.session, stanza, Owed::default()).await;
    }

    /// What came since the last call, written to the client.
    pub(super) fn got(&mut self) -> Vec<String> {
        let mut got = Vec::new();
        while let Some(item) = self.outbox.queue.try_recv() {
            got.push(show(&item.stanza));
            item.copies.written();
        }
        got
    }

    /// The next stanza, taken from the queue with what tracks it.
    pub(super) fn next(&mut self) -> Option<crate::outbox::Outgoing> {
        self.outbox.queue.try_recv()
    }

    /// Asks and gives the answer.
    pub(super) async fn ask(&mut self, xml: &str) -> String {
        self.send(xml).await;
        let got = self.got();
        assert_eq!(got.len(), 1, "{got:?}");
        got.concat()
    }

    /// The connection breaks.
    pub(super) async fn leave(self) {
        self.router.unbind(&self.session, self.outbox, []).await;
    }
}

/// `stanza` with an element in it that comes in by ways that our own reader does not take.
pub(super) fn with_unreadable(xml: &str) -> Stanza {
    let mut stanza = stanza(xml);
    let reserved = Element::bare("x", "http://www.w3.org/2000/xmlns/");
    let place = match stanza.element().children().next().map(|child| child.name().to_owned()) {
        Some(name) if name == "vCard" => {
            stanza.payload_mut().get_child_mut("vCard", gatehouse_xmpp::ns::VCARD).unwrap()
        }
        _ => stanza.payload_mut(),
    };
    place.append_child(reserved);
    stanza
}

pub(super) fn address(text: &str) -> Jid {
    text.parse().unwrap()
}

pub(super) fn stanza(xml: &str) -> Stanza {
    let (name, rest) = xml.split_at(xml.find([' ', '>', '/']).unwrap());
    let element: Element = format!("{name} xmlns='jabber:client'{rest}").parse().unwrap();
    Stanza::from_element(element).unwrap()
}

/// A stanza on one line, without namespaces, ids of pushes, and the sentences of errors.
pub(super) fn show(stanza: &Stanza) -> String {
    show_element(&stanza.to_element())
}

fn show_element(element: &Element) -> String {
    let mut text = element.name().to_owned();
    let mut attributes: Vec<(String, String)> = element
        .attrs()
        .iter()
        .map(|((_, name), value)| (name.to_string(), value.clone()))
        .filter(|(_, value)| !value.starts_with("push-"))
        .collect();
    // The kind first, then who and whom.
    let order = ["type", "id", "from", "to"];
    attributes.sort_by_key(|(name, _)| {
        (order.iter().position(|known| known == name).unwrap_or(order.len()), name.clone())
    });
    for (name, value) in attributes {
        text += &match name.as_str() {
            "type" => format!(":{value}"),
            "from" => format!(" {value} >"),
            "to" => format!(" {value}"),
            "id" => format!("#{value}"),
            // Roster versions of different accounts have nothing in common but their last half.
            "ver" => match value.parse::<u64>() {
                Ok(version) => format!(" ver={}", version & 0xffff_ffff),
                Err(_) => format!(" ver={value}"),
            },
            _ => format!(" {name}={value}"),
        };
    }
    let shown: Vec<String> = element
        .children()
        .filter(|child| !(element.name() == "error" && child.name() == "text"))
        .map(show_element)
        .collect();
    if !shown.is_empty() {
        text += &format!(" [{}]", shown.join(", "));
    }
    let content = element.text();
    if !content.trim().is_empty() {
        text += &format!(" \"{}\"", content.trim());
    }
    text
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatehouse_identity::{Presented, TlsFacts, TlsVersion};
use gatehouse_types::{Jid, Local, Machine as _, Secret, StreamLimits};

use crate::c2s::{C2sConfig, C2sEvent, C2sServer};
use crate::sasl::test_client::ScramClient;
use crate::sasl::{ScramHash, ScramKeys};
use crate::{Entry, Seed, StanzaCondition};

pub(super) const EXPORTER: [u8; 32] = [7; 32];
pub(super) const PASSWORD: &str = "pencil-hunter2";
pub(super) const FULL: &str = "alice@ours.example/phone";

/// A header to `ours.example`.
pub(super) const HEADER: &str = "<?xml version='1.0'?><stream:stream to='ours.example' \
    from='alice@ours.example' version='1.0' xml:lang='de' xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams'>";
pub(super) const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
pub(super) const FOOTER: &str = "</stream:stream>";
pub(super) const BIND: &str = "<iq type='set' id='b1'>\
    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>phone</resource></bind></iq>";
pub(super) const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true' max='60'/>";
pub(super) const RESUME: &str = "<resume xmlns='urn:xmpp:sm:3' previd='before' h='2'/>";
pub(super) const MESSAGE: &str =
    "<message to='bob@theirs.example' type='chat' id='m1'><body>Hello</body></message>";

/// A server, its owner's answers, and all that happened so far.
pub(super) struct World {
    pub(super) server: C2sServer,
    pub(super) now: Instant,
    pub(super) events: Vec<C2sEvent>,
    /// All that the client ever received.
    pub(super) received: String,
    /// How many bytes arrive at a time.
    pub(super) chunk: usize,
    /// Whether the owner answers at once.
    pub(super) owner: Owner,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Owner {
    Answers,
    Silent,
}

#[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
fn some_time() -> Instant {
    Instant::now()
}

pub(super) fn facts(exporter: Option<[u8; 32]>) -> TlsFacts {
    TlsFacts { presented: Presented::Nothing, exporter, version: TlsVersion::Tls13 }
}

pub(super) fn keys() -> Vec<ScramKeys> {
    let derive = |hash| ScramKeys::derive(hash, PASSWORD, &[9; 16], 2).unwrap();
    vec![derive(ScramHash::Sha256), derive(ScramHash::Sha1)]
}

pub(super) fn jid(text: &str) -> Jid {
    text.parse().unwrap()
}

pub(super) fn config() -> C2sConfig {
    C2sConfig {
        domains: ["ours.example", "bücher.example"]
            .map(|domain| Local(domain.parse().unwrap()))
            .to_vec(),
        limits: StreamLimits::client(),
        decoy_secret: Secret::new(b"decoy secret".to_vec()),
    }
}

impl World {
    pub(super) fn new(entry: Entry) -> Self {
        let now = some_time();
        let server = C2sServer::new(Arc::new(config()), entry, Seed::new([1; 32]), now);
        let (events, received) = (Vec::new(), String::new());
        Self { server, now, events, received, chunk: usize::MAX, owner: Owner::Answers }
    }

    /// On plain TCP.
    pub(super) fn clear() -> Self {
        Self::new(Entry::StartTls)
    }

    /// On direct TLS, with keying material; nothing sent yet.
    pub(super) fn direct() -> Self {
        Self::new(Entry::Direct(facts(Some(EXPORTER))))
    }

    /// Mechanisms were offered.
    pub(super) fn offered() -> Self {
        let mut world = Self::direct();
        world.says(HEADER);
        world
    }

    /// Logged in; features for binding were offered.
    pub(super) fn authenticated() -> Self {
        let mut world = Self::offered();
        world.says(&plain("alice", PASSWORD));
        world.says(HEADER);
        world
    }

    /// Open for stanzas.
    pub(super) fn bound() -> Self {
        let mut world = Self::authenticated();
        world.says(BIND);
        world
    }

    /// The client sends `bytes`; what it receives for it.
    pub(super) fn says(&mut self, bytes: &str) -> String {
        let before = self.received.len();
        for part in bytes.as_bytes().chunks(self.chunk) {
            self.server.handle_data(part, self.now);
            self.settle();
        }
        self.received[before..].to_owned()
    }

    /// Time passes, and the deadline with it if it comes to that.
    pub(super) fn waits(&mut self, time: Duration) -> String {
        let before = self.received.len();
        self.now += time;
        self.server.handle_timeout(self.now);
        self.settle();
        self.received[before..].to_owned()
    }

    /// The owner does something.
    pub(super) fn owner(&mut self, act: impl FnOnce(&mut C2sServer, Instant)) -> String {
        let before = self.received.len();
        act(&mut self.server, self.now);
        self.settle();
        self.received[before..].to_owned()
    }

    /// The TLS handshake that the server waits for.
    pub(super) fn shakes_hands(&mut self) {
        assert!(self.server.wants_upgrade());
        self.server.handle_tls(facts(Some(EXPORTER)), self.now);
        assert!(!self.server.wants_upgrade());
    }

    /// Runs a whole SCRAM dialogue; what the client receives at its end.
    pub(super) fn scram(&mut self, mechanism: &str, client: &mut ScramClient) -> String {
        let challenge = self.says(&auth(mechanism, &client.first()));
        match data("challenge", &challenge) {
            Some(challenge) => self.says(&response(&client.last(&challenge))),
            None => challenge,
        }
    }

    /// Drains the machine, and answers it as a real owner does.
    fn settle(&mut self) {
        loop {
            while let Some(bytes) = self.server.poll_transmit() {
                self.received += str::from_utf8(&bytes).unwrap();
            }
            let Some(event) = self.server.poll_event() else {
                return;
            };
            self.events.push(event.clone());
            match (self.owner, event) {
                (Owner::Answers, C2sEvent::Credentials { account }) => {
                    let known = account == jid("alice@ours.example");
                    let keys = if known { keys() } else { Vec::new() };
                    self.server.credentials(keys, self.now);
                }
                (Owner::Answers, C2sEvent::Bind { .. }) => self.server.bind(jid(FULL), self.now),
                (Owner::Answers, C2sEvent::EnableManagement { .. }) => {
                    self.server.manage(Some(("name", 60)), self.now);
                }
                (Owner::Answers, C2sEvent::AckRequested) => {
                    let h = self.server.sent_by_then();
                    self.server.acknowledge(h, self.now);
                }
                (Owner::Answers, C2sEvent::Resume { id, .. }) if id == "before" => {
                    self.server.resume(jid(FULL), &id, 41, self.now);
                }
                (Owner::Answers, C2sEvent::Resume { .. }) => {
                    self.server.refuse_resume(StanzaCondition::ItemNotFound, Some(7), self.now);
                }
                _ => {}
            }
        }
    }
}

pub(super) fn client(hash: ScramHash, password: &str) -> ScramClient {
    ScramClient::new(hash, ("alice", password), "n", b"")
}

pub(super) fn binding_client(hash: ScramHash, binding: &[u8]) -> ScramClient {
    ScramClient::new(hash, ("alice", PASSWORD), "p=tls-exporter", binding)
}

pub(super) fn auth(mechanism: &str, message: &str) -> String {
    let message = STANDARD.encode(message);
    format!(
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{message}</auth>"
    )
}

pub(super) fn plain(name: &str, password: &str) -> String {
    auth("PLAIN", &format!("\0{name}\0{password}"))
}

pub(super) fn response(message: &str) -> String {
    let message = STANDARD.encode(message);
    format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{message}</response>")
}

/// What a `<challenge/>` or `<success/>` carries.
pub(super) fn data(name: &str, received: &str) -> Option<String> {
    let start =
        received.strip_prefix(&format!("<{name} xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"))?;
    let (encoded, _) = start.split_once('<')?;
    Some(String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap())
}

/// The `<failure/>` with this condition.
pub(super) fn failure(condition: &str) -> String {
    format!("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><{condition}/></failure>")
}

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatehouse_types::{Jid, Local, Machine as _, Secret, StreamLimits};

use super::script::{self, Step};
use super::watch::{Manners, Watch};
use super::world::{EXPORTER, Shown, domain, limits, message, moment};
use crate::c2s::{C2sConfig, C2sEvent, C2sServer, Granted, GrantedSession};
use crate::framing::{ContentNamespace, Frame};
use crate::sasl::test_client::ScramClient;
use crate::sasl::{ScramHash, ScramKeys};
use crate::{Entry, Seed, StanzaCondition, StreamCondition, ns};

pub(super) const PASSWORD: &str = "pencil-hunter2";
const FULL: &str = "alice@us.example/phone";

static KEYS: LazyLock<Vec<ScramKeys>> = LazyLock::new(|| {
    [ScramHash::Sha256, ScramHash::Sha1]
        .map(|hash| ScramKeys::derive(hash, PASSWORD, &[9; 16], 1).unwrap())
        .to_vec()
});

/// What is stored for `alice`.
pub(super) fn keys() -> Vec<ScramKeys> {
    KEYS.clone()
}

fn phrase(name: u8) -> &'static str {
    match name {
        b'h' => {
            "<?xml version='1.0'?><stream:stream to='us.example' version='1.0' xml:lang='de' \
             xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        }
        b't' => "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        b'p' => {
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>\
             AGFsaWNlAGd1ZXNz</auth>"
        }
        b'e' => "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>",
        b'g' => {
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>\
             biwsbj1hbGljZSxyPXg=</auth>"
        }
        b'a' => "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        b'r' => "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>AGFsaWNlAGd1ZXNz</response>",
        b'b' => {
            "<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>phone</resource></bind></iq>"
        }
        b's' => {
            "<iq type='set' id='s1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>"
        }
        b'm' => "<message to='bob@them.example' type='chat'><body>Hello</body></message>",
        b'i' => "<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>",
        b'j' => "<message to='@@' from='alice@us.example'/>",
        b'f' => "<message to='bob@them.example' from='mallory@us.example'/>",
        b'M' => "<enable xmlns='urn:xmpp:sm:3' resume='true' max='60'/>",
        b'R' => "<resume xmlns='urn:xmpp:sm:3' previd='before' h='2'/>",
        b'q' => "<r xmlns='urn:xmpp:sm:3'/>",
        b'k' => "<a xmlns='urn:xmpp:sm:3' h='1'/>",
        b'n' => "<inactive xmlns='urn:xmpp:csi:0'/>",
        b'x' => {
            "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'>\
             <initial-response>AGFsaWNlAGd1ZXNz</initial-response></authenticate>"
        }
        b'T' => {
            "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='HT-SHA-256-NONE'>\
             <initial-response>YWxpY2UAMDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=</initial-response>\
             <user-agent id='phone'/><bind xmlns='urn:xmpp:bind:0'/></authenticate>"
        }
        b'E' => "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        b'.' => "</stream:stream>",
        _ => "",
    }
}

/// A client that may know the password.
struct Client {
    scram: Option<ScramClient>,
    /// The password was used. It may be read much later, behind what others said.
    knows: bool,
}

impl Client {
    /// The first message of somebody who knows the password.
    fn first(&mut self, mechanism: u8) -> String {
        let (name, hash, flag, binding): (_, _, _, &[u8]) = match mechanism & 7 {
            5 => {
                self.knows = true;
                let message = STANDARD.encode(format!("\0alice\0{PASSWORD}"));
                return format!(
                    "<authenticate xmlns='{}' mechanism='PLAIN'>\
                     <initial-response>{message}</initial-response>\
                     <bind xmlns='{}'><enable xmlns='{}'/></bind></authenticate>",
                    ns::SASL2,
                    ns::BIND2,
                    ns::SM
                );
            }
            0 => {
                self.knows = true;
                return auth("PLAIN", &format!("\0alice\0{PASSWORD}"));
            }
            1 => ("SCRAM-SHA-1", ScramHash::Sha1, "n", b""),
            2 => ("SCRAM-SHA-256", ScramHash::Sha256, "n", b""),
            3 => ("SCRAM-SHA-1-PLUS", ScramHash::Sha1, "p=tls-exporter", &EXPORTER),
            _ => ("SCRAM-SHA-256-PLUS", ScramHash::Sha256, "p=tls-exporter", &EXPORTER),
        };
        let scram = ScramClient::new(hash, ("alice", PASSWORD), flag, binding);
        let first = auth(name, &scram.first());
        self.scram = Some(scram);
        first
    }

    /// Its last message, for the challenge that it got.
    fn last(&mut self, challenge: &str) -> Option<String> {
        let mut scram = self.scram.take()?;
        self.knows = true;
        let message = STANDARD.encode(scram.last(challenge));
        Some(format!("<response xmlns='{}'>{message}</response>", ns::SASL))
    }
}

fn auth(mechanism: &str, message: &str) -> String {
    let message = STANDARD.encode(message);
    format!("<auth xmlns='{}' mechanism='{mechanism}'>{message}</auth>", ns::SASL)
}

/// What a `<challenge/>` among `frames` says.
fn challenge(frames: &[Frame]) -> Option<String> {
    let challenge = frames.iter().rev().find_map(|frame| match frame {
        Frame::Element(element) if element.is("challenge", ns::SASL) => Some(element.text()),
        _ => None,
    })?;
    // An empty one asks for a first message; another nonce was for somebody else.
    let text = String::from_utf8(STANDARD.decode(challenge).unwrap()).unwrap();
    Some(text).filter(|text| text.starts_with("r=fyko+"))
}

/// What the owner has said yes to.
#[derive(Default)]
struct Truth {
    authenticated: bool,
    asked_for_keys: bool,
    gave_keys: bool,
    asked_for_tokens: bool,
    has_wishes: bool,
    asked_for_resource: bool,
    asked_for_session: bool,
    managed: bool,
    bound: bool,
}

impl Truth {
    fn take(&mut self, event: &C2sEvent, client: &mut Client) {
        let alice: Jid = "alice@us.example".parse().unwrap();
        match event {
            C2sEvent::Credentials { account } => {
                assert!(!self.authenticated && !self.asked_for_keys);
                assert!(account.is_bare() && account.local().is_some());
                assert_eq!(account.domain(), alice.domain());
                (self.asked_for_keys, self.gave_keys) = (true, false);
            }
            C2sEvent::Token { account, client, .. } => {
                assert!(!self.authenticated && !self.asked_for_keys && !self.asked_for_tokens);
                assert!(account.is_bare() && account.domain() == alice.domain());
                assert!(!client.is_empty());
                self.asked_for_tokens = true;
            }
            C2sEvent::Wishes(_) => {
                assert!(self.authenticated && !self.bound && !self.has_wishes);
                self.has_wishes = true;
            }
            C2sEvent::AuthenticationFailed { .. } => {
                self.asked_for_tokens = false;
                assert!(!self.authenticated);
                (self.asked_for_keys, self.gave_keys) = (false, false);
                client.scram = None;
            }
            C2sEvent::Authenticated { account, .. } => {
                assert!(client.knows, "nobody gave the password");
                assert!(self.gave_keys, "nobody gave the keys");
                assert!(!self.authenticated);
                assert_eq!(*account, alice);
                self.authenticated = true;
            }
            C2sEvent::Bind { .. } => {
                assert!(self.authenticated && !self.bound && !self.asked_for_resource);
                self.asked_for_resource = true;
            }
            C2sEvent::Stanza(stanza) => {
                assert!(self.bound, "not bound");
                assert_eq!(stanza.from().unwrap().to_string(), FULL, "forged");
            }
            C2sEvent::Resume { .. } => {
                assert!(self.authenticated && !self.bound && !self.asked_for_session);
                self.asked_for_session = true;
            }
            C2sEvent::EnableManagement { .. } => {
                assert!(self.bound && !self.managed);
                self.managed = true;
            }
            C2sEvent::AckRequested | C2sEvent::Acked { .. } | C2sEvent::Reply(_) => {
                assert!(self.managed);
            }
            C2sEvent::ClientState { .. } => assert!(self.bound),
            C2sEvent::Closed(_) => {}
        }
    }
}

/// Nobody gets in without the password, nothing comes through before a resource is bound, and
/// nobody speaks for another; whatever the client says and however its owner answers.
pub fn check_c2s_server(data: &[u8]) {
    play(data);
}

fn play(data: &[u8]) -> Truth {
    let (world, steps) = script::read(data, phrase);
    let config = C2sConfig {
        domains: vec![Local(domain("us.example"))],
        limits: StreamLimits { idle_timeout: std::time::Duration::from_secs(300), ..limits() },
        decoy_secret: Secret::new(b"decoy secret".to_vec()),
    };
    let entry =
        if world & 1 == 0 { Entry::StartTls } else { Entry::Direct(Shown::Nothing.facts()) };
    let (mut encrypted, now) = (world & 1 != 0, moment());
    let machine = C2sServer::new(Arc::new(config), entry, Seed::new([1; 32]), now);
    let is_end = |event: &C2sEvent| matches!(event, C2sEvent::Closed(_));
    let mut watch = Watch::new(machine, now, (ContentNamespace::Client, Manners::Strict), is_end);
    let (mut truth, mut client) = (Truth::default(), Client { scram: None, knows: false });
    let mut asked = None;

    for step in steps {
        let events = match step {
            Step::Peer(phrase, rest) => watch.hear(phrase, rest),
            Step::Owner(b'1', mechanism) => {
                let first = client.first(mechanism);
                watch.hear(&first, b"")
            }
            Step::Owner(b'2', _) => {
                let Some(last) = asked.take().and_then(|asked: String| client.last(&asked)) else {
                    continue;
                };
                watch.hear(&last, b"")
            }
            Step::Owner(b't', _) => {
                encrypted |= watch.machine.wants_upgrade();
                watch.call(|machine, now| machine.handle_tls(Shown::Nothing.facts(), now))
            }
            Step::Owner(b'k', _) => {
                truth.gave_keys |= std::mem::take(&mut truth.asked_for_keys);
                watch.call(|machine, now| machine.credentials(keys(), now))
            }
            Step::Owner(b'n', _) => {
                truth.asked_for_keys = false;
                watch.call(|machine, now| machine.credentials(Vec::new(), now))
            }
            Step::Owner(b'x', _) => watch.call(C2sServer::credentials_unavailable),
            Step::Owner(b'T', _) => {
                watch.call(|machine, now| machine.tokens(&["a token".to_owned()], now))
            }
            Step::Owner(b'G', managed) => {
                let granted = std::mem::take(&mut truth.has_wishes);
                let managed = (managed & 1 == 1).then_some(None);
                truth.bound |= granted;
                truth.managed |= granted && managed.is_some();
                let session = GrantedSession::Bound { full: FULL.parse().unwrap(), managed };
                let granted = Granted { session, not_resumed: None, token: None };
                watch.call(|machine, now| machine.grant(granted, now))
            }
            Step::Owner(b'b', _) => {
                // What came behind the request is read before the call is over.
                truth.bound |= std::mem::take(&mut truth.asked_for_resource);
                watch.call(|machine, now| machine.bind(FULL.parse().unwrap(), now))
            }
            Step::Owner(b'r', _) => {
                truth.asked_for_resource = false;
                let condition = StanzaCondition::Conflict;
                watch.call(|machine, now| machine.refuse_bind(condition, "taken", now))
            }
            Step::Owner(b'R', _) => {
                let resumed = std::mem::take(&mut truth.asked_for_session);
                (truth.bound, truth.managed) = (truth.bound | resumed, truth.managed | resumed);
                watch.call(|machine, now| machine.resume(FULL.parse().unwrap(), "before", 1, now))
            }
            Step::Owner(b'N', _) => {
                truth.asked_for_session = false;
                let condition = StanzaCondition::ItemNotFound;
                watch.call(|machine, now| machine.refuse_resume(condition, None, now))
            }
            Step::Owner(b'E', _) => watch.call(|machine, now| machine.manage(Some(("i", 9)), now)),
            Step::Owner(b'a', _) => watch.call(|it, now| it.acknowledge(it.sent_by_then(), now)),
            Step::Owner(b'm', id) => {
                let stanza = message("bob@them.example", FULL, id.into());
                let closed = watch.machine.is_closed();
                let events = watch.call(|machine, now| {
                    machine.send(&stanza, now);
                });
                let wanted: Vec<_> = (truth.bound && !closed)
                    .then(|| Frame::Element(stanza.into_element()))
                    .into_iter()
                    .collect();
                assert_eq!(watch.frames, wanted, "stanzas go to who is bound, as they are");
                events
            }
            Step::Owner(b'c', _) => {
                let error = StreamCondition::Conflict;
                watch.call(|machine, now| machine.close_with(error.into(), now))
            }
            Step::Owner(act, argument) => watch.act(act, argument).unwrap_or_default(),
        };
        for event in &events {
            let is_no =
                matches!(event, C2sEvent::AuthenticationFailed { .. } | C2sEvent::Closed(_));
            assert!(encrypted || is_no, "in the clear: {event:?}");
            truth.take(event, &mut client);
        }
        if let Some(challenge) = challenge(&watch.frames) {
            asked = Some(challenge);
        }
    }
    truth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_log_in_and_bind() {
        for mechanism in 0..5 {
            let script = format!("A@h\n!1{mechanism}\n!k\n!2\n@h\n@b\n!b\n@m\n");
            let truth = play(script.as_bytes());
            assert!(truth.authenticated && truth.bound, "{script}");
        }
        let resume = "A@h\n!11\n!k\n!2\n@h\n@R\n!R\n@m\n@q\n!a\n";
        assert!(play(resume.as_bytes()).managed);
        let extended = play(b"A@h\n!15\n!k\n!G1\n@m\n@q\n!a\n");
        assert!(extended.bound && extended.managed);
        assert!(!play(b"A@h\n@T\n!T\n!G1\n@m\n").bound);
        assert!(!play(b"A@h\n@p\n!k\n@h\n@b\n!b\n").authenticated);
    }
}

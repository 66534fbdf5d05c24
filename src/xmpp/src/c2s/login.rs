use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatehouse_types::Jid;
use minidom::Element;
use zeroize::Zeroizing;

use super::C2sEvent;
use super::inline::Wishes;
use super::server::{C2sServer, unexpected};
use super::state::{Login, Session, Stage, State};
use crate::framing::Leftover;
use crate::sasl::{
    Answer, AwaitProof, Failure, Mechanism, Opening, ScramKeys, Terms, TokenFirst, TokenMechanism,
};
use crate::{StreamCondition, StreamError, ns};

/// Failed tries on one stream before it ends (RFC 6120, section 6.4.5).
const FAILURES_MAX: u8 = 5;
/// The longest name of a mechanism (RFC 4422, section 3.1).
const MECHANISM_BYTES_MAX: usize = 20;

/// SASL.
impl C2sServer {
    /// Nothing is under way; `<auth/>` comes next.
    pub(super) fn authenticate(
        &mut self,
        mut login: Login,
        element: &Element,
    ) -> Result<State, StreamError> {
        let extended = element.is("authenticate", ns::SASL2);
        if !extended && !element.is("auth", ns::SASL) {
            return self.no_step(login, None, "", element);
        }
        let message = match extended {
            true => element.get_child("initial-response", ns::SASL2).map(Element::text),
            false => Some(element.text()).filter(|text| !text.is_empty()),
        };
        let message = message.map(Zeroizing::new);
        login.wishes = extended.then(|| Box::new(Wishes::read(element, login.exporter.as_ref())));
        let name = element.attr("mechanism").unwrap_or_default();
        let mut tokens = TokenMechanism::offered(login.exporter.as_ref());
        let token = tokens.find(|offered| extended && offered.name() == name);
        if let Some(mechanism) = token {
            let message = message.as_ref().map(|message| message.as_str());
            return self.begin_token(login, mechanism, message);
        }
        let offered = Mechanism::offered(login.exporter.as_ref());
        let Some(mechanism) = offered.into_iter().find(|offered| offered.name() == name) else {
            return self.deny(login, None, loggable(name), Failure::InvalidMechanism);
        };
        let Some(text) = message else {
            // RFC 4422, section 3: all our mechanisms let the client speak first.
            self.write(&Element::bare("challenge", login.namespace()));
            return Ok(State::AwaitInitial { login, mechanism });
        };
        self.begin(login, mechanism, &text)
    }

    /// The client has a token, it says (XEP-0484).
    fn begin_token(
        &mut self,
        login: Login,
        mechanism: TokenMechanism,
        message: Option<&str>,
    ) -> Result<State, StreamError> {
        let client = login.wishes.as_ref().and_then(|wishes| wishes.client.clone());
        let first = match (client, message) {
            (Some(client), Some(message)) => decode(message).and_then(|message| {
                let (domain, exporter) = (&login.domain.0, login.exporter.as_ref());
                let first = TokenFirst::read(mechanism, &message, domain, exporter)?;
                Ok((client, first))
            }),
            // Tokens are given to an installation that says who it is, and it speaks first.
            _ => Err(Failure::MalformedRequest),
        };
        match first {
            Ok((client, first)) => {
                let account = first.account().clone();
                self.report(C2sEvent::Token { account, client, mechanism });
                Ok(State::AwaitTokens { login, first })
            }
            Err(failure) => self.deny(login, None, mechanism.name(), failure),
        }
    }

    /// The owner looked up the tokens, or could not.
    pub(super) fn check_token(
        &mut self,
        state: State,
        tokens: Option<&[String]>,
    ) -> Result<State, StreamError> {
        let State::AwaitTokens { mut login, first } = state else {
            return Ok(state);
        };
        let (account, mechanism) = (first.account().clone(), first.mechanism());
        let failure = match tokens.map(|tokens| first.check(tokens)) {
            Some(Some((index, proof))) => {
                if let Some(wishes) = &mut login.wishes {
                    wishes.used = Some((mechanism, index));
                }
                return Ok(self.succeed(login, account, mechanism.name(), Some(proof)));
            }
            Some(None) => Failure::NotAuthorized,
            None => Failure::TemporaryAuth,
        };
        self.deny(login, Some(account), mechanism.name(), failure)
    }

    /// An empty challenge is out.
    pub(super) fn initial(
        &mut self,
        login: Login,
        mechanism: Mechanism,
        element: &Element,
    ) -> Result<State, StreamError> {
        if !element.is("response", login.namespace()) {
            return self.no_step(login, None, mechanism.name(), element);
        }
        let text = Zeroizing::new(element.text());
        self.begin(login, mechanism, &text)
    }

    /// The client's first message is here.
    fn begin(
        &mut self,
        login: Login,
        mechanism: Mechanism,
        text: &str,
    ) -> Result<State, StreamError> {
        let terms = Terms { domain: &login.domain.0, exporter: login.exporter.as_ref() };
        let opening = decode(text).and_then(|message| Opening::read(mechanism, &message, terms));
        match opening {
            Ok(opening) => {
                self.report(C2sEvent::Credentials { account: opening.account().clone() });
                Ok(State::AwaitKeys { login, opening })
            }
            Err(failure) => self.deny(login, None, mechanism.name(), failure),
        }
    }

    /// The owner looked up the keys, or could not.
    pub(super) fn check(
        &mut self,
        state: State,
        keys: Option<Vec<ScramKeys>>,
    ) -> Result<State, StreamError> {
        let State::AwaitKeys { login, opening } = state else {
            return Ok(state);
        };
        let (account, mechanism) = (opening.account().clone(), opening.mechanism());
        let answer = match keys {
            Some(keys) => opening.answer(keys, self.config.decoy_secret.reveal(), &mut self.seed),
            None => Answer::Refused(Failure::TemporaryAuth),
        };
        match answer {
            Answer::Challenge(proof, challenge) => {
                self.write(&with_data("challenge", login.namespace(), &challenge));
                Ok(State::AwaitProof { login, account, mechanism, proof })
            }
            Answer::Proved => Ok(self.succeed(login, account, mechanism.name(), None)),
            Answer::Refused(failure) => self.deny(login, Some(account), mechanism.name(), failure),
        }
    }

    /// A challenge is out.
    pub(super) fn prove(
        &mut self,
        login: Login,
        account: Jid,
        mechanism: Mechanism,
        proof: AwaitProof,
        element: &Element,
    ) -> Result<State, StreamError> {
        if !element.is("response", login.namespace()) {
            return self.no_step(login, Some(account), mechanism.name(), element);
        }
        match decode(&element.text()).and_then(|message| proof.check(&message)) {
            Ok(server_final) => {
                let proof = Some(server_final.into_bytes());
                Ok(self.succeed(login, account, mechanism.name(), proof))
            }
            Err(failure) => self.deny(login, Some(account), mechanism.name(), failure),
        }
    }

    /// Something else came than the step that is due.
    fn no_step(
        &mut self,
        login: Login,
        account: Option<Jid>,
        mechanism: &str,
        element: &Element,
    ) -> Result<State, StreamError> {
        if !element.has_ns(login.namespace()) {
            return Err(unexpected(element));
        }
        let failure = match element.name() {
            "abort" => Failure::Aborted,
            _ => Failure::MalformedRequest,
        };
        self.deny(login, account, mechanism, failure)
    }

    fn succeed(
        &mut self,
        login: Login,
        account: Jid,
        mechanism: &str,
        proof: Option<Vec<u8>>,
    ) -> State {
        let authenticated =
            C2sEvent::Authenticated { account: account.clone(), mechanism: mechanism.to_owned() };
        let session = Session { domain: login.domain, account };
        if let Some(wishes) = login.wishes {
            self.report(authenticated);
            self.report(C2sEvent::Wishes(wishes));
            return State::AwaitGrant { session, proof };
        }
        let success = match proof {
            Some(proof) => with_data("success", ns::SASL, &proof),
            None => Element::bare("success", ns::SASL),
        };
        self.write(&success);
        self.restart(Leftover::Keep);
        self.framer.set_element_bytes_max(self.config.limits.stanza_bytes_max);
        self.report(authenticated);
        State::AwaitHeader(Stage::Authenticated(session))
    }

    fn deny(
        &mut self,
        login: Login,
        account: Option<Jid>,
        mechanism: &str,
        failure: Failure,
    ) -> Result<State, StreamError> {
        let so_far = (login.failures, login.namespace());
        let failures = self.fail(so_far, account, mechanism, failure)?;
        Ok(State::AwaitAuth(Login { failures, wishes: None, ..login }))
    }

    /// Tells the client and the owner; how many failures that makes.
    pub(super) fn fail(
        &mut self,
        (failures, namespace): (u8, &str),
        account: Option<Jid>,
        mechanism: &str,
        failure: Failure,
    ) -> Result<u8, StreamError> {
        let condition = Element::bare(failure.as_str(), ns::SASL);
        self.write(&Element::builder("failure", namespace).append(condition).build());
        self.report(C2sEvent::AuthenticationFailed {
            account,
            condition: failure.as_str(),
            mechanism: mechanism.to_owned(),
        });
        let failures = failures.saturating_add(1);
        if failures < FAILURES_MAX {
            return Ok(failures);
        }
        let text = "too many tries to authenticate have failed";
        Err(StreamError::new(StreamCondition::PolicyViolation, text))
    }
}

fn with_data(name: &str, namespace: &str, data: impl AsRef<[u8]>) -> Element {
    Element::builder(name, namespace).append(STANDARD.encode(data)).build()
}

/// Undoes base64; `=` is how data of no length is written (RFC 6120, section 6.4.2).
fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let encoded = if text == "=" { "" } else { text };
    STANDARD.decode(encoded).map(Zeroizing::new).map_err(|_| Failure::IncorrectEncoding)
}

/// A name that a mechanism could have, or nothing: it goes into the log.
fn loggable(name: &str) -> &str {
    let could_be = |byte: u8| matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    if name.len() <= MECHANISM_BYTES_MAX && name.bytes().all(could_be) { name } else { "" }
}

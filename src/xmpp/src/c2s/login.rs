use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatehouse_types::Jid;
use minidom::Element;
use zeroize::Zeroizing;

use super::C2sEvent;
use super::server::{C2sServer, unexpected};
use super::state::{Login, Session, Stage, State};
use crate::framing::Leftover;
use crate::sasl::{Answer, AwaitProof, Failure, Mechanism, Opening, ScramKeys, Terms};
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
        login: Login,
        element: &Element,
    ) -> Result<State, StreamError> {
        if !element.is("auth", ns::SASL) {
            return self.no_step(login, None, "", element);
        }
        let name = element.attr("mechanism").unwrap_or_default();
        let offered = Mechanism::offered(login.exporter.as_ref());
        let Some(mechanism) = offered.into_iter().find(|offered| offered.name() == name) else {
            return self.deny(login, None, loggable(name), Failure::InvalidMechanism);
        };
        let text = Zeroizing::new(element.text());
        if text.is_empty() {
            // RFC 4422, section 3: all our mechanisms let the client speak first.
            self.write(&Element::bare("challenge", ns::SASL));
            return Ok(State::AwaitInitial { login, mechanism });
        }
        self.begin(login, mechanism, &text)
    }

    /// An empty challenge is out.
    pub(super) fn initial(
        &mut self,
        login: Login,
        mechanism: Mechanism,
        element: &Element,
    ) -> Result<State, StreamError> {
        if !element.is("response", ns::SASL) {
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
                self.write(&with_data("challenge", &challenge));
                Ok(State::AwaitProof { login, account, mechanism, proof })
            }
            Answer::Proved => {
                let success = Element::bare("success", ns::SASL);
                Ok(self.succeed(login, account, mechanism, &success))
            }
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
        if !element.is("response", ns::SASL) {
            return self.no_step(login, Some(account), mechanism.name(), element);
        }
        match decode(&element.text()).and_then(|message| proof.check(&message)) {
            Ok(server_final) => {
                let success = with_data("success", &server_final);
                Ok(self.succeed(login, account, mechanism, &success))
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
        if !element.has_ns(ns::SASL) {
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
        mechanism: Mechanism,
        success: &Element,
    ) -> State {
        self.write(success);
        self.restart(Leftover::Keep);
        self.framer.set_element_bytes_max(self.config.limits.stanza_bytes_max);
        let mechanism = mechanism.name().to_owned();
        self.report(C2sEvent::Authenticated { account: account.clone(), mechanism });
        State::AwaitHeader(Stage::Authenticated(Session { domain: login.domain, account }))
    }

    fn deny(
        &mut self,
        login: Login,
        account: Option<Jid>,
        mechanism: &str,
        failure: Failure,
    ) -> Result<State, StreamError> {
        let failures = self.fail(login.failures, account, mechanism, failure)?;
        Ok(State::AwaitAuth(Login { failures, ..login }))
    }

    /// Tells the client and the owner; how many failures that makes.
    pub(super) fn fail(
        &mut self,
        failures: u8,
        account: Option<Jid>,
        mechanism: &str,
        failure: Failure,
    ) -> Result<u8, StreamError> {
        let condition = Element::bare(failure.as_str(), ns::SASL);
        self.write(&Element::builder("failure", ns::SASL).append(condition).build());
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

fn with_data(name: &str, data: &str) -> Element {
    Element::builder(name, ns::SASL).append(STANDARD.encode(data)).build()
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

use gatehouse_types::{Domain, Local};
use minidom::Element;

use super::features::{Advertised, Offer, features};
use super::server::{C2sServer, unexpected};
use super::state::{Login, Stage, State};
use crate::framing::StreamHeader;
use crate::ns;
use crate::sasl::Failure;
use crate::{StreamCondition, StreamError};

/// Headers and STARTTLS.
impl C2sServer {
    pub(super) fn open(
        &mut self,
        stage: Stage,
        header: &StreamHeader,
    ) -> Result<State, StreamError> {
        let config = std::sync::Arc::clone(&self.config);
        let served = served(&config.domains, header.to.as_deref());
        // RFC 6120, section 4.9.1.2: who asks for a domain that is not ours hears it from one
        // that is.
        self.write_header(served.or_else(|| config.domains.first()));
        let Some(domain) = served.cloned() else {
            let text = "this server does not serve the domain in `to`";
            return Err(StreamError::new(StreamCondition::HostUnknown, text));
        };
        check_version(header.version.as_deref())?;
        match stage {
            Stage::Clear => {
                self.offer(&Offer::StartTls);
                Ok(State::AwaitStartTls { domain, failures: 0 })
            }
            Stage::Encrypted { domain: before, exporter } => {
                if before.is_some_and(|before| before != domain) {
                    return Err(other_domain());
                }
                self.offer(&Offer::Login { exporter: exporter.as_ref() });
                Ok(State::AwaitAuth(Login { domain, exporter, failures: 0, wishes: None }))
            }
            Stage::Authenticated(session) => {
                if session.domain != domain {
                    return Err(other_domain());
                }
                self.offer(&Offer::Session);
                Ok(State::AwaitBind(session))
            }
        }
    }

    pub(super) fn offer(&mut self, offer: &Offer<'_>) {
        let limits = &self.config.limits;
        let limits = match offer {
            Offer::Session | Offer::Open { .. } => {
                Advertised { bytes_max: limits.stanza_bytes_max, idle: Some(limits.idle_timeout) }
            }
            Offer::StartTls | Offer::Login { .. } => {
                Advertised { bytes_max: limits.unauthenticated_element_bytes_max, idle: None }
            }
        };
        self.write(&features(offer, limits));
    }

    pub(super) fn start_tls(
        &mut self,
        domain: Local<Domain>,
        failures: u8,
        element: &Element,
    ) -> Result<State, StreamError> {
        let tried = [("auth", ns::SASL), ("authenticate", ns::SASL2)];
        if let Some((_, namespace)) = tried.into_iter().find(|(name, ns)| element.is(*name, *ns)) {
            // It may have given a password away already; at least it learns that.
            let failure = Failure::EncryptionRequired;
            let failures = self.fail((failures, namespace), None, "", failure)?;
            return Ok(State::AwaitStartTls { domain, failures });
        }
        if !element.is("starttls", ns::TLS) {
            return Err(unexpected(element));
        }
        // Nothing may follow before TLS (RFC 6120, section 5.4.2.3). Whoever put it there wants it
        // to be read as if it had come through TLS.
        if self.framer.has_leftover() {
            let text = "data came in clear after <starttls/>";
            return Err(StreamError::new(StreamCondition::PolicyViolation, text));
        }
        self.write(&Element::bare("proceed", ns::TLS));
        Ok(State::Upgrading { domain })
    }
}

/// The domain of ours that `to` names.
fn served<'a>(domains: &'a [Local<Domain>], to: Option<&str>) -> Option<&'a Local<Domain>> {
    let to: Domain = to?.parse().ok()?;
    domains.iter().find(|domain| domain.0 == to)
}

/// RFC 6120, section 4.7.5: 1.0 or a later minor or major version.
fn check_version(version: Option<&str>) -> Result<(), StreamError> {
    let (major, minor) = version.and_then(|version| version.split_once('.')).unwrap_or_default();
    match (major.parse::<u16>(), minor.parse::<u16>()) {
        (Ok(1..), Ok(_)) => Ok(()),
        _ => {
            let text = "this server speaks XMPP 1.0 (RFC 6120), not what came before";
            Err(StreamError::new(StreamCondition::UnsupportedVersion, text))
        }
    }
}

fn other_domain() -> StreamError {
    let text = "`to` names another domain than before on this connection";
    StreamError::new(StreamCondition::PolicyViolation, text)
}

//! What the author of a stanza reads when a partner cannot be reached: every failure has its
//! sentence, which names the partner and the plain reason, and never a host or an address.

use gatehouse_identity::{ChainFault, IdentityError};
use gatehouse_resolve::ResolveError;
use gatehouse_types::{Domain, Local, Remote};
use gatehouse_xmpp::stream::CloseReason;
use gatehouse_xmpp::{ErrorKind, StanzaCondition, StreamCondition};

use super::failure::{AttemptError, DialFailure};
use crate::bounce::Refusal;

impl DialFailure {
    /// What the author of a stanza is told.
    ///
    //= https://www.rfc-editor.org/rfc/rfc6120#section-8.3.3.16
    //# A remote server or service specified as part or all of the JID of
    //# the intended recipient does not exist or cannot be resolved
    //
    //= https://www.rfc-editor.org/rfc/rfc6120#section-8.3.3.17
    //# the associated error type
    //# SHOULD be "wait" (unless the error is of a more permanent nature,
    //# e.g., the remote server is found but it cannot be authenticated or
    //# it violates security policies).
    pub(crate) fn refusal(&self, local: &Local<Domain>, remote: &Remote<Domain>) -> Refusal {
        match self {
            Self::Resolve(error) => resolve_refusal(error, remote),
            Self::Targets { failed } | Self::OutOfTime { failed, .. } => failed
                .iter()
                .map(|failed| &failed.error)
                .max_by_key(|error| error.weight())
                .map_or_else(|| silent(remote), |error| attempt_refusal(error, local, remote)),
            Self::Private { .. } => not_found(format!(
                "DNS has no public address for the XMPP server of {remote}; ask your administrator \
                 if that server is on a network of your own"
            )),
            Self::Unsteady { .. } => wait(format!(
                "the server of {remote} closes every connection at once; try again later"
            )),
        }
    }
}

impl AttemptError {
    /// How much an error tells: of several targets, the one that says most decides what the author
    /// reads. Who answered and was refused says more than who did not answer.
    pub(super) fn weight(&self) -> u8 {
        match self {
            Self::Connect(_) => 0,
            Self::Silent { .. } => 1,
            Self::Broken(_) => 2,
            Self::Tls(_) | Self::Dane { .. } => 3,
            Self::Closed(_) => 4,
            Self::Certificate(_) => 5,
        }
    }
}

fn resolve_refusal(error: &ResolveError, remote: &Remote<Domain>) -> Refusal {
    match error {
        ResolveError::NotFound(_) => not_found(format!(
            "DNS has no XMPP server for {remote}; check the spelling of the address"
        )),
        ResolveError::NoService(_) => {
            not_found(format!("{remote} says in DNS that it offers no XMPP service"))
        }
        ResolveError::NoAddress(_) => not_found(format!(
            "the XMPP server that DNS names for {remote} has no address; its administrator must \
             correct its DNS records"
        )),
        ResolveError::NoRoute(_) => not_found(format!(
            "the way to {remote} that is set up here has no address; ask your administrator"
        )),
        // `Failed`, and whatever may be added: DNS itself is in trouble.
        _ => wait(format!("DNS gives no answer about {remote} right now; try again later")),
    }
}

fn attempt_refusal(
    error: &AttemptError,
    local: &Local<Domain>,
    remote: &Remote<Domain>,
) -> Refusal {
    match error {
        AttemptError::Connect(_) => {
            wait(format!("the server of {remote} cannot be reached; try again later"))
        }
        AttemptError::Silent { .. } => silent(remote),
        AttemptError::Broken(_) => {
            wait(format!("the server of {remote} broke the connection off; try again later"))
        }
        AttemptError::Tls(_) => {
            wait(format!("no encrypted connection to {remote} could be made; try again later"))
        }
        AttemptError::Dane { .. } => wait(format!(
            "what DNS says about the certificate of {remote} cannot be verified; try again later"
        )),
        AttemptError::Certificate(fault) => cancel(certificate_text(fault, remote)),
        AttemptError::Closed(reason) => closed_refusal(reason, local, remote),
    }
}

fn closed_refusal(reason: &CloseReason, local: &Local<Domain>, remote: &Remote<Domain>) -> Refusal {
    match reason {
        CloseReason::PeerRefused(error) => match error.condition {
            StreamCondition::HostUnknown | StreamCondition::HostGone => not_found(format!(
                "the server that DNS names for {remote} does not serve that domain"
            )),
            StreamCondition::NotAuthorized | StreamCondition::PolicyViolation => {
                cancel(format!("{remote} refuses to exchange messages with {local}"))
            }
            _ => wait(format!("{remote} refused the connection; try again later")),
        },
        CloseReason::NoAgreement(_) => cancel(format!(
            "{remote} and {local} could not agree on how to prove their identity over an \
             encrypted connection"
        )),
        CloseReason::WeRefused(_) => {
            cancel(format!("the server of {remote} does not speak XMPP as it should"))
        }
        CloseReason::SetupTimeout | CloseReason::Idle => silent(remote),
        CloseReason::PeerClosed | CloseReason::Disconnected => {
            wait(format!("the server of {remote} closed the connection; try again later"))
        }
        CloseReason::Shutdown => going_down(),
    }
}

fn certificate_text(fault: &IdentityError, remote: &Remote<Domain>) -> String {
    let shown = format!("{remote} showed a certificate");
    match fault {
        IdentityError::NoCertificate => format!("{remote} showed no certificate"),
        IdentityError::Untrusted(ChainFault::Expired) => {
            format!("{shown} that has expired; its administrator must renew it")
        }
        IdentityError::Untrusted(ChainFault::NotYetValid) => {
            format!("{shown} that is not valid yet; its administrator must check it")
        }
        IdentityError::Untrusted(ChainFault::SelfSigned) => format!(
            "{shown} that is self-signed; its administrator must get one from a trusted authority"
        ),
        IdentityError::Untrusted(ChainFault::UnknownIssuer) => {
            format!("{shown} from an authority that is not trusted here")
        }
        IdentityError::Untrusted(ChainFault::NotPinned { .. }) => format!(
            "{shown} whose key is not the one that was agreed on; its administrator and yours \
             must compare them"
        ),
        IdentityError::Untrusted(
            ChainFault::WrongPurpose
            | ChainFault::IsAuthority
            | ChainFault::Malformed(_)
            | ChainFault::Other(_),
        )
        | IdentityError::Unreadable => {
            format!("{shown} that cannot be used; its administrator must replace it")
        }
        IdentityError::Untrusted(ChainFault::NotInTlsa { .. }) => format!(
            "{shown} for which its signed DNS records do not speak; its administrator must correct \
             one or the other"
        ),
        IdentityError::NotNamed { .. } | IdentityError::Untrusted(ChainFault::TlsaName { .. }) => {
            format!("{shown} for another domain; its administrator must correct it")
        }
    }
}

/// What an author is told while we are stopping.
pub(super) fn going_down() -> Refusal {
    wait("the gateway is restarting; try again in a moment".into())
}

fn silent(remote: &Remote<Domain>) -> Refusal {
    wait(format!("the server of {remote} does not answer; try again later"))
}

fn not_found(text: String) -> Refusal {
    Refusal::new(ErrorKind::Cancel, StanzaCondition::RemoteServerNotFound, text)
}

fn wait(text: String) -> Refusal {
    Refusal::new(ErrorKind::Wait, StanzaCondition::RemoteServerTimeout, text)
}

/// Found, but of a permanent nature.
fn cancel(text: String) -> Refusal {
    Refusal::new(ErrorKind::Cancel, StanzaCondition::RemoteServerTimeout, text)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use gatehouse_resolve::{Host, Transport};
    use gatehouse_xmpp::StreamError;

    use super::*;
    use crate::outbound::failure::{FailedTarget, Stage};
    use crate::outbound::target::Target;

    fn failed(error: AttemptError) -> FailedTarget {
        FailedTarget {
            target: Target {
                host: Host::Name("inside.them.example".parse().unwrap()),
                address: "192.0.2.7:5269".parse().unwrap(),
                transport: Transport::StartTls,
            },
            error,
        }
    }

    fn refusal(failure: &DialFailure) -> Refusal {
        let local = Local("ours.example".parse().unwrap());
        let remote = Remote("them.example".parse().unwrap());
        failure.refusal(&local, &remote)
    }

    fn told(error: AttemptError) -> String {
        let refusal = refusal(&DialFailure::Targets { failed: vec![failed(error)] });
        assert!(!refusal.text.contains("192.0.2.7"), "{}", refusal.text);
        assert!(!refusal.text.contains("inside"), "{}", refusal.text);
        assert!(refusal.text.contains("them.example"), "{}", refusal.text);
        format!("{} {}: {}", refusal.kind.as_str(), refusal.condition.as_str(), refusal.text)
    }

    fn peer_refused(condition: StreamCondition) -> AttemptError {
        AttemptError::Closed(CloseReason::PeerRefused(StreamError::from(condition)))
    }

    fn untrusted(fault: ChainFault) -> AttemptError {
        AttemptError::Certificate(IdentityError::Untrusted(fault))
    }

    #[test]
    fn every_failure_has_a_sentence_for_the_author() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        for (error, want) in [
            (
                AttemptError::Connect(refused()),
                "wait remote-server-timeout: the server of them.example cannot be reached",
            ),
            (
                AttemptError::Silent { stage: Stage::Tls, timeout: Duration::from_secs(1) },
                "wait remote-server-timeout: the server of them.example does not answer",
            ),
            (
                AttemptError::Tls(refused()),
                "wait remote-server-timeout: no encrypted connection to them.example",
            ),
            (
                untrusted(ChainFault::Expired),
                "cancel remote-server-timeout: them.example showed a certificate that has expired; \
                 its administrator must renew it",
            ),
            (
                untrusted(ChainFault::SelfSigned),
                "cancel remote-server-timeout: them.example showed a certificate that is \
                 self-signed",
            ),
            (
                AttemptError::Certificate(IdentityError::NotNamed {
                    claim: Remote("them.example".parse().unwrap()),
                    names: vec!["inside.them.example".into()],
                }),
                "cancel remote-server-timeout: them.example showed a certificate for another \
                 domain",
            ),
            (
                peer_refused(StreamCondition::HostUnknown),
                "cancel remote-server-not-found: the server that DNS names for them.example does \
                 not serve",
            ),
            (
                peer_refused(StreamCondition::PolicyViolation),
                "cancel remote-server-timeout: them.example refuses to exchange messages with \
                 ours.example",
            ),
            (
                peer_refused(StreamCondition::ResourceConstraint),
                "wait remote-server-timeout: them.example refused the connection",
            ),
        ] {
            let told = told(error);
            assert!(told.starts_with(want), "{told}");
        }
    }

    #[test]
    fn dns_failures_tell_a_typing_error_from_an_outage() {
        let them = || "them.example".parse().unwrap();
        for (error, kind, condition, notable) in [
            (
                ResolveError::NotFound(them()),
                ErrorKind::Cancel,
                StanzaCondition::RemoteServerNotFound,
                false,
            ),
            (
                ResolveError::NoService(them()),
                ErrorKind::Cancel,
                StanzaCondition::RemoteServerNotFound,
                false,
            ),
            (
                ResolveError::NoAddress(them()),
                ErrorKind::Cancel,
                StanzaCondition::RemoteServerNotFound,
                true,
            ),
            (
                ResolveError::Failed { domain: them(), reason: "SERVFAIL from 10.0.0.1".into() },
                ErrorKind::Wait,
                StanzaCondition::RemoteServerTimeout,
                true,
            ),
        ] {
            let failure = DialFailure::Resolve(error);
            let refusal = refusal(&failure);
            assert_eq!((refusal.kind, refusal.condition), (kind, condition), "{failure:?}");
            assert_eq!(failure.is_notable(), notable, "{failure:?}");
            assert!(refusal.text.contains("them.example") && !refusal.text.contains("10.0.0.1"));
        }
    }

    #[test]
    fn an_inside_address_is_told_to_the_administrator_only() {
        let failure = DialFailure::Private {
            targets: vec![(
                Host::Name("inside.them.example".parse().unwrap()),
                "10.0.0.7:5269".parse().unwrap(),
            )],
        };
        let refusal = refusal(&failure);
        assert_eq!(refusal.condition, StanzaCondition::RemoteServerNotFound);
        assert!(!refusal.text.contains("10.0.0.7") && !refusal.text.contains("inside."));
        assert!(failure.is_notable());
        assert_eq!(failure.targets(), "inside.them.example at 10.0.0.7:5269");
        assert!(failure.to_string().contains("private-targets = true"), "{failure}");
    }

    #[test]
    fn of_several_targets_the_one_that_says_most_decides() {
        let failure = DialFailure::Targets {
            failed: vec![
                failed(untrusted(ChainFault::Expired)),
                failed(AttemptError::Connect(io::ErrorKind::ConnectionRefused.into())),
            ],
        };
        assert!(refusal(&failure).text.contains("expired"));
        let log = failure.targets();
        assert_eq!(
            log,
            "inside.them.example at 192.0.2.7:5269 by STARTTLS: certificate refused: the \
             certificate has expired; inside.them.example at 192.0.2.7:5269 by STARTTLS: TCP \
             connection failed: connection refused"
        );
    }

    #[test]
    fn out_of_time_before_any_target_answered_is_silence() {
        let timeout = Duration::from_secs(30);
        let failure = DialFailure::OutOfTime { failed: Vec::new(), timeout };
        assert!(refusal(&failure).text.contains("does not answer"));
    }
}

//! What an administrator does by hand when a partner cannot be reached: asks DNS, connects to every
//! target, shakes hands, reads the certificate, speaks the protocol up to the point where the first
//! message would go, and looks at our own records and certificate with the partner's eyes.
//!
//! Sends no stanza and no message of a user. Needs no running appliance; the same records, proofs
//! and policy decide here as there.

mod dane;
mod dns;
mod own;
mod report;
mod shake;
mod sip;
mod tap;
mod verdict;
mod xmpp;

use std::time::Duration;

use gatehouse_policy::{Policy, Protocol};
use gatehouse_resolve::Resolver;
use gatehouse_tls::Connector;
use gatehouse_types::{Domain, Local, Remote, Secret};
use tokio::time::Instant;

pub use self::own::OwnSide;
pub use self::report::{
    AddressReport, CertificateReport, DaneReport, DnsReport, Finding, OwnCheck, PolicyReport,
    ProbeReport, ProtocolReport, RuleReport, Severity, SipAnswer, SrvLine, SrvReport, Stage,
    TargetReport, TlsReport, TlsaLine, Turn, Verdict, XmppAnswer,
};
use crate::PrivateTargets;
use crate::random::Random;

/// How long one address may take, from TCP to the last answer.
const ADDRESS_MAX: Duration = Duration::from_secs(8);

/// What a probe works with.
#[derive(Debug)]
pub struct ProbeParts {
    /// As whom we ask.
    pub local: Local<Domain>,
    /// About whom.
    pub remote: Remote<Domain>,
    /// Which protocols are tried.
    pub protocols: ProbeProtocols,
    /// The policy.
    pub policy: Policy,
    /// DNS.
    pub resolver: Resolver,
    /// For STARTTLS, and for SIP (no ALPN).
    pub plain_connector: Connector,
    /// For direct TLS (ALPN `xmpp-server`).
    pub direct_connector: Connector,
    /// The secret of our edges; without it a partner that asks for dialback cannot be satisfied.
    pub dialback_secret: Option<Secret<Vec<u8>>>,
    /// Whether a partner's DNS may lead to addresses that are not on the public Internet.
    pub private_targets: PrivateTargets,
    /// What we would show.
    pub own: OwnSide,
    /// The wall clock, Unix seconds: certificates begin and end by it.
    pub unix_now: i64,
    /// How long all of it may take.
    pub total: Duration,
}

/// Which protocols are tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProbeProtocols {
    /// XMPP alone.
    Xmpp,
    /// SIP alone.
    Sip,
    /// Both, at the same time.
    Both,
}

/// The machine gives no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system's random generator does not work")]
pub struct ProbeError;

/// What every part of a probe needs.
pub(crate) struct Probe<'a> {
    parts: &'a ProbeParts,
    random: Random,
    deadline: Instant,
    progress: &'a (dyn Fn(String) + Sync),
}

/// Probes a partner. `progress` hears what is being done, a few words at a time.
pub async fn probe(
    parts: &ProbeParts,
    progress: &(dyn Fn(String) + Sync),
) -> Result<ProbeReport, ProbeError> {
    let random = Random::from_system().map_err(|_| ProbeError)?;
    let begun = Instant::now();
    let probe = Probe { parts, random, deadline: begun + parts.total, progress };
    let protocols = parts.protocols;
    let (xmpp, sip) = tokio::join!(
        async {
            match protocols {
                ProbeProtocols::Sip => None,
                ProbeProtocols::Xmpp | ProbeProtocols::Both => Some(xmpp::probe(&probe).await),
            }
        },
        async {
            match protocols {
                ProbeProtocols::Xmpp => None,
                ProbeProtocols::Sip | ProbeProtocols::Both => Some(sip::probe(&probe).await),
            }
        },
    );
    let chosen = match parts.policy.protocol(&parts.local, &parts.remote) {
        Ok(Protocol::Xmpp) => "xmpp",
        Ok(Protocol::Sip) => "sip",
        Ok(Protocol::XmppThenSip) => "xmpp, then sip",
        Err(_) => "none",
    };
    let verdict = verdict::of(chosen, xmpp.as_ref(), sip.as_ref());
    Ok(ProbeReport {
        domain: parts.remote.to_string(),
        as_domain: parts.local.to_string(),
        policy_protocol: chosen,
        xmpp,
        sip,
        verdict,
        took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

impl Probe<'_> {
    fn say(&self, what: String) {
        (self.progress)(what);
    }

    /// When an address that is begun now must be done.
    fn address_deadline(&self) -> Instant {
        self.deadline.min(Instant::now() + ADDRESS_MAX)
    }
}

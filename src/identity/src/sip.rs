//! Whom a SIP partner's certificate speaks for: RFC 5922, the rule of Microsoft's Access Edge, and
//! what an administrator entered by hand.

use std::fmt;

use gatehouse_types::{Domain, Remote};

use crate::certificate::parse;
use crate::{AuthenticatedPeer, CertificateNames, IdentityError, Presented};

/// Names of a certificate that an error repeats.
const NAMES_TOLD_MAX: usize = 8;

/// What the certificate of one connection says, read once; [`prove`](Self::prove) is asked for each
/// request, because one connection can carry requests of many domains.
#[derive(Clone, Debug)]
pub struct SipCertificate {
    read: Result<SipNames, IdentityError>,
}

/// The names that count, apart from the grounds they count on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct SipNames {
    /// `URI:sip:example.com` without a user part (RFC 5922 section 7.1).
    uri: Vec<Domain>,
    /// dNSName, never a wildcard.
    dns: Vec<Domain>,
    /// The common name, where there is no subjectAltName at all.
    common_name: Option<Domain>,
    /// As they stand in the certificate, for a log.
    shown: Vec<String>,
}

/// On what grounds a certificate may prove a domain. The answers of DNS are passed in.
#[derive(Clone, Copy, Debug)]
pub struct SipGrounds<'a> {
    /// The certificate names the domain itself (RFC 5922 section 7.2).
    pub rfc5922: bool,
    /// The certificate names a host that lies directly in the domain and that the domain's
    /// `_sipfederationtls._tcp` names (Microsoft's Access Edge).
    pub microsoft: bool,
    /// The one host that speaks for the domain, as the administrator entered it.
    pub direct: Option<&'a Domain>,
    /// A hosting provider's host, which speaks for every domain whose SRV record names it.
    pub provider: Option<&'a Domain>,
    /// Whether the common name counts where there is no subjectAltName at all.
    pub common_name: bool,
    /// The targets of the domain's `_sipfederationtls._tcp` records.
    pub srv_targets: &'a [Domain],
}

/// Why a certificate does not prove a SIP domain.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SipIdentityError {
    /// There is none, it is not trusted, or it cannot be read.
    #[error(transparent)]
    Certificate(IdentityError),
    /// It holds, but not for this domain.
    #[error("nothing proves that it speaks for {claim}: {}", told(reasons))]
    NotProved {
        /// Whom the peer claims to be.
        claim: Remote<Domain>,
        /// Each ground that was allowed, and what it lacked.
        reasons: Vec<Lacking>,
    },
}

/// A ground, and what it lacked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lacking {
    /// RFC 5922: the certificate names others.
    NotNamed {
        /// Whom it names.
        names: Vec<String>,
    },
    /// The Microsoft rule: the domain publishes no `_sipfederationtls._tcp`.
    NoSrv,
    /// The Microsoft rule: the SRV record names a host that does not lie directly in the domain.
    SrvOutside {
        /// That host.
        target: Domain,
    },
    /// The Microsoft rule: the SRV record names a host that the certificate does not name.
    SrvNotNamed {
        /// That host.
        target: Domain,
        /// Whom it names.
        names: Vec<String>,
    },
    /// A direct row: the certificate does not name its host.
    HostNotNamed {
        /// The host of the row.
        host: Domain,
        /// Whom it names.
        names: Vec<String>,
    },
    /// A provider row: the domain's SRV record does not name the provider.
    NotHosted {
        /// The host of the row.
        provider: Domain,
    },
    /// No ground is allowed.
    NoGround,
}

impl SipCertificate {
    /// Reads what was shown in a handshake.
    pub fn read(presented: &Presented) -> Self {
        let read = match presented {
            Presented::Verified(leaf) => {
                SipNames::from_der(leaf.der()).map_err(|_| IdentityError::Unreadable)
            }
            Presented::Untrusted { fault, .. } => Err(IdentityError::Untrusted(fault.clone())),
            // A pin speaks for an XMPP stream's one domain; SIP rows name hosts instead.
            Presented::Nothing | Presented::Vouched(_) => Err(IdentityError::NoCertificate),
        };
        Self { read }
    }

    /// The names in it, for a log; empty if it cannot be trusted.
    pub fn names(&self) -> &[String] {
        self.read.as_ref().map_or(&[], |names| &names.shown)
    }

    /// True if a chain to an authority that we trust stands behind it.
    pub fn is_trusted(&self) -> bool {
        self.read.is_ok()
    }

    /// True if it names this host (RFC 5922 section 7.2, without the common name): the connection may
    /// be used for what is sent to that host.
    pub fn names_host(&self, host: &Domain) -> bool {
        self.read.as_ref().is_ok_and(|names| names.names_host(host, false).is_some())
    }

    /// Checks that it speaks for `claim` on one of these grounds.
    pub fn prove(
        &self,
        claim: &Remote<Domain>,
        grounds: &SipGrounds<'_>,
    ) -> Result<AuthenticatedPeer, SipIdentityError> {
        let names = match &self.read {
            Ok(names) => names,
            Err(error) => return Err(SipIdentityError::Certificate(error.clone())),
        };
        let mut reasons = Vec::new();
        for attempt in [
            names.by_direct_row(grounds),
            names.by_provider_row(grounds),
            names.by_rfc5922(claim, grounds),
            names.by_srv(claim, grounds),
        ] {
            match attempt {
                None => {}
                Some(Ok(how)) => return Ok(AuthenticatedPeer::by_certificate(claim.clone(), how)),
                Some(Err(lacking)) => reasons.push(lacking),
            }
        }
        if reasons.is_empty() {
            reasons.push(Lacking::NoGround);
        }
        Err(SipIdentityError::NotProved { claim: claim.clone(), reasons })
    }
}

/// `None` where the ground is not allowed; else how it was proved, or what it lacked.
type Attempt = Option<Result<String, Lacking>>;

impl SipNames {
    fn from_der(der: &[u8]) -> Result<Self, crate::UnreadableCertificate> {
        let certificate = parse(der)?;
        let names = CertificateNames::of(&certificate)?;
        let has_names = matches!(certificate.subject_alternative_name(), Ok(Some(_)));
        let common_name = if has_names {
            None
        } else {
            let mut common_names = certificate.subject().iter_common_name();
            common_names.next().and_then(|name| plain_host(name.as_str().ok()?))
        };
        let uri: Vec<Domain> = names.uri.iter().filter_map(|uri| sip_identity(uri)).collect();
        let dns: Vec<Domain> = names.dns.iter().filter_map(|name| plain_host(name)).collect();
        let shown = names.uri.iter().chain(&names.dns).cloned();
        let shown = shown.chain(common_name.iter().map(|name| format!("CN={name}")));
        let shown = shown.take(NAMES_TOLD_MAX).collect();
        Ok(Self { uri, dns, common_name, shown })
    }

    /// RFC 5922 section 7.1: dNSName counts only where no SIP URI stands, the common name only
    /// where no subjectAltName stands (and policy takes it).
    fn names_host(&self, host: &Domain, common_name: bool) -> Option<String> {
        if !self.uri.is_empty() {
            return self.uri.contains(host).then(|| format!("URI sip:{host}"));
        }
        if self.dns.contains(host) {
            return Some(format!("dNSName {host}"));
        }
        (common_name && self.common_name.as_ref() == Some(host)).then(|| format!("CN {host}"))
    }

    /// As [`names_host`](Self::names_host), for the host of an SRV record or of a row: Microsoft
    /// looks at every name.
    fn names_target(&self, host: &Domain, common_name: bool) -> Option<String> {
        self.names_host(host, common_name)
            .or_else(|| self.dns.contains(host).then(|| format!("dNSName {host}")))
    }

    fn by_rfc5922(&self, claim: &Remote<Domain>, grounds: &SipGrounds<'_>) -> Attempt {
        grounds.rfc5922.then(|| {
            self.names_host(&claim.0, grounds.common_name)
                .ok_or_else(|| Lacking::NotNamed { names: self.shown.clone() })
        })
    }

    /// Microsoft: SRV(domain) = host, host = label.domain, the certificate names the host.
    fn by_srv(&self, claim: &Remote<Domain>, grounds: &SipGrounds<'_>) -> Attempt {
        grounds.microsoft.then(|| {
            let mut lacking = Lacking::NoSrv;
            for target in grounds.srv_targets {
                if target.parent().as_ref() != Some(&claim.0) {
                    lacking = Lacking::SrvOutside { target: target.clone() };
                    continue;
                }
                match self.names_target(target, grounds.common_name) {
                    Some(name) => return Ok(format!("{name}, which is its federation host")),
                    None => {
                        let (target, names) = (target.clone(), self.shown.clone());
                        lacking = Lacking::SrvNotNamed { target, names };
                    }
                }
            }
            Err(lacking)
        })
    }

    fn by_direct_row(&self, grounds: &SipGrounds<'_>) -> Attempt {
        grounds.direct.map(|host| match self.names_target(host, grounds.common_name) {
            Some(name) => Ok(format!("{name}, which policy names")),
            None => Err(Lacking::HostNotNamed { host: host.clone(), names: self.shown.clone() }),
        })
    }

    fn by_provider_row(&self, grounds: &SipGrounds<'_>) -> Attempt {
        grounds.provider.map(|host| {
            let Some(name) = self.names_target(host, grounds.common_name) else {
                return Err(Lacking::HostNotNamed {
                    host: host.clone(),
                    names: self.shown.clone(),
                });
            };
            if grounds.srv_targets.contains(host) {
                Ok(format!("{name}, which hosts it"))
            } else {
                Err(Lacking::NotHosted { provider: host.clone() })
            }
        })
    }
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNamed { names } => write!(f, "its certificate is for {}", list(names)),
            Self::NoSrv => f.write_str("the domain publishes no _sipfederationtls._tcp record"),
            Self::SrvOutside { target } => {
                write!(f, "its SRV record names {target}, which is not directly in the domain")
            }
            Self::SrvNotNamed { target, names } => {
                write!(f, "its SRV record names {target}, its certificate is for {}", list(names))
            }
            Self::HostNotNamed { host, names } => {
                write!(f, "policy asks for {host}, its certificate is for {}", list(names))
            }
            Self::NotHosted { provider } => {
                write!(f, "its SRV record does not name {provider}")
            }
            Self::NoGround => f.write_str("policy takes no proof for it"),
        }
    }
}

fn told(reasons: &[Lacking]) -> String {
    let reasons: Vec<String> = reasons.iter().map(Lacking::to_string).collect();
    reasons.join("; ")
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "no name that counts".to_owned() } else { names.join(", ") }
}

/// `sip:host`: no user, no port, no parameters, and no other scheme (RFC 5922 section 7.1).
fn sip_identity(uri: &str) -> Option<Domain> {
    let (scheme, host) = uri.split_at_checked(4)?;
    scheme.eq_ignore_ascii_case("sip:").then(|| plain_host(host)).flatten()
}

/// A name that is ASCII and no wildcard. Whatever else it may be is refused by [`Domain`].
fn plain_host(name: &str) -> Option<Domain> {
    (name.is_ascii() && !name.contains('*')).then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "stands in for the handshake")]
mod tests {
    use gatehouse_testkit::{Issue, San, TestCa};

    use super::*;
    use crate::{ChainFault, VerifiedLeaf};

    fn domain(name: &str) -> Domain {
        name.parse().unwrap()
    }

    fn certificate(names: &[San]) -> SipCertificate {
        let ca = TestCa::new();
        let issue = names.iter().fold(ca.issue(), |issue, name| issue.name(name.clone()));
        read(issue)
    }

    fn read(issue: Issue<'_>) -> SipCertificate {
        SipCertificate::read(&Presented::Verified(VerifiedLeaf::assertion(issue.make().der)))
    }

    const NONE: SipGrounds<'static> = SipGrounds {
        rfc5922: false,
        microsoft: false,
        direct: None,
        provider: None,
        common_name: false,
        srv_targets: &[],
    };

    fn verdict(certificate: &SipCertificate, claim: &str, grounds: &SipGrounds<'_>) -> String {
        match certificate.prove(&Remote(domain(claim)), grounds) {
            Ok(peer) => {
                assert_eq!(peer.domain().0, domain(claim));
                format!("yes: {:?}", peer.proof())
            }
            Err(error) => format!("no: {error}"),
        }
    }

    #[test]
    fn rfc5922_takes_uris_before_dns_names_and_no_wildcard() {
        let grounds = SipGrounds { rfc5922: true, ..NONE };
        let dns = |name: &str| San::Dns(name.to_owned());
        let uri = |name: &str| San::Uri(name.to_owned());
        let rows: [(&[San], bool); 10] = [
            (&[dns("them.example")], true),
            (&[uri("sip:them.example")], true),
            (&[uri("SIP:Them.Example"), dns("other.example")], true),
            // RFC 5922 section 7.1: where a SIP URI stands, no dNSName counts.
            (&[uri("sip:other.example"), dns("them.example")], false),
            (&[uri("sip:user@them.example")], false),
            (&[uri("sips:them.example")], false),
            (&[uri("https://them.example"), dns("them.example")], true),
            (&[dns("*.them.example")], false),
            (&[dns("*.example")], false),
            (&[dns("sub.them.example")], false),
        ];
        for (names, expected) in rows {
            let verdict = verdict(&certificate(names), "them.example", &grounds);
            assert_eq!(verdict.starts_with("yes"), expected, "{names:?}: {verdict}");
        }
    }

    #[test]
    fn the_common_name_counts_only_alone_and_where_policy_says_so() {
        let ca = TestCa::new();
        let alone = read(ca.issue().common_name("them.example"));
        let beside = read(ca.issue().common_name("them.example").dns("other.example"));
        let grounds = SipGrounds { rfc5922: true, ..NONE };
        assert!(verdict(&alone, "them.example", &grounds).starts_with("no"));
        let grounds = SipGrounds { common_name: true, ..grounds };
        assert!(verdict(&alone, "them.example", &grounds).starts_with("yes"));
        assert!(verdict(&beside, "them.example", &grounds).starts_with("no"));
    }

    #[test]
    fn microsofts_rule_wants_three_names_in_line() {
        let shown = certificate(&[San::Dns("sip.them.example".to_owned())]);
        let rows = [
            (vec!["sip.them.example"], "yes"),
            (vec!["other.them.example", "sip.them.example"], "yes"),
            (vec![], "no: nothing proves that it speaks for them.example: the domain publishes no"),
            (
                vec!["sip.sub.them.example"],
                "no: nothing proves that it speaks for them.example: its SRV record names \
                 sip.sub.them.example, which is not directly",
            ),
            (vec!["sip.other.example"], "no"),
            (
                vec!["edge.them.example"],
                "no: nothing proves that it speaks for them.example: its SRV record names \
                 edge.them.example, its certificate is for sip.them.example",
            ),
        ];
        for (targets, expected) in rows {
            let targets: Vec<Domain> = targets.into_iter().map(domain).collect();
            let grounds = SipGrounds { microsoft: true, srv_targets: &targets, ..NONE };
            let verdict = verdict(&shown, "them.example", &grounds);
            assert!(verdict.starts_with(expected), "{targets:?}: {verdict}");
        }
        // A certificate for the host says nothing about the neighbour.
        let targets = [domain("sip.them.example")];
        let grounds = SipGrounds { microsoft: true, srv_targets: &targets, ..NONE };
        assert!(verdict(&shown, "neighbour.example", &grounds).starts_with("no"));
    }

    #[test]
    fn a_provider_speaks_for_those_it_hosts_only() {
        let shown = certificate(&[San::Dns("sipfed.online.example".to_owned())]);
        let provider = domain("sipfed.online.example");
        let hosted = [provider.clone()];
        let grounds = SipGrounds { provider: Some(&provider), srv_targets: &hosted, ..NONE };
        assert!(verdict(&shown, "tenant.example", &grounds).starts_with("yes"));
        let grounds = SipGrounds { srv_targets: &[], ..grounds };
        assert_eq!(
            verdict(&shown, "victim.example", &grounds),
            "no: nothing proves that it speaks for victim.example: its SRV record does not name \
             sipfed.online.example"
        );
        let another = certificate(&[San::Dns("evil.example".to_owned())]);
        let grounds = SipGrounds { srv_targets: &hosted, ..grounds };
        assert!(verdict(&another, "tenant.example", &grounds).starts_with("no"));
    }

    #[test]
    fn a_direct_row_wants_its_host() {
        let host = domain("edge.elsewhere.example");
        let grounds = SipGrounds { direct: Some(&host), ..NONE };
        let shown = certificate(&[San::Dns("edge.elsewhere.example".to_owned())]);
        assert!(verdict(&shown, "them.example", &grounds).starts_with("yes"));
        let shown = certificate(&[San::Dns("them.example".to_owned())]);
        assert!(verdict(&shown, "them.example", &grounds).starts_with("no"));
    }

    #[test]
    fn no_certificate_and_a_bad_chain_prove_nothing() {
        let all = SipGrounds { rfc5922: true, microsoft: true, ..NONE };
        let nothing = SipCertificate::read(&Presented::Nothing);
        assert_eq!(verdict(&nothing, "them.example", &all), "no: no certificate was shown");
        let leaf = TestCa::new().issue().dns("them.example").make().der;
        let fault = ChainFault::Expired;
        let expired =
            SipCertificate::read(&Presented::Untrusted { leaf, issuers: [].into(), fault });
        assert!(!expired.is_trusted());
        assert_eq!(verdict(&expired, "them.example", &all), "no: the certificate has expired");
        let trusted = certificate(&[San::Dns("them.example".to_owned())]);
        assert!(verdict(&trusted, "them.example", &NONE).contains("policy takes no proof"));
    }
}

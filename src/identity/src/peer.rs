use gatehouse_types::{Domain, Remote};

use crate::{CertificateNames, Presented};

/// Names of a certificate that an error repeats.
const NAMES_TOLD_MAX: usize = 8;

/// How a peer proved its domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Proof {
    /// A verified certificate; the name in it that matched, such as `dNSName them.example`, or what
    /// vouches for it, such as `pinned key sha256:...`.
    Certificate {
        /// Kind and value of the name, for logs.
        name: String,
    },
    /// Dialback (XEP-0220): the domain's authoritative server confirmed the key.
    Dialback,
}

/// Proof that a peer speaks for a domain. Code that lets a stream through asks for it by value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthenticatedPeer {
    domain: Remote<Domain>,
    proof: Proof,
}

impl AuthenticatedPeer {
    /// Asserts that dialback for `domain` succeeded. Only gatehouse-xmpp's stream machines may.
    pub fn by_dialback(domain: Remote<Domain>) -> Self {
        Self { domain, proof: Proof::Dialback }
    }

    pub(crate) fn by_certificate(domain: Remote<Domain>, name: String) -> Self {
        Self { domain, proof: Proof::Certificate { name } }
    }

    /// The proven domain.
    pub fn domain(&self) -> &Remote<Domain> {
        &self.domain
    }

    /// How it was proved.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }
}

/// Why a certificate does not prove a domain.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdentityError {
    /// There is none.
    #[error("no certificate was shown")]
    NoCertificate,
    /// Its chain does not hold.
    #[error(transparent)]
    Untrusted(#[from] crate::ChainFault),
    /// It names others.
    #[error("{}", not_named(claim, names))]
    NotNamed {
        /// Whom the peer claims to be.
        claim: Remote<Domain>,
        /// Whom the certificate names (at most eight, for the log).
        names: Vec<String>,
    },
    /// It cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
}

/// Checks that `presented` proves that the peer speaks XMPP server-to-server for `claim`
/// (RFC 6120, section 13.7; RFC 9525): dNSName, SRVName `_xmpp-server`, xmppAddr; never CN.
pub fn prove(
    presented: &Presented,
    claim: &Remote<Domain>,
) -> Result<AuthenticatedPeer, IdentityError> {
    let leaf = match presented {
        Presented::Nothing => return Err(IdentityError::NoCertificate),
        Presented::Untrusted { fault, .. } => return Err(IdentityError::Untrusted(fault.clone())),
        Presented::Verified(leaf) => leaf,
        Presented::Vouched(vouched) if vouched.claim() == claim => {
            let name = vouched.how().to_owned();
            return Ok(AuthenticatedPeer {
                domain: claim.clone(),
                proof: Proof::Certificate { name },
            });
        }
        Presented::Vouched(vouched) => {
            let names = vec![vouched.claim().to_string()];
            return Err(IdentityError::NotNamed { claim: claim.clone(), names });
        }
    };
    let names = CertificateNames::from_der(leaf.der()).map_err(|_| IdentityError::Unreadable)?;
    match names.xmpp_server_match(&claim.0) {
        Some(name) => {
            Ok(AuthenticatedPeer { domain: claim.clone(), proof: Proof::Certificate { name } })
        }
        None => Err(IdentityError::NotNamed {
            claim: claim.clone(),
            names: names.sample(NAMES_TOLD_MAX),
        }),
    }
}

fn not_named(claim: &Remote<Domain>, names: &[String]) -> String {
    if names.is_empty() {
        format!(
            "the certificate has no name that counts (subjectAltName: DNS, SRVName or xmppAddr; \
             the CN does not), so it is not for {claim}"
        )
    } else {
        format!("the certificate is for {}, not for {claim}", names.join(", "))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "stands in for the handshake")]
mod tests {
    use gatehouse_testkit::{Issue, San, TestCa};

    use super::*;
    use crate::{ChainFault, VerifiedLeaf};

    fn claim(domain: &str) -> Remote<Domain> {
        Remote(domain.parse().unwrap())
    }

    fn attempt(issue: Issue<'_>, domain: &str) -> Result<AuthenticatedPeer, IdentityError> {
        prove(&Presented::Verified(VerifiedLeaf::assertion(issue.make().der)), &claim(domain))
    }

    /// The name that proved `domain`, if one did.
    fn proof(issue: Issue<'_>, domain: &str) -> Option<String> {
        let peer = attempt(issue, domain).ok()?;
        assert_eq!(peer.domain(), &claim(domain));
        match peer.proof() {
            Proof::Certificate { name } => Some(name.clone()),
            Proof::Dialback => None,
        }
    }

    #[test]
    fn each_kind_of_name_proves_its_domain_and_no_other() {
        let ca = TestCa::new();
        let kinds: [(San, &str); 5] = [
            (San::Dns("them.example".to_owned()), "dNSName them.example"),
            (San::Dns("THEM.Example.".to_owned()), "dNSName them.example."),
            (San::Srv("_xmpp-server.them.example".to_owned()), "SRVName _xmpp-server.them.example"),
            (
                San::SrvAsUtf8("_XMPP-Server.Them.example".to_owned()),
                "SRVName _XMPP-Server.Them.example",
            ),
            (San::Xmpp("Them.example".to_owned()), "xmppAddr Them.example"),
        ];
        for (san, told) in kinds {
            let issue = || ca.issue().name(san.clone());
            assert_eq!(proof(issue(), "them.example").as_deref(), Some(told));
            for other in ["example", "a.them.example", "them.example.evil", "hem.example"] {
                assert_eq!(proof(issue(), other), None, "{san:?} for {other}");
            }
        }
    }

    #[test]
    fn every_name_is_looked_at_whatever_stands_before_it() {
        let ca = TestCa::new();
        let many = |count: usize| {
            (0..count).fold(ca.issue().name(San::Junk(vec![4])), |issue, number| {
                issue.dns(&format!("n{number}.example"))
            })
        };
        assert!(proof(many(500).dns("them.example"), "them.example").is_some());
        assert!(proof(many(1500).dns("them.example"), "them.example").is_none(), "bounded");
    }

    #[test]
    fn internationalised_names_compare_as_a_labels() {
        let ca = TestCa::new();
        let a_label = || ca.issue().dns("xn--bcher-kva.example");
        assert!(proof(a_label(), "bücher.example").is_some());
        assert!(proof(a_label(), "bucher.example").is_none());
        assert!(proof(ca.issue().xmpp("BÜCHER.example"), "xn--bcher-kva.example").is_some());
        // A fullwidth letter becomes `t` under IDNA mapping. In a dNSName or SRVName, which are
        // ASCII, that must not happen.
        let mapped = "\u{ff54}hem.example";
        assert_eq!(mapped.parse::<Domain>(), "them.example".parse::<Domain>());
        let dns = San::RawDns(mapped.as_bytes().to_vec());
        assert!(proof(ca.issue().name(dns), "them.example").is_none());
        let srv = San::SrvAsUtf8(format!("_xmpp-server.{mapped}"));
        assert!(proof(ca.issue().name(srv), "them.example").is_none());
    }

    #[test]
    fn a_wildcard_stands_for_exactly_one_label() {
        let ca = TestCa::new();
        for (name, domain, matches) in [
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "xn--bcher-kva.example.com", true),
            ("*.example", "b.example", true),
            ("*.EXAMPLE.com.", "a.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("*", "example", false),
            ("*.", "example", false),
            ("*.*.com", "a.example.com", false),
            ("a*.example.com", "ab.example.com", false),
            ("*a.example.com", "ba.example.com", false),
            ("a.*.com", "a.example.com", false),
            ("**.example.com", "a.example.com", false),
        ] {
            assert_eq!(proof(ca.issue().dns(name), domain).is_some(), matches, "{name} {domain}");
        }
        // Only a dNSName can have one.
        assert!(proof(ca.issue().srv("_xmpp-server.*.example"), "b.example").is_none());
        assert!(proof(ca.issue().xmpp("*.example"), "b.example").is_none());
    }

    #[test]
    fn what_only_looks_like_the_name_proves_nothing() {
        let ca = TestCa::new();
        let domain = "them.example";
        let lookalikes = [
            ("CN", ca.issue().common_name(domain)),
            ("CN beside others", ca.issue().common_name(domain).dns("other.example")),
            ("NUL", ca.issue().dns("them.example\0.evil.example")),
            ("NUL at the end", ca.issue().dns("them.example\0")),
            ("NUL in xmppAddr", ca.issue().xmpp("them.example\0.evil.example")),
            ("space", ca.issue().dns(" them.example")),
            ("two dots", ca.issue().dns("them.example..")),
            ("client's SRVName", ca.issue().srv("_xmpp-client.them.example")),
            ("SIP's SRVName", ca.issue().srv("_sip.them.example")),
            ("bare SRVName", ca.issue().srv("them.example")),
            ("service alone", ca.issue().srv("_xmpp-server.")),
            ("service as dNSName", ca.issue().dns("_xmpp-server.them.example")),
            ("account", ca.issue().xmpp("admin@them.example")),
            ("resource", ca.issue().xmpp("them.example/x")),
            ("URI", ca.issue().uri("xmpp:them.example").uri("sip:them.example")),
            ("address", ca.issue().name(San::Ipv4([192, 0, 2, 1]))),
            ("nothing", ca.issue()),
        ];
        for (what, issue) in lookalikes {
            assert_eq!(proof(issue, domain), None, "{what}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let ca = TestCa::new();
        let them = claim("them.example");
        assert_eq!(prove(&Presented::Nothing, &them), Err(IdentityError::NoCertificate));

        let leaf = ca.issue_for("them.example").der;
        let expired = Presented::Untrusted { leaf, issuers: [].into(), fault: ChainFault::Expired };
        assert_eq!(prove(&expired, &them), Err(IdentityError::Untrusted(ChainFault::Expired)));

        let junk = Presented::Verified(VerifiedLeaf::assertion(b"junk".to_vec()));
        assert_eq!(prove(&junk, &them), Err(IdentityError::Unreadable));

        let other = attempt(ca.issue().dns("a.example").xmpp("a.example"), "b.example");
        assert_eq!(
            other.unwrap_err().to_string(),
            "the certificate is for a.example, not for b.example"
        );
        let none = attempt(ca.issue().common_name("b.example"), "b.example").unwrap_err();
        assert!(none.to_string().contains("the CN does not"), "{none}");
    }

    #[test]
    fn told_names_are_few_and_safe() {
        let ca = TestCa::new();
        let issue = (0..20).fold(ca.issue().dns("a\r\nINFO forged"), |issue, number| {
            issue.dns(&format!("{number}{}.example", "x".repeat(1000)))
        });
        let Err(IdentityError::NotNamed { names, .. }) = attempt(issue, "them.example") else {
            panic!("proved");
        };
        assert_eq!(names.len(), NAMES_TOLD_MAX);
        assert_eq!(names[0], "a\u{fffd}\u{fffd}info forged");
        assert!(names.iter().all(|name| name.chars().count() <= 301));
    }
}

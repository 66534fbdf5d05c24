use std::collections::HashSet;
use std::sync::Arc;

use gatehouse_identity::{AuthenticatedPeer, IdentityError, Presented};
use gatehouse_policy::{Channel, Conditions, Policy, Require, Tls};
use gatehouse_types::{Domain, Local, Remote};
use gatehouse_xmpp::s2s::{Authentication, Encryption, Gate, Terms};
use gatehouse_xmpp::{StreamCondition, StreamError};
use tokio::sync::watch;

/// Answers the stream machines from our domains and the policy in force.
#[derive(Debug)]
pub(crate) struct PolicyGate {
    domains: Arc<HashSet<Domain>>,
    policy: watch::Receiver<Arc<Policy>>,
}

impl PolicyGate {
    pub(crate) fn new(domains: Arc<HashSet<Domain>>, policy: watch::Receiver<Arc<Policy>>) -> Self {
        Self { domains, policy }
    }

    fn check_names(&self, from: &Remote<Domain>, to: &Local<Domain>) -> Result<(), StreamError> {
        if !self.serves(&to.0) {
            return Err(StreamError::new(
                StreamCondition::HostUnknown,
                format!("{to} is not served here"),
            ));
        }
        // Nobody outside speaks for us, whatever certificate or dialback answer there may be.
        if self.serves(&from.0) {
            return Err(StreamError::new(
                StreamCondition::InvalidFrom,
                format!("{from} is served here and does not come from outside"),
            ));
        }
        Ok(())
    }
}

impl Gate for PolicyGate {
    fn serves(&self, domain: &Domain) -> bool {
        self.domains.contains(domain)
    }

    fn terms(&self, from: &Remote<Domain>, to: &Local<Domain>) -> Result<Terms, StreamError> {
        self.check_names(from, to)?;
        let conditions = self.policy.borrow().conditions(to, from);
        conditions.map(|conditions| terms(&conditions)).map_err(|_| not_allowed(from, to))
    }

    fn prove(
        &self,
        presented: &Presented,
        from: &Remote<Domain>,
        to: &Local<Domain>,
    ) -> Result<AuthenticatedPeer, IdentityError> {
        self.policy.borrow().prove(to, from, presented)
    }

    fn admit(&self, peer: &AuthenticatedPeer, to: &Local<Domain>) -> Result<String, StreamError> {
        self.check_names(peer.domain(), to)?;
        // The machine keeps to the terms about encryption, and the session asks about it again.
        let permit = self.policy.borrow().decide(to, peer.clone(), Channel::Encrypted);
        permit.map(|permit| permit.rule().to_owned()).map_err(|_| not_allowed(peer.domain(), to))
    }
}

/// What the other side is told when policy says no: that it did, but never which rule.
pub(crate) fn not_allowed(remote: &Remote<Domain>, local: &Local<Domain>) -> StreamError {
    StreamError::new(
        StreamCondition::PolicyViolation,
        format!("{local} does not federate with {remote} in this way"),
    )
}

/// Policy's words in those of the stream machines.
pub(crate) fn terms(conditions: &Conditions) -> Terms {
    Terms {
        authentication: match conditions.require {
            Require::Certificate => Authentication::Certificate,
            Require::CertificateOrDialback => Authentication::CertificateOrDialback,
        },
        encryption: match conditions.tls {
            Tls::Required => Encryption::Required,
            Tls::Optional => Encryption::Optional,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatehouse_policy::Pattern;

    fn gate() -> PolicyGate {
        let mut policy = Policy::open_with_certificate();
        let mut old = policy.rules[0].clone();
        old.name = "old".into();
        old.remote = vec!["old.example".parse::<Pattern>().unwrap()];
        old.require = Require::CertificateOrDialback;
        let mut bad = old.clone();
        bad.name = "bad".into();
        bad.remote = vec!["bad.example".parse::<Pattern>().unwrap()];
        bad.action = gatehouse_policy::Action::Block;
        policy.rules.splice(0..0, [old, bad]);
        let (sender, policy) = watch::channel(Arc::new(policy));
        drop(sender);
        let domains = ["ours.example", "also.example"].map(|name| name.parse().unwrap());
        PolicyGate::new(Arc::new(HashSet::from(domains)), policy)
    }

    fn pair(from: &str, to: &str) -> (Remote<Domain>, Local<Domain>) {
        (Remote(from.parse().unwrap()), Local(to.parse().unwrap()))
    }

    #[test]
    fn a_partner_learns_what_it_must_show() {
        let (from, to) = pair("them.example", "ours.example");
        let terms = gate().terms(&from, &to).unwrap();
        assert_eq!(terms.authentication, Authentication::Certificate);
        assert_eq!(terms.encryption, Encryption::Required);
        let (from, to) = pair("old.example", "ours.example");
        let terms = gate().terms(&from, &to).unwrap();
        assert_eq!(terms.authentication, Authentication::CertificateOrDialback);
    }

    #[test]
    fn others_learn_only_that_it_is_not_allowed() {
        for (from, to, want) in [
            ("them.example", "elsewhere.example", StreamCondition::HostUnknown),
            ("ours.example", "ours.example", StreamCondition::InvalidFrom),
            ("also.example", "ours.example", StreamCondition::InvalidFrom),
            ("bad.example", "ours.example", StreamCondition::PolicyViolation),
        ] {
            let (from, to) = pair(from, to);
            let error = gate().terms(&from, &to).unwrap_err();
            assert_eq!(error.condition, want, "{from} to {to}");
            assert!(!error.to_string().contains("rule"), "{error}");
        }
    }

    #[test]
    fn dialback_admits_only_where_policy_says_so() {
        let admit = |from: &str| {
            let (from, to) = pair(from, "ours.example");
            gate().admit(&AuthenticatedPeer::by_dialback(from), &to)
        };
        assert_eq!(admit("old.example"), Ok("old".to_owned()));
        for from in ["them.example", "bad.example"] {
            assert_eq!(admit(from).unwrap_err().condition, StreamCondition::PolicyViolation);
        }
        assert_eq!(admit("also.example").unwrap_err().condition, StreamCondition::InvalidFrom);
    }
}

use std::num::NonZeroU32;

use gatehouse_identity::{AuthenticatedPeer, IdentityError, KeyPin, Presented, Proof, prove};
use gatehouse_types::{Domain, Local, Remote};

use crate::{Action, Policy, Require, Route, Tls};

/// What a pair of domains must do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conditions {
    /// The proof.
    pub require: Require,
    /// The encryption.
    pub tls: Tls,
    /// Where it is, in the order to try; empty means that DNS says so.
    pub route: Vec<Route>,
    /// The keys that prove it instead of a chain of trust; empty means the chain.
    pub pins: Vec<KeyPin>,
    /// How many stanzas a second we take from this partner, if the rule says so.
    pub stanzas_per_second: Option<NonZeroU32>,
    /// The rule that says so.
    pub rule: String,
}

/// Leave to exchange traffic between two domains. [`Policy::decide`] is the only constructor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Permit {
    rule: String,
    local: Local<Domain>,
    peer: AuthenticatedPeer,
    stanzas_per_second: Option<NonZeroU32>,
}

/// What carries a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Channel {
    /// TCP as it is.
    Plain,
    /// TLS.
    Encrypted,
}

/// Why not.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Denial {
    /// No rule speaks of this partner.
    #[error("no policy rule allows {remote}")]
    NoRule {
        /// The partner.
        remote: Remote<Domain>,
    },
    /// A rule refuses this partner.
    #[error("policy rule `{rule}` blocks {remote}")]
    Blocked {
        /// The partner.
        remote: Remote<Domain>,
        /// The rule.
        rule: String,
    },
    /// The proof is too weak.
    #[error("policy rule `{rule}` asks {remote} for a certificate, and it only did dialback")]
    ProofTooWeak {
        /// The partner.
        remote: Remote<Domain>,
        /// The rule.
        rule: String,
    },
    /// The stream is not encrypted.
    #[error("policy rule `{rule}` asks {remote} for TLS, and the stream is not encrypted")]
    NotEncrypted {
        /// The partner.
        remote: Remote<Domain>,
        /// The rule.
        rule: String,
    },
}

impl Policy {
    /// What `remote` must do to talk to `local`, before anything is dialled or offered.
    pub fn conditions(
        &self,
        local: &Local<Domain>,
        remote: &Remote<Domain>,
    ) -> Result<Conditions, Denial> {
        let Some(rule) = self.rules.iter().find(|rule| rule.speaks_of(local, remote)) else {
            return Err(Denial::NoRule { remote: remote.clone() });
        };
        match rule.action {
            Action::Block => {
                Err(Denial::Blocked { remote: remote.clone(), rule: rule.name.clone() })
            }
            Action::Allow => Ok(Conditions {
                require: rule.require,
                tls: rule.tls,
                route: rule.route.clone(),
                pins: rule.pin.clone(),
                stanzas_per_second: rule.stanzas_per_second,
                rule: rule.name.clone(),
            }),
        }
    }

    /// What `presented` proves about `remote`, by the keys that the rule for this pair of domains
    /// pins; by its chain where there are none.
    pub fn prove(
        &self,
        local: &Local<Domain>,
        remote: &Remote<Domain>,
        presented: &Presented,
    ) -> Result<AuthenticatedPeer, IdentityError> {
        match self.rules.iter().find(|rule| rule.speaks_of(local, remote)) {
            Some(rule) if !rule.pin.is_empty() => {
                prove(&presented.under_pins(remote, &rule.pin), remote)
            }
            _ => prove(presented, remote),
        }
    }

    /// Decides about a proven peer on such a stream.
    pub fn decide(
        &self,
        local: &Local<Domain>,
        peer: AuthenticatedPeer,
        channel: Channel,
    ) -> Result<Permit, Denial> {
        let Conditions { rule, stanzas_per_second, .. } =
            self.judge(local, peer.domain(), peer.proof(), channel)?;
        Ok(Permit { rule, local: local.clone(), peer, stanzas_per_second })
    }

    fn judge(
        &self,
        local: &Local<Domain>,
        remote: &Remote<Domain>,
        proof: &Proof,
        channel: Channel,
    ) -> Result<Conditions, Denial> {
        let conditions = self.conditions(local, remote)?;
        if let (Tls::Required, Channel::Plain) = (conditions.tls, channel) {
            return Err(Denial::NotEncrypted { remote: remote.clone(), rule: conditions.rule });
        }
        match (conditions.require, proof) {
            (Require::Certificate | Require::CertificateOrDialback, Proof::Certificate { .. })
            | (Require::CertificateOrDialback, Proof::Dialback) => Ok(conditions),
            (Require::Certificate, Proof::Dialback) => {
                Err(Denial::ProofTooWeak { remote: remote.clone(), rule: conditions.rule })
            }
        }
    }
}

impl Denial {
    /// A label for metrics: one of a closed set.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoRule { .. } => "no-rule",
            Self::Blocked { .. } => "blocked",
            Self::ProofTooWeak { .. } => "proof-too-weak",
            Self::NotEncrypted { .. } => "not-encrypted",
        }
    }
}

impl Permit {
    /// The rule that allowed it.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Our domain.
    pub fn local(&self) -> &Local<Domain> {
        &self.local
    }

    /// The partner, proven.
    pub fn peer(&self) -> &AuthenticatedPeer {
        &self.peer
    }

    /// How many stanzas a second we take from this partner, if the rule says so.
    pub fn stanzas_per_second(&self) -> Option<NonZeroU32> {
        self.stanzas_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [[rule]]
        name = "banned"
        remote = ["*.evil.example", "evil.example"]
        action = "block"

        [[rule]]
        name = "partner"
        remote = ["them.example"]
        local = ["ours.example"]
        stanzas-per-second = 50

        [[rule]]
        name = "old partner"
        remote = ["*.old.example"]
        require = "certificate-or-dialback"
        tls = "optional"
    "#;

    fn policy() -> Policy {
        toml::from_str(POLICY).unwrap()
    }

    fn ours(name: &str) -> Local<Domain> {
        Local(name.parse().unwrap())
    }

    fn theirs(name: &str) -> Remote<Domain> {
        Remote(name.parse().unwrap())
    }

    fn certificate() -> Proof {
        Proof::Certificate { name: "dNSName them.example".into() }
    }

    #[test]
    fn a_partner_with_a_certificate_is_allowed() {
        let answer = policy()
            .judge(
                &ours("ours.example"),
                &theirs("them.example"),
                &certificate(),
                Channel::Encrypted,
            )
            .unwrap();
        assert_eq!(
            (answer.rule.as_str(), answer.stanzas_per_second.map(NonZeroU32::get), answer.tls),
            ("partner", Some(50), Tls::Required)
        );
    }

    #[test]
    fn a_partner_is_denied_when_any_one_thing_is_missing() {
        for (local, remote, proof, missing) in [
            ("ours.example", "them.example", Proof::Dialback, "certificate"),
            ("other.example", "them.example", certificate(), "our domain"),
            ("ours.example", "sub.them.example", certificate(), "exact name"),
            ("ours.example", "them.example.evil", certificate(), "exact name, other end"),
        ] {
            let answer = policy().judge(&ours(local), &theirs(remote), &proof, Channel::Encrypted);
            assert!(answer.is_err(), "{missing}: {answer:?}");
        }
    }

    #[test]
    fn dialback_is_enough_only_where_a_rule_says_so() {
        let dialback = |remote: &str| {
            let peer = AuthenticatedPeer::by_dialback(theirs(remote));
            policy().decide(&ours("ours.example"), peer, Channel::Encrypted)
        };
        let permit = dialback("chat.old.example").unwrap();
        assert_eq!(
            (permit.rule(), permit.local(), permit.peer().domain(), permit.stanzas_per_second()),
            ("old partner", &ours("ours.example"), &theirs("chat.old.example"), None)
        );
        assert_eq!(
            dialback("them.example"),
            Err(Denial::ProofTooWeak {
                remote: theirs("them.example"),
                rule: "partner".to_owned()
            })
        );
    }

    #[test]
    fn plain_tcp_is_enough_only_where_a_rule_says_so() {
        let mut policy = policy();
        let plain = |policy: &Policy| {
            let peer = AuthenticatedPeer::by_dialback(theirs("chat.old.example"));
            policy.decide(&ours("ours.example"), peer, Channel::Plain)
        };
        assert!(plain(&policy).is_ok());
        policy.rules[2].tls = Tls::Required;
        let denial = plain(&policy).unwrap_err();
        assert!(matches!(&denial, Denial::NotEncrypted { rule, .. } if rule == "old partner"));
        assert_eq!(denial.as_str(), "not-encrypted");
    }

    #[test]
    fn the_first_matching_rule_wins() {
        let blocked = |policy: &Policy| {
            policy.conditions(&ours("ours.example"), &theirs("evil.example")).unwrap_err()
        };
        let mut rules = policy();
        rules.rules.extend(Policy::open_with_certificate().rules);
        assert!(matches!(blocked(&rules), Denial::Blocked { rule, .. } if rule == "banned"));
        rules.rules.rotate_right(1);
        let answer = rules.conditions(&ours("ours.example"), &theirs("evil.example")).unwrap();
        assert_eq!(answer.rule, "anyone with a certificate");
    }

    #[test]
    fn no_rule_means_no() {
        for policy in [Policy::default(), policy()] {
            let denial =
                policy.conditions(&ours("ours.example"), &theirs("stranger.example")).unwrap_err();
            assert_eq!(denial, Denial::NoRule { remote: theirs("stranger.example") });
        }
    }
}

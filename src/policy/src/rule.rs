use std::num::NonZeroU32;

use gatehouse_identity::KeyPin;
use gatehouse_types::{Domain, Local, Remote};
use serde::Deserialize;

use crate::{Pattern, Route, SipPartner};

/// The rules, first match wins; no rule means no. Read from TOML (`[[rule]]` tables).
///
/// Its default has no rules, so it denies everybody.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// In order.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
    /// SIP partners, in order (`[[sip]]` tables).
    #[serde(default)]
    pub sip: Vec<SipPartner>,
}

/// One rule: whom it speaks of and what it asks.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// Shown in logs and to the admin; each rule has its own.
    pub name: String,
    /// The partners it speaks of.
    pub remote: Vec<Pattern>,
    /// The domains of ours it speaks of; absent means all.
    #[serde(default)]
    pub local: Option<Vec<Domain>>,
    /// Yes or no.
    #[serde(default)]
    pub action: Action,
    /// What proves the partner.
    #[serde(default)]
    pub require: Require,
    /// Whether plain TCP may carry stanzas.
    #[serde(default)]
    pub tls: Tls,
    /// Where these partners are, in the order to try, instead of what DNS says; empty means DNS.
    #[serde(default)]
    pub route: Vec<Route>,
    /// Keys that prove these partners instead of a chain of trust; empty means the chain.
    #[serde(default)]
    pub pin: Vec<KeyPin>,
    /// How many stanzas a second we take from each of these partners; absent means that only the
    /// connection itself slows it.
    #[serde(default)]
    pub stanzas_per_second: Option<NonZeroU32>,
}

/// What a rule says to the domains it speaks of.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// They may federate once they have proved who they are.
    #[default]
    Allow,
    /// They may not.
    Block,
}

/// What must be shown before stanzas flow.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Require {
    /// A certificate that proves the domain.
    #[default]
    Certificate,
    /// The same, or dialback where the certificate proves nothing.
    CertificateOrDialback,
}

/// Whether TLS is needed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// TLS or nothing.
    #[default]
    Required,
    /// TLS where the partner offers it.
    Optional,
}

impl Policy {
    /// What holds when no policy was written: every domain that proves itself with a certificate,
    /// over TLS. The same as `policies/open-with-certificate.toml`.
    pub fn open_with_certificate() -> Self {
        Self {
            rules: vec![Rule {
                name: "anyone with a certificate".to_owned(),
                remote: vec![Pattern::Any],
                local: None,
                action: Action::Allow,
                require: Require::Certificate,
                tls: Tls::Required,
                route: Vec::new(),
                pin: Vec::new(),
                stanzas_per_second: None,
            }],
            sip: Vec::new(),
        }
    }
}

impl Rule {
    /// True if the rule speaks of this pair of domains.
    pub(crate) fn speaks_of(&self, local: &Local<Domain>, remote: &Remote<Domain>) -> bool {
        self.speaks_of_local(local) && self.remote.iter().any(|one| one.matches(&remote.0))
    }

    pub(crate) fn speaks_of_local(&self, local: &Local<Domain>) -> bool {
        self.local.as_ref().is_none_or(|ours| ours.contains(&local.0))
    }

    /// True if no pair of domains is left for `other` to speak of.
    pub(crate) fn leaves_nothing_to(&self, other: &Self) -> bool {
        self.scope().leaves_nothing_to(&other.scope())
    }

    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope { local: self.local.as_deref(), remote: &self.remote }
    }
}

/// The pairs of domains that a rule or a row speaks of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// `None` means all of ours.
    pub(crate) local: Option<&'a [Domain]>,
    pub(crate) remote: &'a [Pattern],
}

impl Scope<'_> {
    /// True if no pair of domains is left for `other` to speak of.
    pub(crate) fn leaves_nothing_to(&self, other: &Self) -> bool {
        let locals = match (self.local, other.local) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(others)) => others.iter().all(|domain| mine.contains(domain)),
        };
        locals
            && other.remote.iter().all(|narrow| self.remote.iter().any(|wide| wide.covers(narrow)))
    }

    /// A partner that both name by its name, for one of our domains at least.
    pub(crate) fn names_too(&self, other: &Self) -> Option<&Domain> {
        let meet = match (self.local, other.local) {
            (Some(mine), Some(others)) => others.iter().any(|domain| mine.contains(domain)),
            _ => true,
        };
        let named = |pattern: &Pattern| {
            matches!(pattern, Pattern::Exact(_)) && other.remote.contains(pattern)
        };
        self.remote.iter().filter(|pattern| meet && named(pattern)).find_map(
            |pattern| match pattern {
                Pattern::Exact(domain) => Some(domain),
                Pattern::Below(_) | Pattern::Any => None,
            },
        )
    }
}

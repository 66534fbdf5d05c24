//! Who may talk to whom, how it must prove itself, how much it may send; every answer with its
//! reason.
//!
//! Owns: the rules, the decision, the rates. Does not own: messages, sockets, the file's path.

use gatehouse_identity::AuthenticatedPeer;
use gatehouse_types::{Domain, Local, Remote};

/// The rules, first match wins; no rule means no. Read from TOML (`[[rule]]` tables).
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// In order.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
}

/// One rule: whom it speaks of and what it asks.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// Shown in logs and to the admin.
    pub name: String,
}

/// What must be shown before stanzas flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Require {
    /// A certificate that proves the domain.
    Certificate,
    /// The same, or dialback where the certificate proves nothing.
    CertificateOrDialback,
}

/// Whether TLS is needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tls {
    /// TLS or nothing.
    Required,
    /// TLS where the partner offers it.
    Optional,
}

/// What a pair of domains must do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conditions {
    /// The proof.
    pub require: Require,
    /// The encryption.
    pub tls: Tls,
    /// The rule that says so.
    pub rule: String,
}

/// Leave to exchange traffic between two domains. [`Policy::decide`] is the only constructor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Permit {
    rule: String,
    local: Local<Domain>,
    peer: AuthenticatedPeer,
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
}

impl Policy {
    /// What `remote` must do to talk to `local`, before anything is dialled or offered.
    pub fn conditions(
        &self,
        local: &Local<Domain>,
        remote: &Remote<Domain>,
    ) -> Result<Conditions, Denial> {
        let _ = (local, remote);
        todo!()
    }

    /// Decides about a proven peer.
    pub fn decide(&self, local: &Local<Domain>, peer: AuthenticatedPeer) -> Result<Permit, Denial> {
        let _ = (local, peer);
        todo!()
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
}

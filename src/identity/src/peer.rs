use gatehouse_types::{Domain, Remote};

use crate::Presented;

/// How a peer proved its domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Proof {
    /// A verified certificate; the name in it that matched, such as `dNSName them.example`.
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
    #[error("the certificate is for {}, not for {claim}", .names.join(", "))]
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
    let _ = (presented, claim, Proof::Certificate { name: String::new() });
    todo!()
}

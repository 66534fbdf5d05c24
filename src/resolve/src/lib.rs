//! A domain and a service to an ordered list of endpoints: SRV by priority and weight, A and AAAA.
//!
//! Wraps hickory-resolver; none of its types leave this crate.

use std::net::SocketAddr;

use gatehouse_types::Domain;

/// How an endpoint expects to be spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// TLS from the first byte (`_xmpps-server._tcp`, XEP-0368).
    DirectTls,
    /// STARTTLS (`_xmpp-server._tcp`, or the fallback port).
    StartTls,
}

/// One place to dial, in the order to try.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// The SRV target, or the domain itself.
    pub host: Domain,
    /// Its addresses with the port, in the order to try (at most eight).
    pub addresses: Vec<SocketAddr>,
    /// What to speak.
    pub transport: Transport,
}

/// Why there is nothing to dial.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The domain has neither SRV records nor an address.
    #[error("DNS has no XMPP server for {0}: neither SRV records nor an address")]
    NotFound(Domain),
    /// SRV with target `.` (RFC 2782).
    #[error("{0} says in DNS that it offers no XMPP service")]
    NoService(Domain),
    /// The resolver failed or gave no answer.
    #[error("DNS lookup for {domain} failed: {reason}")]
    Failed {
        /// For whom.
        domain: Domain,
        /// Why.
        reason: String,
    },
}

/// The resolver; cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver {}

impl Resolver {
    /// The system's resolver.
    pub fn system() -> Result<Self, ResolverSetupError> {
        todo!()
    }

    /// These name servers and no others.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, ResolverSetupError> {
        let _ = servers;
        todo!()
    }

    /// Where to dial for XMPP server-to-server with `domain`. `pick` in 0..=65535 per call draws the
    /// weights (RFC 2782); pass randomness.
    pub async fn xmpp_server(
        &self,
        domain: &Domain,
        pick: &mut (dyn FnMut(u32) -> u32 + Send),
    ) -> Result<Vec<Endpoint>, ResolveError> {
        let _ = (domain, pick);
        todo!()
    }
}

/// The resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the DNS resolver cannot be set up: {0}")]
pub struct ResolverSetupError(pub String);

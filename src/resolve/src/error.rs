use gatehouse_types::Domain;

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
    /// There are SRV records, but they lead nowhere.
    #[error("the SRV records of {0} name only hosts without an address")]
    NoAddress(Domain),
    /// Places were named instead of DNS, and none of their hosts has an address.
    #[error("no host of the route to {0} has an address")]
    NoRoute(Domain),
    /// The domain publishes no SIP service over TLS.
    #[error(
        "DNS has no SIP service for {0}: neither _sipfederationtls._tcp nor _sips._tcp records"
    )]
    NoSip(Domain),
    /// The resolver failed or gave no answer.
    #[error("DNS lookup for {domain} failed: {reason}")]
    Failed {
        /// For whom.
        domain: Domain,
        /// Why.
        reason: String,
    },
}

/// The resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the DNS resolver cannot be set up: {0}")]
pub struct ResolverSetupError(pub String);

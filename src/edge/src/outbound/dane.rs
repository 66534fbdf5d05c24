use gatehouse_identity::{Presented, TlsFacts, TlsaSet, prove};
use gatehouse_resolve::{Endpoint, Host, TlsaAnswer};
use gatehouse_tls::chains_to;
use gatehouse_types::{Domain, Remote};
use tracing::debug;

use super::dial::Call;
use super::failure::AttemptError;
use crate::shared::Edge;

impl Call {
    /// What DNSSEC proves about the certificate of an endpoint. Nothing where an administrator has
    /// said more: a pin names the key, a route takes DNS out of it.
    pub(super) async fn tlsa(
        &self,
        edge: &Edge,
        endpoint: &Endpoint,
    ) -> Result<Option<TlsaSet>, AttemptError> {
        if self.is_routed() || !self.pins.is_empty() {
            return Ok(None);
        }
        let (Host::Name(host), [first, ..]) = (&endpoint.host, endpoint.addresses.as_slice())
        else {
            return Ok(None);
        };
        let mut pick = |max| edge.random.up_to(max);
        let (remote, transport) = (&self.remote.0, endpoint.transport);
        match edge.resolver.tlsa(remote, host, first.port(), transport, &mut pick).await {
            TlsaAnswer::Insecure => Ok(None),
            TlsaAnswer::Failed(reason) => Err(AttemptError::Dane { reason }),
            TlsaAnswer::Secure(found) => {
                let found = found.into_iter().map(|one| {
                    debug!(
                        peer.domain = %remote, %host, usage = one.usage, selector = one.selector,
                        matching = one.matching, "signed TLSA record"
                    );
                    (one.usage, one.selector, one.matching, one.data)
                });
                Ok(TlsaSet::new(host.clone(), found))
            }
        }
    }
}

/// What the handshake told in the light of TLSA records: what the stream shall believe, and what to
/// keep for when policy or trust change. A certificate for which no record speaks ends the attempt,
/// whatever else policy would take.
pub(super) fn under_tlsa(
    facts: &TlsFacts,
    remote: &Remote<Domain>,
    tlsa: &TlsaSet,
) -> Result<(Presented, Presented), AttemptError> {
    let seen = facts.presented.under_tlsa(remote, tlsa, &chains_to);
    prove(&seen, remote).map_err(AttemptError::Certificate)?;
    // One that needs no DANE is judged by its chain again; any other stays proved, as by dialback.
    let enough = prove(&facts.presented, remote).is_ok();
    let kept = if enough { facts.presented.clone() } else { seen.clone() };
    Ok((seen, kept))
}

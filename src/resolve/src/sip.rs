use gatehouse_types::Domain;
use tokio::time::Instant;

use crate::lookup::{SrvAnswer, services_of};
use crate::order::in_order;
use crate::resolver::{ENDPOINTS_MAX, TOTAL_TIMEOUT};
use crate::{Endpoint, ResolveError, Resolver, Transport};

/// What Lync, Skype for Business and Office 365 publish for their partners.
const FEDERATION: &str = "_sipfederationtls";
/// What everybody else publishes (RFC 3263 section 4.1).
const SIPS: &str = "_sips";
/// The same over TCP without TLS; asked only for servers of the inside.
const SIP: &str = "_sip";

impl Resolver {
    /// Where to dial for SIP over TLS with `domain`, in the order to try: the targets of
    /// `_sipfederationtls._tcp`, or, where there is no such record, of `_sips._tcp`. Takes at most
    /// five seconds. `pick` as for [`xmpp_server`](Self::xmpp_server).
    pub async fn sip_server(
        &self,
        domain: &Domain,
        pick: &mut (dyn FnMut(u32) -> u32 + Send),
    ) -> Result<Vec<Endpoint>, ResolveError> {
        let deadline = Instant::now() + TOTAL_TIMEOUT;
        for service in [FEDERATION, SIPS] {
            let ask = services_of(&self.inner, service, Transport::DirectTls, domain, deadline);
            match ask.await {
                SrvAnswer::Absent => {}
                SrvAnswer::Found(found) => {
                    let mut ordered = in_order(found, pick);
                    ordered.truncate(ENDPOINTS_MAX);
                    return self.with_addresses(domain, ordered, deadline).await;
                }
                SrvAnswer::Refused => return Err(ResolveError::NoService(domain.clone())),
                SrvAnswer::Failed(reason) => {
                    return Err(ResolveError::Failed { domain: domain.clone(), reason });
                }
            }
        }
        Err(ResolveError::NoSip(domain.clone()))
    }

    /// Where a server of the inside is that SRV records name: the targets of `_sips._tcp` with
    /// [`Transport::DirectTls`], of `_sip._tcp` (TCP, and no TLS later) with
    /// [`Transport::StartTls`], in the order to try. Takes at most five seconds. `pick` as for
    /// [`xmpp_server`](Self::xmpp_server).
    pub async fn sip_service(
        &self,
        domain: &Domain,
        transport: Transport,
        pick: &mut (dyn FnMut(u32) -> u32 + Send),
    ) -> Result<Vec<Endpoint>, ResolveError> {
        let deadline = Instant::now() + TOTAL_TIMEOUT;
        let service = match transport {
            Transport::DirectTls => SIPS,
            Transport::StartTls => SIP,
        };
        match services_of(&self.inner, service, transport, domain, deadline).await {
            SrvAnswer::Found(found) => {
                let mut ordered = in_order(found, pick);
                ordered.truncate(ENDPOINTS_MAX);
                self.with_addresses(domain, ordered, deadline).await
            }
            SrvAnswer::Absent => Err(ResolveError::NoSip(domain.clone())),
            SrvAnswer::Refused => Err(ResolveError::NoService(domain.clone())),
            SrvAnswer::Failed(reason) => {
                Err(ResolveError::Failed { domain: domain.clone(), reason })
            }
        }
    }

    /// The hosts that the domain's `_sipfederationtls._tcp` records name, at most 16; what
    /// Microsoft's rule and a hosting provider's row ask about. Empty if it has none.
    pub async fn sip_federation_hosts(&self, domain: &Domain) -> Result<Vec<Domain>, ResolveError> {
        let deadline = Instant::now() + TOTAL_TIMEOUT;
        let transport = Transport::DirectTls;
        match services_of(&self.inner, FEDERATION, transport, domain, deadline).await {
            SrvAnswer::Found(found) => {
                let mut found = in_order(found, &mut |_| 0);
                found.truncate(ENDPOINTS_MAX);
                Ok(found.into_iter().map(|service| service.host).collect())
            }
            SrvAnswer::Absent | SrvAnswer::Refused => Ok(Vec::new()),
            SrvAnswer::Failed(reason) => {
                Err(ResolveError::Failed { domain: domain.clone(), reason })
            }
        }
    }
}

//! Who may say what to the gateway.

use gatehouse_sip::{Flow, Message, Method, NameAddr, Uri};
use gatehouse_types::Domain;
use tracing::{debug, warn};

use super::Inside;

/// Why a request of a peer is not taken: what it is answered.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::sip) struct Refused {
    pub(in crate::sip) status: u16,
    pub(in crate::sip) reason: &'static str,
}

impl Inside {
    /// Whether a request may reach the gateway. A domain that a trusted peer speaks for is never
    /// heard from an edge.
    pub(in crate::sip) fn admit(
        &mut self,
        flow: Flow,
        request: &Message,
        is_ours: impl Fn(&Domain) -> bool,
    ) -> Result<(), Refused> {
        let verdict = if Self::has(flow) {
            self.admit_peer(flow, request, is_ours)
        } else {
            self.admit_edge(request)
        };
        if let Err(refused) = &verdict {
            metrics::counter!("gatehouse_sip_inside_refused_total", "reason" => refused.reason)
                .increment(1);
            let line = self.lines.get_mut(&flow.id);
            let address = line.as_ref().and_then(|line| line.address);
            let first = line.is_some_and(|line| !std::mem::replace(&mut line.told, true));
            let from = request.from().ok().and_then(|from| from.uri.domain());
            let domain = from.map(|domain| domain.to_string()).unwrap_or_default();
            let Refused { status, reason } = refused;
            if first {
                warn!(
                    ?address,
                    peer.domain = domain,
                    status,
                    reason,
                    "refused a SIP request of the inside"
                );
            } else {
                debug!(
                    ?address,
                    peer.domain = domain,
                    status,
                    reason,
                    "refused a SIP request of the inside"
                );
            }
        } else if Self::has(flow) {
            metrics::counter!("gatehouse_sip_inside_requests_total").increment(1);
            // What follows in its dialog goes back the same way.
            if let Ok(call) = request.call_id() {
                self.calls.remember(call, flow.id);
            }
        }
        verdict
    }

    fn admit_edge(&self, request: &Message) -> Result<(), Refused> {
        let from = request.from().ok().and_then(|from| from.uri.domain());
        if from.is_some_and(|domain| self.settings.borrow().is_inside(&domain)) {
            return Err(Refused { status: 403, reason: "inside-domain" });
        }
        Ok(())
    }

    fn admit_peer(
        &self,
        flow: Flow,
        request: &Message,
        is_ours: impl Fn(&Domain) -> bool,
    ) -> Result<(), Refused> {
        let no = |status, reason| Err(Refused { status, reason });
        let settings = self.settings.borrow();
        let shown = self.lines.get(&flow.id).and_then(|line| line.shown.as_ref());
        let Some(peer) = shown.and_then(|shown| settings.peer(shown)) else {
            return no(403, "not-trusted");
        };
        let domain = |address: Result<NameAddr, _>| address.ok().and_then(|one| one.uri.domain());
        // Whether we live may be asked in no user's name.
        if request.method() == Some(Method::Options) {
            return Ok(());
        }
        let Some(from) = domain(request.from()) else { return no(403, "from") };
        // The router refuses what is From us, too; this says why.
        if !peer.domains.contains(&from) || is_ours(&from) {
            return no(403, "from");
        }
        if !domain(request.to()).is_some_and(|to| is_ours(&to)) {
            return no(404, "not-ours");
        }
        // An address is our own: it stands in our Contact.
        if request.uri().and_then(Uri::domain).is_some_and(|to| !is_ours(&to)) {
            return no(404, "not-ours");
        }
        Ok(())
    }
}

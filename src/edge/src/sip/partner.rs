//! Who is at the other end of a connection, asked for each request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use gatehouse_identity::{Presented, SipCertificate};
use gatehouse_net::now;
use gatehouse_policy::{Policy, SipPermit};
use gatehouse_types::{Chain, Domain, Local, Remote};

use super::answer::Refused;
use super::shared::SipEdge;

/// A proof is believed for so long: DNS has a say in it.
const BELIEVED: Duration = Duration::from_secs(300);
/// A refusal is kept shorter, so that a partner who has mended its DNS need not wait.
const REFUSED_FOR: Duration = Duration::from_secs(20);
/// Pairs of domains whose verdicts one connection keeps.
const VERDICTS_MAX: usize = 256;

/// What a connection's certificate proves, remembered per pair of domains while the policy stands.
#[derive(Debug)]
pub(crate) struct Partner {
    presented: Presented,
    fingerprint: Option<[u8; 32]>,
    verdicts: HashMap<(Domain, Domain), Verdict>,
    policy: Option<Arc<Policy>>,
    has_proved: bool,
}

#[derive(Debug)]
struct Verdict {
    until: Instant,
    outcome: Result<SipPermit, Refused>,
}

impl Partner {
    /// From what was shown in the handshake.
    pub(crate) fn new(presented: &Presented) -> Self {
        let presented = presented.clone();
        let fingerprint = presented
            .leaf()
            .and_then(|leaf| digest::digest(&digest::SHA256, leaf).as_ref().try_into().ok());
        Self { presented, fingerprint, verdicts: HashMap::new(), policy: None, has_proved: false }
    }

    /// SHA-256 of its certificate.
    pub(crate) fn fingerprint(&self) -> Option<[u8; 32]> {
        self.fingerprint
    }

    /// True if an authority that we trust stands behind its certificate.
    pub(crate) fn is_trusted(&self) -> bool {
        SipCertificate::read(&self.presented).is_trusted()
    }

    /// True once one of its requests was let in on this connection.
    pub(crate) fn has_proved(&self) -> bool {
        self.has_proved
    }

    /// Whether the peer may talk to `local` in the name of `remote`.
    pub(crate) async fn permit(
        &mut self,
        edge: &SipEdge,
        local: &Local<Domain>,
        remote: &Remote<Domain>,
    ) -> Result<SipPermit, Refused> {
        let policy = edge.policy();
        let is_same = self.policy.as_ref().is_some_and(|known| Arc::ptr_eq(known, &policy));
        if !is_same {
            self.verdicts.clear();
            self.policy = Some(Arc::clone(&policy));
        }
        let key = (local.0.clone(), remote.0.clone());
        if let Some(verdict) = self.verdicts.get(&key).filter(|verdict| verdict.until > now()) {
            return verdict.outcome.clone();
        }
        // Rare, and large: connections that wait must not make room for it.
        let outcome = Box::pin(self.judge(edge, &policy, local, remote)).await;
        if self.verdicts.len() >= VERDICTS_MAX {
            self.verdicts.clear();
        }
        self.has_proved |= outcome.is_ok();
        let kept = if outcome.is_ok() { BELIEVED } else { REFUSED_FOR };
        let verdict = Verdict { until: now() + kept, outcome: outcome.clone() };
        self.verdicts.insert(key, verdict);
        outcome
    }

    async fn judge(
        &self,
        edge: &SipEdge,
        policy: &Policy,
        local: &Local<Domain>,
        remote: &Remote<Domain>,
    ) -> Result<SipPermit, Refused> {
        let denied = |denial: &gatehouse_policy::Denial| {
            Refused::new(403, denial.as_str(), denial.to_string())
                .told(1012, "This domain is not allowed to communicate with the recipient")
        };
        let conditions = policy.sip_conditions(local, remote).map_err(|denial| denied(&denial))?;
        // It may have expired since the handshake, or its authority may be trusted no longer.
        let roots = edge.connector.roots();
        let certificate = SipCertificate::read(&roots.judge_again(&self.presented));
        // What holds without DNS needs no look-up, and lives through its failures.
        let peer = match certificate.prove(remote, &conditions.grounds(&[])) {
            Ok(peer) => Ok(peer),
            Err(_) if conditions.needs_srv() && certificate.is_trusted() => {
                let hosts = edge.resolver.sip_federation_hosts(&remote.0).await;
                let hosts = hosts.map_err(|error| {
                    Refused::new(504, "dns", Chain(&error).to_string())
                        .told(1008, "The sender's federation record cannot be resolved")
                })?;
                certificate.prove(remote, &conditions.grounds(&hosts))
            }
            Err(error) => Err(error),
        };
        let peer = peer.map_err(|error| {
            Refused::new(403, "not-proved", Chain(&error).to_string())
                .told(1010, "The certificate does not prove the sender's domain")
        })?;
        policy.decide_sip(local, peer).map_err(|denial| denied(&denial))
    }
}

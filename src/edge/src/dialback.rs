//! The receiving server's question to the authoritative server (XEP-0220, section 2.1.2).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use gatehouse_net::{Source, now};
use gatehouse_policy::Require;
use gatehouse_types::Domain;
use gatehouse_xmpp::s2s::{DialbackAnswer, DialbackQuestion, Purpose};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time;
use tracing::{debug, info};

use crate::lanes::Lanes;
use crate::outbound::dial::{Call, Outcome};
use crate::shared::Edge;

/// Dialback keys that are verified at the same time: over all streams, of those from one source,
/// and of those for one domain. So neither a stranger with many names nor one slow domain keeps
/// the others waiting.
const VERIFICATIONS_MAX: usize = 128;
const PER_SOURCE_MAX: usize = 16;
const PER_DOMAIN_MAX: usize = 32;

/// How long a key waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// The turns of all keys that are verified.
#[derive(Debug)]
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    sources: Lanes<Source>,
    domains: Lanes<Domain>,
}

/// The turn of one key, for as long as it is held.
type Turn = [OwnedSemaphorePermit; 3];

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(VERIFICATIONS_MAX)),
            sources: Lanes::new(PER_SOURCE_MAX),
            domains: Lanes::new(PER_DOMAIN_MAX),
        }
    }

    /// Waits for the turn of a key for `domain` that came from `address`, but not for long.
    async fn take(&self, address: IpAddr, domain: &Domain) -> Option<Turn> {
        let turn = async {
            let source = self.sources.enter(Source::of(address)).await?;
            let domain = self.domains.enter(domain.clone()).await?;
            let any = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some([source, domain, any])
        };
        time::timeout(TURN_TIMEOUT, turn).await.ok().flatten()
    }
}

/// Asks the server that DNS names for the originating domain whether it made this key, which came
/// from `address`.
///
/// A domain that policy refuses is not dialled, so that nobody can make us dial whom they like.
pub(crate) async fn verify(
    edge: &Edge,
    address: IpAddr,
    question: &DialbackQuestion,
) -> DialbackAnswer {
    let DialbackQuestion { originating, receiving, .. } = question;
    let conditions = match edge.policy().conditions(receiving, originating) {
        Ok(conditions) if conditions.require == Require::CertificateOrDialback => conditions,
        Ok(_) | Err(_) => {
            debug!(peer.domain = %originating, "dialback key not verified: policy does not ask for it");
            return DialbackAnswer::Unreachable("dialback is not accepted here".into());
        }
    };
    if edge.serves(&originating.0) || !edge.serves(&receiving.0) {
        return DialbackAnswer::Unreachable("dialback is not accepted here".into());
    }
    let Some(_turn) = edge.verifications.take(address, &originating.0).await else {
        metrics::counter!("gatehouse_s2s_dialback_busy_total").increment(1);
        debug!(peer.domain = %originating, "dialback key not verified: too many are being verified");
        return DialbackAnswer::Busy;
    };
    let purpose = Purpose::VerifyKey(question.clone());
    let call = Call::new(receiving.clone(), originating.clone(), purpose, conditions);
    // The answer must come while the stream that waits for it is still being set up.
    let timeout = edge.config.connect_timeout.min(edge.config.limits.setup_timeout);
    match time::timeout(timeout, call.dial(edge)).await {
        Ok(Ok(Outcome::Verdict { valid: true })) => DialbackAnswer::Valid,
        Ok(Ok(Outcome::Verdict { valid: false })) => {
            tell(edge, address, || {
                info!(peer.domain = %originating, "the authoritative server denies the dialback key");
            });
            DialbackAnswer::Invalid
        }
        Ok(Ok(Outcome::Open(_))) => {
            DialbackAnswer::Unreachable("the authoritative server gave no answer".into())
        }
        Ok(Err(failure)) => {
            tell(edge, address, || {
                info!(peer.domain = %originating, targets = %failure.targets(), "dialback key not verified: {failure}");
            });
            DialbackAnswer::Unreachable(failure.refusal(&call.local, &call.remote).text)
        }
        Err(_) => {
            DialbackAnswer::Unreachable(format!("the server of {originating} does not answer"))
        }
    }
}

/// Writes a line that a stranger can cause, unless it has caused many.
fn tell(edge: &Edge, address: IpAddr, line: impl FnOnce()) {
    if edge.peer_warnings.may_warn(address, now()) {
        line();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        name.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_with_many_names_waits_alone() {
        let turns = Turns::new();
        let (stranger, partner) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut taken = Vec::new();
        for number in 0..PER_SOURCE_MAX {
            let name = domain(&format!("d{number}.example"));
            taken.push(turns.take(stranger, &name).await.unwrap());
        }
        assert!(turns.take(stranger, &domain("more.example")).await.is_none());
        assert!(turns.take(partner, &domain("them.example")).await.is_some());
        let more = domain("more.example");
        let (turn, ()) = tokio::join!(turns.take(stranger, &more), async {
            time::sleep(TURN_TIMEOUT / 2).await;
            taken.pop();
        });
        assert!(turn.is_some(), "who waits gets the next turn");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_domain_does_not_take_every_turn() {
        let turns = Turns::new();
        let mut taken = Vec::new();
        for number in 0..PER_DOMAIN_MAX {
            let address = IpAddr::from([192, 0, 2, u8::try_from(number).unwrap()]);
            taken.push(turns.take(address, &domain("slow.example")).await.unwrap());
        }
        let other = "198.51.100.1".parse().unwrap();
        assert!(turns.take(other, &domain("slow.example")).await.is_none());
        assert!(turns.take(other, &domain("them.example")).await.is_some());
    }
}

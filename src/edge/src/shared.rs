use std::collections::HashSet;
use std::sync::Arc;

use gatehouse_identity::{IdentityError, Proof, TlsFacts, TlsVersion};
use gatehouse_net::{Source, Tasks};
use gatehouse_policy::{Channel, PeerRate, Permit, Policy};
use gatehouse_resolve::Resolver;
use gatehouse_telemetry::Streams;
use gatehouse_tls::{Acceptor, Connector};
use gatehouse_trunk::TrunkSender;
use gatehouse_types::{Domain, Local};
use gatehouse_xmpp::Stanza;
use gatehouse_xmpp::s2s::{InitiatorConfig, ReceiverConfig};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::EdgeConfig;
use crate::bounce::Bounce;
use crate::dialback::Turns;
use crate::outbound::Returns;
use crate::places::Places;
use crate::random::Random;
use crate::warnings::Warnings;

/// What all streams of the edge share.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) config: EdgeConfig,
    pub(crate) domains: Arc<HashSet<Domain>>,
    pub(crate) policy: watch::Receiver<Arc<Policy>>,
    pub(crate) receiver: Arc<ReceiverConfig>,
    pub(crate) initiator: Arc<InitiatorConfig>,
    pub(crate) starttls_acceptor: Acceptor,
    pub(crate) direct_acceptor: Acceptor,
    pub(crate) starttls_connector: Connector,
    pub(crate) direct_connector: Connector,
    pub(crate) resolver: Resolver,
    pub(crate) streams: Streams,
    pub(crate) core: TrunkSender,
    /// Stanzas of our own for partners: answers to authors whose stanza the core cannot take.
    pub(crate) answers: mpsc::Sender<Stanza>,
    /// Errors for authors of ours.
    pub(crate) bounces: mpsc::Sender<Bounce>,
    pub(crate) rate: PeerRate,
    pub(crate) random: Random,
    /// Open streams from each domain outside.
    pub(crate) inbound_streams: Places<Domain>,
    /// Inbound streams that take stanzas, too (XEP-0288).
    pub(crate) returns: Arc<Returns>,
    /// Cancelled once nothing more will be queued for partners: streams send what there is and leave.
    pub(crate) drained: CancellationToken,
    /// Dialback keys that are being verified at the same time.
    pub(crate) verifications: Turns,
    pub(crate) peer_warnings: Warnings<Source>,
    pub(crate) domain_warnings: Warnings<Domain>,
    pub(crate) tasks: Tasks,
}

impl Edge {
    /// True if `domain` is one of ours.
    pub(crate) fn serves(&self, domain: &Domain) -> bool {
        self.domains.contains(domain)
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    /// Whether what the peer of `permit` showed in the handshake still proves it, by the authorities
    /// and the pinned keys of now. What was proved by other means than a certificate stays proved.
    pub(crate) fn still_proves(
        &self,
        policy: &Policy,
        permit: &Permit,
        facts: Option<&TlsFacts>,
    ) -> Result<(), IdentityError> {
        match (permit.peer().proof(), facts) {
            (Proof::Certificate { .. }, Some(facts)) => {
                let presented = self.direct_connector.roots().judge_again(&facts.presented);
                policy.prove(permit.local(), permit.peer().domain(), &presented).map(drop)
            }
            (Proof::Certificate { .. } | Proof::Dialback, _) => Ok(()),
        }
    }

    /// One of our domains, if `domain` is.
    pub(crate) fn as_local(&self, domain: &Domain) -> Option<Local<Domain>> {
        self.serves(domain).then(|| Local(domain.clone()))
    }
}

/// Waits until another policy is in force; for ever once nobody can change it any more.
pub(crate) async fn policy_changed(policy: &mut watch::Receiver<Arc<Policy>>) -> Arc<Policy> {
    if policy.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    Arc::clone(&policy.borrow_and_update())
}

/// The TLS version of a stream, if there is TLS.
pub(crate) fn version(facts: Option<&TlsFacts>) -> Option<TlsVersion> {
    facts.map(|facts| facts.version)
}

/// What carries a stream, in policy's words.
pub(crate) fn channel(version: Option<TlsVersion>) -> Channel {
    if version.is_some() { Channel::Encrypted } else { Channel::Plain }
}

/// How a peer proved itself, as the status shows it.
pub(crate) fn proof_text(proof: &Proof) -> String {
    match proof {
        Proof::Certificate { name } => format!("EXTERNAL ({name})"),
        Proof::Dialback => "dialback".to_owned(),
    }
}

/// The same of a stream that may carry stanzas in both directions.
pub(crate) fn stream_proof_text(proof: &Proof, bidi: bool) -> String {
    let text = proof_text(proof);
    if bidi { format!("{text}, bidi") } else { text }
}

/// The TLS version, as the status shows it.
pub(crate) fn version_text(version: Option<TlsVersion>) -> &'static str {
    match version {
        Some(TlsVersion::Tls12) => "TLSv1.2",
        Some(TlsVersion::Tls13) => "TLSv1.3",
        None => "",
    }
}

use std::net::SocketAddr;

use gatehouse_identity::{AuthenticatedPeer, TlsVersion};
use gatehouse_net::Connection;
use gatehouse_types::{Domain, Local, Remote};
use gatehouse_xmpp::s2s::{Purpose, S2sInitiator, Terms};
use tokio::time;
use tracing::debug;

use super::failure::{DialFailure, FailedTarget};
use super::target::{Attempt, Target};
use crate::shared::Edge;

/// Whom to dial, as whom, and for what.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) local: Local<Domain>,
    pub(crate) remote: Remote<Domain>,
    pub(crate) purpose: Purpose,
    pub(crate) terms: Terms,
}

/// What a call came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A stream that takes stanzas.
    Open(Box<OpenStream>),
    /// The authoritative server's answer about a dialback key.
    Verdict {
        /// True if it made the key.
        valid: bool,
    },
}

/// A stream that takes stanzas.
#[derive(Debug)]
pub(crate) struct OpenStream {
    pub(crate) connection: Connection<S2sInitiator>,
    pub(crate) peer: AuthenticatedPeer,
    pub(crate) host: Domain,
    pub(crate) address: SocketAddr,
    pub(crate) version: Option<TlsVersion>,
}

impl Call {
    /// Tries every target that DNS names, one after the other, until one answers or the time is
    /// up. Any failure, silence included, moves on to the next target.
    pub(crate) async fn dial(&self, edge: &Edge) -> Result<Outcome, DialFailure> {
        let mut failed = Vec::new();
        let tried = self.try_all(edge, &mut failed);
        match time::timeout(edge.config.connect_timeout, tried).await {
            Ok(Some(Ok(outcome))) => Ok(outcome),
            Ok(Some(Err(failure))) => Err(failure),
            Ok(None) => Err(DialFailure::Targets { failed }),
            Err(_) => Err(DialFailure::OutOfTime { failed, timeout: edge.config.connect_timeout }),
        }
    }

    /// `None` if every target failed.
    async fn try_all(
        &self,
        edge: &Edge,
        failed: &mut Vec<FailedTarget>,
    ) -> Option<Result<Outcome, DialFailure>> {
        let mut pick = |max| edge.random.up_to(max);
        let endpoints = match edge.resolver.xmpp_server(&self.remote.0, &mut pick).await {
            Ok(endpoints) => endpoints,
            Err(error) => return Some(Err(DialFailure::Resolve(error))),
        };
        let mut kept_out = Vec::new();
        for endpoint in endpoints {
            for address in endpoint.addresses {
                let host = endpoint.host.clone();
                if !edge.config.private_targets.let_pass(address.ip()) {
                    metrics::counter!("gatehouse_s2s_private_targets_total").increment(1);
                    debug!(peer.domain = %self.remote, peer.addr = %address, %host, "not dialled: a private address");
                    kept_out.push((host, address));
                    continue;
                }
                let target = Target { host, address, transport: endpoint.transport };
                match Attempt::new(edge, self, &target).run().await {
                    Ok(outcome) => return Some(Ok(outcome)),
                    Err(error) => {
                        let failure = FailedTarget { target, error };
                        debug!(peer.domain = %self.remote, peer.addr = %address, "{failure}");
                        failed.push(failure);
                    }
                }
            }
        }
        if failed.is_empty() && !kept_out.is_empty() {
            return Some(Err(DialFailure::Private { targets: kept_out }));
        }
        None
    }
}

use std::net::SocketAddr;
use std::sync::Arc;

use gatehouse_identity::{TlsFacts, prove};
use gatehouse_net::BoxedIo;
use gatehouse_types::{Chain, Domain, Remote};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::link::{self, LinkEnd, QUEUE_LEN_MAX};
use super::queue::Queue;
use super::{FromNode, SipEdgeEnd, SipNodes};
use crate::TrunkObserver;
use crate::dispatch::Dispatch;

/// Lets core nodes in that ask for SIP on the trunk's port, and nobody else.
pub(crate) struct SipDoor {
    cores: Vec<Domain>,
    nodes: SipNodes,
    incoming: mpsc::Sender<FromNode>,
    observer: Arc<dyn TrunkObserver>,
    stop: CancellationToken,
}

impl SipDoor {
    /// The edge's end for these cores, which say over `dispatch` what they serve.
    pub(crate) fn new(
        cores: Vec<Domain>,
        dispatch: Arc<Dispatch>,
        observer: Arc<dyn TrunkObserver>,
        stop: CancellationToken,
    ) -> (Self, SipEdgeEnd) {
        let (sender, incoming) = mpsc::channel(QUEUE_LEN_MAX);
        let nodes = SipNodes::announced_on(dispatch, &cores, Arc::clone(&observer));
        let end = SipEdgeEnd { nodes: nodes.clone(), incoming };
        (Self { cores, nodes, incoming: sender, observer, stop }, end)
    }

    /// Serves one connection after its handshake, until it ends. Fails, in words for the log, if
    /// the peer is none of the cores.
    pub(crate) async fn serve(
        &self,
        io: BoxedIo,
        facts: &TlsFacts,
        address: SocketAddr,
    ) -> Result<(), String> {
        let mut refusal = "no core is allowed".to_owned();
        let mut known = self.cores.iter().filter(|core| {
            match prove(&facts.presented, &Remote(Domain::clone(core))) {
                Ok(_) => true,
                Err(error) => {
                    refusal = Chain(&error).to_string();
                    false
                }
            }
        });
        let Some(core) = known.next() else { return Err(refusal) };
        let name: Arc<str> = core.as_str().into();
        let (sender, mut queue) = mpsc::channel(QUEUE_LEN_MAX);
        let id = self.nodes.up(Arc::clone(&name), Queue::Wire(sender));
        info!(peer.node = %name, peer.addr = %address, "SIP link of a core is up");
        let observer = &*self.observer;
        observer.up(&name, &address.to_string(), facts.version.as_str());
        let end = link::run(io, &name, &mut queue, &self.incoming, observer, &self.stop).await;
        self.nodes.down(&name, id);
        // A newer link of this node stands in its place.
        if !matches!(end, LinkEnd::Replaced) {
            observer.down(&name, &end.to_string());
        }
        info!(peer.node = %name, reason = %Chain(&end), "SIP link of a core is down");
        Ok(())
    }
}

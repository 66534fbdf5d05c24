use gatehouse_identity::AuthenticatedPeer;
use gatehouse_types::{Domain, Local};

/// Pairs of domains that one stream may serve, those that wait for a dialback answer included.
pub(super) const PAIRS_MAX: usize = 50;

/// Keys of one stream that somebody is asked about at the same time. Each makes us dial a domain
/// of the peer's choice, before it has proved anything.
pub(super) const QUESTIONS_MAX: usize = 8;

/// The pairs of domains that are open on one stream (XEP-0220, multiplexing).
#[derive(Debug, Default)]
pub(super) struct Pairs(Vec<(AuthenticatedPeer, Local<Domain>)>);

impl Pairs {
    pub(super) fn insert(&mut self, peer: AuthenticatedPeer, local: Local<Domain>) {
        if !self.contains(&peer.domain().0, &local.0) {
            self.0.push((peer, local));
        }
    }

    pub(super) fn contains(&self, from: &Domain, to: &Domain) -> bool {
        self.0.iter().any(|(peer, local)| peer.domain().0 == *from && local.0 == *to)
    }

    /// Whether `from` was proved on this stream, for whatever domain of ours.
    pub(super) fn proves(&self, from: &Domain) -> bool {
        self.0.iter().any(|(peer, _)| peer.domain().0 == *from)
    }

    /// The domain of ours that `from` was opened for first.
    pub(super) fn local_for(&self, from: &Domain) -> Option<&Local<Domain>> {
        self.0.iter().find(|(peer, _)| peer.domain().0 == *from).map(|(_, local)| local)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

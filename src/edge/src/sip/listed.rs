use std::net::SocketAddr;

use gatehouse_identity::TlsVersion;
use gatehouse_policy::SipPermit;
use gatehouse_telemetry::{StreamHandle, StreamInfo, StreamKind, StreamState};

use super::connection::Slowed;
use super::shared::SipEdge;
use crate::shared::proof_text;

/// A connection's place in the status: the partner it last spoke for, and how that was proved. One
/// connection can speak for many.
#[derive(Debug)]
pub(crate) struct Listed {
    handle: StreamHandle,
    shown: Option<(String, String)>,
    proof: String,
}

impl Listed {
    pub(crate) fn of(
        edge: &SipEdge,
        kind: StreamKind,
        address: SocketAddr,
        tls: TlsVersion,
    ) -> Self {
        let handle = edge.streams.open(StreamInfo {
            kind,
            id: edge.random.id(),
            local: String::new(),
            peer: String::new(),
            address: address.to_string(),
            tls: tls.as_str().to_owned(),
            authentication: String::new(),
            // Nothing is proved yet.
            state: StreamState::Opening,
        });
        Self { handle, shown: None, proof: String::new() }
    }

    /// The peer proved a domain.
    pub(crate) fn proved(&mut self, permit: &SipPermit) {
        let now = (permit.local().to_string(), permit.peer().domain().to_string());
        if self.shown.as_ref() == Some(&now) {
            return;
        }
        let proof = proof_text(permit.peer().proof());
        self.handle.update(|info| {
            (info.local, info.peer) = now.clone();
            info.authentication.clone_from(&proof);
            info.state = StreamState::Open;
        });
        self.shown = Some(now);
        self.proof = proof;
    }

    /// The partner gets our requests slower than they come, or does so no more.
    pub(crate) fn slowed(&self, slowed: Slowed) {
        let text = match slowed {
            Slowed::Over => self.proof.clone(),
            Slowed::To { per_second, waiting } => {
                format!("{}; sent {per_second:.1} a second, {waiting} wait", self.proof)
            }
        };
        self.handle.update(|info| info.authentication = text);
    }

    pub(crate) fn received(&self) {
        self.handle.stanza_in();
    }

    pub(crate) fn sent(&self) {
        self.handle.stanza_out();
    }

    /// The last thing that was refused on it.
    pub(crate) fn refused(&self, reason: &str) {
        self.handle.note_error(reason);
    }
}

//! Client-to-server streams, the server's side (RFC 6120).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gatehouse_identity::TlsFacts;
use gatehouse_types::{Domain, Jid, Local, Machine, Secret, StreamId, StreamLimits};

use crate::sasl::ScramKeys;
use crate::stream::CloseReason;
use crate::{Entry, Seed, Stanza, StanzaCondition, StreamError};

/// What all client streams share.
#[derive(Clone, Debug)]
pub struct C2sConfig {
    /// Our domains: a header to any other gets `host-unknown`.
    pub domains: Vec<Local<Domain>>,
    /// Bounds.
    pub limits: StreamLimits,
    /// Makes the salt that an unknown user is shown, the same one each time.
    pub decoy_secret: Secret<Vec<u8>>,
}

/// What a client's machine tells its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum C2sEvent {
    /// A client wants to log in: answer with [`C2sServer::credentials`].
    Credentials {
        /// The bare address of the account that it names, prepared.
        account: Jid,
    },
    /// A try failed; for the log and the rate limits.
    AuthenticationFailed {
        /// The account, as far as it was named.
        account: Option<Jid>,
        /// The SASL condition, such as `not-authorized`.
        condition: &'static str,
        /// The mechanism.
        mechanism: String,
    },
    /// The client proved to be this account.
    Authenticated {
        /// Bare.
        account: Jid,
        /// The mechanism.
        mechanism: String,
    },
    /// The client wants a resource: answer with [`C2sServer::bind`] or [`C2sServer::refuse_bind`].
    Bind {
        /// The resource that it asks for.
        resource: Option<String>,
    },
    /// A stanza from the bound client; `from` is its full address, `to` as it came.
    Stanza(Stanza),
    /// The stream is over.
    Closed(CloseReason),
}

/// One client's stream.
///
/// The machine does TLS, SASL and binding, stamps `from` on every stanza and refuses stanzas
/// before binding. It answers nothing else: routing is the owner's.
pub struct C2sServer {}

impl C2sServer {
    /// A connection that has just been accepted.
    pub fn new(config: Arc<C2sConfig>, entry: Entry, seed: Seed, now: Instant) -> Self {
        let _ = (config, entry, seed, now);
        todo!()
    }

    /// The upgrade that [`Machine::wants_upgrade`] asked for is done.
    pub fn handle_tls(&mut self, facts: TlsFacts, now: Instant) {
        let _ = (facts, now);
        todo!()
    }

    /// The stored keys of the account, or an empty list if there is no such account (the client
    /// cannot tell the difference).
    pub fn credentials(&mut self, keys: Vec<ScramKeys>, now: Instant) {
        let _ = (keys, now);
        todo!()
    }

    /// Binds the session to this full address.
    pub fn bind(&mut self, full: Jid, now: Instant) {
        let _ = (full, now);
        todo!()
    }

    /// Refuses the resource that was asked for; the client may try again.
    pub fn refuse_bind(&mut self, condition: StanzaCondition, text: &str, now: Instant) {
        let _ = (condition, text, now);
        todo!()
    }

    /// Writes a stanza to the bound client.
    pub fn send(&mut self, stanza: &Stanza, now: Instant) {
        let _ = (stanza, now);
        todo!()
    }

    /// Ends the stream with `error` (`conflict`, `system-shutdown`, ...).
    pub fn close_with(&mut self, error: StreamError, now: Instant) {
        let _ = (error, now);
        todo!()
    }

    /// The domain of the client's header, once it came: which certificate to show.
    pub fn requested_domain(&self) -> Option<&Local<Domain>> {
        todo!()
    }

    /// The id of the current stream.
    pub fn stream_id(&self) -> &StreamId {
        todo!()
    }
}

impl Machine for C2sServer {
    type Event = C2sEvent;

    fn handle_data(&mut self, _data: &[u8], _now: Instant) {
        todo!()
    }

    fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }

    fn handle_eof(&mut self, _now: Instant) {
        todo!()
    }

    fn handle_shutdown(&mut self, _now: Instant) {
        todo!()
    }

    fn poll_event(&mut self) -> Option<C2sEvent> {
        todo!()
    }

    fn poll_transmit(&mut self) -> Option<Bytes> {
        todo!()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    fn wants_upgrade(&self) -> bool {
        todo!()
    }

    fn is_closed(&self) -> bool {
        todo!()
    }
}

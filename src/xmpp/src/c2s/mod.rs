//! Client-to-server streams, the server's side (RFC 6120).

mod features;
mod inline;
mod liveness;
mod login;
mod management;
mod negotiation;
mod server;
mod session;
mod state;
#[cfg(test)]
mod tests;
mod welcome;

use gatehouse_types::{Domain, Jid, Local, Secret, StreamLimits};

pub use self::inline::{BindWish, Granted, GrantedSession, Wishes};
pub use self::server::C2sServer;
use crate::Stanza;
use crate::sasl::TokenMechanism;
use crate::stream::CloseReason;

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
    /// A client wants to log in: answer with [`C2sServer::credentials`] or
    /// [`C2sServer::credentials_unavailable`].
    Credentials {
        /// The bare address of the account that it names, prepared.
        account: Jid,
    },
    /// An installation of a client logs in with a token: answer with [`C2sServer::tokens`] or
    /// [`C2sServer::credentials_unavailable`].
    Token {
        /// The bare address of the account that it names, prepared.
        account: Jid,
        /// The installation; the client's word for it.
        client: String,
        /// What the tokens must be good for.
        mechanism: TokenMechanism,
    },
    /// Who proved to be that account wants something at once: answer with [`C2sServer::grant`].
    Wishes(Box<Wishes>),
    /// A try failed; for the log and the rate limits.
    AuthenticationFailed {
        /// The account, as far as it was named.
        account: Option<Jid>,
        /// The SASL condition, such as `not-authorized`.
        condition: &'static str,
        /// The mechanism; empty if the client named none that there could be.
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
    /// The server's own answer to a stanza of a managed stream: to be sent like any other stanza, so
    /// that it is counted.
    Reply(Stanza),
    /// The client wants its stream managed (XEP-0198): answer with [`C2sServer::manage`].
    EnableManagement {
        /// It wants to be able to come back.
        resume: bool,
        /// After how many seconds at most.
        seconds: Option<u64>,
    },
    /// The client wants a session of before back: answer with [`C2sServer::resume`] or
    /// [`C2sServer::refuse_resume`].
    Resume {
        /// Its name.
        id: String,
        /// How many stanzas of it the client has.
        h: u32,
    },
    /// The client asks how much was handled: answer with [`C2sServer::acknowledge`]. All stanzas
    /// before it were reported before it.
    AckRequested,
    /// The client has so many stanzas, modulo 2^32.
    Acked {
        /// The number.
        h: u32,
    },
    /// Somebody looks at the client, or nobody does (XEP-0352).
    ClientState {
        /// Somebody does.
        active: bool,
    },
    /// The stream is over.
    Closed(CloseReason),
}

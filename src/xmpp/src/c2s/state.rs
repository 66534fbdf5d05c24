use gatehouse_types::{Domain, Jid, Local};

use super::inline::Wishes;
use super::liveness::Liveness;
use crate::ns;
use crate::sasl::{AwaitProof, Mechanism, Opening, TokenFirst};

/// How far a client's stream has come. Each state holds what is true in it.
pub(super) enum State {
    /// A stream header comes next.
    AwaitHeader(Stage),
    /// Told to encrypt first.
    AwaitStartTls { domain: Local<Domain>, failures: u8 },
    /// Told to go ahead; the owner shakes hands. Nothing may be written in clear any more.
    Upgrading { domain: Local<Domain> },
    /// Encrypted; must prove who it is.
    AwaitAuth(Login),
    /// Chose a mechanism and sent nothing with it.
    AwaitInitial { login: Login, mechanism: Mechanism },
    /// Said who it is; the owner looks up the keys.
    AwaitKeys { login: Login, opening: Opening },
    /// Showed that it has a token; the owner looks up which there are.
    AwaitTokens { login: Login, first: TokenFirst },
    /// Challenged.
    AwaitProof { login: Login, account: Jid, mechanism: Mechanism, proof: AwaitProof },
    /// Authenticated, and wants more at once; the owner decides. `proof` is ours.
    AwaitGrant { session: Session, proof: Option<Vec<u8>> },
    /// Authenticated; must bind a resource.
    AwaitBind(Session),
    /// Asked for a resource; the owner decides.
    AwaitResource { session: Session, id: Option<String> },
    /// Asked for a session of before; the owner looks for it.
    AwaitResume(Session),
    /// Open for stanzas.
    Bound(Bound),
    /// Over.
    Closed,
}

/// Which of the streams on one connection a header opens.
pub(super) enum Stage {
    /// The first one on plain TCP.
    Clear,
    /// The first one inside TLS.
    Encrypted {
        /// What the header before TLS asked for, if there was one.
        domain: Option<Local<Domain>>,
        /// Keying material (RFC 9266).
        exporter: Option<[u8; 32]>,
    },
    /// The one after authentication.
    Authenticated(Session),
}

/// A stream on which a client may authenticate.
pub(super) struct Login {
    pub(super) domain: Local<Domain>,
    pub(super) exporter: Option<[u8; 32]>,
    /// Tries that failed.
    pub(super) failures: u8,
    /// What else the client wants; only of a try that goes on in the extended way (XEP-0388).
    pub(super) wishes: Option<Box<Wishes>>,
}

impl Login {
    /// The namespace of the try that goes on.
    pub(super) fn namespace(&self) -> &'static str {
        if self.wishes.is_some() { ns::SASL2 } else { ns::SASL }
    }
}

/// Who the client proved to be.
pub(super) struct Session {
    pub(super) domain: Local<Domain>,
    pub(super) account: Jid,
}

/// A client with an address.
pub(super) struct Bound {
    pub(super) domain: Local<Domain>,
    pub(super) full: Jid,
    pub(super) liveness: Liveness,
    /// What it sends is counted (XEP-0198).
    pub(super) managed: bool,
}

/// What a state does with bytes from the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reading {
    /// Reads them.
    Frames,
    /// Keeps them until the owner has answered.
    Held,
    /// There must be none: whoever sent them hopes that they are taken for encrypted ones.
    Forbidden,
    /// They do not matter any more.
    Ignored,
}

impl State {
    pub(super) fn reading(&self) -> Reading {
        match self {
            Self::AwaitHeader(_)
            | Self::AwaitStartTls { .. }
            | Self::AwaitAuth(_)
            | Self::AwaitInitial { .. }
            | Self::AwaitProof { .. }
            | Self::AwaitBind(_)
            | Self::Bound(_) => Reading::Frames,
            Self::AwaitKeys { .. }
            | Self::AwaitTokens { .. }
            | Self::AwaitGrant { .. }
            | Self::AwaitResource { .. }
            | Self::AwaitResume(_) => Reading::Held,
            Self::Upgrading { .. } => Reading::Forbidden,
            Self::Closed => Reading::Ignored,
        }
    }

    /// The domain of ours that the client asked for.
    pub(super) fn domain(&self) -> Option<&Local<Domain>> {
        match self {
            Self::AwaitHeader(Stage::Clear) | Self::Closed => None,
            Self::AwaitHeader(Stage::Encrypted { domain, .. }) => domain.as_ref(),
            Self::AwaitStartTls { domain, .. } | Self::Upgrading { domain } => Some(domain),
            Self::AwaitAuth(login)
            | Self::AwaitInitial { login, .. }
            | Self::AwaitKeys { login, .. }
            | Self::AwaitTokens { login, .. }
            | Self::AwaitProof { login, .. } => Some(&login.domain),
            Self::AwaitHeader(Stage::Authenticated(session))
            | Self::AwaitBind(session)
            | Self::AwaitResume(session)
            | Self::AwaitGrant { session, .. }
            | Self::AwaitResource { session, .. } => Some(&session.domain),
            Self::Bound(bound) => Some(&bound.domain),
        }
    }

    #[cfg(test)]
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::AwaitHeader(Stage::Clear) => "AwaitHeader(Clear)",
            Self::AwaitHeader(Stage::Encrypted { .. }) => "AwaitHeader(Encrypted)",
            Self::AwaitHeader(Stage::Authenticated(_)) => "AwaitHeader(Authenticated)",
            Self::AwaitStartTls { .. } => "AwaitStartTls",
            Self::Upgrading { .. } => "Upgrading",
            Self::AwaitAuth(_) => "AwaitAuth",
            Self::AwaitInitial { .. } => "AwaitInitial",
            Self::AwaitKeys { .. } => "AwaitKeys",
            Self::AwaitTokens { .. } => "AwaitTokens",
            Self::AwaitProof { .. } => "AwaitProof",
            Self::AwaitGrant { .. } => "AwaitGrant",
            Self::AwaitBind(_) => "AwaitBind",
            Self::AwaitResource { .. } => "AwaitResource",
            Self::AwaitResume(_) => "AwaitResume",
            Self::Bound(_) => "Bound",
            Self::Closed => "Closed",
        }
    }
}

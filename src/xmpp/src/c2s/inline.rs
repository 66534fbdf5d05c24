//! What a client asks for together with its log-in (XEP-0388, XEP-0386, XEP-0484), and what it gets.

use std::fmt;

use gatehouse_types::Jid;
use minidom::Element;

use super::management::ID_BYTES_MAX;
use crate::sasl::TokenMechanism;
use crate::{StanzaCondition, ns};

/// The longest id that a client's installation has of itself; a UUID is shorter.
const CLIENT_BYTES_MAX: usize = 64;
/// The longest tag of a client, such as its name.
const TAG_BYTES_MAX: usize = 64;

/// What a client that has proved who it is wants at once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wishes {
    /// The installation (XEP-0388, `user-agent`); the client's word for it.
    pub client: Option<String>,
    /// A session of before, and how many of its stanzas the client has.
    pub resume: Option<(String, u32)>,
    /// A resource, unless the session is there.
    pub bind: Option<BindWish>,
    /// A token for the next log-in.
    pub token: Option<TokenMechanism>,
    /// The tokens that this installation has are to be worth nothing any more.
    pub invalidate: bool,
    /// The token that it logged in with: its place in the list that the owner gave.
    pub used: Option<(TokenMechanism, usize)>,
}

/// A resource, and what is to be done as soon as it is bound.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BindWish {
    /// The beginning of the resource.
    pub tag: Option<String>,
    /// Manage the stream (XEP-0198): whether the client wants to be able to come back, and for how
    /// many seconds at most.
    pub manage: Option<(bool, Option<u64>)>,
    /// Send carbons (XEP-0280).
    pub carbons: bool,
    /// Nobody looks at the client (XEP-0352).
    pub inactive: bool,
}

/// What a client gets that logged in with [`Wishes`].
#[derive(Clone, PartialEq)]
pub struct Granted {
    /// Its session.
    pub session: GrantedSession,
    /// The session that it wanted back is not there; how much of it was handled, if that is known.
    pub not_resumed: Option<Option<u32>>,
    /// A token, and when it expires (XEP-0082).
    pub token: Option<(String, String)>,
}

impl fmt::Debug for Granted {
    /// Without the token, which is as good as a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Granted");
        shown.field("session", &self.session).field("not_resumed", &self.not_resumed);
        shown.field("token", &self.token.as_ref().map(|(_, expiry)| expiry)).finish()
    }
}

/// Which session a client gets.
#[derive(Clone, Debug, PartialEq)]
pub enum GrantedSession {
    /// None yet: it binds a resource as of old.
    Later,
    /// None: the resource cannot be given to it.
    Refused(StanzaCondition),
    /// A new one.
    Bound {
        /// Its address.
        full: Jid,
        /// It is managed; with a name and seconds if the client can come back to it.
        managed: Option<Option<(String, u64)>>,
    },
    /// The one of before.
    Resumed {
        /// Its address.
        full: Jid,
        /// Its name.
        id: String,
        /// Stanzas of the client that were handled.
        h: u32,
    },
}

impl Wishes {
    /// Reads `<authenticate/>`. What cannot be read is not wished.
    pub(super) fn read(authenticate: &Element, exporter: Option<&[u8; 32]>) -> Self {
        let client = authenticate.get_child("user-agent", ns::SASL2);
        let client = client.and_then(|agent| agent.attr("id")).filter(|id| {
            (1..=CLIENT_BYTES_MAX).contains(&id.len()) && id.bytes().all(|it| it.is_ascii_graphic())
        });
        let resume = authenticate.get_child("resume", ns::SM).and_then(|resume| {
            let id = resume.attr("previd").filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()))?;
            Some((id.to_owned(), resume.attr("h")?.parse().ok()?))
        });
        let token = authenticate.get_child("request-token", ns::FAST).and_then(|request| {
            let name = request.attr("mechanism")?;
            TokenMechanism::offered(exporter).find(|offered| offered.name() == name)
        });
        let invalidate = authenticate
            .get_child("fast", ns::FAST)
            .is_some_and(|fast| matches!(fast.attr("invalidate"), Some("true" | "1")));
        Self {
            client: client.map(str::to_owned),
            resume,
            bind: authenticate.get_child("bind", ns::BIND2).map(BindWish::read),
            token,
            invalidate,
            used: None,
        }
    }
}

impl BindWish {
    fn read(bind: &Element) -> Self {
        let tag = bind.get_child("tag", ns::BIND2).map(Element::text);
        let enable = bind.get_child("enable", ns::SM);
        let manage = enable.map(|enable| {
            let resume = matches!(enable.attr("resume"), Some("true" | "1"));
            (resume, enable.attr("max").and_then(|max| max.parse().ok()))
        });
        Self {
            tag: tag.filter(|tag| (1..=TAG_BYTES_MAX).contains(&tag.len())),
            manage,
            carbons: bind.get_child("enable", ns::CARBONS).is_some(),
            inactive: bind.get_child("inactive", ns::CSI).is_some(),
        }
    }
}

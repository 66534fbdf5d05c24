use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use gatehouse_types::Domain;

use crate::Params;

/// A URI of a request line, a header or a body. `sip` and `sips` are taken apart (RFC 3261 section
/// 19.1), any other scheme is opaque. At most 1024 bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Uri {
    /// What it starts with.
    pub scheme: Scheme,
    /// Before the `@`, percent-encoding as received. Microsoft's and ours may hold `;`.
    pub user: Option<String>,
    /// After the `@`. For an opaque URI: [`Host::Opaque`] with everything after the colon.
    pub host: Host,
    /// 1 to 65535.
    pub port: Option<u16>,
    /// `;transport=tls` and so on. Microsoft's `;opaque=user:epid:x;gruu` are in here.
    pub params: Params,
    /// After the `?`, as received.
    pub headers: Option<String>,
}

/// The scheme, in lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "the names are those on the wire")]
pub enum Scheme {
    Sip,
    Sips,
    Tel,
    Other(String),
}

/// Where a URI points.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Host {
    /// A name, in lower case, not checked against IDNA (see [`Uri::domain`]).
    Name(String),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 reference, `[::1]`.
    V6(Ipv6Addr),
    /// What stands after the colon of a scheme we do not take apart.
    Opaque(String),
}

/// Why a URI was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{shown}` is no URI: {why}")]
pub struct InvalidUri {
    /// The start of it, without control characters.
    pub shown: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Uri {
    /// Parses one URI; nothing may stand before or after it.
    pub fn parse(text: &str) -> Result<Self, InvalidUri> {
        let _ = text;
        todo!()
    }

    /// `sip:user@host`, nothing else set. `user` is percent-encoded where it must be.
    pub fn sip(user: Option<&str>, host: &Domain) -> Self {
        let _ = (user, host);
        todo!()
    }

    /// The host as a checked domain name; `None` for an address or an opaque URI.
    pub fn domain(&self) -> Option<Domain> {
        todo!()
    }

    /// The user part with percent-encoding undone; `None` if there is none or it is not UTF-8.
    pub fn user_decoded(&self) -> Option<String> {
        todo!()
    }

    /// RFC 3261 section 19.1.4, including its rules for absent parameters.
    pub fn equivalent(&self, other: &Self) -> bool {
        let _ = other;
        todo!()
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        todo!()
    }
}

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use gatehouse_types::Domain;

use crate::Params;
use crate::grammar::{number, percent, write_encoded};

/// A URI of a request line, a header or a body. `sip` and `sips` are taken apart (RFC 3261 section
/// 19.1), any other scheme is opaque. At most 2048 bytes.
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

/// The longest URI taken.
pub(crate) const BYTES_MAX: usize = 2048;

impl Uri {
    /// Parses one URI; nothing may stand before or after it.
    pub fn parse(text: &str) -> Result<Self, InvalidUri> {
        Self::read(text).map_err(|why| InvalidUri {
            shown: text.chars().filter(|c| !c.is_control()).take(60).collect(),
            why,
        })
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        if text.len() > BYTES_MAX {
            return Err(TOO_LONG);
        }
        if !text.bytes().all(is_uri_byte) {
            return Err("a character that no URI holds");
        }
        let (scheme, rest) = text.split_once(':').ok_or("no scheme")?;
        let scheme = Scheme::read(scheme).ok_or("no scheme")?;
        if rest.is_empty() {
            return Err("nothing after the scheme");
        }
        if !matches!(scheme, Scheme::Sip | Scheme::Sips) {
            let host = Host::Opaque(rest.to_owned());
            let params = Params::default();
            return Ok(Self { scheme, user: None, host, port: None, params, headers: None });
        }
        // Semicolons and question marks may stand in the user part, an @ in no other part.
        let (user, rest) = match rest.split_once('@') {
            Some(("", _)) => return Err("nothing before the @"),
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        if rest.contains('@') {
            return Err("two @");
        }
        let (rest, headers) = match rest.split_once('?') {
            Some((_, "")) => return Err("nothing after the question mark"),
            Some((rest, headers)) => (rest, Some(headers.to_owned())),
            None => (rest, None),
        };
        let (host_port, params) = match rest.split_once(';') {
            Some((host_port, params)) => (host_port, Params::parse_uri(params)?),
            None => (rest, Params::default()),
        };
        let (host, port) = Host::read_with_port(host_port)?;
        Ok(Self { scheme, user, host, port, params, headers })
    }

    /// `sip:user@host`, nothing else set. `user` is percent-encoded where it must be.
    pub fn sip(user: Option<&str>, host: &Domain) -> Self {
        let user = user.filter(|user| !user.is_empty()).map(|user| {
            let mut encoded = String::new();
            // Writing to a string cannot fail.
            let _ = write_encoded(&mut encoded, user, is_user_byte);
            encoded
        });
        Self {
            scheme: Scheme::Sip,
            user,
            host: Host::Name(host.as_str().to_owned()),
            port: None,
            params: Params::default(),
            headers: None,
        }
    }

    /// The host as a checked domain name; `None` for an address or an opaque URI.
    pub fn domain(&self) -> Option<Domain> {
        match &self.host {
            Host::Name(name) => name.parse().ok(),
            Host::V4(_) | Host::V6(_) | Host::Opaque(_) => None,
        }
    }

    /// The user part with percent-encoding undone; `None` if there is none or it is not UTF-8.
    pub fn user_decoded(&self) -> Option<String> {
        let mut rest = self.user.as_deref()?.as_bytes();
        let mut decoded = Vec::with_capacity(rest.len());
        while let [first, tail @ ..] = rest {
            match percent(rest) {
                Some(byte) => {
                    decoded.push(byte);
                    rest = tail.get(2..).unwrap_or_default();
                }
                None => {
                    decoded.push(*first);
                    rest = tail;
                }
            }
        }
        String::from_utf8(decoded).ok()
    }

    /// RFC 3261 section 19.1.4, including its rules for absent parameters.
    pub fn equivalent(&self, other: &Self) -> bool {
        let folded = |params: &Params, name: &str| {
            params.get(name).map(|value| normal(value).to_ascii_lowercase())
        };
        // These say where a request goes or what it is: one without is another address.
        let weighty = ["user", "ttl", "method", "maddr", "transport"];
        let mut shared =
            self.params.iter().map(|(name, _)| name).filter(|name| other.params.has(name));
        self.scheme == other.scheme
            && self.user.as_deref().map(normal) == other.user.as_deref().map(normal)
            && self.host == other.host
            && self.port == other.port
            && weighty.iter().all(|name| self.params.has(name) == other.params.has(name))
            && shared.all(|name| folded(&self.params, name) == folded(&other.params, name))
            && self.sorted_headers() == other.sorted_headers()
    }

    /// The headers part in one order, names in lower case.
    fn sorted_headers(&self) -> Vec<(String, String)> {
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .flat_map(|headers| headers.split('&'))
            .map(|header| header.split_once('=').unwrap_or((header, "")))
            .map(|(name, value)| (normal(name).to_ascii_lowercase(), normal(value)))
            .collect();
        headers.sort();
        headers
    }
}

pub(crate) const TOO_LONG: &str = "too long";

impl Scheme {
    fn read(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let good = text.len() <= 32
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(plain);
        good.then(|| match text.to_ascii_lowercase() {
            name if name == "sip" => Self::Sip,
            name if name == "sips" => Self::Sips,
            name if name == "tel" => Self::Tel,
            name => Self::Other(name),
        })
    }
}

impl Host {
    /// Parses `host`, `host:port`, `[v6]`, `[v6]:port`.
    pub(crate) fn read_with_port(text: &str) -> Result<(Self, Option<u16>), &'static str> {
        let (host, port) = if let Some(inside) = text.strip_prefix('[') {
            let (address, rest) = inside.split_once(']').ok_or("a bracket is not closed")?;
            let address = address.parse().map_err(|_| "no IPv6 address between the brackets")?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or("something follows the address")?),
            };
            (Self::V6(address), port)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (Self::read_name(host)?, Some(port)),
                None => (Self::read_name(text)?, None),
            }
        };
        let port = match port {
            None => None,
            Some(port) => Some(
                number(port, u32::from(u16::MAX))
                    .and_then(|port| u16::try_from(port).ok())
                    .filter(|port| *port != 0)
                    .ok_or("no port is like this")?,
            ),
        };
        Ok((host, port))
    }

    fn read_name(text: &str) -> Result<Self, &'static str> {
        if let Ok(address) = text.parse() {
            return Ok(Self::V4(address));
        }
        if text.is_empty() || text.len() > 255 || !text.bytes().all(is_name_byte) {
            return Err("no host");
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }
}

/// With all that needs no percent-encoding decoded, and the rest in capitals.
fn normal(text: &str) -> String {
    let mut rest = text;
    let mut out = String::with_capacity(text.len());
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match percent(rest.as_bytes()) {
            Some(byte) => {
                taken = 3;
                let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte);
                if keep(byte) {
                    out.push(char::from(byte));
                } else {
                    out.push_str(&rest.get(..3).unwrap_or_default().to_ascii_uppercase());
                }
            }
            None => out.push(c),
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

/// What we take, and write, somewhere in a URI.
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>')
}

/// What stands in a user part without percent-encoding.
fn is_user_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sip => f.write_str("sip"),
            Self::Sips => f.write_str("sips"),
            Self::Tel => f.write_str("tel"),
            Self::Other(name) => write_encoded(f, name, |byte| is_uri_byte(byte) && byte != b':'),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write_encoded(f, name, is_name_byte),
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(address) => write!(f, "[{address}]"),
            Self::Opaque(text) => write_encoded(f, text, is_uri_byte),
        }
    }
}

/// What is written can stand on a request line and between angle brackets, whatever was put in.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        if let Some(user) = &self.user {
            write_encoded(f, user, |byte| is_uri_byte(byte) && byte != b'@')?;
            f.write_str("@")?;
        }
        write!(f, "{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.params.write_uri(f)?;
        if let Some(headers) = &self.headers {
            f.write_str("?")?;
            write_encoded(f, headers, |byte| is_uri_byte(byte) && byte != b'@')?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "uri_tests.rs"]
mod tests;

use std::fmt;

use crate::grammar::{is_space, is_token, trim};
use crate::{Host, InvalidMessage, Params};

/// One Via (RFC 3261 section 20.42). A missing branch is allowed: Lync writes such.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Via {
    /// `TLS`, `TCP`, `UDP` or another, in upper case.
    pub transport: String,
    /// The sent-by host.
    pub host: Host,
    /// The sent-by port.
    pub port: Option<u16>,
    /// `branch`, `received`, `rport`, `alias` and so on.
    pub params: Params,
}

impl Via {
    /// Parses one element of a Via header.
    pub fn parse(text: &str) -> Result<Self, InvalidMessage> {
        Self::read(text).map_err(|why| InvalidMessage::new("Via", why))
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        let (name, rest) = text.split_once('/').ok_or("no protocol")?;
        let (version, rest) = rest.split_once('/').ok_or("no protocol")?;
        if !trim(name).eq_ignore_ascii_case("SIP") || trim(version) != "2.0" {
            return Err("another protocol than SIP/2.0");
        }
        let (transport, rest) = trim(rest).split_once(is_space).ok_or("no sent-by")?;
        if !is_token(transport) || transport.len() > 32 {
            return Err("no transport");
        }
        let (sent_by, params) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
        // White space may stand around the colon before the port.
        let sent_by: String = match trim(sent_by).rsplit_once(':') {
            Some((host, port)) => format!("{}:{}", trim(host), trim(port)),
            None => trim(sent_by).to_owned(),
        };
        let (host, port) = Host::read_with_port(&sent_by)?;
        let params = Params::parse_header(params)?;
        Ok(Self { transport: transport.to_ascii_uppercase(), host, port, params })
    }

    /// The `branch` parameter.
    pub fn branch(&self) -> Option<&str> {
        self.params.get("branch")
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vias_as_peers_write_them() {
        for (text, written) in [
            ("SIP/2.0/TLS 198.51.100.57:37737;ms-received-port=37737", None),
            (
                "SIP/2.0/TLS e.test:5061;branch=z9hG4bK1.A;branched=FALSE;ms-internal-info=\"a_-\"",
                None,
            ),
            ("SIP/2.0/TCP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bK-x", None),
            ("SIP/2.0/UDP [2001:db8::9:1]:5060;received=2001:db8::9:255", None),
            (
                "sip  / 2.0 \t / tcp   h.EXAMPLE  :  5060 ;  branch  =   z9  ; rport",
                Some("SIP/2.0/TCP h.example:5060;branch=z9;rport"),
            ),
        ] {
            assert_eq!(Via::parse(text).unwrap().to_string(), written.unwrap_or(text));
        }
    }

    #[test]
    fn what_is_no_via_is_refused() {
        for text in [
            "",
            "SIP/2.0/TCP",
            "SIP/2.0/TCP ",
            "SIP/7.0/TCP h",
            "HTTP/2.0/TCP h",
            "SIP/2.0/T CP h x",
            "SIP/2.0/UDP 192.0.2.15;;,;,,",
            "SIP/2.0/TCP h:0",
            "SIP/2.0/TCP h:",
            "SIP/2.0/TCP h h",
        ] {
            assert!(Via::parse(text).is_err(), "{text}");
        }
    }
}

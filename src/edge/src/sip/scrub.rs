//! What may leave: a list of what a partner needs, not of what it must not see, so that a header
//! that nobody thought of stays inside.

use gatehouse_sip::{Header, HeaderName, Headers, InvalidMessage, Message};

use super::face::Face;

/// Headers that leave as they are. Via, Contact, Record-Route, Warning and bodies are rewritten
/// elsewhere.
const LEAVES: [&str; 37] = [
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Allow",
    "Allow-Events",
    "CSeq",
    "Call-ID",
    "Contact",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Type",
    "Date",
    "Event",
    "Expires",
    "From",
    "In-Reply-To",
    "MIME-Version",
    "Max-Forwards",
    "Min-Expires",
    "Min-SE",
    "Ms-Conversation-ID",
    "Priority",
    "Proxy-Require",
    "Reason",
    "Require",
    "Retry-After",
    "Route",
    "SIP-ETag",
    "SIP-If-Match",
    "Session-Expires",
    "Subject",
    "Subscription-State",
    "Supported",
    "To",
    "Unsupported",
    "ms-diagnostics-public",
];

/// Headers by which proxies of one network tell each other who somebody is.
const CLAIMS: [&str; 7] = [
    "P-Asserted-Identity",
    "P-Preferred-Identity",
    "Remote-Party-ID",
    "Path",
    "Service-Route",
    "ms-asserted-verification-level",
    "ms-edge-proxy-message-trust",
];

/// Takes out what a partner has no business to see.
pub(crate) fn scrub(message: &mut Message, face: &Face) -> Result<(), InvalidMessage> {
    let warnings = message.warnings();
    message.headers.retain(may_leave);
    for warning in warnings {
        // The agent of a warning is a host; ours has one name outside.
        let text: String =
            warning.text.chars().filter(|c| !matches!(c, '"' | '\\') && !c.is_control()).collect();
        let value = format!("{} {} \"{text}\"", warning.code, face.host());
        message.headers.push(HeaderName::Warning, value)?;
    }
    let is_sdp = message
        .content_type()
        .ok()
        .flatten()
        .is_some_and(|content| content.essence == "application/sdp");
    if is_sdp {
        message.body = sdp_without_addresses(&message.body, face).into();
    }
    Ok(())
}

fn may_leave(header: &Header) -> bool {
    let name = header.name.as_str();
    LEAVES.iter().any(|leaves| leaves.eq_ignore_ascii_case(name))
}

/// Lines of a session description that a partner needs; others (candidates, paths, URIs, mail
/// addresses) may name a host.
const KEPT: [&str; 9] = [
    "v=",
    "s=",
    "t=",
    "b=",
    "m=",
    "a=accept-types:",
    "a=accept-wrapped-types:",
    "a=sendrecv",
    "a=inactive",
];

/// Origin and connection lines name a host: ours is the face (RFC 8866 sections 5.2 and 5.7; a name
/// is as good as an address there, and nobody connects to it).
fn sdp_without_addresses(body: &[u8], face: &Face) -> String {
    let mut out = String::with_capacity(body.len());
    for line in String::from_utf8_lossy(body).lines() {
        let line = line.trim_end_matches('\r');
        if line.starts_with("c=") {
            out.push_str("c=IN IP4 ");
            out.push_str(face.host().as_str());
        } else if let Some(origin) = line.strip_prefix("o=") {
            let mut fields = origin.split(' ');
            let (id, version) = (fields.nth(1), fields.next());
            let number = |field: Option<&str>| {
                field.filter(|field| field.bytes().all(|b| b.is_ascii_digit())).map(str::to_owned)
            };
            let id = number(id).unwrap_or_else(|| "0".to_owned());
            let version = number(version).unwrap_or_else(|| "0".to_owned());
            out.push_str(&format!("o=- {id} {version} IN IP4 {}", face.host()));
        } else if KEPT.iter().any(|kept| line.starts_with(kept)) {
            out.push_str(line);
        } else {
            continue;
        }
        out.push_str("\r\n");
    }
    out
}

/// Takes out what a partner says of who it is by other means than From: only its certificate and
/// its From count (RFC 3325 section 5: what comes from outside the trust domain goes).
pub(crate) fn distrust(headers: &mut Headers) {
    headers.retain(|header| {
        let name = header.name.as_str();
        !CLAIMS.iter().any(|claim| claim.eq_ignore_ascii_case(name))
    });
}

/// Every value of one header.
pub(crate) fn take(headers: &mut Headers, name: &HeaderName) -> Vec<String> {
    let values = headers.list(name);
    headers.remove(name);
    values
}

#[cfg(test)]
mod tests {
    use gatehouse_sip::{Framer, Limits};

    use super::*;

    fn face() -> Face {
        Face::of(&gatehouse_types::Local("ours.example".parse().unwrap()), "sip", 5061).unwrap()
    }

    fn message(text: &str) -> Message {
        let text = text.trim_start().lines().map(str::trim).collect::<Vec<_>>().join("\r\n");
        Framer::datagram(Limits::default(), text.as_bytes()).unwrap()
    }

    #[test]
    fn what_nobody_listed_stays_inside() {
        let mut inner = message(
            "MESSAGE sip:bob@them.example SIP/2.0
             From: <sip:alice@ours.example>;tag=1
             To: <sip:bob@them.example>
             Call-ID: 1
             CSeq: 1 MESSAGE
             User-Agent: Gatehouse core-1.inside.example
             Server: core-1.inside.example
             P-Asserted-Identity: <sip:alice@core-1.inside.example>
             X-Trace: core-1.inside.example
             Organization: core-1.inside.example
             Record-Route: <sip:core-1.inside.example;lr>
             ms-diagnostics: 1;source=\"core-1.inside.example\"
             ms-diagnostics-public: 1034;reason=\"no\"
             Warning: 309 core-1.inside.example \"not by policy\"
             Content-Type: application/sdp

             v=0
             o=alice 7 8 IN IP4 10.1.2.3
             c=IN IP4 10.1.2.3
             m=message 5060 sip null
             a=accept-types:text/plain
             a=candidate:1 1 TCP 1 10.1.2.3 5060 typ host
             u=http://core-1.inside.example/
             ",
        );
        scrub(&mut inner, &face()).unwrap();
        let left = String::from_utf8(inner.to_bytes().to_vec()).unwrap();
        assert!(!left.contains("inside") && !left.contains("10.1.2.3"), "{left}");
        for kept in [
            "Call-ID: 1\r\n",
            "ms-diagnostics-public: 1034",
            "Warning: 309 sip.ours.example \"not by policy\"\r\n",
            "o=- 7 8 IN IP4 sip.ours.example\r\n",
            "c=IN IP4 sip.ours.example\r\n",
            "m=message 5060 sip null\r\n",
            "a=accept-types:text/plain\r\n",
        ] {
            assert!(left.contains(kept), "{kept} is not in {left}");
        }
    }
}

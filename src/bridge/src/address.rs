//! Addresses, both ways (RFC 7247 section 6, with the escapes of XEP-0106 that it leaves out).

use std::fmt::Write as _;

use gatehouse_sip::{Host, Params, Scheme, Uri};
use gatehouse_types::Jid;

/// Why a SIP address has no XMPP form. What a request to it is answered stands beside.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AddressError {
    /// `sips` promises encryption on every hop, which XMPP cannot (RFC 7247 section 6.4): 416.
    #[error("sips: addresses are not carried over to XMPP")]
    Sips,
    /// `tel:`, `mailto:` and so on: 416.
    #[error("only sip: addresses have an XMPP form")]
    Scheme,
    /// No user, or one that no XMPP account can have: 404.
    #[error("the user part is no XMPP account name")]
    User,
    /// An IP address, or no host name: 404.
    #[error("the host is no domain name")]
    Host,
}

impl AddressError {
    /// What a request to such an address is answered.
    pub fn status(self) -> gatehouse_sip::Status {
        match self {
            Self::Sips | Self::Scheme => gatehouse_sip::Status::of(416),
            Self::User | Self::Host => gatehouse_sip::Status::of(404),
        }
    }
}

/// What may not stand in the local part of an XMPP address (RFC 7622 section 3.3.1, XEP-0106).
const ESCAPED: [(char, &str); 10] = [
    (' ', "\\20"),
    ('"', "\\22"),
    ('&', "\\26"),
    ('\'', "\\27"),
    ('/', "\\2f"),
    (':', "\\3a"),
    ('<', "\\3c"),
    ('>', "\\3e"),
    ('@', "\\40"),
    ('\\', "\\5c"),
];

/// The XMPP address of a SIP one: `sip:f%C3%BC@d;gr=x` is `fü@d/x`.
///
/// # Errors
/// If it has none.
pub fn to_jid(uri: &Uri) -> Result<Jid, AddressError> {
    match uri.scheme {
        Scheme::Sip => {}
        Scheme::Sips => return Err(AddressError::Sips),
        Scheme::Tel | Scheme::Other(_) => return Err(AddressError::Scheme),
    }
    let domain = match &uri.host {
        Host::Name(name) => name.parse().map_err(|_| AddressError::Host)?,
        Host::V4(_) | Host::V6(_) | Host::Opaque(_) => return Err(AddressError::Host),
    };
    let user = uri.user.as_deref().filter(|user| !user.is_empty()).ok_or(AddressError::User)?;
    let user = percent_decoded(user).ok_or(AddressError::User)?;
    let bare = Jid::of_account(&escape_local(&user), &domain).map_err(|_| AddressError::User)?;
    // A device that XMPP cannot name is left out: the person is still the same.
    let resource = uri.params.get("gr").filter(|gr| !gr.is_empty()).and_then(percent_decoded);
    Ok(resource.and_then(|resource| bare.with_resource(&resource).ok()).unwrap_or(bare))
}

/// The SIP address of an XMPP one: `m\26m@d/x` is `sip:m&m@d;gr=x`.
pub fn to_uri(jid: &Jid) -> Uri {
    let mut params = Params::default();
    if let Some(resource) = jid.resource() {
        params.set("gr", Some(&percent_encoded(resource, is_plain_in_param)));
    }
    Uri {
        scheme: Scheme::Sip,
        user: jid.local().map(|local| percent_encoded(&unescape_local(local), is_plain_in_user)),
        host: Host::Name(jid.domain().as_str().to_owned()),
        port: None,
        params,
        headers: None,
    }
}

fn escape_local(user: &str) -> String {
    let mut out = String::with_capacity(user.len());
    for (at, sign) in user.char_indices() {
        let escape = ESCAPED.iter().find(|(plain, _)| *plain == sign).map(|(_, escape)| *escape);
        let rest = user.get(at..).unwrap_or_default();
        match escape {
            // A backslash that begins no escape means itself (XEP-0106, section 4.2).
            Some(_)
                if sign == '\\' && !ESCAPED.iter().any(|(_, known)| rest.starts_with(known)) =>
            {
                out.push(sign);
            }
            Some(escape) => out.push_str(escape),
            None => out.push(sign),
        }
    }
    out
}

fn unescape_local(local: &str) -> String {
    let mut out = String::with_capacity(local.len());
    let mut rest = local;
    while let Some(sign) = rest.chars().next() {
        match ESCAPED.iter().find(|(_, escape)| rest.starts_with(escape)) {
            Some((plain, escape)) => {
                out.push(*plain);
                rest = rest.get(escape.len()..).unwrap_or_default();
            }
            None => {
                out.push(sign);
                rest = rest.get(sign.len_utf8()..).unwrap_or_default();
            }
        }
    }
    out
}

/// RFC 3261 section 25.1, `user`: what needs no percent sign.
fn is_plain_in_user(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte)
}

/// RFC 3261 section 25.1, `paramchar`, without what some parsers trip over.
fn is_plain_in_param(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.!~*'()/:&+$".contains(&byte)
}

fn percent_encoded(text: &str, is_plain: fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// `None` if it is not UTF-8 then, or a percent sign stands alone.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (high, low) = (char::from(bytes.next()?), char::from(bytes.next()?));
        let value = high.to_digit(16)? * 16 + low.to_digit(16)?;
        out.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(user: &str, gr: Option<&str>) -> Uri {
        let mut params = Params::default();
        if let Some(gr) = gr {
            params.set("gr", Some(gr));
        }
        Uri {
            scheme: Scheme::Sip,
            user: Some(user.to_owned()),
            host: Host::Name("d.example".to_owned()),
            port: None,
            params,
            headers: None,
        }
    }

    /// RFC 7247 sections 6.4 and 6.5, and XEP-0106: user of the SIP URI, `gr`, XMPP address.
    #[test]
    fn addresses_there_and_back() {
        for (user, gr, xmpp) in [
            ("bob", None, "bob@d.example"),
            ("f%C3%BC", None, "fü@d.example"),
            ("o'malley", None, r"o\27malley@d.example"),
            ("m&m", None, r"m\26m@d.example"),
            ("a/b", None, r"a\2fb@d.example"),
            ("foo", Some("bar"), "foo@d.example/bar"),
            ("baz", Some("qu%C3%BCx%201"), "baz@d.example/quüx 1"),
            ("a%22b", None, r"a\22b@d.example"),
            ("a%3Ab", None, r"a\3ab@d.example"),
            ("a%3Cb%3E", None, r"a\3cb\3e@d.example"),
            ("a%40b.example", None, r"a\40b.example@d.example"),
            ("a%20b", None, r"a\20b@d.example"),
            ("a%5C20b", None, r"a\5c20b@d.example"),
            ("a%5Cb", None, r"a\b@d.example"),
            ("a%23%25%5B%5D%5E%60%7B%7C%7D", None, r"a#%[]^`{|}@d.example"),
            ("bob;x=1", None, "bob;x=1@d.example"),
        ] {
            let sip = uri(user, gr);
            assert_eq!(to_jid(&sip).unwrap().to_string(), xmpp);
            assert_eq!(to_uri(&xmpp.parse().unwrap()), sip, "{xmpp}");
        }
    }

    #[test]
    fn what_has_no_xmpp_form_is_refused() {
        let with = |change: fn(&mut Uri)| {
            let mut uri = uri("bob", None);
            change(&mut uri);
            to_jid(&uri).unwrap_err()
        };
        let of = |error: AddressError| (error, error.status().code());
        assert_eq!(of(with(|uri| uri.scheme = Scheme::Sips)), (AddressError::Sips, 416));
        assert_eq!(of(with(|uri| uri.scheme = Scheme::Tel)), (AddressError::Scheme, 416));
        assert_eq!(with(|uri| uri.user = None), AddressError::User);
        for bad in ["", "%", "%f", "%FF", "%zz", "a%00b"] {
            assert_eq!(to_jid(&uri(bad, None)), Err(AddressError::User), "{bad}");
        }
        assert_eq!(
            of(with(|uri| uri.host = Host::V4([192, 0, 2, 1].into()))),
            (AddressError::Host, 404)
        );
        assert_eq!(with(|uri| uri.host = Host::Name("-".to_owned())), AddressError::Host);
    }

    #[test]
    fn a_device_that_xmpp_cannot_name_is_left_out() {
        for gr in ["", "%00", "%FF"] {
            assert_eq!(to_jid(&uri("bob", Some(gr))).unwrap().to_string(), "bob@d.example");
        }
    }
}

use gatehouse_types::Domain;
use serde::Serialize;
use x509_parser::asn1_rs::{Any, Class, FromDer as _, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::certificate::UnreadableCertificate;
use crate::printable::printable;

/// Names of one certificate that are looked at; the rest is as if it were not there.
const NAMES_MAX: usize = 1000;
/// Longest name that is kept, in characters. A domain has at most 253.
const NAME_CHARS_MAX: usize = 300;

/// `1.3.6.1.5.5.7.8.5` (RFC 6120, section 13.7.1.4).
const ID_ON_XMPP_ADDR: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 8, 5];
/// `1.3.6.1.5.5.7.8.7` (RFC 4985).
const ID_ON_DNS_SRV: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 8, 7];

/// The service label of an SRVName that speaks for a domain's server-to-server streams.
const XMPP_SERVER: &str = "_xmpp-server.";

/// The names in a certificate's subjectAltName.
///
/// At most 1000 are kept. They are safe to print: characters that could move a cursor or hide text
/// are replaced by U+FFFD, with which no name matches anything.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct CertificateNames {
    /// dNSName, lower case, as written (may be a wildcard).
    pub dns: Vec<String>,
    /// SRVName (RFC 4985), such as `_xmpp-server.example.com`.
    pub srv: Vec<String>,
    /// id-on-xmppAddr (RFC 6120, section 13.7.1.4).
    pub xmpp: Vec<String>,
    /// URI, such as `sip:example.com` (RFC 5922).
    pub uri: Vec<String>,
}

impl CertificateNames {
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Result<Self, UnreadableCertificate> {
        let mut names = Self::default();
        let extension =
            certificate.subject_alternative_name().map_err(|_| UnreadableCertificate)?;
        let Some(extension) = extension else { return Ok(names) };
        for name in extension.value.general_names.iter().take(NAMES_MAX) {
            match name {
                GeneralName::DNSName(name) => names.dns.push(kept(&name.to_ascii_lowercase())),
                GeneralName::URI(uri) => names.uri.push(kept(uri)),
                GeneralName::OtherName(oid, rest) => {
                    let Some((tag, text)) = other_name(rest) else { continue };
                    let is = |known: [u64; 9]| oid.iter().is_some_and(|arcs| arcs.eq(known));
                    match tag {
                        Tag::Utf8String if is(ID_ON_XMPP_ADDR) => names.xmpp.push(kept(text)),
                        // RFC 4985 says IA5String; some tools can only write UTF8String.
                        Tag::Ia5String | Tag::Utf8String if is(ID_ON_DNS_SRV) => {
                            names.srv.push(kept(text));
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        Ok(names)
    }

    /// The name that speaks for the XMPP server-to-server service of `domain`, with its kind
    /// (RFC 6120, section 13.7.1.2; RFC 9525, section 6). Proves nothing by itself: [`crate::prove`]
    /// does, from a certificate whose chain was verified.
    pub fn xmpp_server_match(&self, domain: &Domain) -> Option<String> {
        let srv = self.srv.iter().find(|name| srv_matches(name, domain));
        let dns = self.dns.iter().find(|name| dns_matches(name, domain));
        let xmpp = self.xmpp.iter().find(|address| is_domain(address, domain));
        srv.map(|name| format!("SRVName {name}"))
            .or_else(|| dns.map(|name| format!("dNSName {name}")))
            .or_else(|| xmpp.map(|address| format!("xmppAddr {address}")))
    }

    /// The dNSName that names `host` itself, with its kind. Enough only where DNSSEC proves that the
    /// domain is served there (RFC 7673, section 4).
    pub(crate) fn host_match(&self, host: &Domain) -> Option<String> {
        let name = self.dns.iter().find(|name| dns_matches(name, host));
        name.map(|name| format!("dNSName {name}"))
    }

    /// Up to `count_max` different names that could have stood for an XMPP server, for a log.
    pub(crate) fn sample(&self, count_max: usize) -> Vec<String> {
        let mut sample: Vec<String> = Vec::new();
        for name in self.dns.iter().chain(&self.srv).chain(&self.xmpp) {
            if sample.len() == count_max {
                break;
            }
            if !sample.contains(name) {
                sample.push(name.clone());
            }
        }
        sample
    }
}

fn kept(name: &str) -> String {
    printable(name, NAME_CHARS_MAX)
}

/// The value of an otherName: `[0] EXPLICIT` around one string.
fn other_name(rest: &[u8]) -> Option<(Tag, &str)> {
    let (after_outer, outer) = Any::from_der(rest).ok()?;
    if !after_outer.is_empty() || outer.class() != Class::ContextSpecific || outer.tag() != Tag(0) {
        return None;
    }
    let (after_inner, inner) = Any::from_der(outer.data).ok()?;
    if !after_inner.is_empty() || inner.class() != Class::Universal {
        return None;
    }
    Some((inner.tag(), str::from_utf8(inner.data).ok()?))
}

/// A dNSName is ASCII by definition (RFC 5280, section 4.2.1.6). One that is not would go through
/// IDNA mapping here and stand for a domain that the authority may never have looked at.
fn dns_matches(presented: &str, domain: &Domain) -> bool {
    if !presented.is_ascii() {
        return false;
    }
    match presented.strip_prefix("*.") {
        // RFC 9525, section 6.3: the wildcard is the whole left-most label and stands for one.
        Some(rest) => domain.parent().is_some_and(|parent| is_domain(rest, &parent)),
        None => is_domain(presented, domain),
    }
}

fn srv_matches(presented: &str, domain: &Domain) -> bool {
    let Some((service, rest)) = presented.split_at_checked(XMPP_SERVER.len()) else { return false };
    presented.is_ascii() && service.eq_ignore_ascii_case(XMPP_SERVER) && is_domain(rest, domain)
}

fn is_domain(text: &str, domain: &Domain) -> bool {
    text.parse::<Domain>().is_ok_and(|parsed| parsed == *domain)
}

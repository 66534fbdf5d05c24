use aws_lc_rs::digest;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::KeyPin;
use crate::distinguished_name;
use crate::names::CertificateNames;

/// Longest certificate that is looked at, in bytes. Real ones have two or three thousand.
const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;

/// What a person wants to know about a certificate.
///
/// Every text is safe to print: what could move a cursor or hide text is replaced.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct CertificateSummary {
    /// Its names.
    pub names: CertificateNames,
    /// Subject, RFC 4514 text.
    pub subject: String,
    /// Issuer, RFC 4514 text.
    pub issuer: String,
    /// Serial number, lower-case hex.
    pub serial: String,
    /// Start of validity, Unix seconds.
    pub not_before: i64,
    /// End of validity, Unix seconds.
    pub not_after: i64,
    /// SHA-256 over the DER, lower-case hex with colons.
    pub fingerprint_sha256: String,
    /// The pin of its key, as a policy rule takes it: `sha256:` and hex.
    pub key_pin: String,
    /// True if issuer and subject are the same.
    pub self_issued: bool,
}

/// Bytes that are not a certificate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this is not an X.509 certificate")]
pub struct UnreadableCertificate;

impl CertificateSummary {
    /// Reads one DER certificate. Nothing is verified: this is what it says, not what it proves.
    pub fn from_der(der: &[u8]) -> Result<Self, UnreadableCertificate> {
        let certificate = parse(der)?;
        let validity = certificate.validity();
        Ok(Self {
            names: CertificateNames::of(&certificate)?,
            subject: distinguished_name::text(certificate.subject()),
            issuer: distinguished_name::text(certificate.issuer()),
            serial: hex(certificate.raw_serial(), ""),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            fingerprint_sha256: hex(digest::digest(&digest::SHA256, der).as_ref(), ":"),
            key_pin: KeyPin::of_key(certificate.public_key().raw).to_string(),
            self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
        })
    }
}

impl CertificateNames {
    /// Reads the names of one DER certificate.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, UnreadableCertificate> {
        Self::of(&parse(der)?)
    }
}

/// The DER SubjectPublicKeyInfo of one DER certificate.
pub(crate) fn public_key_info(der: &[u8]) -> Result<Vec<u8>, UnreadableCertificate> {
    Ok(parse(der)?.public_key().raw.to_vec())
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, UnreadableCertificate> {
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(UnreadableCertificate);
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(UnreadableCertificate),
    }
}

fn hex(bytes: &[u8], separator: &str) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(separator)
}

#[cfg(test)]
mod tests {
    use gatehouse_testkit::{Issue, San, TestCa};

    use super::*;

    #[test]
    fn tells_what_a_person_wants_to_know() {
        let ca = TestCa::named("Little, Test \"CA\"");
        let made = ca
            .issue()
            .common_name("them.example")
            .dns("Them.Example")
            .srv("_xmpp-server.them.example")
            .xmpp("them.example")
            .uri("sip:them.example")
            .make();
        let summary = CertificateSummary::from_der(&made.der).unwrap();

        assert_eq!(summary.names.dns, ["them.example"]);
        assert_eq!(summary.names.srv, ["_xmpp-server.them.example"]);
        assert_eq!(summary.names.xmpp, ["them.example"]);
        assert_eq!(summary.names.uri, ["sip:them.example"]);
        assert_eq!(summary.subject, "CN=them.example");
        assert_eq!(summary.issuer, r#"CN=Little\, Test \"CA\""#);
        assert_eq!(summary.not_after - summary.not_before, 30 * 86_400 + 3600);
        assert!(!summary.serial.is_empty() && !summary.serial.contains(':'));
        assert_eq!(summary.fingerprint_sha256.len(), 32 * 3 - 1);
        assert!(!summary.self_issued);
        let own = Issue::self_signed().dns("them.example").make();
        assert!(CertificateSummary::from_der(&own.der).unwrap().self_issued);
    }

    #[test]
    fn text_cannot_play_with_the_terminal() {
        let made = TestCa::new()
            .issue()
            .common_name("a\u{1b}[2J\u{202e}b")
            .dns("c\u{7}\u{0}d.example")
            .xmpp("e\u{202e}f.example")
            .make();
        let summary = CertificateSummary::from_der(&made.der).unwrap();
        assert_eq!(summary.subject, "CN=a\u{fffd}[2J\u{fffd}b");
        assert_eq!(summary.names.dns, ["c\u{fffd}\u{fffd}d.example"]);
        assert_eq!(summary.names.xmpp, ["e\u{fffd}f.example"]);
    }

    #[test]
    fn junk_is_refused_at_every_length() {
        let der = TestCa::new().issue_for("them.example").der;
        for end in 0..der.len() {
            assert_eq!(CertificateSummary::from_der(&der[..end]), Err(UnreadableCertificate));
        }
        let longer = [&der[..], b"\0"].concat();
        assert_eq!(CertificateSummary::from_der(&longer), Err(UnreadableCertificate));
        assert_eq!(CertificateSummary::from_der(b"junk"), Err(UnreadableCertificate));
    }

    #[test]
    fn no_flipped_byte_panics() {
        let der = TestCa::new().issue().dns("a.example").name(San::Junk(vec![1, 2, 3])).make().der;
        for at in 0..der.len() {
            for bit in [0x01, 0x80, 0xff] {
                let mut bent = der.clone();
                bent[at] ^= bit;
                let _ = CertificateSummary::from_der(&bent);
            }
        }
    }

    #[test]
    fn an_oversized_certificate_is_not_even_parsed() {
        let made = TestCa::new().issue().name(San::Junk(vec![0; CERTIFICATE_BYTES_MAX])).make();
        assert_eq!(CertificateSummary::from_der(&made.der), Err(UnreadableCertificate));
    }
}

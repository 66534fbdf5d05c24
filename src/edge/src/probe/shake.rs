//! What a handshake tells a person.

use gatehouse_identity::{CertificateSummary, Presented, TlsFacts, TlsVersion, printable};
use gatehouse_tls::Inspection;

use super::report::{CertificateReport, TlsReport};

/// Longest text from outside, in characters.
const TEXT_CHARS_MAX: usize = 300;
/// Names of a certificate that are shown.
const NAMES_MAX: usize = 50;
const DAY_SECONDS: i64 = 86_400;

/// Text from outside: printable, on one line, short.
pub(super) fn text(text: &str) -> String {
    printable(text.trim(), TEXT_CHARS_MAX)
}

pub(super) fn tls(facts: &TlsFacts, inspection: Inspection) -> TlsReport {
    TlsReport {
        version: match facts.version {
            TlsVersion::Tls12 => "TLSv1.2",
            TlsVersion::Tls13 => "TLSv1.3",
        },
        cipher_suite: inspection.cipher_suite,
        chain_len: inspection.chain_len,
    }
}

/// What was shown; nothing if nothing was, or if it cannot be read.
pub(super) fn certificate(presented: &Presented, unix_now: i64) -> Option<CertificateReport> {
    let summary = CertificateSummary::from_der(presented.leaf()?).ok()?;
    let named = summary.names.dns.iter().map(|name| format!("DNS {name}"));
    let named = named.chain(summary.names.srv.iter().map(|name| format!("SRV {name}")));
    let named = named.chain(summary.names.xmpp.iter().map(|name| format!("XMPP {name}")));
    let named = named.chain(summary.names.uri.iter().map(|name| format!("URI {name}")));
    let mut names: Vec<String> = named.collect();
    let names_left_out = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    Some(CertificateReport {
        subject: text(&summary.subject),
        issuer: text(&summary.issuer),
        names,
        names_left_out,
        not_before: summary.not_before,
        not_after: summary.not_after,
        days_left: (summary.not_after - unix_now).div_euclid(DAY_SECONDS),
        fingerprint_sha256: summary.fingerprint_sha256,
        key_pin: summary.key_pin,
        chain: match presented {
            Presented::Verified(_) => "good".to_owned(),
            Presented::Untrusted { fault, .. } => text(&fault.to_string()),
            Presented::Nothing | Presented::Vouched(_) => "not looked at".to_owned(),
        },
    })
}

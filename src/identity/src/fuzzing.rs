//! What must hold for any bytes that might be a certificate. The fuzz target is one call to
//! [`check_certificate`]; what fuzzing found is replayed by the test below.

#![allow(clippy::panic, reason = "a property that does not hold must panic")]

use gatehouse_types::{Domain, Remote};

use crate::{
    CertificateNames, CertificateSummary, ChainFault, IdentityError, Presented, Proof,
    VerifiedLeaf, prove,
};

/// Whom the certificates of the corpus are for, and somebody who is in none of them.
const CLAIMS: [&str; 4] = ["them.example", "a.them.example", "xn--bcher-kva.example", "us.test"];

/// Whatever a certificate says is safe to print; it proves a domain only by a name that spells it
/// out, and nothing at all without a chain that holds.
pub fn check_certificate(der: &[u8]) {
    let summary = CertificateSummary::from_der(der);
    assert_eq!(summary, CertificateSummary::from_der(der));
    let names = match &summary {
        Ok(summary) => {
            check_text(&summary.subject);
            check_text(&summary.issuer);
            Some(&summary.names)
        }
        Err(_) => None,
    };
    if let Some(CertificateNames { dns, srv, xmpp, uri }) = names {
        for name in [dns, srv, xmpp, uri].into_iter().flatten() {
            check_text(name);
            assert!(name.chars().count() <= 301, "{name:?} is long");
        }
    }
    for claim in CLAIMS {
        if let Ok(domain) = claim.parse() {
            check_claim(der, names, &Remote(domain));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "stands in for the handshake")]
fn check_claim(der: &[u8], names: Option<&CertificateNames>, claim: &Remote<Domain>) {
    let (leaf, fault) = (der.to_vec(), ChainFault::UnknownIssuer);
    let issuers = [].into();
    let untrusted = prove(&Presented::Untrusted { leaf, issuers, fault: fault.clone() }, claim);
    assert_eq!(untrusted, Err(IdentityError::Untrusted(fault)));

    let verified = prove(&Presented::Verified(VerifiedLeaf::assertion(der.to_vec())), claim);
    match (verified, names) {
        (Ok(peer), Some(names)) => {
            assert_eq!(peer.domain(), claim);
            let Proof::Certificate { name } = peer.proof() else {
                panic!("a certificate is no dialback");
            };
            assert!(spells_out(name, &claim.0), "{name:?} does not say {claim}");
            let (_, name) = name.split_once(' ').unwrap_or_default();
            let mut all = names.dns.iter().chain(&names.srv).chain(&names.xmpp);
            assert!(all.any(|known| known == name), "{name:?} is not in the certificate");
        }
        (Ok(_), None) => panic!("what cannot be read proves {claim}"),
        (Err(IdentityError::Unreadable), names) => assert_eq!(names, None),
        (Err(error), _) => {
            assert!(matches!(error, IdentityError::NotNamed { .. }), "{error}");
            check_text(&error.to_string());
        }
    }
}

/// The rules again (RFC 6120, section 13.7; RFC 9525), in other words than the code's: by putting
/// the names together that would do, and looking whether this is one of them.
fn spells_out(name: &str, domain: &Domain) -> bool {
    let (kind, name) = name.split_once(' ').unwrap_or_default();
    let same = |good: &str| {
        let name = name.strip_suffix('.').unwrap_or(name);
        name.is_ascii() && name.eq_ignore_ascii_case(good)
    };
    match kind {
        "dNSName" => {
            let wildcard = domain.as_str().split_once('.').map(|(_, rest)| format!("*.{rest}"));
            same(domain.as_str()) || wildcard.is_some_and(|wildcard| same(&wildcard))
        }
        "SRVName" => same(&format!("_xmpp-server.{domain}")),
        // Its text may have other alphabets, so it goes through the mapping of domain names.
        "xmppAddr" => name.parse().as_ref() == Ok(domain),
        _ => false,
    }
}

fn check_text(text: &str) {
    assert!(
        !text.contains(|c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}')),
        "{text:?} plays with the terminal"
    );
}

#[cfg(test)]
mod tests {
    use gatehouse_testkit::replay;

    use super::*;

    #[test]
    fn corpus_still_holds() {
        replay("certificate", check_certificate);
    }
}

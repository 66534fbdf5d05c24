use std::collections::HashSet;

use webpki::KeyUsage;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

use super::*;
use crate::{Ensured, IssueReason, NewKey, PkiError};

#[test]
fn a_first_certificate_holds_what_is_planned_and_verifies() {
    let (_place, directory) = fresh();
    let ensured = directory.ensure(&plan("ours.example"), NOW).unwrap();
    assert_eq!(ensured, Ensured::Issued(IssueReason::Missing));

    let status = directory.summary(&domain("ours.example")).unwrap().unwrap();
    assert!(status.issued_here && status.has_key && status.chain_len == 1);
    let summary = status.summary;
    assert_eq!(
        summary.names.dns,
        ["ours.example", "conference.ours.example", "sip.ours.example", "edge.example"]
    );
    assert_eq!(summary.names.srv, ["_xmpp-server.ours.example", "_xmpp-client.ours.example"]);
    assert!(summary.names.xmpp.is_empty() && summary.names.uri.is_empty());
    assert_eq!(summary.subject, "CN=ours.example");
    assert_eq!((summary.not_before, summary.not_after), (NOW - 3600, NOW + 397 * DAY));

    let stored = directory.load(&domain("ours.example")).unwrap().unwrap();
    let ca = directory.ca_pem().unwrap().unwrap();
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        assert_eq!(verify(&stored.chain_pem, &ca, NOW, usage), Ok(()));
    }
    let late = NOW + 398 * DAY;
    assert!(verify(&stored.chain_pem, &ca, late, KeyUsage::server_auth()).is_err());
    let (_other_place, other) = fresh();
    other.ensure_ca(NOW).unwrap();
    let stranger = other.ca_pem().unwrap().unwrap();
    assert!(verify(&stored.chain_pem, &stranger, NOW, KeyUsage::server_auth()).is_err());
}

#[test]
fn xmpp_addr_can_be_read_back() {
    let (_place, directory) = fresh();
    let with = PlanOptions { xmpp_addr: true };
    let plan = NamePlan::for_domain(&domain("ours.example"), &domain("edge.example"), with);
    directory.ensure(&plan, NOW).unwrap();
    assert_eq!(leaf(&directory, "ours.example").names.xmpp, ["ours.example"]);
    assert_eq!(directory.ensure(&plan, NOW).unwrap(), Ensured::Kept);
    let without = self::plan("ours.example");
    let ensured = directory.ensure(&without, NOW).unwrap();
    assert_eq!(ensured, Ensured::Issued(IssueReason::NamesChanged), "one name too many");
    assert!(leaf(&directory, "ours.example").names.xmpp.is_empty());
}

#[test]
fn the_authority_lasts_ten_years_signs_leaves_only_and_has_a_name_of_its_own() {
    let (_place, directory) = fresh();
    directory.ensure_ca(NOW).unwrap();
    let pem = directory.ca_pem().unwrap().unwrap();
    let der = ders(&pem).remove(0);
    let (_, ca) = X509Certificate::from_der(&der).unwrap();
    let years = (ca.validity().not_after.timestamp() - NOW) / (365 * DAY);
    assert_eq!(years, 10);
    let constraints = ca.basic_constraints().unwrap().unwrap().value;
    assert!(constraints.ca && constraints.path_len_constraint == Some(0));
    assert!(ca.key_usage().unwrap().unwrap().value.key_cert_sign());
    ca.verify_signature(None).unwrap();

    directory.ensure_ca(NOW + DAY).unwrap();
    assert_eq!(directory.ca_pem().unwrap().unwrap(), pem, "never made twice");
    let (_place, other) = fresh();
    other.ensure_ca(NOW).unwrap();
    let other = CertificateSummary::from_der(&ders(&other.ca_pem().unwrap().unwrap())[0]).unwrap();
    assert_ne!(other.subject, ca.subject().to_string());
}

#[test]
fn a_leaf_says_what_it_is_for_and_who_signed_it() {
    let (_place, directory) = fresh();
    directory.ensure(&plan("ours.example"), NOW).unwrap();
    let der = ders(&read(directory.path(), "ours.example.crt")).remove(0);
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let purposes = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && purposes.client_auth);
    assert!(certificate.key_usage().unwrap().unwrap().value.digital_signature());
    assert!(!certificate.is_ca());
    let ca = ders(&read(directory.path(), "local-ca.crt")).remove(0);
    let (_, ca) = X509Certificate::from_der(&ca).unwrap();
    let key_id = |certificate: &X509Certificate<'_>, of_issuer: bool| {
        certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) if !of_issuer => Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) if of_issuer => {
                id.key_identifier.as_ref().map(|id| id.0.to_vec())
            }
            _ => None,
        })
    };
    assert!(key_id(&ca, false).is_some());
    assert_eq!(key_id(&certificate, true), key_id(&ca, false));
}

#[test]
fn serials_differ_even_for_one_key() {
    let (_place, directory) = fresh();
    let mut serials = HashSet::new();
    let mut keys = HashSet::new();
    for _ in 0..20 {
        directory.issue(&plan("ours.example"), NOW, NewKey::No).unwrap();
        let serial = leaf(&directory, "ours.example").serial;
        assert_eq!(serial.len(), 32, "16 bytes, positive: {serial}");
        serials.insert(serial);
        keys.insert(read(directory.path(), "ours.example.key"));
    }
    assert_eq!((serials.len(), keys.len()), (20, 1));
    directory.issue(&plan("ours.example"), NOW, NewKey::Yes).unwrap();
    assert!(keys.insert(read(directory.path(), "ours.example.key")));
    assert!(directory.load(&domain("ours.example")).unwrap().is_some());
}

#[test]
fn ours_is_renewed_when_it_must_be_and_not_before() {
    let (_place, directory) = fresh();
    let plan_now = plan("ours.example");
    directory.ensure(&plan_now, NOW).unwrap();
    let first = leaf(&directory, "ours.example").serial;
    let key = read(directory.path(), "ours.example.key");

    assert_eq!(directory.ensure(&plan_now, NOW).unwrap(), Ensured::Kept);
    assert_eq!(directory.ensure(&plan_now, NOW + 367 * DAY).unwrap(), Ensured::Kept);
    assert_eq!(leaf(&directory, "ours.example").serial, first);

    let soon = NOW + 367 * DAY + 1;
    assert_eq!(directory.ensure(&plan_now, soon).unwrap(), Ensured::Issued(IssueReason::Expiring));
    assert_eq!(leaf(&directory, "ours.example").not_after, soon + 397 * DAY);

    let moved = NamePlan::for_domain(
        &domain("ours.example"),
        &domain("other-edge.example"),
        PlanOptions::default(),
    );
    assert_eq!(directory.ensure(&moved, soon).unwrap(), Ensured::Issued(IssueReason::NamesChanged));
    assert_eq!(leaf(&directory, "ours.example").names.dns[3], "other-edge.example");
    assert_eq!(read(directory.path(), "ours.example.key"), key, "the key stays");
}

#[test]
fn a_lost_or_foreign_key_is_made_good() {
    let (_place, directory) = fresh();
    let ours = plan("ours.example");
    directory.ensure(&ours, NOW).unwrap();
    let key_path = directory.path().join("ours.example.key");

    std::fs::remove_file(&key_path).unwrap();
    assert_eq!(directory.ensure(&ours, NOW).unwrap(), Ensured::Issued(IssueReason::KeyLost));
    assert!(directory.load(&domain("ours.example")).unwrap().is_some());

    directory.ensure(&plan("two.example"), NOW).unwrap();
    std::fs::copy(directory.path().join("two.example.key"), &key_path).unwrap();
    let mismatch = directory.load(&domain("ours.example")).unwrap_err();
    assert!(matches!(mismatch, PkiError::KeyMismatch { .. }), "{mismatch}");
    assert_eq!(directory.ensure(&ours, NOW).unwrap(), Ensured::Issued(IssueReason::KeyLost));
    assert!(directory.load(&domain("ours.example")).unwrap().is_some());
}

#[test]
fn no_certificate_outlives_the_authority() {
    let (_place, directory) = fresh();
    directory.ensure_ca(NOW).unwrap();
    let ca = &ders(&directory.ca_pem().unwrap().unwrap())[0];
    let end = CertificateSummary::from_der(ca).unwrap().not_after;

    directory.issue(&plan("ours.example"), end - 100 * DAY, NewKey::No).unwrap();
    assert_eq!(leaf(&directory, "ours.example").not_after, end);
    let expired = directory.issue(&plan("ours.example"), end, NewKey::No).unwrap_err();
    assert!(matches!(expired, PkiError::AuthorityExpired { .. }), "{expired}");
}

#[test]
fn half_an_authority_is_never_replaced() {
    for (lost, kept) in [("local-ca.key", "local-ca.crt"), ("local-ca.crt", "local-ca.key")] {
        let (_place, directory) = fresh();
        directory.ensure_ca(NOW).unwrap();
        std::fs::remove_file(directory.path().join(lost)).unwrap();
        let before = read(directory.path(), kept);
        let error = directory.ensure(&plan("ours.example"), NOW).unwrap_err();
        assert!(matches!(error, PkiError::HalfAuthority { .. }), "{error}");
        assert!(error.to_string().contains(kept) && error.to_string().contains(lost), "{error}");
        assert!(!directory.can_issue());
        assert_eq!(read(directory.path(), kept), before);
        assert!(!directory.path().join(lost).exists());
    }
}

#[test]
fn without_the_authoritys_key_a_certificate_is_used_to_its_end() {
    let (_place, directory) = fresh();
    let ours = plan("ours.example");
    directory.ensure(&ours, NOW).unwrap();
    std::fs::remove_file(directory.path().join("local-ca.key")).unwrap();
    assert_eq!(directory.ensure(&ours, NOW + 396 * DAY).unwrap(), Ensured::Kept);
    assert!(directory.ensure(&ours, NOW + 397 * DAY).is_err());
}

#[test]
fn a_signing_request_verifies_has_all_names_and_leaves_the_certificate_alone() {
    let (_place, directory) = fresh();
    let ours = plan("ours.example");
    directory.ensure(&ours, NOW).unwrap();
    let before =
        (read(directory.path(), "ours.example.crt"), read(directory.path(), "ours.example.key"));
    let pem = directory.csr(&ours).unwrap();
    assert_eq!(read(directory.path(), "ours.example.csr"), pem);
    let after =
        (read(directory.path(), "ours.example.crt"), read(directory.path(), "ours.example.key"));
    assert_eq!(before, after);

    let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes());
    let der = der.unwrap();
    let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
    request.verify_signature().unwrap();
    assert_eq!(request.certification_request_info.subject.to_string(), "CN=ours.example");
    let asked = request.requested_extensions().unwrap().find_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => Some(names.general_names.len()),
        _ => None,
    });
    assert_eq!(asked, Some(6));
    // The names' own encoding is that of the issued certificate.
    let wanted = crate::subject_alt_name::extension(ours.names());
    assert!(der.windows(wanted.len()).any(|window| window == wanted));
}

#[test]
fn a_signing_request_may_come_first_and_its_key_is_then_used() {
    let (_place, directory) = fresh();
    let ours = plan("ours.example");
    directory.csr(&ours).unwrap();
    let key = read(directory.path(), "ours.example.key");
    assert!(directory.load_all().unwrap().is_empty(), "a key alone is no certificate");
    directory.csr(&ours).unwrap();
    directory.ensure(&ours, NOW).unwrap();
    assert_eq!(read(directory.path(), "ours.example.key"), key);
}

#[test]
fn a_domain_too_long_for_a_common_name_has_a_critical_san_instead() {
    let (_place, directory) = fresh();
    let long = format!("{}.{}.example", "a".repeat(60), "b".repeat(60));
    directory.ensure(&plan(&long), NOW).unwrap();
    let stored = directory.load(&domain(&long)).unwrap().unwrap();
    let der = ders(&stored.chain_pem).remove(0);
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(certificate.subject().to_string(), "");
    assert!(certificate.subject_alternative_name().unwrap().unwrap().critical);
    let ca = directory.ca_pem().unwrap().unwrap();
    assert_eq!(verify(&stored.chain_pem, &ca, NOW, KeyUsage::server_auth()), Ok(()));
}

//! The RSA certificate beside a domain's first one.

use gatehouse_testkit::TestCa;
use webpki::KeyUsage;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::*;
use crate::{Ensured, ImportFault, IssueReason, NewKey, PkiError};

fn today() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap()
}

fn kinds(directory: &CertDir) -> Vec<(String, &'static str, bool)> {
    let mut all = Vec::new();
    for directory in [directory.clone(), directory.beside()] {
        for domain in directory.domains().unwrap() {
            let status = directory.summary(&domain).unwrap().unwrap();
            assert!(status.has_key);
            all.push((domain.to_string(), status.key_kind, status.beside));
        }
    }
    all
}

#[test]
fn both_are_issued_by_one_authority_with_the_same_names_and_neither_is_taken_for_the_other() {
    let (_place, directory) = fresh();
    let ours = plan("ours.example");
    directory.ensure(&ours, NOW).unwrap();
    assert!(directory.beside().load(&domain("ours.example")).unwrap().is_none());
    assert!(directory.beside().domains().unwrap().is_empty(), "only on request");

    let ensured = directory.beside().ensure(&ours, NOW).unwrap();
    assert_eq!(ensured, Ensured::Issued(IssueReason::Missing));
    assert_eq!(
        kinds(&directory),
        [("ours.example".to_owned(), "ECDSA", false), ("ours.example".to_owned(), "RSA", true)]
    );
    assert_eq!(directory.load_all().unwrap().len(), 1);
    assert_eq!(mode(&directory.path().join("ours.example+rsa.key")), 0o600);

    let first = directory.load(&domain("ours.example")).unwrap().unwrap();
    let beside = directory.beside().load(&domain("ours.example")).unwrap().unwrap();
    assert!(!first.rsa && beside.rsa);
    let ca = directory.ca_pem().unwrap().unwrap();
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        assert_eq!(verify(&beside.chain_pem, &ca, NOW, usage), Ok(()));
    }
    let names = |directory: &CertDir| leaf(directory, "ours.example").names;
    assert_eq!(names(&directory), names(&directory.beside()));
}

#[test]
fn it_is_renewed_by_the_same_rules_and_leaves_the_first_one_alone() {
    let (_place, directory) = fresh();
    let (ours, beside) = (plan("ours.example"), directory.beside());
    directory.ensure(&ours, NOW).unwrap();
    beside.ensure(&ours, NOW).unwrap();
    let first = read(directory.path(), "ours.example.crt");
    let key = read(directory.path(), "ours.example+rsa.key");

    assert_eq!(beside.ensure(&ours, NOW + 367 * DAY).unwrap(), Ensured::Kept);
    let soon = NOW + 368 * DAY;
    assert_eq!(beside.ensure(&ours, soon).unwrap(), Ensured::Issued(IssueReason::Expiring));
    assert_eq!(read(directory.path(), "ours.example+rsa.key"), key);
    beside.issue(&ours, soon, NewKey::Yes).unwrap();
    assert_ne!(read(directory.path(), "ours.example+rsa.key"), key);
    assert!(beside.load(&domain("ours.example")).unwrap().unwrap().rsa);
    assert_eq!(read(directory.path(), "ours.example.crt"), first);
}

#[test]
fn its_request_is_for_an_rsa_key_of_its_own_and_the_answer_is_imported() {
    let (_place, directory) = fresh();
    let (ours, beside) = (plan("ours.example"), directory.beside());
    directory.csr(&ours).unwrap();
    let pem = beside.csr(&ours).unwrap();
    assert_eq!(read(directory.path(), "ours.example+rsa.csr"), pem);
    assert_ne!(read(directory.path(), "ours.example.csr"), pem);
    let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes());
    let der = der.unwrap();
    let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
    request.verify_signature().unwrap();
    // 2048 bits: the key alone has 256 bytes.
    let key = &request.certification_request_info.subject_pki;
    assert!(matches!(
        key.parsed().unwrap(),
        x509_parser::public_key::PublicKey::RSA(rsa) if rsa.key_size() == 2048
    ));
    let kept = read(directory.path(), "ours.example+rsa.key");
    beside.ensure(&ours, NOW).unwrap();
    assert_eq!(read(directory.path(), "ours.example+rsa.key"), kept);
}

#[test]
fn only_rsa_is_imported_beside_and_anything_as_the_first() {
    let (_place, directory) = fresh();
    let ca = TestCa::new();
    let ecdsa = ca.issue_for("ours.example");
    let rsa = ca.issue().dns("ours.example").rsa().make();
    let ours = domain("ours.example");
    let refused = directory
        .beside()
        .import(&ours, &ecdsa.chain_pem, Some(&ecdsa.key_pem), today())
        .unwrap_err();
    assert!(matches!(refused, PkiError::Import { fault: ImportFault::NotRsa, .. }), "{refused:?}");
    assert!(directory.beside().load(&ours).unwrap().is_none());

    directory.beside().import(&ours, &rsa.chain_pem, Some(&rsa.key_pem), today()).unwrap();
    assert!(directory.load(&ours).unwrap().is_none());
    assert_eq!(
        directory.beside().ensure(&plan("ours.example"), today()).unwrap(),
        Ensured::Imported
    );
    directory.import(&ours, &rsa.chain_pem, Some(&rsa.key_pem), today()).unwrap();
    assert!(directory.load(&ours).unwrap().unwrap().rsa);
    directory.import(&ours, &ecdsa.chain_pem, Some(&ecdsa.key_pem), today()).unwrap();
    assert!(!directory.load(&ours).unwrap().unwrap().rsa);
}

use gatehouse_testkit::{Issue, TestCa, TestCertificate};

use super::*;
use crate::{Ensured, ImportFault, NewKey, PkiError};

/// The time by which the test kit's certificates are valid.
fn today() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap()
}

fn import(
    directory: &CertDir,
    chain_pem: &str,
    key_pem: Option<&str>,
) -> Result<Vec<String>, ImportFault> {
    match directory.import(&domain("ours.example"), chain_pem, key_pem, today()) {
        Ok(imported) => Ok(imported.remarks),
        Err(PkiError::Import { domain: told, fault }) => {
            assert_eq!(told, domain("ours.example"));
            Err(fault)
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn with_key(directory: &CertDir, made: &TestCertificate) -> Result<Vec<String>, ImportFault> {
    import(directory, &made.chain_pem, Some(&made.key_pem))
}

#[test]
fn an_imported_certificate_is_used_and_never_touched() {
    let (_place, directory) = fresh();
    let ours = plan("ours.example");
    directory.ensure(&ours, today()).unwrap();
    let ca = TestCa::new();
    // It lacks most planned names and ends within 30 days: still not ours to replace.
    let made = ca.issue().dns("ours.example").ends_in_days(5).make();
    with_key(&directory, &made).unwrap();

    assert_eq!(directory.ensure(&ours, today()).unwrap(), Ensured::Imported);
    let refused = directory.issue(&ours, today(), NewKey::No).unwrap_err();
    assert!(matches!(refused, PkiError::NotOurs { .. }), "{refused}");
    let stored = directory.load(&domain("ours.example")).unwrap().unwrap();
    assert_eq!(ders(&stored.chain_pem)[0].as_ref(), made.der);
    assert_eq!(*stored.key_pem.reveal(), made.key_pem);
    let status = directory.summary(&domain("ours.example")).unwrap().unwrap();
    assert!(!status.issued_here && status.has_key);
    assert_eq!(mode(&directory.path().join("ours.example.key")), 0o600);
}

#[test]
fn an_authority_of_the_same_name_is_not_ours() {
    let (_place, directory) = fresh();
    let ours = plan("ours.example");
    directory.ensure(&ours, today()).unwrap();
    let issuer = leaf(&directory, "ours.example").issuer;
    let namesake = TestCa::named(issuer.strip_prefix("CN=").unwrap());
    with_key(&directory, &namesake.issue_for("ours.example")).unwrap();
    assert_eq!(leaf(&directory, "ours.example").issuer, issuer);
    assert_eq!(directory.ensure(&ours, today()).unwrap(), Ensured::Imported);
}

#[test]
fn a_signed_request_is_imported_without_a_key() {
    let (_place, directory) = fresh();
    let ours = plan("ours.example");
    directory.csr(&ours).unwrap();
    // Stands in for another authority: a second directory that issues for the same key.
    let (_other_place, other) = fresh();
    std::fs::copy(directory.path().join("ours.example.key"), other.path().join("ours.example.key"))
        .unwrap();
    other.ensure(&ours, today()).unwrap();
    let chain =
        format!("{}{}", read(other.path(), "ours.example.crt"), read(other.path(), "local-ca.crt"));

    assert_eq!(import(&directory, &chain, None), Ok(vec![]));
    assert_eq!(directory.ensure(&ours, today()).unwrap(), Ensured::Imported);
    let status = directory.summary(&domain("ours.example")).unwrap().unwrap();
    assert_eq!((status.chain_len, status.has_key), (2, true));
    assert!(!directory.path().join("local-ca.key").exists(), "no authority was needed");
}

#[test]
fn what_cannot_be_used_is_refused_and_changes_nothing() {
    let (_place, directory) = fresh();
    directory.ensure(&plan("ours.example"), today()).unwrap();
    let files =
        || (read(directory.path(), "ours.example.crt"), read(directory.path(), "ours.example.key"));
    let before = files();
    let ca = TestCa::new();
    let good = ca.issue_for("ours.example");
    let other = ca.issue_for("other.example");
    let key = Some(good.key_pem.as_str());
    let reversed = format!("{}{}", other.chain_pem, good.chain_pem);
    let damaged = good.chain_pem.replacen("MII", "AAAA", 1);
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
    for (chain, key, fault) in [
        ("", key, ImportFault::NoCertificate),
        (&*good.key_pem, key, ImportFault::NoCertificate),
        (&*damaged, key, ImportFault::Unreadable { number: 1 }),
        (&*good.chain_pem, Some("junk"), ImportFault::NoKey),
        (&*good.chain_pem, Some(locked), ImportFault::EncryptedKey),
        (&*good.chain_pem, Some(&*other.key_pem), ImportFault::KeyMismatch),
        (&*good.chain_pem, None, ImportFault::KeyMismatch),
        (&*reversed, key, ImportFault::LeafNotFirst { number: 2 }),
    ] {
        assert_eq!(import(&directory, chain, key), Err(fault));
        assert_eq!(files(), before);
    }
    let expired = ca.issue().dns("ours.example").expired().make();
    assert_eq!(with_key(&directory, &expired), Err(ImportFault::Expired));
    let names = vec![
        "other.example".to_owned(),
        "_xmpp-server.other.example".to_owned(),
        "_xmpp-client.other.example".to_owned(),
    ];
    assert_eq!(with_key(&directory, &other), Err(ImportFault::NotNamed { names }));
    let cn_only = ca.issue().common_name("ours.example").make();
    assert_eq!(with_key(&directory, &cn_only), Err(ImportFault::NotNamed { names: vec![] }));
    assert_eq!(files(), before);
}

#[test]
fn without_any_key_the_way_out_is_told() {
    let (_place, directory) = fresh();
    let made = TestCa::new().issue_for("ours.example");
    let fault = import(&directory, &made.chain_pem, None).unwrap_err();
    assert_eq!(fault, ImportFault::KeyMissing);
    assert!(fault.to_string().contains("gatehouse cert csr"), "{fault}");
}

#[test]
fn a_key_in_the_chain_file_does_not_reach_the_readable_file() {
    let (_place, directory) = fresh();
    let made = TestCa::new().issue_for("ours.example");
    let combined = format!("{}Bag Attributes\n{}", made.key_pem, made.chain_pem);
    import(&directory, &combined, Some(&combined)).unwrap();
    let written = read(directory.path(), "ours.example.crt");
    assert!(!written.contains("PRIVATE") && !written.contains("Bag"), "{written}");
}

#[test]
fn what_may_disappoint_is_remarked() {
    let (_place, directory) = fresh();
    let ca = TestCa::new();
    let made = ca.issue_for("ours.example");
    let remark =
        |chain: String| import(&directory, &chain, Some(&made.key_pem)).unwrap().first().cloned();
    let full = format!("{}{}", made.chain_pem, ca.root_pem());
    assert_eq!(remark(full), None);
    assert!(remark(made.chain_pem.clone()).unwrap().contains("intermediate"));
    let stray = format!("{}{}", made.chain_pem, TestCa::named("Stray").root_pem());
    assert!(remark(stray).unwrap().contains("order"));
    let own = Issue::self_signed().dns("ours.example").make();
    assert!(with_key(&directory, &own).unwrap()[0].contains("self-signed"));
}

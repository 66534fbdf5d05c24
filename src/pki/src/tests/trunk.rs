use webpki::KeyUsage;

use super::*;
use crate::{Ensured, IssueReason, PkiError, TrunkDir};

fn trunk() -> (tempfile::TempDir, TrunkDir) {
    let place = tempfile::tempdir().unwrap();
    let directory = TrunkDir::open(place.path().join("trunk")).unwrap();
    (place, directory)
}

#[test]
fn nodes_have_their_name_and_verify_in_both_roles() {
    let (_place, trunk) = trunk();
    for name in ["core", "edge"] {
        let node = domain(name);
        let ensured = trunk.ensure_node(&node, NOW).unwrap();
        assert_eq!(ensured, Ensured::Issued(IssueReason::Missing));
        assert_eq!(trunk.ensure_node(&node, NOW).unwrap(), Ensured::Kept);
        let stored = trunk.node(&node).unwrap();
        let ca = trunk.ca_pem().unwrap().unwrap();
        for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
            assert_eq!(verify(&stored.chain_pem, &ca, NOW, usage), Ok(()));
        }
        let leaf = CertificateSummary::from_der(&ders(&stored.chain_pem)[0]).unwrap();
        assert_eq!(leaf.names.dns, [name]);
        assert_eq!(mode(&trunk.path().join(format!("{name}.key"))), 0o600);
    }
    assert_eq!(mode(&trunk.path().join("trunk-ca.key")), 0o600);
}

#[test]
fn the_trunk_does_not_trust_the_local_authority() {
    let (_place, trunk) = trunk();
    trunk.ensure_ca(NOW).unwrap();
    let (_other_place, certs) = fresh();
    certs.ensure(&plan("edge"), NOW).unwrap();
    let stored = certs.load(&domain("edge")).unwrap().unwrap();
    let ca = trunk.ca_pem().unwrap().unwrap();
    assert!(verify(&stored.chain_pem, &ca, NOW, KeyUsage::server_auth()).is_err());
}

#[test]
fn an_exported_edge_has_what_it_needs_and_not_the_authoritys_key() {
    let (place, trunk) = trunk();
    let out = place.path().join("edge-data/trunk");
    let edge = domain("dmz-1");
    trunk.export_edge(&out, &edge, NOW).unwrap();

    let mut names: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["dmz-1.crt", "dmz-1.key", "trunk-ca.crt"]);
    assert_eq!((mode(&out), mode(&out.join("dmz-1.key"))), (0o700, 0o600));

    let there = TrunkDir::open(&out).unwrap();
    assert_eq!(there.node(&edge).unwrap().chain_pem, trunk.node(&edge).unwrap().chain_pem);
    assert_eq!(there.ca_pem().unwrap(), trunk.ca_pem().unwrap());
    assert_eq!(there.ensure_node(&edge, NOW).unwrap(), Ensured::Kept);
    // Near its end it is still used; after it, and for a new name, the authority is needed.
    assert_eq!(there.ensure_node(&edge, NOW + 1820 * DAY).unwrap(), Ensured::Kept);
    let ended = there.ensure_node(&edge, NOW + 1826 * DAY).unwrap_err();
    assert!(matches!(ended, PkiError::HalfAuthority { .. }), "{ended}");
    assert!(there.ensure_node(&domain("other"), NOW).is_err());
    let missing = there.node(&domain("other")).unwrap_err();
    assert!(matches!(missing, PkiError::NoNode { .. }) && missing.to_string().contains("export"));
}

#[test]
fn an_export_replaces_nothing() {
    let (place, trunk) = trunk();
    let out = place.path().join("edge-data");
    trunk.export_edge(&out, &domain("edge"), NOW).unwrap();
    let before = read(&out, "edge.key");
    let error = trunk.export_edge(&out, &domain("edge"), NOW).unwrap_err();
    assert!(matches!(error, PkiError::Exists { .. }), "{error}");
    assert_eq!(read(&out, "edge.key"), before);
}

#[test]
fn a_new_authority_issues_the_nodes_anew() {
    let (_place, trunk) = trunk();
    let core = domain("core");
    trunk.ensure_node(&core, NOW).unwrap();
    for name in ["trunk-ca.crt", "trunk-ca.key"] {
        std::fs::remove_file(trunk.path().join(name)).unwrap();
    }
    let ensured = trunk.ensure_node(&core, NOW).unwrap();
    assert_eq!(ensured, Ensured::Issued(IssueReason::NewAuthority));
    let stored = trunk.node(&core).unwrap();
    let ca = trunk.ca_pem().unwrap().unwrap();
    assert_eq!(verify(&stored.chain_pem, &ca, NOW, KeyUsage::server_auth()), Ok(()));
}

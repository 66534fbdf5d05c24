use gatehouse_types::Chain;

use super::*;
use crate::{NewKey, PkiError};

#[test]
fn keys_are_for_their_owner_only() {
    let (_place, directory) = fresh();
    directory.ensure(&plan("ours.example"), NOW).unwrap();
    directory.csr(&plan("ours.example")).unwrap();
    directory.issue(&plan("ours.example"), NOW, NewKey::Yes).unwrap();
    let at = |name: &str| mode(&directory.path().join(name));
    assert_eq!(mode(directory.path()), 0o700);
    assert_eq!((at("local-ca.key"), at("ours.example.key")), (0o600, 0o600));
    assert_eq!((at("local-ca.crt"), at("ours.example.crt")), (0o644, 0o644));
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "local-ca.crt",
            "local-ca.key",
            "ours.example.crt",
            "ours.example.csr",
            "ours.example.key"
        ],
        "no left-overs"
    );
}

#[test]
fn all_domains_are_loaded_in_order_and_nothing_else() {
    let (_place, directory) = fresh();
    for name in ["b.example", "a.example", "bücher.example"] {
        directory.ensure(&plan(name), NOW).unwrap();
    }
    let authority = read(directory.path(), "local-ca.crt");
    for stray in ["Not A Domain.crt", "B.example.crt", "notes.txt", ".a.example.crt.new"] {
        std::fs::write(directory.path().join(stray), &authority).unwrap();
    }
    let all = directory.load_all().unwrap();
    let domains: Vec<_> = all.iter().map(|stored| stored.domain.to_string()).collect();
    assert_eq!(domains, ["a.example", "b.example", "xn--bcher-kva.example"]);
    assert!(all.iter().all(|stored| stored.key_pem.reveal().contains("PRIVATE KEY")));
    assert!(!format!("{all:?}").contains("PRIVATE KEY"));
}

#[test]
fn a_left_over_of_an_earlier_crash_is_in_nobodys_way() {
    let (_place, directory) = fresh();
    std::fs::write(directory.path().join(".ours.example.key.new"), "half a k").unwrap();
    directory.ensure(&plan("ours.example"), NOW).unwrap();
    assert!(!directory.path().join(".ours.example.key.new").exists());
    assert_eq!(mode(&directory.path().join("ours.example.key")), 0o600);
}

#[test]
fn damaged_files_are_named() {
    for (name, is_key) in [
        ("ours.example.crt", false),
        ("ours.example.key", true),
        ("local-ca.crt", false),
        ("local-ca.key", true),
    ] {
        let (_place, directory) = fresh();
        directory.ensure(&plan("ours.example"), NOW).unwrap();
        std::fs::write(directory.path().join(name), "junk").unwrap();
        let error = directory.issue(&plan("ours.example"), NOW, NewKey::No).unwrap_err();
        match &error {
            PkiError::NoKey { path } if is_key => assert!(path.ends_with(name)),
            PkiError::NoCertificate { path } if !is_key => assert!(path.ends_with(name)),
            other => panic!("{name}: {other:?}"),
        }
        assert!(error.to_string().contains(name));
    }
}

#[test]
fn what_the_system_refuses_is_told_with_its_path() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("certs");
    std::fs::write(&file, "").unwrap();
    let error = CertDir::open(&file).unwrap_err();
    let text = Chain(&error).to_string();
    assert!(text.starts_with("cannot make the directory ") && text.contains("certs: "), "{text}");
}

#[test]
fn the_authoritys_name_is_not_a_domains() {
    let (_place, directory) = fresh();
    let error = directory.ensure(&plan("local-ca"), NOW).unwrap_err();
    assert!(matches!(error, PkiError::Reserved { .. }), "{error}");
}

use super::*;

fn refusal(keys: &Keys, entries: Vec<KeyEntry>) -> String {
    keys.replace(entries).unwrap_err().to_string()
}

#[test]
fn unusable_keys_are_refused_in_words_and_change_nothing() {
    let ca = TestCa::new();
    let good = ca.issue_for("us.example");
    let other = ca.issue_for("other.example");
    let before = keys(vec![entry(&["us.example"], &good)]);
    let broken = |chain_pem: &str, key_pem: &str| {
        vec![KeyEntry {
            domains: vec![domain("new.example")],
            chain_pem: chain_pem.to_owned(),
            key_pem: key_pem.to_owned(),
        }]
    };

    for (entries, part) in [
        (broken("", &good.key_pem), "there is no certificate in it"),
        (broken(&good.key_pem, &good.key_pem), "there is no certificate in it"),
        (broken(&good.chain_pem, ""), "there is no private key beside it"),
        (broken(&good.chain_pem, &good.chain_pem), "there is no private key beside it"),
        (broken(&good.chain_pem, &other.key_pem), "belongs to another certificate"),
        (broken(&good.chain_pem[..200], &good.key_pem), "damaged"),
    ] {
        let text = refusal(&before, entries);
        assert!(text.starts_with("the certificate for new.example cannot be used: "), "{text}");
        assert!(text.contains(part), "{text}");
    }
    let twice = vec![entry(&["a.example"], &good), entry(&["a.example"], &other)];
    assert!(refusal(&before, twice).contains("a.example already has another certificate"));
    assert_eq!(before.domains(), [domain("us.example")]);
}

#[test]
fn domains_are_told_in_order_to_every_clone() {
    let ca = TestCa::new();
    let shared = Keys::empty();
    let clone = shared.clone();
    assert!(clone.domains().is_empty());
    shared
        .replace(vec![
            entry(&["b.example", "a.example"], &ca.issue_for("b.example")),
            entry(&["c.example"], &ca.issue_for("c.example")),
        ])
        .unwrap();
    assert_eq!(clone.domains(), ["b.example", "a.example", "c.example"].map(domain));
}

#[test]
fn no_key_reaches_a_log() {
    let certificate = TestCa::new().issue_for("us.example");
    let entry = entry(&["us.example"], &certificate);
    let shown = format!("{entry:?}");
    let shared = keys(vec![entry]);
    let roots = Roots::new(&[], SystemRoots::Ignore).unwrap();
    let acceptor = Acceptor::new(&shared, &roots, &[]).unwrap();
    let connector = Connector::new(&shared, &roots, &[]).unwrap();
    let all = format!("{shown} {shared:?} {acceptor:?} {connector:?}");
    assert!(all.contains("us.example") && !all.contains("PRIVATE"), "{all}");
    let secret_line = certificate.key_pem.lines().nth(1).unwrap();
    assert!(!all.contains(secret_line));
}

#[test]
fn unusable_roots_are_refused_in_words() {
    let ca = TestCa::new();
    let good = ca.root_pem().to_owned();
    for (text, part) in
        [("", "there is no certificate in it"), (&good[..300], "damaged"), ("x", "no certificate")]
    {
        let error = Roots::new(&[good.clone(), text.to_owned()], SystemRoots::Ignore).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("trusted authority file 2 of 2 cannot be used: "), "{error}");
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn one_file_may_hold_many_roots_and_repeat_them() {
    let bundle = format!("{}{}", TestCa::new().root_pem(), TestCa::new().root_pem());
    let roots = Roots::new(&[bundle.clone(), bundle], SystemRoots::Ignore).unwrap();
    assert_eq!(roots.current().anchors().len(), 2);
}

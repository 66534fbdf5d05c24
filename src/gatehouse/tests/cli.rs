//! The command line, as a person uses it.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

use std::fs;

use assert_cmd::Command;
use tempfile::TempDir;

fn gatehouse(place: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("gatehouse").expect("the binary");
    command.current_dir(place.path()).args(arguments);
    command
}

fn output(command: &mut Command) -> (i32, String, String) {
    let output = command.output().expect("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn init_writes_a_file_that_check_config_accepts() {
    let place = TempDir::new().expect("directory");
    gatehouse(&place, &["init"]).assert().success();
    let (code, said, _) = output(&mut gatehouse(&place, &["check-config"]));
    assert_eq!(code, 0);
    assert!(said.contains("gatehouse.toml: no mistakes"), "{said}");
    let (code, _, error) = output(&mut gatehouse(&place, &["init"]));
    assert_eq!(code, 64);
    assert!(error.contains("exists already"), "{error}");
}

#[test]
fn ten_mistakes_are_told_in_one_run_with_line_and_remedy() {
    let place = TempDir::new().expect("directory");
    let text = r#"domains = ["ours.example", "not a domain"]
rolles = ["edge"]
edge-host = 5
[listen]
c2s = ["localhost:5222"]
s2s = ["127.0.0.1:5269", "127.0.0.1:5269"]
admin = "0.0.0.0:5280"
[tls]
trust = ["missing.pem"]
[s2s]
target-timeout = 10
connect-timeout = "2 weeks"
[offline]
per-account-max = -1
"#;
    fs::write(place.path().join("gatehouse.toml"), text).expect("write");
    let (code, _, error) = output(&mut gatehouse(&place, &["check-config"]));
    assert_eq!(code, 64, "{error}");
    for line in [1, 2, 3, 5, 6, 7, 9, 11, 12, 14] {
        assert!(error.contains(&format!("gatehouse.toml:{line}: ")), "line {line} in\n{error}");
    }
    assert_eq!(error.matches("    fix: ").count(), 10, "{error}");
    assert!(error.contains("10 mistakes"), "{error}");
}

#[test]
fn one_half_of_sip_without_the_other_is_a_warning() {
    let place = TempDir::new().expect("directory");
    fs::write(place.path().join("gatehouse.toml"), "[listen]\nsip = [\"[::]:5061\"]\n")
        .expect("write");
    let (code, said, _) = output(&mut gatehouse(&place, &["check-config"]));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("warning: `listen.sip` is open"), "{said}");
    let rows = "[[sip]]\nname = \"them\"\nremote = [\"them.example\"]\nmode = \"direct\"\n\
                host = \"edge.them.example\"\n";
    fs::write(place.path().join("policy.toml"), rows).expect("write");
    fs::write(place.path().join("gatehouse.toml"), "[policy]\nfile = \"policy.toml\"\n")
        .expect("write");
    let (code, said, _) = output(&mut gatehouse(&place, &["check-config"]));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("warning: the policy has [[sip]] rows"), "{said}");
    let (_, said, _) = output(&mut gatehouse(&place, &["policy", "them.example"]));
    assert!(said.contains("SIP allowed by `them` with a certificate for edge.them"), "{said}");
}

#[test]
fn run_refuses_a_mistake_before_it_opens_a_port() {
    let place = TempDir::new().expect("directory");
    fs::write(place.path().join("gatehouse.toml"), "domain = [\"a.example\"]\n").expect("write");
    let (code, _, error) = output(&mut gatehouse(&place, &["run"]));
    assert_eq!(code, 64);
    assert!(error.contains("write `domains`"), "{error}");
}

#[test]
fn accounts_come_and_go() {
    let place = TempDir::new().expect("directory");
    let add = |account: &str, password: &'static str| {
        output(gatehouse(&place, &["user", "add", account]).write_stdin(password))
    };
    assert_eq!(add("alice@ours.example", "secret\n").0, 0);
    assert_eq!(add("Bob@OURS.example", "secret").0, 0);

    let (code, _, error) = add("alice@ours.example", "other\n");
    assert_eq!(code, 1);
    assert!(error.contains("exists already"), "{error}");
    let (code, _, error) = add("carol@theirs.example", "secret\n");
    assert_eq!(code, 64);
    assert!(error.contains("not one of our domains"), "{error}");
    let (code, _, error) = add("ours.example", "secret\n");
    assert_eq!(code, 64);
    assert!(error.contains("is not an account"), "{error}");
    let (code, _, error) = add("dave@ours.example", "\n");
    assert_eq!(code, 1);
    assert!(error.contains("password"), "{error}");

    let list = |arguments: &[&str]| output(&mut gatehouse(&place, arguments)).1;
    assert_eq!(list(&["user", "list"]), "alice@ours.example\nbob@ours.example\n");
    assert_eq!(
        list(&["user", "list", "--json"]),
        "[\"alice@ours.example\",\"bob@ours.example\"]\n"
    );
    assert_eq!(output(&mut gatehouse(&place, &["user", "remove", "bob@ours.example"])).0, 0);
    assert_eq!(list(&["user", "list"]), "alice@ours.example\n");
    let (code, _, error) = output(&mut gatehouse(&place, &["user", "remove", "bob@ours.example"]));
    assert_eq!(code, 1);
    assert!(error.contains("no account"), "{error}");
}

#[test]
fn certificates_are_planned_issued_and_shown() {
    let place = TempDir::new().expect("directory");
    let domain = ["--domain", "example.com"];
    let run = |arguments: &[&str]| output(&mut gatehouse(&place, &[arguments, &domain].concat()));
    let (code, plan, _) = run(&["cert", "plan"]);
    assert_eq!(code, 0);
    for name in [
        "example.com",
        "conference.example.com",
        "sip.example.com",
        "edge.example.com",
        "_xmpp-server.example.com",
        "_xmpp-client.example.com",
    ] {
        assert!(plan.contains(name), "{name} in\n{plan}");
    }
    assert!(
        !place.path().join("gatehouse-data/certs/example.com.key").exists(),
        "plan writes nothing"
    );
    assert_eq!(run(&["cert", "issue"]).0, 0);
    let shown = run(&["cert", "show"]).1;
    assert!(shown.contains("example.com"), "{shown}");
    let (code, csr, _) = run(&["cert", "csr", "example.com"]);
    assert_eq!(code, 0);
    assert!(csr.contains("-----BEGIN CERTIFICATE REQUEST-----"), "{csr}");
    let (code, _, error) = run(&["cert", "csr", "other.example"]);
    assert_eq!(code, 64, "{error}");
}

#[test]
fn an_rsa_certificate_beside_the_first_is_made_on_request_and_handed_to_the_edge() {
    let place = TempDir::new().expect("directory");
    let domain = ["--domain", "example.com"];
    let run = |arguments: &[&str]| output(&mut gatehouse(&place, &[arguments, &domain].concat()));
    let there = |name: &str| place.path().join(name).exists();
    assert_eq!(run(&["cert", "issue"]).0, 0);
    assert!(!there("gatehouse-data/certs/example.com+rsa.crt"), "only on request");
    assert!(!run(&["cert", "plan"]).1.contains("RSA"));

    let (code, said, error) = run(&["cert", "issue", "--rsa"]);
    assert_eq!(code, 0, "{error}");
    assert!(said.contains("example.com: good as it is"), "{said}");
    assert!(said.contains("example.com, RSA: issued, because there was none"), "{said}");
    // From now on it is looked after without being asked for.
    let (_, said, _) = run(&["cert", "issue"]);
    assert!(said.contains("example.com, RSA: good as it is"), "{said}");
    assert!(run(&["cert", "plan"]).1.contains("example.com, RSA: the same names"));
    let shown = run(&["cert", "show"]).1;
    let kinds: Vec<_> = shown.lines().skip(1).map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(kinds, [Some("ECDSA"), Some("RSA")], "{shown}");

    let (code, _, error) = run(&["cert", "csr", "--rsa", "example.com"]);
    assert_eq!(code, 0, "{error}");
    assert!(there("gatehouse-data/certs/example.com+rsa.csr"));
    assert!(!there("gatehouse-data/certs/example.com.csr"));

    // The ECDSA pair is none for this place; the RSA pair is one for either.
    let files = |name: &str| {
        let path = |end: &str| format!("gatehouse-data/certs/{name}.{end}");
        (path("crt"), path("key"))
    };
    let (chain, key) = files("example.com");
    let import = ["cert", "import", "--rsa", "example.com", "--chain", &chain, "--key", &key];
    let (code, _, error) = run(&import);
    assert_ne!(code, 0);
    assert!(error.contains("its key is not RSA"), "{error}");

    let export = ["trunk", "export", "--out", "edge", "--name", "edge.example"];
    let (code, _, error) = run(&export);
    assert_eq!(code, 0, "{error}");
    for name in ["example.com.crt", "example.com.key", "example.com+rsa.crt", "example.com+rsa.key"]
    {
        assert!(there(&format!("edge/certs/{name}")), "{name}");
    }

    // With an RSA certificate in the first place there is nothing to add.
    let (chain, key) = files("example.com+rsa");
    let (code, _, error) =
        run(&["cert", "import", "example.com", "--chain", &chain, "--key", &key]);
    assert_eq!(code, 0, "{error}");
    let (_, said, _) = run(&["cert", "issue", "--rsa"]);
    assert!(said.contains("its first certificate is RSA already"), "{said}");
}

#[test]
fn the_setting_asks_for_rsa_certificates_too() {
    let place = TempDir::new().expect("directory");
    let settings = "domains = [\"example.com\"]\n[certificates]\nrsa = true\n";
    fs::write(place.path().join("gatehouse.toml"), settings).expect("write");
    assert_eq!(output(&mut gatehouse(&place, &["cert", "issue"])).0, 0);
    assert!(place.path().join("gatehouse-data/certs/example.com+rsa.crt").exists());
}

#[test]
fn the_edge_gets_what_it_needs_and_no_authority() {
    let place = TempDir::new().expect("directory");
    fs::write(
        place.path().join("gatehouse.toml"),
        "roles = [\"core\"]\n[trunk]\nedges = [{ name = \"edge\", address = \"192.0.2.1:5275\" }]\n",
    )
    .expect("write");
    let export = ["trunk", "export", "--out", "edge-data"];
    assert_eq!(output(&mut gatehouse(&place, &export)).0, 0);
    let out = place.path().join("edge-data");
    for file in [
        "certs/ours.example.crt",
        "certs/ours.example.key",
        "trunk/trunk-ca.crt",
        "trunk/edge.crt",
        "trunk/edge.key",
        "dialback.secret",
    ] {
        assert!(out.join(file).is_file(), "{file}");
    }
    for file in ["certs/local-ca.key", "trunk/trunk-ca.key", "trunk/core.key", "gatehouse.sqlite"] {
        assert!(!out.join(file).exists(), "{file} must stay inside");
    }
    let (code, _, error) = output(&mut gatehouse(&place, &export));
    assert_eq!(code, 64, "{error}");
}

#[test]
fn policy_says_what_it_makes_of_a_partner() {
    let place = TempDir::new().expect("directory");
    fs::write(
        place.path().join("policy.toml"),
        "[[rule]]\nname = \"them\"\nremote = [\"them.example\"]\nrequire = \"certificate-or-dialback\"\n",
    )
    .expect("write");
    fs::write(place.path().join("gatehouse.toml"), "[policy]\nfile = \"policy.toml\"\n")
        .expect("write");
    let ask = |partner: &str| output(&mut gatehouse(&place, &["policy", partner])).1;
    assert!(ask("them.example").contains("allowed by rule `them`"));
    assert!(ask("others.example").contains("not allowed"));
}

#[test]
fn status_without_an_appliance_says_how_to_start_one() {
    let place = TempDir::new().expect("directory");
    fs::write(place.path().join("gatehouse.toml"), "[listen]\nadmin = \"127.0.0.1:1\"\n")
        .expect("write");
    let (code, _, error) = output(&mut gatehouse(&place, &["status"]));
    assert_eq!(code, 1);
    assert!(error.contains("gatehouse run"), "{error}");
}

#[test]
fn what_is_not_reached_is_asked_of_a_running_appliance() {
    let place = TempDir::new().expect("directory");
    fs::write(place.path().join("gatehouse.toml"), "[listen]\nadmin = \"127.0.0.1:1\"\n")
        .expect("write");
    let (code, _, error) = output(&mut gatehouse(&place, &["reach", "show"]));
    assert_eq!(code, 1);
    assert!(error.contains("gatehouse run"), "{error}");
    // Without the token of the data directory nothing is even asked.
    let forget = || output(&mut gatehouse(&place, &["reach", "forget", "them.example"]));
    let (code, _, error) = forget();
    assert_eq!(code, 1);
    assert!(error.contains("admin.token") && error.contains("--data"), "{error}");
    let data = place.path().join("gatehouse-data");
    fs::create_dir(&data).expect("directory");
    fs::write(data.join("admin.token"), "0".repeat(64)).expect("write");
    let (code, _, error) = forget();
    assert_eq!(code, 1);
    assert!(error.contains("gatehouse run") && !error.contains("0000"), "{error}");
}

#[test]
fn a_pin_goes_from_a_certificate_into_a_policy() {
    let place = TempDir::new().expect("directory");
    let run = |arguments: &[&str]| output(&mut gatehouse(&place, arguments));
    assert_eq!(run(&["cert", "issue", "--domain", "example.com"]).0, 0);
    let (code, pin, _) = run(&["cert", "pin", "gatehouse-data/certs/example.com.crt"]);
    assert_eq!((code, pin.trim().len()), (0, "sha256:".len() + 64), "{pin}");

    let rule = "[[rule]]\nname = \"them\"\nremote = [\"them.example\"]\n";
    let policy = |pin: &str| {
        fs::write(place.path().join("policy.toml"), format!("{rule}pin = [\"{pin}\"]\n"))
            .expect("write");
        fs::write(place.path().join("gatehouse.toml"), "[policy]\nfile = \"policy.toml\"\n")
            .expect("write");
        run(&["policy", "them.example"])
    };
    let (code, said, _) = policy(pin.trim());
    assert_eq!(code, 0);
    assert!(
        said.contains("a certificate with a pinned key") && said.contains(pin.trim()),
        "{said}"
    );
    let (code, _, error) = policy("sha256:00");
    assert_eq!(code, 64);
    assert!(error.contains("gatehouse cert pin"), "{error}");

    for file in ["policy.toml", "gatehouse-data/certs/example.com.key", "none.pem"] {
        let (code, said, error) = run(&["cert", "pin", file]);
        assert_eq!((code, said.as_str()), (64, ""), "{file}");
        assert!(error.contains(file) && !error.contains("PRIVATE"), "{error}");
    }
}

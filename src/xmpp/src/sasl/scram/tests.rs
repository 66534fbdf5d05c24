use gatehouse_types::Jid;

use super::*;
use crate::sasl::test_client::ScramClient;
use crate::sasl::{ScramHash, ScramKeys};

const EXPORTER: [u8; 32] = [7; 32];

fn account() -> Jid {
    "user@ours.example".parse().unwrap()
}

fn credential(hash: ScramHash, salt: &str, iterations: u32) -> Credential {
    let salt = STANDARD.decode(salt).unwrap();
    let keys = ScramKeys::derive(hash, "pencil", &salt, iterations).unwrap();
    Credential::select(vec![keys], Some(hash), &account(), b"secret")
}

fn read(message: &str) -> Result<ClientFirst, Failure> {
    ClientFirst::read(message.as_bytes(), Mechanism::ScramSha256, None)
}

#[test]
fn rfc_5802_vector() {
    let first = b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL";
    let first = ClientFirst::read(first, Mechanism::ScramSha1, None).unwrap();
    assert_eq!(first.username, "user");
    let credential = credential(ScramHash::Sha1, "QSXCR+Q6sek8bf92", 4096);
    let (await_proof, challenge) = first.challenge(credential, "3rfcNHYJY1ZVvWVs7j");
    assert_eq!(challenge, "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096");
    let last = b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,\
        p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=";
    assert_eq!(await_proof.check(last).unwrap(), "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=");
}

#[test]
fn rfc_7677_vector() {
    let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let first = ClientFirst::read(first, Mechanism::ScramSha256, None).unwrap();
    let credential = credential(ScramHash::Sha256, "W22ZaJ0SNY7soEsUEjb6gQ==", 4096);
    let (await_proof, challenge) = first.challenge(credential, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
    assert_eq!(
        challenge,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let server_final = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    assert_eq!(await_proof.check(last).unwrap(), server_final);
}

#[test]
fn client_first_is_read_strictly() {
    for good in [
        "n,,n=user,r=abc",
        "y,,n=user,r=abc",
        "n,a=user@ours.example,n=user,r=abc",
        "n,,n=user,r=abc,x=extension",
    ] {
        assert!(read(good).is_ok(), "{good}");
    }
    let long = format!("n,,n=user,r={}", "x".repeat(CLIENT_FIRST_BYTES_MAX));
    for bad in [
        "",
        "n",
        "n,,",
        "n,n=user,r=abc",
        "N,,n=user,r=abc",
        "n,user,n=user,r=abc",
        "n,a=,n=user,r=abc",
        "n,a=x=y,n=user,r=abc",
        "n,,r=abc,n=user",
        "n,,m=must,n=user,r=abc",
        "n,,n=,r=abc",
        "n,,n=us=er,r=abc",
        "n,,n=us=2c,r=abc",
        "n,,n=user",
        "n,,n=user,r=",
        "n,,n=user,r=a b",
        "n,,n=user,r=abc,",
        "n,,n=user,r=abc,m=must",
        "n,,n=user,r=abc,x=",
        "n,,n=us\0er,r=abc",
        "n,,n=us=é,r=abc",
        "p=tls-exporter,,n=user,r=abc",
        &long,
    ] {
        assert_eq!(read(bad).err(), Some(Failure::MalformedRequest), "{bad}");
    }
    let not_utf8 = ClientFirst::read(b"n,,n=\xff,r=abc", Mechanism::ScramSha256, None);
    assert_eq!(not_utf8.err(), Some(Failure::MalformedRequest));
}

#[test]
fn names_are_unescaped() {
    assert_eq!(read("n,,n=a=2Cb=3D,r=abc").unwrap().username, "a,b=");
    let acting = read("n,a=b=2C@x,n=user,r=abc").unwrap();
    assert_eq!(acting.authzid.as_deref(), Some("b,@x"));
}

/// Every flag meets every mechanism, with and without keying material.
#[test]
fn channel_binding_table() {
    let mut table = String::new();
    for (offer, exporter) in [("PLUS offered", Some(&EXPORTER)), ("no PLUS", None)] {
        for mechanism in [Mechanism::ScramSha256Plus, Mechanism::ScramSha256] {
            for flag in ["n", "y", "p=tls-exporter", "p=tls-unique", "p"] {
                let message = format!("{flag},,n=user,r=abc");
                let read = ClientFirst::read(message.as_bytes(), mechanism, exporter);
                let outcome = read.map_or_else(Failure::as_str, |_| "ok");
                table += &format!("{offer}, {}, {flag}: {outcome}\n", mechanism.name());
            }
        }
    }
    insta::assert_snapshot!(table, @r"
    PLUS offered, SCRAM-SHA-256-PLUS, n: malformed-request
    PLUS offered, SCRAM-SHA-256-PLUS, y: not-authorized
    PLUS offered, SCRAM-SHA-256-PLUS, p=tls-exporter: ok
    PLUS offered, SCRAM-SHA-256-PLUS, p=tls-unique: not-authorized
    PLUS offered, SCRAM-SHA-256-PLUS, p: malformed-request
    PLUS offered, SCRAM-SHA-256, n: ok
    PLUS offered, SCRAM-SHA-256, y: not-authorized
    PLUS offered, SCRAM-SHA-256, p=tls-exporter: malformed-request
    PLUS offered, SCRAM-SHA-256, p=tls-unique: malformed-request
    PLUS offered, SCRAM-SHA-256, p: malformed-request
    no PLUS, SCRAM-SHA-256-PLUS, n: malformed-request
    no PLUS, SCRAM-SHA-256-PLUS, y: malformed-request
    no PLUS, SCRAM-SHA-256-PLUS, p=tls-exporter: not-authorized
    no PLUS, SCRAM-SHA-256-PLUS, p=tls-unique: not-authorized
    no PLUS, SCRAM-SHA-256-PLUS, p: malformed-request
    no PLUS, SCRAM-SHA-256, n: ok
    no PLUS, SCRAM-SHA-256, y: ok
    no PLUS, SCRAM-SHA-256, p=tls-exporter: malformed-request
    no PLUS, SCRAM-SHA-256, p=tls-unique: malformed-request
    no PLUS, SCRAM-SHA-256, p: malformed-request
    ");
}

/// A dialogue up to the client's final message, which `change` may spoil.
fn dialogue(
    (flag, binding): (&str, &[u8]),
    password: &str,
    change: impl Fn(String) -> String,
) -> Result<(), Failure> {
    let mechanism =
        if binding.is_empty() { Mechanism::ScramSha256 } else { Mechanism::ScramSha256Plus };
    let mut client = ScramClient::new(ScramHash::Sha256, ("user", password), flag, binding);
    let exporter = Some(&EXPORTER);
    let first = ClientFirst::read(client.first().as_bytes(), mechanism, exporter).unwrap();
    let credential = credential(ScramHash::Sha256, "QSXCR+Q6sek8bf92", 2);
    let (await_proof, challenge) = first.challenge(credential, "server");
    let last = change(client.last(&challenge));
    let server_final = await_proof.check(last.as_bytes())?;
    assert_eq!(server_final, client.server_final());
    Ok(())
}

#[test]
fn proof_is_accepted_or_not() {
    let same = |last: String| last;
    let bound = ("p=tls-exporter", EXPORTER.as_slice());
    let unbound = ("n", [].as_slice());
    assert_eq!(dialogue(unbound, "pencil", same), Ok(()));
    assert_eq!(dialogue(bound, "pencil", same), Ok(()));
    assert_eq!(dialogue(unbound, "pencil", |last| last.replace(",p=", ",x=new,p=")).err(), {
        // The extension is fine, but it is not what the proof was made over.
        Some(Failure::NotAuthorized)
    });

    assert_eq!(dialogue(unbound, "Pencil", same), Err(Failure::NotAuthorized));
    // The other end of another TLS connection.
    let other = ("p=tls-exporter", [8; 32].as_slice());
    assert_eq!(dialogue(other, "pencil", same), Err(Failure::NotAuthorized));
    for (from, to, failure) in [
        ("c=biws", "c=eSws", Failure::NotAuthorized),
        ("server", "serve", Failure::NotAuthorized),
        ("c=biws", "c=b", Failure::MalformedRequest),
        ("c=biws,", "", Failure::MalformedRequest),
        (",p=", ",m=must,p=", Failure::MalformedRequest),
        (",p=", ",q=", Failure::MalformedRequest),
        (",p=", ",p=AAAA", Failure::MalformedRequest),
        (",p=", ",p=!", Failure::MalformedRequest),
    ] {
        let outcome = dialogue(unbound, "pencil", |last| last.replacen(from, to, 1));
        assert_eq!(outcome, Err(failure), "{from} -> {to}");
    }
    let long = |last: String| format!("{last}{}", "A".repeat(CLIENT_FINAL_BYTES_MAX));
    assert_eq!(dialogue(unbound, "pencil", long), Err(Failure::MalformedRequest));
}

use super::*;
use crate::sasl::test_client::ScramClient;
use crate::sasl::{ITERATIONS, ScramHash};

const SECRET: &[u8] = b"decoy secret";

fn open(mechanism: Mechanism, message: &str) -> Result<Opening, Failure> {
    let domain = "ours.example".parse().unwrap();
    let terms = Terms { domain: &domain, exporter: None };
    Opening::read(mechanism, message.as_bytes(), terms)
}

fn keys(hash: ScramHash) -> ScramKeys {
    ScramKeys::derive(hash, "pencil", &[9; 16], ITERATIONS).unwrap()
}

fn seed(byte: u8) -> Seed {
    Seed::new([byte; 32])
}

#[test]
fn account_is_prepared_and_in_the_streams_domain() {
    let account = |message| open(Mechanism::ScramSha1, message).map(|opening| opening.account);
    assert_eq!(account("n,,n=Alice,r=x"), Ok("alice@ours.example".parse().unwrap()));
    assert!(account("n,a=ALICE@ours.example,n=alice,r=x").is_ok());
    for other in ["bob@ours.example", "alice@other.example", "alice@ours.example/x", "alice", "@"] {
        let message = format!("n,a={other},n=alice,r=x");
        let refused = open(Mechanism::ScramSha1, &message).err();
        assert_eq!(refused, Some(Failure::InvalidAuthzid), "{other}");
        let message = format!("{other}\0alice\0pencil");
        assert_eq!(open(Mechanism::Plain, &message).err(), Some(Failure::InvalidAuthzid));
    }
    for name in ["a b", "alice@ours.example", "a/b"] {
        let message = format!("n,,n={name},r=x");
        let refused = open(Mechanism::ScramSha1, &message).err();
        assert_eq!(refused, Some(Failure::NotAuthorized), "{name}");
    }
}

#[test]
fn plain_is_checked_against_either_hash() {
    let check = |password: &str, stored| {
        let opening = open(Mechanism::Plain, &format!("\0alice\0{password}")).unwrap();
        match opening.answer(stored, SECRET, &mut seed(1)) {
            Answer::Proved => "proved",
            Answer::Refused(failure) => failure.as_str(),
            Answer::Challenge(..) => "challenge",
        }
    };
    for hash in [ScramHash::Sha1, ScramHash::Sha256] {
        assert_eq!(check("pencil", vec![keys(hash)]), "proved");
        assert_eq!(check("Pencil", vec![keys(hash)]), "not-authorized");
    }
    assert_eq!(check("pencil", Vec::new()), "not-authorized");
    assert_eq!(check("tab\there", vec![keys(ScramHash::Sha1)]), "not-authorized");
}

/// The server's first message and how the proof was received.
fn dialogue(name: &str, password: &str, stored: Vec<ScramKeys>, byte: u8) -> (String, Failure) {
    let mut client = ScramClient::new(ScramHash::Sha256, (name, password), "n", b"");
    let opening = open(Mechanism::ScramSha256, &client.first()).unwrap();
    let Answer::Challenge(await_proof, challenge) = opening.answer(stored, SECRET, &mut seed(byte))
    else {
        panic!("no challenge");
    };
    let last = client.last(&challenge);
    let failure = await_proof.check(last.as_bytes()).unwrap_err();
    (challenge, failure)
}

/// Lengths of the attributes, and the iterations.
fn shape(challenge: &str) -> Vec<String> {
    let parts = challenge.split(',');
    parts
        .map(|part| if part.starts_with('i') { part.to_owned() } else { part.len().to_string() })
        .collect()
}

fn salt(challenge: &str) -> &str {
    challenge.split(',').nth(1).unwrap()
}

#[test]
fn unknown_account_looks_like_a_known_one() {
    let known = dialogue("alice", "wrong", vec![keys(ScramHash::Sha256)], 1);
    let unknown = dialogue("nobody", "pencil", Vec::new(), 1);
    assert_eq!(known.1, unknown.1);
    assert_eq!(shape(&known.0), shape(&unknown.0));
    // Keys for another hash are as good as none.
    let other_hash = dialogue("alice", "pencil", vec![keys(ScramHash::Sha1)], 1);
    assert_eq!((shape(&other_hash.0), other_hash.1), (shape(&known.0), known.1));

    let again = dialogue("nobody", "guess", Vec::new(), 2);
    assert_eq!(salt(&again.0), salt(&unknown.0), "the salt is the same each time");
    assert_ne!(again.0, unknown.0, "the nonce is not");
    let someone_else = dialogue("noone", "guess", Vec::new(), 2);
    assert_ne!(salt(&someone_else.0), salt(&again.0));
}

use super::c2s::{PASSWORD, keys};
use super::world::{EXPORTER, domain};
use crate::Seed;
use crate::sasl::test_client::ScramClient;
use crate::sasl::{Answer, Mechanism, Opening, ScramHash, Terms};

/// Only who knows the password gets in, and who knows it does.
///
/// The first byte chooses the mechanism and whether the account exists, the rest is two messages
/// with a line feed between them. `@` as the first stands for what a client with the password
/// says; `@` as the second too, and pairs of bytes behind it change it: where, and into what.
pub fn check_sasl(data: &[u8]) {
    let Some((world, messages)) = data.split_first() else { return };
    let mut messages = messages.splitn(2, |byte| *byte == b'\n');
    let (first, last) = (messages.next().unwrap_or_default(), messages.next().unwrap_or_default());

    let exporter = (world & 8 == 0).then_some(&EXPORTER);
    let Some(mechanism) = Mechanism::offered(exporter).nth(usize::from(world & 7)) else { return };
    let known = world & 16 == 0;
    let domain = domain("us.example");
    let terms = Terms { domain: &domain, exporter };
    let mut client = client(mechanism);
    let good = match &client {
        Some(client) => client.first(),
        None => format!("\0alice\0{PASSWORD}"),
    };
    let first = if first == b"@" { good.as_bytes() } else { first };
    let honest = first == good.as_bytes();

    let Ok(opening) = Opening::read(mechanism, first, terms) else {
        return assert!(!honest, "an honest client was not understood");
    };
    let account = opening.account().clone();
    assert!(account.is_bare() && account.local().is_some() && *account.domain() == domain);
    let is_alice = account.local() == Some("alice");
    let stored = if known { keys() } else { Vec::new() };
    match opening.answer(stored, b"decoy secret", &mut Seed::new([3; 32])) {
        Answer::Proved => {
            assert!(known && client.is_none(), "proved by nothing");
            assert!(first.ends_with(format!("\0{PASSWORD}").as_bytes()), "a wrong password");
        }
        Answer::Refused(_) => assert!(!(honest && known), "the right password was refused"),
        Answer::Challenge(proof, challenge) => {
            let client = client.as_mut().expect("PLAIN has no challenge");
            let (last, right) = match last {
                [b'@', changes @ ..] if honest => {
                    let right = client.last(&challenge);
                    (changed(right.clone().into_bytes(), changes), Some(right))
                }
                other => (other.to_vec(), None),
            };
            let is_right = right.is_some_and(|right| right.as_bytes() == last);
            match proof.check(&last) {
                Ok(said) => {
                    assert!(is_right && is_alice && known, "proved by nothing");
                    assert_eq!(said, client.server_final(), "the server must prove itself too");
                }
                Err(_) => assert!(!(is_right && known), "the right proof was refused"),
            }
        }
    }
}

/// A client of `alice` with the password; none for PLAIN.
fn client(mechanism: Mechanism) -> Option<ScramClient> {
    let hash = match mechanism {
        Mechanism::Plain => return None,
        Mechanism::ScramSha1 | Mechanism::ScramSha1Plus => ScramHash::Sha1,
        Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => ScramHash::Sha256,
    };
    let (flag, binding): (_, &[u8]) = match mechanism {
        Mechanism::ScramSha1Plus | Mechanism::ScramSha256Plus => ("p=tls-exporter", &EXPORTER),
        _ => ("n", b""),
    };
    Some(ScramClient::new(hash, ("alice", PASSWORD), flag, binding))
}

fn changed(mut message: Vec<u8>, changes: &[u8]) -> Vec<u8> {
    for change in changes.chunks_exact(2) {
        let at = usize::from(change[0]) % message.len();
        message[at] = change[1];
    }
    message
}

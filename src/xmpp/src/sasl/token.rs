//! Hashed tokens (XEP-0484 and the HT family of mechanisms that it names).

use aws_lc_rs::{constant_time, hmac};
use gatehouse_types::{Domain, Jid};

use super::Failure;

/// The longest first message: a name, and what a hash makes of the token.
const MESSAGE_BYTES_MAX: usize = 1024 + 1 + PROOF_BYTES;
const PROOF_BYTES: usize = 32;

/// How a client shows that it has a token. Each token is good for one of them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TokenMechanism {
    /// Bound to the TLS connection (RFC 9266).
    Sha256Exporter,
    /// Bound to nothing.
    Sha256None,
}

/// The client said who it is, and showed that it has a token.
pub(crate) struct TokenFirst {
    mechanism: TokenMechanism,
    account: Jid,
    proof: Vec<u8>,
    /// Channel-binding data.
    bound: Vec<u8>,
}

impl TokenMechanism {
    /// What is offered on a TLS connection with this keying material, best first.
    pub(crate) fn offered(exporter: Option<&[u8; 32]>) -> impl Iterator<Item = Self> + use<> {
        let bound = exporter.map(|_| Self::Sha256Exporter);
        bound.into_iter().chain([Self::Sha256None])
    }

    /// The name that clients know it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256Exporter => "HT-SHA-256-EXPR",
            Self::Sha256None => "HT-SHA-256-NONE",
        }
    }
}

impl TokenFirst {
    /// Reads `authcid NUL HMAC(token, "Initiator" + data)`.
    pub(crate) fn read(
        mechanism: TokenMechanism,
        message: &[u8],
        domain: &Domain,
        exporter: Option<&[u8; 32]>,
    ) -> Result<Self, Failure> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(Failure::MalformedRequest);
        }
        let end = message.iter().position(|byte| *byte == 0).ok_or(Failure::MalformedRequest)?;
        let (name, proof) = message.split_at_checked(end).ok_or(Failure::MalformedRequest)?;
        let name = str::from_utf8(name).map_err(|_| Failure::MalformedRequest)?;
        let proof = proof.get(1..).filter(|proof| proof.len() == PROOF_BYTES);
        let proof = proof.ok_or(Failure::MalformedRequest)?.to_vec();
        let bound = match mechanism {
            TokenMechanism::Sha256None => Vec::new(),
            TokenMechanism::Sha256Exporter => exporter.ok_or(Failure::MalformedRequest)?.to_vec(),
        };
        let account = Jid::of_account(name, domain).map_err(|_| Failure::NotAuthorized)?;
        Ok(Self { mechanism, account, proof, bound })
    }

    pub(crate) fn account(&self) -> &Jid {
        &self.account
    }

    pub(crate) fn mechanism(&self) -> TokenMechanism {
        self.mechanism
    }

    /// Which of `tokens` the client has, and the server's proof that it has it, too. Takes the same
    /// time whatever the answer; something is compared even where there is no token.
    pub(crate) fn check(&self, tokens: &[String]) -> Option<(usize, Vec<u8>)> {
        let decoy = String::from("there is none");
        let mut found = None;
        for (index, token) in tokens.iter().chain([&decoy]).enumerate() {
            let expected = self.sign(token, b"Initiator");
            let equal = constant_time::verify_slices_are_equal(&expected, &self.proof).is_ok();
            if equal && index < tokens.len() {
                found = Some((index, self.sign(token, b"Responder")));
            }
        }
        found
    }

    fn sign(&self, token: &str, who: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
        let mut context = hmac::Context::with_key(&key);
        context.update(who);
        context.update(&self.bound);
        context.sign().as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        digits.map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    }

    fn read(mechanism: TokenMechanism, proof: &str) -> Result<TokenFirst, Failure> {
        let message = [b"alice\0".as_slice(), &bytes(proof)].concat();
        let domain = "ours.example".parse().unwrap();
        TokenFirst::read(mechanism, &message, &domain, Some(&[7; 32]))
    }

    // Computed with `openssl dgst -sha256 -hmac`.
    const NONE: [&str; 2] = [
        "d4486d7d9644ab67db5dd96ed4602f08bde3c8f761f8ddce4d4e6cc98de4d780",
        "113e1b617a94885481822e841ba07a48032026fbacbea217d31c13089eb585d9",
    ];
    const EXPORTER: [&str; 2] = [
        "72267b83cde837896c9d88f86c9f17fa2018fff4fb171c80d80316fdf15afeff",
        "b795521b2afeb8d468e1061cd756b63a2ce223cb69721ddfcaf869002b1737ce",
    ];

    #[test]
    fn vectors() {
        let tokens = ["other".to_owned(), "s3cr3t-token".to_owned()];
        for (mechanism, [initiator, responder]) in
            [(TokenMechanism::Sha256None, NONE), (TokenMechanism::Sha256Exporter, EXPORTER)]
        {
            let first = read(mechanism, initiator).unwrap();
            assert_eq!(first.account().to_string(), "alice@ours.example");
            assert_eq!(first.check(&tokens), Some((1, bytes(responder))));
            assert_eq!(first.check(&tokens[..1]), None);
            assert_eq!(first.check(&[]), None);
        }
        // What is bound to this connection is worth nothing elsewhere, and the other way round.
        assert!(read(TokenMechanism::Sha256None, EXPORTER[0]).unwrap().check(&tokens).is_none());
        assert!(read(TokenMechanism::Sha256Exporter, NONE[0]).unwrap().check(&tokens).is_none());
        // The server's proof is not the client's.
        assert!(read(TokenMechanism::Sha256None, NONE[1]).unwrap().check(&tokens).is_none());
    }

    #[test]
    fn anything_else_is_malformed() {
        let domain: Domain = "ours.example".parse().unwrap();
        let long = [vec![b'a'; 2000], vec![0; 33]].concat();
        for message in [b"".as_slice(), b"alice", b"alice\0", b"alice\0short", b"\xff\0", &long] {
            let read = TokenFirst::read(TokenMechanism::Sha256None, message, &domain, None);
            assert_eq!(read.err(), Some(Failure::MalformedRequest));
        }
        let message = [b"alice\0".as_slice(), &[0; 32]].concat();
        let unbound = TokenFirst::read(TokenMechanism::Sha256Exporter, &message, &domain, None);
        assert_eq!(unbound.err(), Some(Failure::MalformedRequest));
        let nobody = TokenFirst::read(TokenMechanism::Sha256None, &[0; 33], &domain, None);
        assert_eq!(nobody.err(), Some(Failure::NotAuthorized));
    }
}

//! The client's side of SCRAM, written from RFC 5802 apart from the server's.

#![allow(clippy::unwrap_used, reason = "the client of a test")]

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ScramHash;

pub(crate) struct ScramClient {
    hash: ScramHash,
    password: String,
    gs2_header: String,
    binding: Vec<u8>,
    bare: String,
    server_signature: String,
}

impl ScramClient {
    /// `flag` is the GS2 flag, such as `n`; `binding` what it hashes in.
    pub(crate) fn new(
        hash: ScramHash,
        (username, password): (&str, &str),
        flag: &str,
        binding: &[u8],
    ) -> Self {
        Self {
            hash,
            password: password.to_owned(),
            gs2_header: format!("{flag},,"),
            binding: binding.to_vec(),
            bare: format!("n={username},r=fyko+d2lbbFgONRv9qkxdawL"),
            server_signature: String::new(),
        }
    }

    pub(crate) fn first(&self) -> String {
        format!("{}{}", self.gs2_header, self.bare)
    }

    pub(crate) fn last(&mut self, server_first: &str) -> String {
        let mut parts = server_first.split(',');
        let nonce = parts.next().unwrap().strip_prefix("r=").unwrap();
        let salt = STANDARD.decode(parts.next().unwrap().strip_prefix("s=").unwrap()).unwrap();
        let rounds: NonZeroU32 = parts.next().unwrap().strip_prefix("i=").unwrap().parse().unwrap();
        assert!(nonce.starts_with(self.bare.split_once(",r=").unwrap().1), "not our nonce");

        let bound = [self.gs2_header.as_bytes(), &self.binding].concat();
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(bound));
        let auth_message = format!("{},{server_first},{without_proof}", self.bare);
        let mut salted = vec![0; self.hash.output_len()];
        let password = self.password.as_bytes();
        pbkdf2::derive(self.hash.pbkdf2(), rounds, &salt, password, &mut salted);
        let client_key = self.hash.hmac(&salted, b"Client Key");
        let stored_key = self.hash.digest(&client_key);
        let signature = self.hash.hmac(&stored_key, auth_message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        let server_key = self.hash.hmac(&salted, b"Server Key");
        self.server_signature =
            STANDARD.encode(self.hash.hmac(&server_key, auth_message.as_bytes()));
        format!("{without_proof},p={}", STANDARD.encode(proof))
    }

    /// What the server must say at the end, if it knows the keys too.
    pub(crate) fn server_final(&self) -> String {
        format!("v={}", self.server_signature)
    }
}

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::keys::Credential;
use super::mechanism::Binding;
use super::{Failure, Mechanism};

const CLIENT_FIRST_BYTES_MAX: usize = 1024;
const CLIENT_FINAL_BYTES_MAX: usize = 2048;

/// A client's first message, read (RFC 5802, section 7).
pub(super) struct ClientFirst {
    /// `None` if the client acts as itself.
    pub(super) authzid: Option<String>,
    pub(super) username: String,
    /// What must come back as `c`: the GS2 header and the channel-binding data.
    bound: Vec<u8>,
    bare: String,
    nonce: String,
}

/// The server's first message went out; the proof comes next.
pub(crate) struct AwaitProof {
    credential: Credential,
    bound: Vec<u8>,
    nonce: String,
    /// The first two parts of the AuthMessage, with a comma at the end.
    transcript: String,
}

impl ClientFirst {
    pub(super) fn read(
        message: &[u8],
        mechanism: Mechanism,
        exporter: Option<&[u8; 32]>,
    ) -> Result<Self, Failure> {
        let text = bounded_text(message, CLIENT_FIRST_BYTES_MAX)?;
        let (flag, rest) = text.split_once(',').ok_or(Failure::MalformedRequest)?;
        let (authzid, bare) = rest.split_once(',').ok_or(Failure::MalformedRequest)?;
        let data = binding_data(flag, mechanism.binding(), exporter)?;
        let authzid = match authzid {
            "" => None,
            named => {
                Some(named.strip_prefix("a=").and_then(saslname).ok_or(Failure::MalformedRequest)?)
            }
        };
        let (header, _) =
            text.split_at_checked(text.len() - bare.len()).ok_or(Failure::MalformedRequest)?;

        // An `m=` here is an extension that we must know and do not: it fails for not being `n=`.
        let mut attributes = Attributes(Some(bare));
        let username = attributes.take('n').and_then(saslname).ok_or(Failure::MalformedRequest)?;
        let nonce = attributes.take('r').filter(|nonce| is_nonce(nonce));
        let nonce = nonce.ok_or(Failure::MalformedRequest)?;
        attributes.finish()?;
        Ok(Self {
            authzid,
            username,
            bound: [header.as_bytes(), data].concat(),
            bare: bare.to_owned(),
            nonce: nonce.to_owned(),
        })
    }

    /// The answer, and what then waits for the proof.
    pub(super) fn challenge(
        self,
        credential: Credential,
        server_nonce: &str,
    ) -> (AwaitProof, String) {
        let nonce = self.nonce + server_nonce;
        let keys = credential.keys();
        let server_first =
            format!("r={nonce},s={},i={}", STANDARD.encode(&keys.salt), keys.iterations);
        let transcript = format!("{},{server_first},", self.bare);
        (AwaitProof { credential, bound: self.bound, nonce, transcript }, server_first)
    }
}

impl AwaitProof {
    /// Checks the client's final message; the server's final message if it is good.
    pub(crate) fn check(self, message: &[u8]) -> Result<String, Failure> {
        let text = bounded_text(message, CLIENT_FINAL_BYTES_MAX)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Failure::MalformedRequest)?;
        let mut attributes = Attributes(Some(without_proof));
        let bound = attributes.take('c').and_then(|bound| STANDARD.decode(bound).ok());
        let bound = bound.ok_or(Failure::MalformedRequest)?;
        let nonce = attributes.take('r').ok_or(Failure::MalformedRequest)?;
        attributes.finish()?;

        let keys = self.credential.keys();
        let hash = keys.hash;
        let proof = STANDARD.decode(proof).ok().filter(|proof| proof.len() == hash.output_len());
        let proof = proof.ok_or(Failure::MalformedRequest)?;
        let auth_message = self.transcript + without_proof;
        let signature = hash.hmac(&keys.stored_key, auth_message.as_bytes());
        let client_key: Vec<u8> =
            proof.iter().zip(&signature).map(|(proof, signature)| proof ^ signature).collect();
        let server_signature = hash.hmac(&keys.server_key, auth_message.as_bytes());
        // All of it is computed before any of it decides.
        let proved = self.credential.accepts(&hash.digest(&client_key));
        let same_stream = bound == self.bound && nonce == self.nonce;
        if proved & same_stream {
            Ok(format!("v={}", STANDARD.encode(server_signature)))
        } else {
            Err(Failure::NotAuthorized)
        }
    }
}

/// What follows the GS2 header inside `c`, or why the GS2 flag cannot be accepted.
fn binding_data<'a>(
    flag: &str,
    binding: Binding,
    exporter: Option<&'a [u8; 32]>,
) -> Result<&'a [u8], Failure> {
    match (flag, binding, exporter) {
        //= https://www.rfc-editor.org/rfc/rfc5802#section-6
        //# If the flag is set to "y" and the server supports channel
        //# binding, the server MUST fail authentication.
        //
        // Someone between us took -PLUS out of the list of mechanisms.
        ("y", _, Some(_)) => Err(Failure::NotAuthorized),
        ("n" | "y", Binding::Unbound, _) => Ok(&[]),
        ("p=tls-exporter", Binding::Bound, Some(exporter)) => Ok(exporter),
        (other, Binding::Bound, _) if other.starts_with("p=") => Err(Failure::NotAuthorized),
        _ => Err(Failure::MalformedRequest),
    }
}

fn bounded_text(message: &[u8], bytes_max: usize) -> Result<&str, Failure> {
    if message.len() > bytes_max {
        return Err(Failure::MalformedRequest);
    }
    str::from_utf8(message).map_err(|_| Failure::MalformedRequest)
}

/// RFC 5802, section 7: `printable`, one at least.
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'!'..=b'+' | b'-'..=b'~'))
}

/// Undoes the escapes of a `saslname`; `None` if it is empty or has an `=` that is no escape.
fn saslname(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (character, rest) = match part.split_at_checked(2)? {
            ("2C", rest) => (',', rest),
            ("3D", rest) => ('=', rest),
            _ => return None,
        };
        name.push(character);
        name.push_str(rest);
    }
    (!name.is_empty() && !name.contains('\0')).then_some(name)
}

/// The rest of a list `x=…,y=…`; its order is fixed.
struct Attributes<'a>(Option<&'a str>);

impl<'a> Attributes<'a> {
    /// The value of the next attribute if that is `name`.
    fn take(&mut self, name: char) -> Option<&'a str> {
        let rest = self.0?;
        let (attribute, rest) = match rest.split_once(',') {
            Some((attribute, rest)) => (attribute, Some(rest)),
            None => (rest, None),
        };
        self.0 = rest;
        attribute.strip_prefix(name)?.strip_prefix('=')
    }

    /// Nothing but optional extensions may follow, and those are ignored.
    fn finish(self) -> Result<(), Failure> {
        for extension in self.0.into_iter().flat_map(|rest| rest.split(',')) {
            match extension.as_bytes() {
                // RFC 5802, section 5.1: unknown and mandatory.
                [b'm', ..] => return Err(Failure::MalformedRequest),
                [name, b'=', _, ..] if name.is_ascii_alphabetic() => {}
                _ => return Err(Failure::MalformedRequest),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

use zeroize::Zeroizing;

use super::Failure;
use super::keys::{Credential, ScramKeys};

/// RFC 4616, section 2, asks for 255 bytes of each part at least.
const MESSAGE_BYTES_MAX: usize = 3072;
const PASSWORD_BYTES_MAX: usize = 1024;

/// A PLAIN message, read (RFC 4616).
pub(super) struct PlainMessage {
    /// Empty if the client acts as itself.
    pub(super) authzid: String,
    pub(super) authcid: String,
    pub(super) password: Password,
}

/// A password on its way through.
pub(super) struct Password(Zeroizing<String>);

impl PlainMessage {
    pub(super) fn read(message: &[u8]) -> Result<Self, Failure> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(Failure::MalformedRequest);
        }
        let text = str::from_utf8(message).map_err(|_| Failure::MalformedRequest)?;
        let mut parts = text.split('\0');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(authzid), Some(authcid), Some(password), None)
                if !authcid.is_empty()
                    && !password.is_empty()
                    && password.len() <= PASSWORD_BYTES_MAX =>
            {
                Ok(Self {
                    authzid: authzid.to_owned(),
                    authcid: authcid.to_owned(),
                    password: Password(Zeroizing::new(password.to_owned())),
                })
            }
            _ => Err(Failure::MalformedRequest),
        }
    }
}

impl Password {
    /// Derives the keys anew and compares; a decoy costs as much as an account.
    pub(super) fn check(&self, credential: &Credential) -> Result<(), Failure> {
        let keys = credential.keys();
        let derived = ScramKeys::derive(keys.hash, &self.0, &keys.salt, keys.iterations)
            .map_err(|_| Failure::NotAuthorized)?;
        if credential.accepts(&derived.stored_key) { Ok(()) } else { Err(Failure::NotAuthorized) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_has_three_parts() {
        let plain = PlainMessage::read(b"ursel\0kurt\0xipj3plmq").unwrap();
        assert_eq!((plain.authzid.as_str(), plain.authcid.as_str()), ("ursel", "kurt"));
        assert_eq!(plain.password.0.as_str(), "xipj3plmq");
        assert_eq!(PlainMessage::read(b"\0tim\0tanstaaf").unwrap().authzid, "");
    }

    #[test]
    fn anything_else_is_malformed() {
        let long = format!("\0tim\0{}", "x".repeat(PASSWORD_BYTES_MAX + 1));
        for message in [
            b"".as_slice(),
            b"tim",
            b"\0tim",
            b"\0tim\0",
            b"\0\0password",
            b"\0tim\0a\0b",
            b"\0tim\0\xff",
            long.as_bytes(),
        ] {
            assert_eq!(PlainMessage::read(message).err(), Some(Failure::MalformedRequest));
        }
    }
}

//! The sealed tokens of port address translation: what lets an answer or a request of a partner
//! find the node inside, through any edge, with no table in any of them.
//!
//! A token is one byte of key id, a nonce and AES-256-GCM-SIV over a compact payload, written in
//! base64url: its characters are legal in the user part of a SIP URI and in a branch. What it is
//! for and which partner it was given to are authenticated with it, so that a token that one
//! partner saw is worth nothing to another.

mod payload;
#[cfg(test)]
mod tests;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Keys in force at a time; a rotation needs two.
pub const KEYS_MAX: usize = 8;
/// The shortest secret, in bytes.
pub const SECRET_MIN: usize = 32;
/// The longest text that is looked at.
const TEXT_MAX: usize = 2048;
const TAG_LEN: usize = 16;
const OVERHEAD: usize = 1 + NONCE_LEN + TAG_LEN;

/// One key that the edges share, with the id that stands in front of each token it sealed.
pub struct TokenKey {
    id: u8,
    key: LessSafeKey,
}

/// The keys in force: the first seals, all open, so that keys rotate without a lost dialog.
#[derive(Debug)]
pub struct TokenKeys {
    keys: Vec<TokenKey>,
}

/// The way back of a response: which node of ours asked, and the Vias it put on. Stands in the
/// branch of our Via towards the partner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReturnToken {
    /// The core node, at most 64 bytes.
    pub node: String,
    /// The Via lines that were taken off, topmost first, at most 8 and 1 KiB together.
    pub vias: Vec<String>,
}

/// The way back into a dialog: which node holds it, and its Contact inside. Stands in the user part
/// of the Contact that the partner sees.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DialogToken {
    /// The core node, at most 64 bytes.
    pub node: String,
    /// The node's own Contact URI, at most 512 bytes.
    pub contact: String,
}

/// A token that is not ours, was changed, or is meant for another partner or purpose. Says no more,
/// on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a token of ours")]
pub struct InvalidToken;

/// A token that cannot be made: what goes in is over the bounds of its type.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the {what} is too long for a token")]
pub struct TokenTooLong {
    /// Which part.
    pub what: &'static str,
}

/// Secrets that no key is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "each says what it is")]
pub enum InvalidSecrets {
    #[error("there must be between 1 and {KEYS_MAX} secrets")]
    Count,
    #[error("a secret has fewer than {SECRET_MIN} bytes")]
    TooShort,
    #[error("the key could not be derived")]
    Derivation,
}

/// What a token is for; authenticated with it.
#[derive(Clone, Copy)]
enum Purpose {
    Return,
    Dialog,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Return => b"gatehouse pat 1 return\0",
            Self::Dialog => b"gatehouse pat 1 dialog\0",
        }
    }
}

impl TokenKeys {
    /// Derives the keys from the secrets that the edges share, newest first. The id of a key
    /// follows from its secret.
    ///
    /// # Errors
    /// No secret, too many, or one of fewer than 32 bytes.
    pub fn derive(secrets: &[&[u8]]) -> Result<Self, InvalidSecrets> {
        if secrets.is_empty() || secrets.len() > KEYS_MAX {
            return Err(InvalidSecrets::Count);
        }
        let keys = secrets.iter().map(|secret| TokenKey::derive(secret)).collect::<Result<_, _>>();
        Ok(Self { keys: keys? })
    }

    /// Seals a return path for this partner domain.
    ///
    /// # Errors
    /// A part over its bound.
    pub fn seal_return(
        &self,
        token: &ReturnToken,
        partner: &str,
        nonce: [u8; 12],
    ) -> Result<String, TokenTooLong> {
        Ok(self.seal(Purpose::Return, payload::write_return(token)?, partner, nonce))
    }

    /// Opens a return path that came back from this partner.
    ///
    /// # Errors
    /// Anything but a token that was sealed for this, for this partner, by a key in force.
    pub fn open_return(&self, text: &str, partner: &str) -> Result<ReturnToken, InvalidToken> {
        payload::read_return(&self.open(Purpose::Return, text, partner)?).ok_or(InvalidToken)
    }

    /// Seals a dialog's way back for this partner domain.
    ///
    /// # Errors
    /// A part over its bound.
    pub fn seal_dialog(
        &self,
        token: &DialogToken,
        partner: &str,
        nonce: [u8; 12],
    ) -> Result<String, TokenTooLong> {
        Ok(self.seal(Purpose::Dialog, payload::write_dialog(token)?, partner, nonce))
    }

    /// Opens a dialog's way back that came from this partner.
    ///
    /// # Errors
    /// As [`open_return`](Self::open_return).
    pub fn open_dialog(&self, text: &str, partner: &str) -> Result<DialogToken, InvalidToken> {
        payload::read_dialog(&self.open(Purpose::Dialog, text, partner)?).ok_or(InvalidToken)
    }

    fn seal(
        &self,
        purpose: Purpose,
        mut payload: Vec<u8>,
        partner: &str,
        nonce: [u8; 12],
    ) -> String {
        // There is a first key, and sealing a short buffer in memory cannot fail; an empty text
        // would be opened by nobody.
        let Some(key) = self.keys.first() else { return String::new() };
        let sealed = key.key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated(purpose, partner)),
            &mut payload,
        );
        if sealed.is_err() {
            return String::new();
        }
        let mut token = Vec::with_capacity(1 + NONCE_LEN + payload.len());
        token.push(key.id);
        token.extend_from_slice(&nonce);
        token.extend_from_slice(&payload);
        URL_SAFE_NO_PAD.encode(token)
    }

    fn open(&self, purpose: Purpose, text: &str, partner: &str) -> Result<Vec<u8>, InvalidToken> {
        if text.len() > TEXT_MAX {
            return Err(InvalidToken);
        }
        let token = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidToken)?;
        if token.len() < OVERHEAD {
            return Err(InvalidToken);
        }
        let (id, rest) = token.split_first().ok_or(InvalidToken)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or(InvalidToken)?;
        let associated = associated(purpose, partner);
        // The id is one byte, so two keys may share it.
        for key in self.keys.iter().filter(|key| key.id == *id) {
            let nonce =
                Nonce::try_assume_unique_for_key(nonce).map_err(|_unspecified| InvalidToken)?;
            let mut opened = sealed.to_vec();
            if let Ok(payload) =
                key.key.open_in_place(nonce, Aad::from(associated.as_slice()), &mut opened)
            {
                let length = payload.len();
                opened.truncate(length);
                return Ok(opened);
            }
        }
        Err(InvalidToken)
    }
}

impl TokenKey {
    fn derive(secret: &[u8]) -> Result<Self, InvalidSecrets> {
        if secret.len() < SECRET_MIN {
            return Err(InvalidSecrets::TooShort);
        }
        let from = hkdf::Salt::new(hkdf::HKDF_SHA256, b"gatehouse pat 1").extract(secret);
        let mut bytes = Zeroizing::new([0_u8; 33]);
        from.expand(&[b"key and id"], Length(bytes.len()))
            .and_then(|material| material.fill(bytes.as_mut_slice()))
            .map_err(|_| InvalidSecrets::Derivation)?;
        let (id, key) = bytes.split_first().ok_or(InvalidSecrets::Derivation)?;
        let key = UnboundKey::new(&AES_256_GCM_SIV, key).map_err(|_| InvalidSecrets::Derivation)?;
        Ok(Self { id: *id, key: LessSafeKey::new(key) })
    }
}

/// How many bytes to derive.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

fn associated(purpose: Purpose, partner: &str) -> Vec<u8> {
    let mut data = purpose.label().to_vec();
    data.extend(partner.bytes().map(|byte| byte.to_ascii_lowercase()));
    data
}

/// What must hold for any text at all: nothing that we did not seal opens. The fuzz target is one
/// call to this function.
#[cfg(any(test, feature = "fuzzing"))]
#[allow(clippy::panic, clippy::expect_used, reason = "a fuzz target reports by panicking")]
pub fn check_token(data: &[u8]) {
    let keys = TokenKeys::derive(&[&[7; 32], &[9; 32]]).expect("two good secrets");
    let text = String::from_utf8_lossy(data);
    assert!(keys.open_return(&text, "partner.test").is_err(), "a forged return token opened");
    assert!(keys.open_dialog(&text, "partner.test").is_err(), "a forged dialog token opened");
    // The payload readers stand behind the seal; they must hold without it as well.
    if let Some(token) = payload::read_return(data) {
        let written = payload::write_return(&token).expect("what was read is within bounds");
        assert_eq!(written, data, "a payload has one form");
    }
    if let Some(token) = payload::read_dialog(data) {
        let written = payload::write_dialog(&token).expect("what was read is within bounds");
        assert_eq!(written, data, "a payload has one form");
    }
}

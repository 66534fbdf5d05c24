use aws_lc_rs::aead;

/// One key that the edges share, with the id that stands in front of each token it sealed.
pub struct TokenKey {
    _id: u8,
    _key: aead::LessSafeKey,
}

/// The keys in force: the first seals, all open, so that keys rotate without a lost dialog.
#[derive(Debug)]
pub struct TokenKeys {
    _keys: Vec<TokenKey>,
}

/// The way back of a response: which node of ours asked, and the Vias it put on. Stands in the
/// branch of our Via towards the partner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReturnToken {
    /// The core node.
    pub node: String,
    /// The Via lines that were taken off, topmost first, at most 1 KiB together.
    pub vias: Vec<String>,
}

/// The way back into a dialog: which node holds it, and its Contact inside. Stands in the user part
/// of the Contact that the partner sees.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DialogToken {
    /// The core node.
    pub node: String,
    /// The node's own Contact URI, at most 512 bytes.
    pub contact: String,
}

/// A token that is not ours, was changed, or is meant for another partner or purpose. Says no more,
/// on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a token of ours")]
pub struct InvalidToken;

impl TokenKeys {
    /// Derives the keys from the secrets that the edges share, newest first, each at least 32
    /// bytes. The id of a key follows from its secret.
    pub fn derive(secrets: &[&[u8]]) -> Self {
        let _ = secrets;
        todo!()
    }

    /// Seals a return path for this partner domain. AES-256-GCM-SIV, base64url without padding.
    pub fn seal_return(&self, token: &ReturnToken, partner: &str, nonce: [u8; 12]) -> String {
        let _ = (token, partner, nonce);
        todo!()
    }

    /// Opens a return path that came back from this partner.
    pub fn open_return(&self, text: &str, partner: &str) -> Result<ReturnToken, InvalidToken> {
        let _ = (text, partner);
        todo!()
    }

    /// Seals a dialog's way back for this partner domain.
    pub fn seal_dialog(&self, token: &DialogToken, partner: &str, nonce: [u8; 12]) -> String {
        let _ = (token, partner, nonce);
        todo!()
    }

    /// Opens a dialog's way back that came from this partner.
    pub fn open_dialog(&self, text: &str, partner: &str) -> Result<DialogToken, InvalidToken> {
        let _ = (text, partner);
        todo!()
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

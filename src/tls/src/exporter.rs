//! The channel binding `tls-exporter` (RFC 9266). The library exports keys only through its buffered
//! interface, so the last two steps of RFC 8446, section 7.5, are taken here, with its own primitives.

use std::fmt;

use parking_lot::Mutex;
use rustls::crypto::tls13::OkmBlock;
use rustls::{CommonState, KeyLog, SupportedCipherSuite, Tls13CipherSuite};

/// Label of the `tls-exporter` channel binding (RFC 9266, section 2).
pub(crate) const LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// What the library calls the secret that exported keys are made of, and only they.
const SECRET: &str = "EXPORTER_SECRET";

/// Hears the exporter secret of one handshake of TLS 1.3, and no other secret. Keeps it in memory that
/// is wiped, until it is taken.
#[derive(Default)]
pub(crate) struct Exporter(Mutex<Option<OkmBlock>>);

impl Exporter {
    /// The value that binds to the connection of `state`; `None` before TLS 1.3. There, it would bind
    /// only with the extended master secret (RFC 9266, section 2), and rustls does not tell whether that
    /// was agreed. The secret is gone afterwards.
    pub(crate) fn take(&self, state: &CommonState) -> Option<[u8; 32]> {
        let secret = self.0.lock().take()?;
        match state.negotiated_cipher_suite()? {
            SupportedCipherSuite::Tls13(suite) => export(suite, &secret, LABEL),
            SupportedCipherSuite::Tls12(_) => None,
        }
    }
}

impl KeyLog for Exporter {
    fn will_log(&self, label: &str) -> bool {
        label == SECRET
    }

    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if label == SECRET && secret.len() <= OkmBlock::MAX_LEN {
            *self.0.lock() = Some(OkmBlock::new(secret));
        }
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret must not reach a log.
        f.write_str("Exporter")
    }
}

/// `TLS-Exporter(label, "", 32)` of RFC 8446, section 7.5.
fn export(suite: &Tls13CipherSuite, secret: &OkmBlock, label: &[u8]) -> Option<[u8; 32]> {
    let no_context = suite.common.hash_provider.hash(&[]);
    let hash_len = no_context.as_ref().len();
    let mut derived = [0; OkmBlock::MAX_LEN];
    let derived = derived.get_mut(..hash_len)?;
    expand_label(suite, secret, label, no_context.as_ref(), derived)?;
    let derived = OkmBlock::new(derived);
    let mut value = [0; 32];
    expand_label(suite, &derived, b"exporter", no_context.as_ref(), &mut value)?;
    Some(value)
}

/// `HKDF-Expand-Label` of RFC 8446, section 7.1.
fn expand_label(
    suite: &Tls13CipherSuite,
    secret: &OkmBlock,
    label: &[u8],
    context: &[u8],
    output: &mut [u8],
) -> Option<()> {
    const PREFIX: &[u8] = b"tls13 ";
    let output_len = u16::try_from(output.len()).ok()?.to_be_bytes();
    let label_len = [u8::try_from(PREFIX.len() + label.len()).ok()?];
    let context_len = [u8::try_from(context.len()).ok()?];
    let info = [&output_len[..], &label_len, PREFIX, label, &context_len, context];
    suite.hkdf_provider.expander_for_okm(secret).expand_slice(&info, output).ok()
}

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use gatehouse_types::{Domain, Remote};
use serde::{Deserialize, Serialize};

use crate::certificate::public_key_info;
use crate::{ChainFault, Presented, Vouched};

const SCHEME: &str = "sha256:";
const DIGEST_LEN: usize = 32;

/// A public key that a partner must hold: SHA-256 over the SubjectPublicKeyInfo of its certificate,
/// so that a renewed certificate with the same key still fits (RFC 7469, section 2.4).
///
/// Written `sha256:` and 64 hexadecimal digits; colons between the digits do not matter.
#[derive(Clone, Copy, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyPin([u8; DIGEST_LEN]);

/// Text that is not a pin.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is not a pin: write `sha256:` and the 64 hexadecimal digits of the SHA-256 of the \
     partner's public key, as `gatehouse cert pin FILE` prints it"
)]
pub struct InvalidPin(String);

impl KeyPin {
    /// The pin of the key in a DER certificate; `None` if it is not a certificate.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        public_key_info(der).ok().map(|info| Self::of_key(&info))
    }

    /// The pin of a DER SubjectPublicKeyInfo.
    pub(crate) fn of_key(info: &[u8]) -> Self {
        let mut bytes = [0; DIGEST_LEN];
        for (byte, made) in bytes.iter_mut().zip(digest::digest(&digest::SHA256, info).as_ref()) {
            *byte = *made;
        }
        Self(bytes)
    }
}

impl FromStr for KeyPin {
    type Err = InvalidPin;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPin(input.chars().filter(|c| !c.is_control()).take(80).collect());
        let text = input.strip_prefix(SCHEME).ok_or_else(invalid)?;
        let mut digits = text.chars().filter(|c| *c != ':');
        let mut bytes = [0; DIGEST_LEN];
        for byte in &mut bytes {
            let mut digit = || digits.next().and_then(|c| c.to_digit(16)).ok_or_else(invalid);
            let value = digit()? << 4 | digit()?;
            *byte = u8::try_from(value).map_err(|_| invalid())?;
        }
        if digits.next().is_some() { Err(invalid()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for KeyPin {
    type Error = InvalidPin;

    fn try_from(input: String) -> Result<Self, Self::Error> {
        input.parse()
    }
}

impl From<KeyPin> for String {
    fn from(pin: KeyPin) -> Self {
        pin.to_string()
    }
}

impl fmt::Display for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Presented {
    /// What was shown, seen by one who knows the keys of `claim`: a certificate with one of `pins`
    /// proves that domain, whoever signed it, whatever it names and however old it is; any other
    /// proves nothing, whatever its chain says. Without pins nothing changes.
    pub fn under_pins(&self, claim: &Remote<Domain>, pins: &[KeyPin]) -> Self {
        let Some(leaf) = self.leaf().filter(|_| !pins.is_empty()) else { return self.clone() };
        let fault = match KeyPin::of_certificate(leaf) {
            Some(pin) if pins.contains(&pin) => {
                let how = format!("pinned key {pin}");
                return Self::Vouched(Vouched::new(leaf.to_vec(), claim.clone(), how));
            }
            Some(shown) => ChainFault::NotPinned { shown },
            None => ChainFault::Malformed("not an X.509 certificate".to_owned()),
        };
        Self::Untrusted { leaf: leaf.to_vec(), issuers: self.issuers().into(), fault }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "stands in for the handshake")]
mod tests {
    use gatehouse_testkit::{Issue, TestCa};

    use super::*;
    use crate::{IdentityError, Proof, VerifiedLeaf, prove};

    fn claim(domain: &str) -> Remote<Domain> {
        Remote(domain.parse().unwrap())
    }

    fn self_signed(der: &[u8]) -> Presented {
        let (leaf, fault) = (der.to_vec(), ChainFault::SelfSigned);
        Presented::Untrusted { leaf, issuers: [].into(), fault }
    }

    #[test]
    fn a_pin_is_read_as_it_is_written() {
        let digits = "0123456789abcdef".repeat(4);
        let pin: KeyPin = format!("sha256:{digits}").parse().unwrap();
        assert_eq!(pin.to_string(), format!("sha256:{digits}"));
        let colons: Vec<String> =
            pin.0.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>();
        assert_eq!(format!("sha256:{}", colons.join(":")).parse(), Ok(pin));
        for text in [
            String::new(),
            digits.clone(),
            format!("sha1:{digits}"),
            format!("sha256:{digits}0"),
            format!("sha256:{}", &digits[..63]),
            format!("sha256:{}g", &digits[..63]),
            format!("sha256:{}é", &digits[..63]),
        ] {
            assert!(text.parse::<KeyPin>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pinned_key_proves_its_domain_whoever_signed_it() {
        let them = claim("them.example");
        for issue in [
            Issue::self_signed().dns("them.example"),
            Issue::self_signed().dns("localhost"),
            Issue::self_signed().common_name("snake oil"),
        ] {
            let der = issue.make().der;
            let pin = KeyPin::of_certificate(&der).unwrap();
            let shown = self_signed(&der);
            let peer = prove(&shown.under_pins(&them, &[pin]), &them).unwrap();
            assert_eq!(peer.domain(), &them);
            let Proof::Certificate { name } = peer.proof() else { panic!("a certificate") };
            assert_eq!(name, &format!("pinned key {pin}"));
            assert!(prove(&shown, &them).is_err(), "without its pin it proves nothing");
        }
    }

    #[test]
    fn a_pinned_key_speaks_for_the_domain_it_was_pinned_for_only() {
        let der = Issue::self_signed().dns("other.example").make().der;
        let pin = KeyPin::of_certificate(&der).unwrap();
        let vouched = self_signed(&der).under_pins(&claim("them.example"), &[pin]);
        assert!(prove(&vouched, &claim("them.example")).is_ok());
        assert!(matches!(
            prove(&vouched, &claim("other.example")),
            Err(IdentityError::NotNamed { .. })
        ));
    }

    #[test]
    fn another_key_proves_nothing_even_with_a_good_chain() {
        let them = claim("them.example");
        let ca = TestCa::new();
        let der = ca.issue_for("them.example").der;
        let other = KeyPin::of_certificate(&ca.issue_for("them.example").der).unwrap();
        let good = Presented::Verified(VerifiedLeaf::assertion(der.clone()));
        assert!(prove(&good.under_pins(&them, &[]), &them).is_ok());
        let fault = prove(&good.under_pins(&them, &[other]), &them).unwrap_err();
        let shown = KeyPin::of_certificate(&der).unwrap();
        assert_eq!(fault, IdentityError::Untrusted(ChainFault::NotPinned { shown }));
        assert!(fault.to_string().contains(&shown.to_string()), "{fault}");
        assert_eq!(
            prove(&Presented::Nothing.under_pins(&them, &[other]), &them),
            Err(IdentityError::NoCertificate)
        );
        let junk = self_signed(b"junk").under_pins(&them, &[other]);
        assert!(prove(&junk, &them).is_err());
    }
}

use gatehouse_identity::CertificateSummary;
use gatehouse_types::Domain;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::ImportFault;
use crate::chain::Chain;
use crate::private_key::{KeyKind, PrivateKey};

/// Names that an error repeats.
const NAMES_TOLD_MAX: usize = 8;

/// A certificate that was taken into use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Imported {
    /// What it says.
    pub summary: CertificateSummary,
    /// What a person should know though it did not stand in the way; each a whole sentence.
    pub remarks: Vec<String>,
}

/// A certificate that passed every check.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) chain: Chain,
    pub(crate) key: PrivateKey,
}

impl Offer {
    /// Checks a chain with its key: `key_pem`, or else the one we keep. For [`KeyKind::Ecdsa`] any
    /// kind will do: it is a domain's first certificate, which may be the only one.
    pub(crate) fn check(
        domain: &Domain,
        chain_pem: &str,
        key_pem: Option<&str>,
        kept_key: Option<PrivateKey>,
        kind: KeyKind,
        now: i64,
    ) -> Result<Self, ImportFault> {
        let chain = Chain::parse(chain_pem)?;
        let key = match key_pem {
            Some(text) => parse_key(text)?,
            None => kept_key.ok_or(ImportFault::KeyMissing)?,
        };
        match chain.ders().iter().position(|der| key.is_of(der)) {
            Some(0) => {}
            Some(at) => return Err(ImportFault::LeafNotFirst { number: at + 1 }),
            None => return Err(ImportFault::KeyMismatch),
        }
        if kind == KeyKind::Rsa && !key.is_rsa() {
            return Err(ImportFault::NotRsa);
        }
        let leaf = chain.leaf();
        if leaf.not_after <= now {
            return Err(ImportFault::Expired);
        }
        if leaf.names.xmpp_server_match(domain).is_none() {
            let names = leaf.names.dns.iter().chain(&leaf.names.srv).chain(&leaf.names.xmpp);
            let names = names.take(NAMES_TOLD_MAX).cloned().collect();
            return Err(ImportFault::NotNamed { names });
        }
        Ok(Self { chain, key })
    }

    pub(crate) fn outcome(&self) -> Imported {
        let leaf = self.chain.leaf();
        let mut remarks = Vec::new();
        if leaf.self_issued {
            remarks.push(
                "It is self-signed: partners have to be told to trust exactly this one.".to_owned(),
            );
        } else if self.chain.ders().len() == 1 {
            remarks.push(
                "There is no intermediate certificate with it: if its authority uses one, partners \
                 will not trust it; import the full chain then."
                    .to_owned(),
            );
        } else if !self.is_in_order() {
            remarks.push(
                "The chain is not in order (each certificate followed by its issuer): some \
                 partners will not trust it."
                    .to_owned(),
            );
        }
        Imported { summary: leaf.clone(), remarks }
    }

    fn is_in_order(&self) -> bool {
        self.chain.ders().windows(2).all(|pair| match pair {
            [subject, issuer] => is_issued_by(subject, issuer),
            _ => true,
        })
    }
}

fn is_issued_by(subject: &[u8], issuer: &[u8]) -> bool {
    let Ok((_, subject)) = X509Certificate::from_der(subject) else { return false };
    let Ok((_, issuer)) = X509Certificate::from_der(issuer) else { return false };
    subject.issuer().as_raw() == issuer.subject().as_raw()
}

fn parse_key(text: &str) -> Result<PrivateKey, ImportFault> {
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(ImportFault::EncryptedKey);
    }
    PrivateKey::parse(text.to_owned()).ok_or(ImportFault::NoKey)
}

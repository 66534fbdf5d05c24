use gatehouse_identity::{ChainFault, Presented, VerifiedLeaf};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use crate::provider::provider;
use crate::roots::Trust;

/// The verdict on what a peer showed (leaf first), by the authorities we trust at `now`.
///
/// Run after every handshake, also a resumed one: trust and time may have changed since the
/// session began.
pub(crate) fn judge(shown: &[CertificateDer<'_>], trust: &Trust, now: UnixTime) -> Presented {
    let Some((leaf, intermediates)) = shown.split_first() else { return Presented::Nothing };
    let issuers: Vec<Vec<u8>> = intermediates.iter().map(|issuer| issuer.to_vec()).collect();
    match fault(leaf, intermediates, trust, now) {
        None => {
            #[expect(clippy::disallowed_methods, reason = "the chain has just been verified")]
            let verified = VerifiedLeaf::assertion(leaf.to_vec());
            Presented::Verified(verified.with_issuers(issuers))
        }
        Some(fault) => Presented::Untrusted { leaf: leaf.to_vec(), issuers: issuers.into(), fault },
    }
}

/// The verdict of today on a chain that once was verified; anything else stays what it is.
pub(crate) fn judge_again(presented: &Presented, trust: &Trust, now: UnixTime) -> Presented {
    let Presented::Verified(leaf) = presented else { return presented.clone() };
    let leaf_first = std::iter::once(leaf.der()).chain(leaf.issuers().iter().map(Vec::as_slice));
    let shown: Vec<CertificateDer<'_>> = leaf_first.map(CertificateDer::from).collect();
    judge(&shown, trust, now)
}

fn fault(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    trust: &Trust,
    now: UnixTime,
) -> Option<ChainFault> {
    let certificate = match EndEntityCert::try_from(leaf) {
        Ok(certificate) => certificate,
        Err(error) => return Some(ChainFault::Malformed(error.to_string())),
    };
    let algorithms = trust.signatures().algorithms();
    let error = path(&certificate, intermediates, trust.anchors(), &algorithms, now).err()?;
    let self_signed =
        certificate.issuer() == certificate.subject() && !trust.contains(&certificate.der());
    Some(named(error, self_signed))
}

/// Finds a path to one of `anchors`.
fn path(
    certificate: &EndEntityCert<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    now: UnixTime,
) -> Result<(), Error> {
    let verify = |usage: KeyUsage| {
        certificate
            .verify_for_usage(algorithms, anchors, intermediates, now, usage, None, None)
            .map(|_| ())
    };
    // Public authorities issue for servers only; a private one may issue for clients only. Both
    // kinds speak for a domain in server-to-server streams.
    match verify(KeyUsage::server_auth()) {
        Err(Error::RequiredEkuNotFoundContext(_)) => verify(KeyUsage::client_auth()),
        verdict => verdict,
    }
}

/// True if the chain of `leaf` holds today with `authority` as the only one that is trusted (all
/// DER; `others` were shown with the leaf). For DANE, where DNS names the authority.
pub fn chains_to(leaf: &[u8], others: &[Vec<u8>], authority: &[u8]) -> bool {
    let (leaf, authority) = (CertificateDer::from(leaf), CertificateDer::from(authority));
    let others: Vec<CertificateDer<'_>> =
        others.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let Ok(certificate) = EndEntityCert::try_from(&leaf) else { return false };
    let Ok(anchor) = webpki::anchor_from_trusted_cert(&authority) else { return false };
    let algorithms = provider().signature_verification_algorithms.all;
    path(&certificate, &others, &[anchor], algorithms, UnixTime::now()).is_ok()
}

fn named(error: Error, self_signed: bool) -> ChainFault {
    match error {
        Error::CertExpired { .. } => ChainFault::Expired,
        Error::CertNotValidYet { .. } => ChainFault::NotYetValid,
        // What `openssl req -x509` makes is its own authority as well; that it is self-signed
        // tells the operator more.
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey | Error::CaUsedAsEndEntity
            if self_signed =>
        {
            ChainFault::SelfSigned
        }
        // An authority that has the name of one of ours, and another key.
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => ChainFault::UnknownIssuer,
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => ChainFault::WrongPurpose,
        Error::CaUsedAsEndEntity => ChainFault::IsAuthority,
        Error::BadDer
        | Error::BadDerTime
        | Error::TrailingData(_)
        | Error::ExtensionValueInvalid
        | Error::MalformedExtensions
        | Error::InvalidSerialNumber
        | Error::InvalidCertValidity => ChainFault::Malformed(error.to_string()),
        other => ChainFault::Other(other.to_string()),
    }
}

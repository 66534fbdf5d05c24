use gatehouse_identity::{ChainFault, Presented, VerifiedLeaf};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use crate::provider::provider;
use crate::roots::Trust;

/// The verdict on what a peer showed (leaf first), by the authorities we trust at `now`.
///
/// Run after every handshake, also a resumed one: trust and time may have changed since the
/// session began.
pub(crate) fn judge(shown: &[CertificateDer<'_>], trust: &Trust, now: UnixTime) -> Presented {
    let Some((leaf, intermediates)) = shown.split_first() else { return Presented::Nothing };
    match fault(leaf, intermediates, trust, now) {
        None => {
            #[expect(clippy::disallowed_methods, reason = "the chain has just been verified")]
            let verified = VerifiedLeaf::assertion(leaf.to_vec());
            let issuers = intermediates.iter().map(|issuer| issuer.to_vec()).collect();
            Presented::Verified(verified.with_issuers(issuers))
        }
        Some(fault) => Presented::Untrusted { leaf: leaf.to_vec(), fault },
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
    let verify = |usage: KeyUsage| {
        let algorithms = provider().signature_verification_algorithms.all;
        certificate
            .verify_for_usage(algorithms, trust.anchors(), intermediates, now, usage, None, None)
            .map(|_| ())
    };
    // Public authorities issue for servers only; a private one may issue for clients only. Both
    // kinds speak for a domain in server-to-server streams.
    let error = match verify(KeyUsage::server_auth()) {
        Ok(()) => return None,
        Err(Error::RequiredEkuNotFoundContext(_)) => match verify(KeyUsage::client_auth()) {
            Ok(()) => return None,
            Err(error) => error,
        },
        Err(error) => error,
    };
    let self_signed =
        certificate.issuer() == certificate.subject() && !trust.contains(&certificate.der());
    Some(named(error, self_signed))
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

use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::subject_alt_name::{SUBJECT_ALT_NAME, extension};
use crate::{NamePlan, PkiError};

/// How far before now a certificate begins, for peers whose clock is behind.
const CLOCK_SLACK: Duration = Duration::hours(1);
/// Longest common name (RFC 5280, appendix A.1, ub-common-name).
const COMMON_NAME_CHARS_MAX: usize = 64;

/// A certificate's time, in Unix seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    pub(crate) from: i64,
    pub(crate) until: i64,
}

impl Lifetime {
    pub(crate) fn of_days(now: i64, days: i64) -> Self {
        Self {
            from: now.saturating_sub(CLOCK_SLACK.whole_seconds()),
            until: now.saturating_add(Duration::days(days).whole_seconds()),
        }
    }
}

/// A leaf with the planned names, for both TLS roles.
pub(crate) fn leaf(plan: &NamePlan, lifetime: Lifetime) -> Result<CertificateParams, PkiError> {
    let mut params = named(plan);
    set_lifetime(&mut params, lifetime)?;
    params.serial_number = Some(serial()?);
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// A signing request with the planned names. What the key may be used for is the signer's choice.
pub(crate) fn request(plan: &NamePlan) -> CertificateParams {
    named(plan)
}

/// An authority that signs leaves only.
pub(crate) fn authority(title: &str, lifetime: Lifetime) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    set_lifetime(&mut params, lifetime)?;
    params.serial_number = Some(serial()?);
    params.distinguished_name = DistinguishedName::new();
    // Two authorities of one name make verifiers try the wrong key, so each has its own.
    let name = format!("{title} {}", hex(&random::<4>()?));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn named(plan: &NamePlan) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let domain = plan.domain().as_str();
    let has_subject = domain.len() <= COMMON_NAME_CHARS_MAX;
    if has_subject {
        params.distinguished_name.push(DnType::CommonName, domain);
    }
    let mut names = CustomExtension::from_oid_content(SUBJECT_ALT_NAME, extension(plan.names()));
    // RFC 5280, section 4.2.1.6: critical if there is no subject.
    names.set_criticality(!has_subject);
    params.custom_extensions.push(names);
    params
}

fn set_lifetime(params: &mut CertificateParams, lifetime: Lifetime) -> Result<(), PkiError> {
    let moment = |seconds: i64| {
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| PkiError::Clock { seconds })
    };
    params.not_before = moment(lifetime.from)?;
    params.not_after = moment(lifetime.until)?;
    Ok(())
}

/// Random, because rcgen's own is a hash of the key, and a renewed certificate keeps its key.
/// Positive, and of one length (RFC 5280, section 4.1.2.2).
fn serial() -> Result<SerialNumber, PkiError> {
    let mut bytes = random::<16>()?;
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

fn random<const LEN: usize>() -> Result<[u8; LEN], PkiError> {
    let mut bytes = [0; LEN];
    rand::fill(&mut bytes).map_err(|error| PkiError::Crypto {
        action: "draw random bytes",
        source: Box::new(error),
    })?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

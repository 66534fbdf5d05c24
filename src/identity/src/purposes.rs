use crate::UnreadableCertificate;
use crate::certificate::parse;

/// What a certificate may be used for (extendedKeyUsage, RFC 5280 section 4.2.1.12). Without that
/// extension it may be used for both.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CertificatePurposes {
    /// To be dialled: TLS server authentication.
    pub server: bool,
    /// To dial: TLS client authentication.
    pub client: bool,
}

impl CertificatePurposes {
    /// Reads one DER certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, UnreadableCertificate> {
        let certificate = parse(der)?;
        let usage = certificate.extended_key_usage().map_err(|_| UnreadableCertificate)?;
        Ok(usage.map_or(Self { server: true, client: true }, |usage| {
            let usage = usage.value;
            Self { server: usage.any || usage.server_auth, client: usage.any || usage.client_auth }
        }))
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_testkit::TestCa;

    use super::*;

    #[test]
    fn tells_both_purposes_apart() {
        let ca = TestCa::new();
        let read = |der: &[u8]| CertificatePurposes::from_der(der);
        let both = ca.issue().dns("them.example").make();
        assert_eq!(read(&both.der), Ok(CertificatePurposes { server: true, client: true }));
        let server = ca.issue().dns("them.example").server_only().make();
        assert_eq!(read(&server.der), Ok(CertificatePurposes { server: true, client: false }));
        assert_eq!(read(b"junk"), Err(UnreadableCertificate));
    }
}

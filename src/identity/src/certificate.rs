/// The names in a certificate's subjectAltName.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CertificateNames {
    /// dNSName, lower case, as written (may be a wildcard).
    pub dns: Vec<String>,
    /// SRVName (RFC 4985), such as `_xmpp-server.example.com`.
    pub srv: Vec<String>,
    /// id-on-xmppAddr (RFC 6120, section 13.7.1.4).
    pub xmpp: Vec<String>,
    /// URI, such as `sip:example.com` (RFC 5922).
    pub uri: Vec<String>,
}

/// What a person wants to know about a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateSummary {
    /// Its names.
    pub names: CertificateNames,
    /// Subject, RFC 4514 text.
    pub subject: String,
    /// Issuer, RFC 4514 text.
    pub issuer: String,
    /// Serial number, lower-case hex.
    pub serial: String,
    /// Start of validity, Unix seconds.
    pub not_before: i64,
    /// End of validity, Unix seconds.
    pub not_after: i64,
    /// SHA-256 over the DER, lower-case hex with colons.
    pub fingerprint_sha256: String,
    /// True if issuer and subject are the same.
    pub self_issued: bool,
}

/// Bytes that are not a certificate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this is not an X.509 certificate")]
pub struct UnreadableCertificate;

impl CertificateSummary {
    /// Reads one DER certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, UnreadableCertificate> {
        let _ = der;
        todo!()
    }
}

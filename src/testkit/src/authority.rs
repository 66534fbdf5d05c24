use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::certificate::{Issue, TestCertificate};

/// A certificate authority that lives as long as one test.
#[derive(Debug)]
pub struct TestCa {
    pem: String,
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl TestCa {
    /// A fresh authority with a key of its own.
    pub fn new() -> Self {
        Self::named("Gatehouse test authority")
    }

    /// A fresh authority with this common name. Two of one name are still two authorities.
    pub fn named(name: &str) -> Self {
        let key = KeyPair::generate().expect("an ECDSA key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a CA certificate");
        Self {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The root certificate, PEM.
    pub fn root_pem(&self) -> &str {
        &self.pem
    }

    /// The root certificate, DER.
    pub fn root_der(&self) -> &[u8] {
        &self.der
    }

    /// Starts a certificate from this authority. Without further calls it is valid now, good for
    /// both TLS roles, and names nobody.
    pub fn issue(&self) -> Issue<'_> {
        Issue::new(Some(&self.issuer))
    }

    /// What a well-run XMPP server has: dNSName and both SRVNames of `domain`.
    pub fn issue_for(&self, domain: &str) -> TestCertificate {
        self.issue()
            .dns(domain)
            .srv(&format!("_xmpp-server.{domain}"))
            .srv(&format!("_xmpp-client.{domain}"))
            .make()
    }
}

impl Default for TestCa {
    fn default() -> Self {
        Self::new()
    }
}

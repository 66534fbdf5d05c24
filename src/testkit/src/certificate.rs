use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};
use time::{Duration, OffsetDateTime};

use crate::san::{San, extension};

const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct TestCertificate {
    /// The leaf, DER.
    pub der: Vec<u8>,
    /// The chain as it goes into a file: the leaf only, PEM (the root is known to the verifier).
    pub chain_pem: String,
    /// The leaf's key, PKCS#8 PEM.
    pub key_pem: String,
}

/// A certificate about to be made. Names are written as given.
#[derive(Debug)]
#[must_use = "nothing is made before `make`"]
pub struct Issue<'a> {
    issuer: Option<&'a Issuer<'static, KeyPair>>,
    names: Vec<San>,
    common_name: Option<String>,
    purposes: Vec<ExtendedKeyUsagePurpose>,
    starts_in: Duration,
    ends_in: Duration,
    authority: bool,
    rsa: bool,
}

impl<'a> Issue<'a> {
    pub(crate) fn new(issuer: Option<&'a Issuer<'static, KeyPair>>) -> Self {
        Self {
            issuer,
            names: Vec::new(),
            common_name: None,
            purposes: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            starts_in: Duration::hours(-1),
            ends_in: Duration::days(30),
            authority: false,
            rsa: false,
        }
    }

    /// Starts a certificate that signs itself.
    pub fn self_signed() -> Self {
        Self::new(None)
    }

    /// Adds a dNSName.
    pub fn dns(self, name: &str) -> Self {
        self.name(San::Dns(name.to_owned()))
    }

    /// Adds an SRVName, such as `_xmpp-server.them.example`.
    pub fn srv(self, name: &str) -> Self {
        self.name(San::Srv(name.to_owned()))
    }

    /// Adds an xmppAddr.
    pub fn xmpp(self, address: &str) -> Self {
        self.name(San::Xmpp(address.to_owned()))
    }

    /// Adds a URI, such as `sip:them.example`.
    pub fn uri(self, uri: &str) -> Self {
        self.name(San::Uri(uri.to_owned()))
    }

    /// Adds any name.
    pub fn name(mut self, name: San) -> Self {
        self.names.push(name);
        self
    }

    /// Sets the subject's common name (else the subject is empty, or of the first dNSName if it
    /// signs itself).
    pub fn common_name(mut self, name: &str) -> Self {
        self.common_name = Some(name.to_owned());
        self
    }

    /// For TLS servers only, as public authorities issue them now.
    pub fn server_only(mut self) -> Self {
        self.purposes = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self
    }

    /// For TLS clients only.
    pub fn client_only(mut self) -> Self {
        self.purposes = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self
    }

    /// For signing code, not for TLS at all.
    pub fn for_code(mut self) -> Self {
        self.purposes = vec![ExtendedKeyUsagePurpose::CodeSigning];
        self
    }

    /// Ended yesterday.
    pub fn expired(mut self) -> Self {
        self.starts_in = Duration::days(-30);
        self.ends_in = Duration::days(-1);
        self
    }

    /// Begins tomorrow.
    pub fn not_yet_valid(mut self) -> Self {
        self.starts_in = Duration::days(1);
        self.ends_in = Duration::days(30);
        self
    }

    /// Ends in `days` days (negative: in the past) and began 60 days before that.
    pub fn ends_in_days(mut self, days: i64) -> Self {
        self.starts_in = Duration::days(days - 60);
        self.ends_in = Duration::days(days);
        self
    }

    /// A CA certificate, as `openssl req -x509` makes them.
    pub fn authority(mut self) -> Self {
        self.authority = true;
        self
    }

    /// With an RSA key of 2048 bits; else it is an ECDSA key.
    pub fn rsa(mut self) -> Self {
        self.rsa = true;
        self
    }

    /// Makes key and certificate.
    pub fn make(self) -> TestCertificate {
        let kind = if self.rsa { &PKCS_RSA_SHA256 } else { &PKCS_ECDSA_P256_SHA256 };
        let key = KeyPair::generate_for(kind).expect("a key");
        let params = self.params();
        let certificate = match self.issuer {
            Some(issuer) => params.signed_by(&key, issuer),
            None => params.self_signed(&key),
        }
        .expect("a certificate");
        TestCertificate {
            der: certificate.der().to_vec(),
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    fn params(&self) -> CertificateParams {
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.not_before = now + self.starts_in;
        params.not_after = now + self.ends_in;
        params.distinguished_name = DistinguishedName::new();
        let first_dns = self.names.iter().find_map(|name| match name {
            San::Dns(name) => Some(name),
            _ => None,
        });
        let subject = match self.issuer {
            Some(_) => self.common_name.as_ref(),
            None => self.common_name.as_ref().or(first_dns),
        };
        if let Some(subject) = subject {
            params.distinguished_name.push(DnType::CommonName, subject.as_str());
        }
        if !self.names.is_empty() {
            let mut names =
                CustomExtension::from_oid_content(SUBJECT_ALT_NAME, extension(&self.names));
            // RFC 5280, section 4.2.1.6: critical if there is no subject.
            names.set_criticality(subject.is_none());
            params.custom_extensions.push(names);
        }
        params.extended_key_usages.clone_from(&self.purposes);
        params.use_authority_key_identifier_extension = self.issuer.is_some();
        params.is_ca = if self.authority {
            IsCa::Ca(BasicConstraints::Unconstrained)
        } else {
            IsCa::ExplicitNoCa
        };
        params
    }
}

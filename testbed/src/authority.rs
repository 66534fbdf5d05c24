use std::fs;
use std::path::{Path, PathBuf};

use gatehouse_testkit::{Issue, San, TestCa, TestCertificate};
use serde::Deserialize;

use crate::failure::Failure;

/// What kind of certificate a peer shows.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Flavour {
    /// Right in every way: dNSName and SRVName.
    #[default]
    Full,
    /// dNSName only.
    DnsOnly,
    /// SRVName only.
    SrvOnly,
    /// dNSName, for TLS servers only, as public authorities issue them.
    ServerOnly,
    /// The domain stands in the common name and nowhere else.
    CommonName,
    /// Names another domain.
    WrongName,
    /// Was right until yesterday.
    Expired,
    /// Right names, signed by itself.
    SelfSigned,
    /// These names and no others.
    #[serde(untagged)]
    Names(Vec<Name>),
}

impl Flavour {
    /// Whether a client that verifies its server gets along with it.
    pub(crate) fn satisfies_clients(&self) -> bool {
        matches!(self, Self::Full | Self::DnsOnly | Self::ServerOnly)
    }
}

/// A name as `world.toml` writes it: its kind and what it says, such as `dNSName *.example`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub(crate) struct Name(San);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let san = match text.split_once(' ') {
            Some(("dNSName", name)) => San::Dns(name.to_owned()),
            Some(("SRVName", name)) => San::Srv(name.to_owned()),
            Some(("xmppAddr", address)) => San::Xmpp(address.to_owned()),
            _ => return Err(format!("`{text}` is no name of a certificate")),
        };
        Ok(Self(san))
    }
}

/// What kind of certificate a SIP partner shows.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SipFlavour {
    /// The host that its SRV record names, as Microsoft wants it.
    #[default]
    Host,
    /// The domain itself, as a dNSName.
    Domain,
    /// The domain itself, as a SIP URI.
    Uri,
    /// The domain stands in the common name and nowhere else.
    CommonName,
    /// Every host below the domain.
    Wildcard,
    /// Somebody else's name.
    Other,
    /// The right host, and signed by itself.
    SelfSigned,
    /// None is shown.
    None,
}

/// The authority of one scenario.
pub(crate) struct Authority {
    ca: TestCa,
}

/// Where a certificate and its key lie.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// The certificate, PEM.
    pub(crate) certificate: PathBuf,
    /// Its key, PEM.
    pub(crate) key: PathBuf,
}

impl Authority {
    /// A fresh authority.
    pub(crate) fn new() -> Self {
        Self { ca: TestCa::named("Testbed authority") }
    }

    /// The root certificate, PEM.
    pub(crate) fn root_pem(&self) -> &str {
        self.ca.root_pem()
    }

    /// Makes a certificate for `domain` and writes it into `directory`, which is made if need be. One
    /// that is there already stays: our policy may have pinned its key.
    pub(crate) fn issue(
        &self,
        domain: &str,
        flavour: &Flavour,
        directory: &Path,
    ) -> Result<Files, Failure> {
        fs::create_dir_all(directory).map_err(Failure::io("make", directory))?;
        let files = Files {
            certificate: directory.join(format!("{domain}.crt")),
            key: directory.join(format!("{domain}.key")),
        };
        if files.certificate.exists() {
            return Ok(files);
        }
        let made = self.make(domain, flavour);
        for (file, text) in [(&files.certificate, &made.chain_pem), (&files.key, &made.key_pem)] {
            fs::write(file, text).map_err(Failure::io("write", file))?;
        }
        Ok(files)
    }

    /// Makes the certificate of a SIP partner of this name, whose SRV record names `host`; none if
    /// it shows none.
    pub(crate) fn issue_sip(
        &self,
        name: &str,
        (domain, host): (&str, &str),
        flavour: SipFlavour,
        directory: &Path,
    ) -> Result<Option<Files>, Failure> {
        let made = match flavour {
            SipFlavour::Host => self.ca.issue().dns(host).make(),
            SipFlavour::Domain => self.ca.issue().dns(domain).make(),
            SipFlavour::Uri => self.ca.issue().uri(&format!("sip:{domain}")).make(),
            SipFlavour::CommonName => self.ca.issue().common_name(domain).make(),
            SipFlavour::Wildcard => self.ca.issue().dns(&format!("*.{domain}")).make(),
            SipFlavour::Other => self.ca.issue().dns("sip.someone-else.example").make(),
            SipFlavour::SelfSigned => Issue::self_signed().dns(host).make(),
            SipFlavour::None => return Ok(None),
        };
        let files = Files {
            certificate: directory.join(format!("{name}-sip.crt")),
            key: directory.join(format!("{name}-sip.key")),
        };
        for (file, text) in [(&files.certificate, &made.chain_pem), (&files.key, &made.key_pem)] {
            fs::write(file, text).map_err(Failure::io("write", file))?;
        }
        Ok(Some(files))
    }

    fn make(&self, domain: &str, flavour: &Flavour) -> TestCertificate {
        let srv = format!("_xmpp-server.{domain}");
        match flavour {
            Flavour::Full => self.ca.issue_for(domain),
            Flavour::DnsOnly => self.ca.issue().dns(domain).make(),
            Flavour::SrvOnly => self.ca.issue().srv(&srv).make(),
            Flavour::ServerOnly => self.ca.issue().dns(domain).server_only().make(),
            Flavour::CommonName => self.ca.issue().common_name(domain).make(),
            Flavour::WrongName => self.ca.issue().dns("someone-else.example").make(),
            Flavour::Expired => self.ca.issue().dns(domain).srv(&srv).expired().make(),
            Flavour::SelfSigned => Issue::self_signed().dns(domain).srv(&srv).make(),
            Flavour::Names(names) => {
                let names = names.iter().map(|name| name.0.clone());
                names.fold(self.ca.issue(), Issue::name).make()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Raw;

    #[test]
    fn names_are_written_with_their_kind() {
        let read = |written: &str| {
            let raw: Result<Raw, _> =
                toml::from_str(&format!("name = 'evil'\ncertificate = {written}"));
            raw.map(|raw| raw.certificate)
        };
        assert_eq!(read("'srv-only'").unwrap(), Flavour::SrvOnly);
        let names = vec![Name(San::Dns("*.example".into())), Name(San::Xmpp("b.example".into()))];
        assert_eq!(
            read("['dNSName *.example', 'xmppAddr b.example']").unwrap(),
            Flavour::Names(names)
        );
        assert!(read("['*.example']").is_err());
        assert!(read("'srv'").is_err());
    }
}

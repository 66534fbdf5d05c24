use std::net::IpAddr;

use gatehouse_identity::{SipCertificate, SipGrounds};
use gatehouse_types::{Domain, Remote};

use crate::sip::SipKind;

/// A server of the inside that may speak to the core.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustedPeer {
    /// Shown in logs; each has its own.
    pub name: String,
    /// Over TLS: the names of which its certificate must have one, as a subjectAltName, or as
    /// common name where there is no subjectAltName.
    pub subjects: Vec<Domain>,
    /// Over TCP: where it comes from.
    pub addresses: Vec<IpAddr>,
    /// The domains that its requests may be From. None of our IM domains: their users log in here.
    pub domains: Vec<Domain>,
    /// What its users' software is. `None`: what it says of itself, and before that what all are taken
    /// for.
    pub kind: Option<SipKind>,
}

/// What a connection shows of who is at its other end.
#[derive(Clone, Debug)]
pub enum Evidence {
    /// The certificate of a TLS handshake.
    Certificate(Box<SipCertificate>),
    /// The address, of a connection without TLS.
    Address(IpAddr),
}

impl TrustedPeer {
    /// True if this is the one. An address counts for TCP only, and a certificate for TLS only.
    pub(super) fn is_shown_by(&self, shown: &Evidence) -> bool {
        match shown {
            Evidence::Certificate(certificate) => {
                self.subjects.iter().any(|subject| names(certificate, subject))
            }
            Evidence::Address(address) => {
                let canonical = address.to_canonical();
                self.addresses.iter().any(|known| known.to_canonical() == canonical)
            }
        }
    }
}

fn names(certificate: &SipCertificate, subject: &Domain) -> bool {
    let grounds = SipGrounds {
        rfc5922: true,
        microsoft: false,
        direct: None,
        provider: None,
        common_name: true,
        srv_targets: &[],
    };
    certificate.prove(&Remote(subject.clone()), &grounds).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_known_in_both_its_forms_and_alone() {
        let peer = TrustedPeer {
            name: "pbx".to_owned(),
            subjects: Vec::new(),
            addresses: vec!["10.0.0.5".parse().unwrap()],
            domains: Vec::new(),
            kind: None,
        };
        for (address, known) in
            [("10.0.0.5", true), ("::ffff:10.0.0.5", true), ("10.0.0.6", false), ("::1", false)]
        {
            assert_eq!(peer.is_shown_by(&Evidence::Address(address.parse().unwrap())), known);
        }
    }
}

use aws_lc_rs::digest;
use gatehouse_types::{Domain, Remote};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::certificate::{parse, public_key_info};
use crate::{CertificateNames, ChainFault, Presented, Vouched};

/// Names of a certificate that an error repeats.
const NAMES_TOLD_MAX: usize = 8;

/// A TLSA record that can be used (RFC 6698, section 2.1; RFC 7671).
#[derive(Clone, Debug, Eq, PartialEq)]
struct Record {
    usage: Usage,
    selector: Selector,
    matching: Matching,
    data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Usage {
    /// 0: an authority of the chain, which must end in a root of ours as well.
    PkixTa,
    /// 1: the leaf, whose chain must end in a root of ours as well.
    PkixEe,
    /// 2: an authority, whoever trusts it.
    DaneTa,
    /// 3: the leaf, whatever it says.
    DaneEe,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Selector {
    /// 0.
    Certificate,
    /// 1.
    PublicKey,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Matching {
    /// 0.
    Full,
    /// 1.
    Sha256,
    /// 2.
    Sha512,
}

/// What DNSSEC proves about the certificates of one target (RFC 7673): TLSA records that can be
/// used, at least one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsaSet {
    target: Domain,
    records: Vec<Record>,
}

/// `chains_to(leaf, others shown, authority)`, all DER: verifies a path and the dates on it, with the
/// authority as the only anchor. Made by gatehouse-tls.
pub type ChainsTo = dyn Fn(&[u8], &[Vec<u8>], &[u8]) -> bool;

impl TlsaSet {
    /// The records of `target` as `(usage, selector, matching type, data)`, which DNSSEC proved, as
    /// it did the SRV record that leads there. `None` if none can be used: then there is no DANE
    /// (RFC 7671, section 4.1). Unknown numbers, digests of a wrong length and data that are not
    /// what they should be cannot.
    pub fn new(
        target: Domain,
        records: impl IntoIterator<Item = (u8, u8, u8, Vec<u8>)>,
    ) -> Option<Self> {
        let records: Vec<Record> = records.into_iter().filter_map(Record::new).collect();
        if records.is_empty() { None } else { Some(Self { target, records }) }
    }
}

impl Record {
    fn new((usage, selector, matching, data): (u8, u8, u8, Vec<u8>)) -> Option<Self> {
        let usage = match usage {
            0 => Usage::PkixTa,
            1 => Usage::PkixEe,
            2 => Usage::DaneTa,
            3 => Usage::DaneEe,
            _ => return None,
        };
        let selector = match selector {
            0 => Selector::Certificate,
            1 => Selector::PublicKey,
            _ => return None,
        };
        let (matching, usable) = match (matching, selector) {
            (0, Selector::Certificate) => (Matching::Full, parse(&data).is_ok()),
            (0, Selector::PublicKey) => (
                Matching::Full,
                SubjectPublicKeyInfo::from_der(&data).is_ok_and(|(rest, _)| rest.is_empty()),
            ),
            (1, _) => (Matching::Sha256, data.len() == digest::SHA256_OUTPUT_LEN),
            (2, _) => (Matching::Sha512, data.len() == digest::SHA512_OUTPUT_LEN),
            _ => return None,
        };
        usable.then_some(Self { usage, selector, matching, data })
    }

    /// True if it speaks of this certificate (RFC 6698, sections 2.1.2 and 2.1.3).
    fn fits(&self, der: &[u8]) -> bool {
        // What cannot be read is nobody's certificate, even if its digest is right.
        let Ok(key) = public_key_info(der) else { return false };
        let selected = match self.selector {
            Selector::Certificate => der,
            Selector::PublicKey => &key,
        };
        match self.matching {
            Matching::Full => self.data == selected,
            Matching::Sha256 => self.data == digest::digest(&digest::SHA256, selected).as_ref(),
            Matching::Sha512 => self.data == digest::digest(&digest::SHA512, selected).as_ref(),
        }
    }

    /// As RFC 7218 names usages, and the numbers as they stand in the zone: `DANE-EE 3 1 1`.
    fn name(&self) -> String {
        let usage = match self.usage {
            Usage::PkixTa => "PKIX-TA 0",
            Usage::PkixEe => "PKIX-EE 1",
            Usage::DaneTa => "DANE-TA 2",
            Usage::DaneEe => "DANE-EE 3",
        };
        let selector = match self.selector {
            Selector::Certificate => 0,
            Selector::PublicKey => 1,
        };
        let matching = match self.matching {
            Matching::Full => 0,
            Matching::Sha256 => 1,
            Matching::Sha512 => 2,
        };
        format!("{usage} {selector} {matching}")
    }
}

impl Presented {
    /// What was shown, seen by one who knows what DNSSEC proves about the target that showed it. If
    /// a record speaks for it, it proves `claim`; if none does, it proves nothing, whatever its
    /// chain says (RFC 7673, section 4).
    ///
    /// * Usage 3: the leaf is the one; its names and dates do not count (RFC 7671, section 5.1).
    /// * Usage 2: `chains_to` the authority, and a name of the domain or of the target.
    /// * Usage 1: the leaf is the one, its chain holds, and a name as above.
    /// * Usage 0: its chain holds and `chains_to` the authority, and a name as above. The authority
    ///   must be shown: one that is not cannot be compared.
    ///
    #[must_use]
    pub fn under_tlsa(&self, claim: &Remote<Domain>, tlsa: &TlsaSet, chains_to: &ChainsTo) -> Self {
        let Some(leaf) = self.leaf() else { return Self::Nothing };
        let holds = matches!(self, Self::Verified(_));
        let under = |record: &Record| {
            let of_others = self.issuers().iter().map(Vec::as_slice);
            // An authority whose whole certificate stands in DNS need not be shown.
            let whole = record.usage == Usage::DaneTa
                && record.selector == Selector::Certificate
                && record.matching == Matching::Full;
            of_others
                .chain(whole.then_some(record.data.as_slice()))
                .any(|der| record.fits(der) && chains_to(leaf, self.issuers(), der))
        };
        let speaks = |record: &&Record| match record.usage {
            Usage::DaneEe => record.fits(leaf),
            Usage::DaneTa => under(record),
            Usage::PkixEe => holds && record.fits(leaf),
            Usage::PkixTa => holds && under(record),
        };
        // One that asks for no name goes first.
        let by = |nameless: bool| {
            let of_kind = move |record: &&Record| (record.usage == Usage::DaneEe) == nameless;
            tlsa.records.iter().filter(of_kind).find(speaks)
        };
        let vouched = |how| Self::Vouched(Vouched::new(leaf.to_vec(), claim.clone(), how));
        if let Some(record) = by(true) {
            return vouched(record.name());
        }
        let only_constraints =
            tlsa.records.iter().all(|one| matches!(one.usage, Usage::PkixTa | Usage::PkixEe));
        if only_constraints && !holds {
            // Its chain would have to hold in any case, and why it does not is known.
            return self.clone();
        }
        let fault = match by(false) {
            None => ChainFault::NotInTlsa { target: tlsa.target.clone() },
            Some(record) => match CertificateNames::from_der(leaf) {
                Err(_) => ChainFault::Malformed("not an X.509 certificate".to_owned()),
                Ok(names) => {
                    let name = names
                        .xmpp_server_match(&claim.0)
                        .or_else(|| names.host_match(&tlsa.target));
                    match name {
                        Some(name) => return vouched(format!("{}, {name}", record.name())),
                        None => ChainFault::TlsaName {
                            target: tlsa.target.clone(),
                            names: names.sample(NAMES_TOLD_MAX).join(", "),
                        },
                    }
                }
            },
        };
        Self::Untrusted { leaf: leaf.to_vec(), issuers: self.issuers().into(), fault }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "stands in for the handshake")]
mod tests {
    use gatehouse_testkit::{Issue, TestCa};

    use super::*;
    use crate::{IdentityError, Proof, VerifiedLeaf, prove};

    const THEM: &str = "them.example";
    const HOST: &str = "host.example";

    fn claim() -> Remote<Domain> {
        Remote(THEM.parse().unwrap())
    }

    /// The association data of a certificate.
    fn data(der: &[u8], selector: u8, matching: u8) -> Vec<u8> {
        let key = public_key_info(der).unwrap();
        let selected = if selector == 0 { der } else { &key };
        match matching {
            0 => selected.to_vec(),
            1 => digest::digest(&digest::SHA256, selected).as_ref().to_vec(),
            _ => digest::digest(&digest::SHA512, selected).as_ref().to_vec(),
        }
    }

    fn set(records: &[(u8, u8, u8, Vec<u8>)]) -> Option<TlsaSet> {
        TlsaSet::new(HOST.parse().unwrap(), records.to_vec())
    }

    fn untrusted(leaf: &[u8], issuers: &[&[u8]]) -> Presented {
        let issuers = issuers.iter().map(|der| der.to_vec()).collect();
        Presented::Untrusted { leaf: leaf.to_vec(), issuers, fault: ChainFault::UnknownIssuer }
    }

    fn verified(leaf: &[u8], issuers: &[&[u8]]) -> Presented {
        let issuers = issuers.iter().map(|der| der.to_vec()).collect();
        Presented::Verified(VerifiedLeaf::assertion(leaf.to_vec()).with_issuers(issuers))
    }

    /// The name of the proof, or the fault.
    fn verdict(shown: &Presented, tlsa: &TlsaSet, chains: bool) -> Result<String, IdentityError> {
        let seen = shown.under_tlsa(&claim(), tlsa, &move |_, _, _| chains);
        prove(&seen, &claim()).map(|peer| {
            assert_eq!(peer.domain(), &claim());
            let Proof::Certificate { name } = peer.proof() else { panic!("a certificate") };
            name.clone()
        })
    }

    fn not_in_tlsa() -> IdentityError {
        IdentityError::Untrusted(ChainFault::NotInTlsa { target: HOST.parse().unwrap() })
    }

    /// Each usage, selector and matching type: the right certificate and another one.
    #[test]
    fn every_kind_of_record_speaks_for_its_certificate_and_no_other() {
        let ca = TestCa::new();
        let (leaf, root) = (ca.issue_for(THEM).der, ca.root_der().to_vec());
        let (other_ca, other) = (TestCa::named("other"), ca.issue_for(THEM).der);
        let shown = verified(&leaf, &[&root]);
        for (usage, name) in [(0, "PKIX-TA"), (1, "PKIX-EE"), (2, "DANE-TA"), (3, "DANE-EE")] {
            let (right, wrong) = match usage {
                0 | 2 => (&root[..], other_ca.root_der()),
                _ => (&leaf[..], &other[..]),
            };
            for selector in [0, 1] {
                for matching in [0, 1, 2] {
                    let what = format!("{name} {usage} {selector} {matching}");
                    let record = |der| (usage, selector, matching, data(der, selector, matching));
                    let good = set(&[record(right)]).unwrap();
                    let named = if usage == 3 { "" } else { ", SRVName _xmpp-server.them.example" };
                    assert_eq!(verdict(&shown, &good, true), Ok(format!("{what}{named}")));
                    // An authority that is whole in DNS need not be shown: only the path decides.
                    let bad = set(&[record(wrong)]).unwrap();
                    let whole = (usage, selector, matching) == (2, 0, 0);
                    assert_eq!(verdict(&shown, &bad, whole).is_ok(), whole, "{what}");
                    assert_eq!(verdict(&shown, &bad, false), Err(not_in_tlsa()), "{what}");
                    let both = set(&[record(wrong), record(right)]).unwrap();
                    assert!(verdict(&shown, &both, true).is_ok(), "{what}");
                    // Without a path to it, an authority says nothing; a leaf needs none.
                    let needs_path = matches!(usage, 0 | 2);
                    assert_eq!(verdict(&shown, &good, false).is_err(), needs_path, "{what}");
                }
            }
        }
    }

    #[test]
    fn a_chain_that_we_trust_is_needed_for_constraints_and_for_nothing_else() {
        let ca = TestCa::new();
        let (leaf, root) = (ca.issue_for(THEM).der, ca.root_der().to_vec());
        let shown = untrusted(&leaf, &[&root]);
        for (usage, der, enough) in
            [(0, &root, false), (1, &leaf, false), (2, &root, true), (3, &leaf, true)]
        {
            let tlsa = set(&[(usage, 1, 1, data(der, 1, 1))]).unwrap();
            assert_eq!(verdict(&shown, &tlsa, true).is_ok(), enough, "usage {usage}");
            if !enough {
                let why = IdentityError::Untrusted(ChainFault::UnknownIssuer);
                assert_eq!(verdict(&shown, &tlsa, true), Err(why));
            }
        }
    }

    #[test]
    fn only_an_end_entity_record_does_without_names() {
        let ca = TestCa::new();
        let root = ca.root_der();
        for (issue, domain, host) in [
            (ca.issue().dns(THEM), true, false),
            (ca.issue().srv("_xmpp-server.them.example"), true, false),
            (ca.issue().dns(HOST), false, true),
            (ca.issue().dns("other.example"), false, false),
            (ca.issue().common_name(THEM), false, false),
        ] {
            let leaf = issue.make().der;
            let shown = verified(&leaf, &[root]);
            for (usage, der) in [(0, root), (1, &leaf[..]), (2, root)] {
                let tlsa = set(&[(usage, 0, 1, data(der, 0, 1))]).unwrap();
                let verdict = verdict(&shown, &tlsa, true);
                assert_eq!(verdict.is_ok(), domain || host, "usage {usage}: {verdict:?}");
            }
            let tlsa = set(&[(2, 0, 1, data(root, 0, 1)), (3, 0, 1, data(&leaf, 0, 1))]).unwrap();
            assert_eq!(verdict(&shown, &tlsa, true), Ok("DANE-EE 3 0 1".to_owned()));
        }
        let leaf = Issue::self_signed().dns("other.example").expired().make().der;
        let tlsa = set(&[(3, 1, 1, data(&leaf, 1, 1))]).unwrap();
        assert_eq!(verdict(&untrusted(&leaf, &[]), &tlsa, false), Ok("DANE-EE 3 1 1".to_owned()));
    }

    #[test]
    fn records_that_cannot_be_used_are_as_if_they_were_not_there() {
        let leaf = TestCa::new().issue_for(THEM).der;
        let unusable = [
            (4, 1, 1, vec![0; 32]),
            (255, 1, 1, vec![0; 32]),
            (3, 2, 1, vec![0; 32]),
            (3, 1, 3, vec![0; 32]),
            (3, 1, 1, vec![0; 31]),
            (3, 1, 1, vec![]),
            (3, 1, 2, vec![0; 32]),
            (3, 0, 0, b"junk".to_vec()),
            (3, 1, 0, leaf.clone()),
            (3, 0, 0, vec![]),
        ];
        for record in &unusable {
            assert_eq!(set(std::slice::from_ref(record)), None, "{record:?}");
        }
        assert_eq!(set(&[]), None);
        let mut records = unusable.to_vec();
        records.push((3, 1, 1, data(&leaf, 1, 1)));
        assert!(verdict(&untrusted(&leaf, &[]), &set(&records).unwrap(), false).is_ok());
        records.push((3, 1, 1, vec![0; 32]));
        assert!(verdict(&untrusted(&leaf, &[]), &set(&records).unwrap(), false).is_ok());
    }

    #[test]
    fn nothing_and_junk_prove_nothing() {
        let tlsa = set(&[(3, 0, 1, digest::digest(&digest::SHA256, b"junk").as_ref().to_vec())]);
        let tlsa = tlsa.unwrap();
        assert_eq!(verdict(&Presented::Nothing, &tlsa, true), Err(IdentityError::NoCertificate));
        assert_eq!(verdict(&untrusted(b"junk", &[b"junk"]), &tlsa, true), Err(not_in_tlsa()));
        let text = not_in_tlsa().to_string();
        assert!(text.contains(HOST) && text.contains("the partner has changed"), "{text}");
    }
}

//! What signed DNS records say about the certificates of an XMPP partner.

use gatehouse_identity::TlsaSet;
use gatehouse_policy::Conditions;
use gatehouse_resolve::{Host, Tlsa, TlsaSurvey};

use super::Probe;
use super::dns::Target;
use super::report::{DaneReport, TlsaLine};
use super::shake::text;

/// Records of one port that are listed.
const RECORDS_MAX: usize = 16;
/// Bytes of a record that are shown: all of a SHA-256.
const DATA_BYTES_MAX: usize = 32;

/// What is known of one target, and what follows from it.
#[derive(Clone, Debug)]
pub(super) struct Dane {
    pub(super) report: Option<DaneReport>,
    pub(super) demand: Demand,
}

/// What DNS demands of a certificate.
#[derive(Clone, Debug)]
pub(super) enum Demand {
    /// Nothing.
    None,
    /// That one of these records speaks for it.
    Records(TlsaSet),
    /// That it is not even looked at.
    Refuse,
}

impl Probe<'_> {
    /// Asks about one target as the edge would before it dials.
    pub(super) async fn dane(&self, target: &Target, conditions: Option<&Conditions>) -> Dane {
        let (Host::Name(host), remote) = (&target.place.host, &self.parts.remote.0) else {
            return Dane { report: None, demand: Demand::None };
        };
        let (port, transport) = (target.place.port, target.place.transport);
        let mut pick = |max| self.random.up_to(max);
        let resolver = &self.parts.resolver;
        let survey = resolver.tlsa_survey(remote, host, port, transport, &mut pick).await;
        // An administrator has said more: a pin names the key, a route takes DNS out of it.
        let overruled = conditions.and_then(|conditions| {
            if !conditions.route.is_empty() {
                Some("a route in our policy takes the place of DNS")
            } else if !conditions.pins.is_empty() {
                Some("a pinned key in our policy decides")
            } else {
                None
            }
        });
        let untrusting = (!resolver.trusts_ad()).then_some(
            "DNSSEC is not asked about: that needs a validating resolver on this machine and \
             trust-ad = true in [dns]",
        );
        let (state, reason, records) = match survey {
            TlsaSurvey::Absent => ("absent", untrusting.map(str::to_owned), Vec::new()),
            TlsaSurvey::Secure(records) => ("secure", None, records),
            TlsaSurvey::Insecure(records) => {
                let reason = untrusting.unwrap_or("DNSSEC does not prove them and the way to them");
                ("insecure", Some(reason.to_owned()), records)
            }
            TlsaSurvey::Bogus(reason) => ("bogus", Some(text(&reason)), Vec::new()),
        };
        let set = TlsaSet::new(host.clone(), records.iter().map(fields));
        let demand = match (state, set) {
            _ if overruled.is_some() => Demand::None,
            ("bogus", _) => Demand::Refuse,
            ("secure", Some(set)) => Demand::Records(set),
            _ => Demand::None,
        };
        let unusable = (state == "secure").then_some("none of them can be used");
        let decides = !matches!(demand, Demand::None);
        let why_not = overruled.or(unusable).filter(|_| !decides && state != "absent");
        let line = |record: &Tlsa| TlsaLine {
            usage: record.usage,
            selector: record.selector,
            matching: record.matching,
            data: digits(&record.data),
            usable: TlsaSet::new(host.clone(), [fields(record)]).is_some(),
        };
        let report = DaneReport {
            name: format!("_{port}._tcp.{host}"),
            state,
            decides,
            reason: why_not.map(str::to_owned).or(reason),
            records: records.iter().take(RECORDS_MAX).map(line).collect(),
        };
        Dane { report: Some(report), demand }
    }
}

fn fields(record: &Tlsa) -> (u8, u8, u8, Vec<u8>) {
    (record.usage, record.selector, record.matching, record.data.clone())
}

fn digits(data: &[u8]) -> String {
    let shown = data.iter().take(DATA_BYTES_MAX).map(|byte| format!("{byte:02x}"));
    let more = if data.len() > DATA_BYTES_MAX { "..." } else { "" };
    shown.collect::<String>() + more
}

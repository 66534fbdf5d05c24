//! Where a partner is: what DNS says, or the policy in its place.

use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use gatehouse_resolve::{Host, HostSurvey, Resolver, SrvRecord, SrvSurvey, Transport};
use gatehouse_types::Domain;

use super::Probe;
use super::report::{AddressReport, SrvLine, SrvReport, Stage, TargetReport};
use super::shake::text;
use crate::PrivateTargets;

/// Addresses of one protocol that are tried; the rest is only listed.
pub(super) const ADDRESSES_MAX: usize = 16;
/// Why an address is not dialled that is not on the public Internet.
pub(super) const PRIVATE: &str = "a private address";
/// Addresses of one host that are listed.
const HOST_ADDRESSES_MAX: usize = 8;
/// Hosts that are looked at.
const TARGETS_MAX: usize = 16;

/// One place to dial.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) transport: Transport,
}

/// A place and its addresses.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) problem: Option<String>,
    pub(super) addresses: Vec<Candidate>,
}

/// One address, and whether it is dialled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) address: SocketAddr,
    pub(super) private: bool,
    /// Why it is not dialled.
    pub(super) left_out: Option<&'static str>,
}

impl Place {
    pub(super) fn of(record: &SrvRecord, transport: Transport) -> Self {
        Self { host: Host::Name(record.host.clone()), port: record.port, transport }
    }
}

/// Asks for one SRV name.
pub(super) async fn ask(
    resolver: &Resolver,
    service: &str,
    domain: &Domain,
) -> (SrvSurvey, SrvReport) {
    let survey = resolver.srv(service, domain).await;
    let (state, reason, records) = match &survey {
        SrvSurvey::Absent => ("absent", None, Vec::new()),
        SrvSurvey::Refused => ("refused", None, Vec::new()),
        SrvSurvey::Failed(reason) => ("failed", Some(text(reason)), Vec::new()),
        SrvSurvey::Found(found) => {
            let line = |one: &SrvRecord| SrvLine {
                priority: one.priority,
                weight: one.weight,
                port: one.port,
                host: one.host.to_string(),
            };
            ("found", None, found.iter().map(line).collect())
        }
    };
    let report = SrvReport { name: format!("{service}._tcp.{domain}"), state, reason, records };
    (survey, report)
}

/// The records that were found.
pub(super) fn records(survey: &SrvSurvey) -> &[SrvRecord] {
    match survey {
        SrvSurvey::Found(records) => records,
        SrvSurvey::Absent | SrvSurvey::Refused | SrvSurvey::Failed(_) => &[],
    }
}

impl Probe<'_> {
    /// The addresses of each place. `trusted` says that not DNS but our own policy named them.
    pub(super) async fn targets(&self, places: Vec<Place>, trusted: bool) -> Vec<Target> {
        let resolver = &self.parts.resolver;
        let asked = join_all(places.iter().take(TARGETS_MAX).map(|place| async move {
            match &place.host {
                Host::Address(address) => HostSurvey::Found(vec![*address]),
                Host::Name(name) => resolver.host(name).await,
            }
        }));
        let answers = asked.await;
        let pass = if trusted { PrivateTargets::Allow } else { self.parts.private_targets };
        let mut room = ADDRESSES_MAX;
        let mut targets = Vec::new();
        for (place, answer) in places.into_iter().zip(answers) {
            let (found, problem) = match answer {
                HostSurvey::Found(found) => (found, None),
                HostSurvey::Absent => {
                    (Vec::new(), Some(format!("{} has no address in DNS", place.host)))
                }
                HostSurvey::Failed(reason) => (Vec::new(), Some(text(&reason))),
            };
            let candidate = |ip: IpAddr| {
                let private = !PrivateTargets::Refuse.let_pass(ip);
                let left_out = if !pass.let_pass(ip) {
                    Some(PRIVATE)
                } else if room == 0 {
                    Some("enough others were tried")
                } else {
                    room -= 1;
                    None
                };
                Candidate { address: SocketAddr::new(ip, place.port), private, left_out }
            };
            let addresses = found.into_iter().take(HOST_ADDRESSES_MAX).map(candidate).collect();
            targets.push(Target { place, problem, addresses });
        }
        targets
    }

    /// Tries every address of every target at the same time.
    pub(super) async fn try_all<'t, F: Future<Output = AddressReport>>(
        &self,
        targets: &'t [Target],
        attempt: impl Fn(&'t Target, SocketAddr, AddressReport) -> F,
    ) -> Vec<AddressReport> {
        let attempt = &attempt;
        let all = targets.iter().flat_map(|target| {
            target.addresses.iter().map(move |candidate| async move {
                let report = AddressReport::new(candidate);
                match candidate.left_out {
                    Some(_) => report,
                    None => attempt(target, candidate.address, report).await,
                }
            })
        });
        join_all(all).await
    }
}

/// Puts the reports of addresses under their targets.
pub(super) fn grouped(
    targets: &[Target],
    reports: Vec<AddressReport>,
    transport: impl Fn(Transport) -> &'static str,
) -> Vec<TargetReport> {
    let mut reports = reports.into_iter();
    targets
        .iter()
        .map(|target| TargetReport {
            host: target.place.host.to_string(),
            port: target.place.port,
            transport: transport(target.place.transport),
            problem: target.problem.clone(),
            dane: None,
            addresses: reports.by_ref().take(target.addresses.len()).collect(),
        })
        .collect()
}

impl AddressReport {
    fn new(candidate: &Candidate) -> Self {
        Self {
            address: candidate.address.to_string(),
            private: candidate.private,
            stage: Stage::NotDialled,
            error: candidate.left_out.map(|why| format!("not dialled: {why}")),
            tls: None,
            certificate: None,
            rules: Vec::new(),
            proved: false,
            xmpp: None,
            sip: None,
            usable: false,
        }
    }

    /// Notes how far it came and why it went no further.
    pub(super) fn failed(mut self, stage: Stage, error: &str) -> Self {
        self.stage = stage;
        self.error = Some(text(error));
        self
    }
}

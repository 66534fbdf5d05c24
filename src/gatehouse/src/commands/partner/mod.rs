//! `gatehouse partner`: what an administrator would find out by hand.

mod show;

use std::time::{Duration, Instant};

use gatehouse_edge::PrivateTargets;
use gatehouse_edge::probe::{OwnSide, ProbeParts, ProbeProtocols, ProbeReport, probe};
use gatehouse_net::now;
use gatehouse_pki::ders_of;
use gatehouse_resolve::Resolver;
use gatehouse_tls::{Connector, KeyEntry, Keys, Roots};
use gatehouse_types::{Domain, Local, Remote};
use parking_lot::Mutex;
use tokio::time;

use super::Failure;
use crate::cli::{PartnerCommand, ProbeProtocol};
use crate::display::{hint, say};
use crate::setup::Setup;
use crate::{certificates, clock, files};

/// ALPN of direct TLS (XEP-0368).
const ALPN_SERVER: &str = "xmpp-server";
/// How long all of it may take.
const TOTAL: Duration = Duration::from_secs(30);
/// Whoever waits longer is told for what.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn partner(command: PartnerCommand) -> Result<(), Failure> {
    let PartnerCommand::Check { partner, as_domain, protocol, json, place } = command;
    let setup = Setup::read(&place)?;
    let parts = parts(&setup, partner, as_domain, protocol)?;
    let report = run(&parts).await?;
    if json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| Failure::from(&error))?;
        say(text);
    } else {
        say(show::report(&report));
    }
    if report.verdict.works { Ok(()) } else { Err(Failure::new(report.verdict.text)) }
}

/// Probes, and tells whoever waits what it is waiting for.
async fn run(parts: &ProbeParts) -> Result<ProbeReport, Failure> {
    let doing: Mutex<String> = Mutex::new(String::from("starting"));
    let begun: Instant = now();
    let progress = |what: String| *doing.lock() = what;
    let mut probing = Box::pin(probe(parts, &progress));
    let mut ticks = time::interval_at(time::Instant::now() + PATIENCE, PATIENCE);
    loop {
        tokio::select! {
            biased;
            report = &mut probing => return report.map_err(|error| Failure::from(&error)),
            _ = ticks.tick() => {
                let doing = doing.lock().clone();
                hint(format!("{doing} ({} s)", begun.elapsed().as_secs()));
            }
        }
    }
}

fn parts(
    setup: &Setup,
    partner: Domain,
    as_domain: Option<Domain>,
    protocol: ProbeProtocol,
) -> Result<ProbeParts, Failure> {
    let settings = &setup.settings;
    let local = match as_domain.or_else(|| settings.domains.first().cloned()) {
        Some(domain) if settings.domains.contains(&domain) => domain,
        Some(domain) => {
            return Err(Failure::usage(format!("{domain} is not one of our domains")));
        }
        None => return Err(Failure::usage("we have no domain")),
    };
    if settings.domains.contains(&partner) {
        return Err(Failure::usage(format!("{partner} is one of our own domains, not a partner")));
    }
    let (own, entries) = own_side(setup, &local);
    let keys = Keys::empty();
    keys.replace(entries).map_err(|error| Failure::from(&error))?;
    let roots = Roots::new(&certificates::trust(setup)?, certificates::system_roots(setup))
        .map_err(|error| Failure::from(&error))?;
    let connector =
        |alpn: &[&str]| Connector::new(&keys, &roots, alpn).map_err(|error| Failure::from(&error));
    let resolver = if settings.dns_servers.is_empty() {
        Resolver::system()
    } else {
        Resolver::with_servers(&settings.dns_servers)
    };
    // A look changes nothing: a secret that is not there yet is not made.
    let has_secret = files::dialback_secret_path(&settings.data).is_file();
    Ok(ProbeParts {
        local: Local(local),
        remote: Remote(partner),
        protocols: match protocol {
            ProbeProtocol::Xmpp => ProbeProtocols::Xmpp,
            ProbeProtocol::Sip => ProbeProtocols::Sip,
            ProbeProtocol::Both => ProbeProtocols::Both,
        },
        policy: setup.policy()?,
        resolver: resolver.map_err(|error| Failure::from(&error))?,
        plain_connector: connector(&[])?,
        direct_connector: connector(&[ALPN_SERVER])?,
        dialback_secret: has_secret.then(|| files::dialback_secret(&settings.data)).transpose()?,
        private_targets: if settings.s2s.private_targets {
            PrivateTargets::Allow
        } else {
            PrivateTargets::Refuse
        },
        own,
        unix_now: clock::unix_seconds(),
        total: TOTAL,
    })
}

/// What we would show as `local`. That there is nothing is a finding, not a failure.
fn own_side(setup: &Setup, local: &Domain) -> (OwnSide, Vec<KeyEntry>) {
    let settings = &setup.settings;
    let mut own = OwnSide {
        sip_host: settings.sip.host(local),
        sip_port: settings.sip.public_port,
        sip_listens: !settings.listen.sip.is_empty(),
        ..OwnSide::default()
    };
    // Opening the directory would make it.
    if !settings.data.join("certs").is_dir() {
        own.problem = Some(format!("there is no certificate yet in {}", settings.data.display()));
        return (own, Vec::new());
    }
    let loaded = certificates::directory(setup).and_then(|directory| {
        let stored = directory.load(local).map_err(|error| Failure::from(&error))?;
        let status = directory.summary(local).map_err(|error| Failure::from(&error))?;
        let beside = directory.beside().load(local).map_err(|error| Failure::from(&error))?;
        Ok((stored, beside, status.is_some_and(|status| status.issued_here)))
    });
    match loaded {
        Ok((Some(stored), beside, issued_here)) => {
            own.issued_here = issued_here;
            match ders_of(&stored.chain_pem) {
                Ok(chain) => own.chain = chain,
                Err(fault) => own.problem = Some(fault.to_string()),
            }
            let entry = |stored| certificates::entry(vec![local.clone()], stored);
            // That one is only looked at by a partner that cannot check the first.
            let beside = beside.filter(|beside| beside.rsa && !stored.rsa);
            (own, std::iter::once(&stored).chain(&beside).map(entry).collect())
        }
        Ok((None, ..)) => {
            own.problem = Some(format!("there is no certificate for {local}"));
            (own, Vec::new())
        }
        Err(failure) => {
            own.problem = Some(failure.text().to_owned());
            (own, Vec::new())
        }
    }
}

//! Our certificates and trust, from files to what TLS wants.

use std::fmt::Write as _;
use std::fs;

use gatehouse_config::Roles;
use gatehouse_pki::{CertDir, NamePlan, PlanOptions};
use gatehouse_tls::{KeyEntry, SystemRoots};
use gatehouse_types::Domain;
use tracing::warn;

use crate::clock;
use crate::commands::Failure;
use crate::setup::Setup;

/// A certificate that ends sooner than this is worth a warning.
const WARN_SECONDS: i64 = 14 * 86_400;

/// The directory that holds the certificates of the IM domains.
pub(crate) fn directory(setup: &Setup) -> Result<CertDir, Failure> {
    CertDir::open(setup.settings.data.join("certs")).map_err(|error| Failure::from(&error))
}

/// The names that the certificate of `domain` shall hold.
pub(crate) fn plan(setup: &Setup, domain: &Domain) -> NamePlan {
    let options = PlanOptions { xmpp_addr: setup.settings.certificates.xmpp_addr };
    let plan = NamePlan::for_domain(domain, &setup.settings.edge_host, options);
    match setup.settings.sip.host(domain) {
        Some(host) => plan.with_sip_host(&host),
        None => plan,
    }
}

/// Issues what is missing or outdated. An edge by itself has no authority and issues nothing.
pub(crate) fn ensure(setup: &Setup) -> Result<(), Failure> {
    if setup.settings.roles == Roles::Edge {
        return Ok(());
    }
    let directory = directory(setup)?;
    for domain in &setup.settings.domains {
        directory
            .ensure(&plan(setup, domain), clock::unix_seconds())
            .map_err(|error| Failure::from(&error))?;
    }
    Ok(())
}

/// The certificates of all our domains, as TLS wants them. Fails if a domain has none.
pub(crate) fn load(setup: &Setup) -> Result<Vec<KeyEntry>, Failure> {
    let directory = directory(setup)?;
    let mut entries = Vec::new();
    for domain in &setup.settings.domains {
        let stored = directory.load(domain).map_err(|error| Failure::from(&error))?;
        let Some(stored) = stored else {
            return Err(Failure::usage(format!(
                "there is no certificate for {domain} in {}: copy the edge's data directory from `gatehouse trunk export`, or use `gatehouse cert import`",
                directory.path().display()
            )));
        };
        if setup.settings.roles == Roles::Edge {
            // Where there is an authority, `ensure` renews or warns.
            warn_of_end(&directory, domain);
        }
        // Other names of the certificate are served too, so that a room service and the host of SIP
        // are found by SNI; one that is a domain of ours has a certificate of its own.
        let conference = format!("conference.{domain}").parse::<Domain>().ok();
        let others = conference.into_iter().chain(setup.settings.sip.host(domain));
        let others = others.filter(|name| !setup.settings.domains.contains(name));
        entries.push(KeyEntry {
            domains: std::iter::once(domain.clone()).chain(others).collect(),
            chain_pem: stored.chain_pem.clone(),
            key_pem: stored.key_pem.reveal().clone(),
        });
    }
    Ok(entries)
}

fn warn_of_end(directory: &CertDir, domain: &Domain) {
    let Ok(Some(status)) = directory.summary(domain) else { return };
    let left = status.summary.not_after - clock::unix_seconds();
    if left < 0 {
        warn!(%domain, "the certificate has expired: partners will refuse us; renew it with `gatehouse cert issue` or `cert import`");
    } else if left < WARN_SECONDS {
        warn!(%domain, days_left = left / 86_400, "the certificate ends soon: renew it with `gatehouse cert issue` or `cert import`");
    }
}

/// The authorities that the settings name, as PEM. Our own local authority is not among them: it
/// speaks for us, and must never be able to speak for a partner.
pub(crate) fn trust(setup: &Setup) -> Result<Vec<String>, Failure> {
    let read = |path: &std::path::PathBuf| {
        fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
    };
    setup.settings.tls.trust.iter().map(read).collect()
}

/// Whether the machine's own trust store counts.
pub(crate) fn system_roots(setup: &Setup) -> SystemRoots {
    if setup.settings.tls.system_roots { SystemRoots::Use } else { SystemRoots::Ignore }
}

/// What the certificates hold, for the newcomer's screen.
pub(crate) fn overview(setup: &Setup) -> Result<String, Failure> {
    let directory = directory(setup)?;
    let mut text = String::from("\nNames in the certificates:\n");
    for domain in &setup.settings.domains {
        let status = directory.summary(domain).map_err(|error| Failure::from(&error))?;
        let Some(status) = status else { continue };
        let names = &status.summary.names;
        let all: Vec<&str> =
            names.dns.iter().chain(&names.srv).chain(&names.xmpp).map(String::as_str).collect();
        let issuer =
            if status.issued_here { "local authority" } else { status.summary.issuer.as_str() };
        let _ = writeln!(text, "  {domain} ({issuer}): {}", all.join(", "));
    }
    Ok(text)
}

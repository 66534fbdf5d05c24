//! Our certificates and trust, from files to what TLS wants.

use std::fmt::Write as _;
use std::fs;

use gatehouse_config::Roles;
use gatehouse_pki::{CertDir, NamePlan, PlanOptions, StoredCertificate};
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
        let plan = plan(setup, domain);
        let ensure = |directory: &CertDir| {
            directory.ensure(&plan, clock::unix_seconds()).map_err(|error| Failure::from(&error))
        };
        ensure(&directory)?;
        if has_beside(setup, domain)? && !is_rsa(&directory, domain)? {
            ensure(&directory.beside())?;
        }
    }
    Ok(())
}

/// Whether the domain has an RSA certificate beside its first one, or shall get one.
pub(crate) fn has_beside(setup: &Setup, domain: &Domain) -> Result<bool, Failure> {
    if setup.settings.certificates.rsa {
        return Ok(true);
    }
    // Opening the directory would make it.
    if !setup.settings.data.join("certs").is_dir() {
        return Ok(false);
    }
    let beside = directory(setup)?.beside();
    let status = beside.summary(domain).map_err(|error| Failure::from(&error))?;
    Ok(status.is_some())
}

/// Whether the domain's first certificate is RSA, so that a second one would change nothing.
pub(crate) fn is_rsa(directory: &CertDir, domain: &Domain) -> Result<bool, Failure> {
    let stored = directory.load(domain).map_err(|error| Failure::from(&error))?;
    Ok(stored.is_some_and(|stored| stored.rsa))
}

/// Whether just one of the domain's two certificates comes from the local authority.
pub(crate) fn authorities_differ(directory: &CertDir, domain: &Domain) -> Result<bool, Failure> {
    let issued_here = |directory: &CertDir| {
        let status = directory.summary(domain).map_err(|error| Failure::from(&error))?;
        Ok::<_, Failure>(status.map(|status| status.issued_here))
    };
    let both = issued_here(directory)?.zip(issued_here(&directory.beside())?);
    Ok(both.is_some_and(|(first, second)| first != second))
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
        let domains: Vec<Domain> = std::iter::once(domain.clone()).chain(others).collect();
        let is_rsa = stored.rsa;
        entries.push(entry(domains.clone(), &stored));
        let beside = load_beside(setup, &directory, domain, is_rsa)?;
        entries.extend(beside.map(|stored| entry(domains, &stored)));
    }
    Ok(entries)
}

/// The RSA certificate beside the first one, if there is one and it is of use.
fn load_beside(
    setup: &Setup,
    directory: &CertDir,
    domain: &Domain,
    first_is_rsa: bool,
) -> Result<Option<StoredCertificate>, Failure> {
    let beside = directory.beside();
    let Some(stored) = beside.load(domain).map_err(|error| Failure::from(&error))? else {
        return Ok(None);
    };
    if first_is_rsa || !stored.rsa {
        warn!(%domain, path = %beside.path().join(beside.file_name(domain, "crt")).display(),
            "this certificate is not used: an RSA certificate beside one of another kind would be");
        return Ok(None);
    }
    if setup.settings.roles == Roles::Edge {
        warn_of_end(&beside, domain);
    }
    if authorities_differ(directory, domain)? {
        warn!(%domain, "its two certificates come from different authorities: partners get the ECDSA one if they can check it");
    }
    Ok(Some(stored))
}

/// A certificate as TLS wants it.
pub(crate) fn entry(domains: Vec<Domain>, stored: &StoredCertificate) -> KeyEntry {
    KeyEntry {
        domains,
        chain_pem: stored.chain_pem.clone(),
        key_pem: stored.key_pem.reveal().clone(),
    }
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
    let beside = directory.beside();
    for (domain, directory) in
        setup.settings.domains.iter().flat_map(|domain| [(domain, &directory), (domain, &beside)])
    {
        let status = directory.summary(domain).map_err(|error| Failure::from(&error))?;
        let Some(status) = status else { continue };
        let names = &status.summary.names;
        let all: Vec<&str> =
            names.dns.iter().chain(&names.srv).chain(&names.xmpp).map(String::as_str).collect();
        let issuer =
            if status.issued_here { "local authority" } else { status.summary.issuer.as_str() };
        let _ = writeln!(text, "  {domain} ({}, {issuer}): {}", status.key_kind, all.join(", "));
    }
    Ok(text)
}

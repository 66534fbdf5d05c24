use std::path::Path;

use gatehouse_config::Roles;
use gatehouse_pki::CertDir;
use gatehouse_types::Domain;

use super::Failure;
use crate::cli::TrunkCommand;
use crate::display::say;
use crate::setup::Setup;
use crate::{certificates, clock, files, trunk};

/// Prepares edge and core as two processes.
pub(super) fn trunk(command: TrunkCommand) -> Result<(), Failure> {
    match command {
        TrunkCommand::Export { out, name, place } => export(&Setup::read(&place)?, &out, &name),
    }
}

/// Copies a domain's certificate and key; false if there is none.
fn copy_certificate(directory: &CertDir, domain: &Domain, out: &Path) -> Result<bool, Failure> {
    let stored = directory.load(domain).map_err(|error| Failure::from(&error))?;
    let Some(stored) = stored else { return Ok(false) };
    let path = |extension| out.join("certs").join(directory.file_name(domain, extension));
    files::write_private(&path("key"), stored.key_pem.reveal())?;
    files::write_private(&path("crt"), &stored.chain_pem)?;
    Ok(true)
}

/// What `trunk.cores` of an edge needs for this core: its name, and the domains it may speak for.
fn row(name: &Domain, domains: &[Domain]) -> String {
    let domains: Vec<_> = domains.iter().map(|domain| format!("\"{domain}\"")).collect();
    format!("{{ name = \"{name}\", domains = [{}] }}", domains.join(", "))
}

/// Writes what an edge needs and nothing else: no authority's key, no user data.
fn export(setup: &Setup, out: &Path, name: &Domain) -> Result<(), Failure> {
    if setup.settings.roles == Roles::Edge {
        return Err(Failure::usage(
            "run this where the core is: an edge has no authority to issue from",
        ));
    }
    if out.exists() {
        return Err(Failure::usage(format!(
            "{} exists already: name a new directory with --out",
            out.display()
        )));
    }
    files::make_private_directory(&setup.settings.data)?;
    certificates::ensure(setup)?;
    let secret = files::dialback_secret(&setup.settings.data)?;
    let node = trunk::directory(setup)?;

    files::make_private_directory(out)?;
    node.export_edge(&out.join("trunk"), name, clock::unix_seconds())
        .map_err(|error| Failure::from(&error))?;
    files::make_private_directory(&out.join("certs"))?;
    let directory = certificates::directory(setup)?;
    for domain in &setup.settings.domains {
        if !copy_certificate(&directory, domain, out)? {
            return Err(Failure::new(format!("there is no certificate for {domain}")));
        }
        copy_certificate(&directory.beside(), domain, out)?;
    }
    if let Some(authority) = directory.ca_pem().map_err(|error| Failure::from(&error))? {
        files::write_private(&out.join("certs").join("local-ca.crt"), &authority)?;
    }
    let secret = String::from_utf8_lossy(secret.reveal()).into_owned();
    files::write_private(&files::dialback_secret_path(out), &secret)?;
    let secrets = files::sip_secrets(&setup.settings.data)?;
    let lines = secrets.iter().map(|secret| String::from_utf8_lossy(secret.reveal()).into_owned());
    let lines = lines.collect::<Vec<_>>().join("\n");
    files::write_private(&files::sip_secrets_path(out), &lines)?;
    say(format!(
        "Wrote {}: the data directory of the edge `{name}`.\nCopy it to the edge over a safe way, then remove it here: it holds private keys.\nThe row for this core in the edge's gatehouse.toml, under [trunk]:\n    cores = [{}]",
        out.display(),
        row(&setup.settings.trunk.name, &setup.settings.domains)
    ));
    Ok(())
}

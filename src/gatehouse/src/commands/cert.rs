use std::fs;
use std::path::Path;

use gatehouse_pki::{CertDir, CertificateStatus, Ensured, NamePlan, NewKey};
use gatehouse_types::Domain;

use super::Failure;
use crate::cli::CertCommand;
use crate::display::{say, table};
use crate::setup::Setup;
use crate::{certificates, clock};

/// Manages the certificates of our IM domains.
pub(super) fn cert(command: CertCommand) -> Result<(), Failure> {
    match command {
        CertCommand::Plan { place, json } => plan(&Setup::read(&place)?, json),
        CertCommand::Issue { place, new_key, rsa } => issue(&Setup::read(&place)?, new_key, rsa),
        CertCommand::Csr { domain, rsa, place } => csr(&Setup::read(&place)?, &domain, rsa),
        CertCommand::Import { domain, chain, key, rsa, place } => {
            let read = |path: &std::path::PathBuf| {
                fs::read_to_string(path).map_err(|error| {
                    Failure::usage(format!("cannot read {}: {error}", path.display()))
                })
            };
            let key = key.as_ref().map(read).transpose()?;
            import(&Setup::read(&place)?, &domain, &read(&chain)?, key.as_deref(), rsa)
        }
        CertCommand::Pin { file } => pin(&file),
        CertCommand::Show { place, json } => show(&Setup::read(&place)?, json),
    }
}

/// Reads no settings: the certificate may be anybody's.
fn pin(file: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
    let summary = gatehouse_pki::summary_of(&text)
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    say(summary.key_pin);
    Ok(())
}

fn plan(setup: &Setup, json: bool) -> Result<(), Failure> {
    let plans: Vec<_> =
        setup.settings.domains.iter().map(|domain| certificates::plan(setup, domain)).collect();
    if json {
        return say_json(&plans);
    }
    for plan in plans {
        let domain = plan.domain();
        say(format!("{domain}:\n{plan}"));
        if certificates::has_beside(setup, domain)? {
            say(format!("{domain}, RSA: the same names\n"));
        }
    }
    Ok(())
}

fn issue(setup: &Setup, new_key: bool, rsa: bool) -> Result<(), Failure> {
    let directory = certificates::directory(setup)?;
    for domain in &setup.settings.domains {
        let plan = certificates::plan(setup, domain);
        issue_one(&directory, &plan, domain.as_str(), new_key)?;
        if !rsa && !certificates::has_beside(setup, domain)? {
            continue;
        }
        let title = format!("{domain}, RSA");
        if certificates::is_rsa(&directory, domain)? {
            say(format!("{title}: its first certificate is RSA already, so there is no second"));
        } else {
            issue_one(&directory.beside(), &plan, &title, new_key)?;
            note_of_authorities(&directory, domain)?;
        }
    }
    say(format!(
        "In {}; a running appliance takes them into use at SIGHUP.",
        directory.path().display()
    ));
    Ok(())
}

fn issue_one(
    directory: &CertDir,
    plan: &NamePlan,
    title: &str,
    new_key: bool,
) -> Result<(), Failure> {
    let now = clock::unix_seconds();
    if new_key {
        directory.issue(plan, now, NewKey::Yes).map_err(|error| Failure::from(&error))?;
        say(format!("{title}: issued, with a new key"));
        return Ok(());
    }
    match directory.ensure(plan, now).map_err(|error| Failure::from(&error))? {
        Ensured::Issued(reason) => say(format!("{title}: issued, because {reason}")),
        Ensured::Kept => say(format!("{title}: good as it is (--new-key issues it all the same)")),
        Ensured::Imported => say(format!("{title}: comes from another authority, left alone")),
    }
    Ok(())
}

fn note_of_authorities(directory: &CertDir, domain: &Domain) -> Result<(), Failure> {
    if certificates::authorities_differ(directory, domain)? {
        say(format!(
            "  note: one certificate of {domain} comes from the local authority, the other does not: a partner gets the ECDSA one if it can check it, and must trust its authority."
        ));
    }
    Ok(())
}

/// The domain's first certificates, or those beside them.
fn chosen(setup: &Setup, rsa: bool) -> Result<CertDir, Failure> {
    let directory = certificates::directory(setup)?;
    Ok(if rsa { directory.beside() } else { directory })
}

fn csr(setup: &Setup, domain: &Domain, rsa: bool) -> Result<(), Failure> {
    must_be_ours(setup, domain)?;
    let directory = chosen(setup, rsa)?;
    let request =
        directory.csr(&certificates::plan(setup, domain)).map_err(|error| Failure::from(&error))?;
    say(request.trim_end());
    Ok(())
}

fn import(
    setup: &Setup,
    domain: &Domain,
    chain: &str,
    key: Option<&str>,
    rsa: bool,
) -> Result<(), Failure> {
    must_be_ours(setup, domain)?;
    let directory = chosen(setup, rsa)?;
    let imported = directory
        .import(domain, chain, key, clock::unix_seconds())
        .map_err(|error| Failure::from(&error))?;
    say(format!("{domain}: imported, from {}", imported.summary.issuer));
    for remark in imported.remarks {
        say(format!("  note: {remark}"));
    }
    note_of_authorities(&certificates::directory(setup)?, domain)?;
    say("A running appliance takes it into use at SIGHUP.");
    Ok(())
}

fn show(setup: &Setup, json: bool) -> Result<(), Failure> {
    let directory = certificates::directory(setup)?;
    let mut found: Vec<CertificateStatus> = Vec::new();
    for directory in [directory.beside(), directory] {
        for domain in directory.domains().map_err(|error| Failure::from(&error))? {
            found.extend(directory.summary(&domain).map_err(|error| Failure::from(&error))?);
        }
    }
    found.sort_by(|a, b| (&a.domain, a.beside).cmp(&(&b.domain, b.beside)));
    if json {
        return say_json(&found);
    }
    if found.is_empty() {
        say("No certificates yet: `gatehouse cert issue` makes them, and so does `gatehouse run`.");
        return Ok(());
    }
    let now = clock::unix_seconds();
    let rows = found.iter().map(|status| {
        let summary = &status.summary;
        let names = &summary.names;
        let all: Vec<&str> =
            names.dns.iter().chain(&names.srv).chain(&names.xmpp).map(String::as_str).collect();
        let days = (summary.not_after - now).div_euclid(86_400);
        let left = if days < 0 { "EXPIRED".to_owned() } else { format!("{days} days") };
        let key = if status.has_key { "yes" } else { "MISSING" };
        let issuer =
            if status.issued_here { "local authority".to_owned() } else { summary.issuer.clone() };
        [
            status.domain.to_string(),
            status.key_kind.to_owned(),
            left,
            issuer,
            key.to_owned(),
            summary.serial.clone(),
            all.join(" "),
        ]
    });
    say(table(["DOMAIN", "KIND", "LEFT", "ISSUER", "KEY", "SERIAL", "NAMES"], rows));
    Ok(())
}

fn must_be_ours(setup: &Setup, domain: &Domain) -> Result<(), Failure> {
    if setup.settings.domains.contains(domain) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{domain} is not one of our domains: add it to `domains` in gatehouse.toml, or with --domain {domain}"
    )))
}

fn say_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::from(&error))?;
    say(text);
    Ok(())
}

use gatehouse_policy::{Require, Tls};
use gatehouse_types::{Domain, Local, Remote};

use super::Failure;
use crate::cli::Place;
use crate::display::say;
use crate::setup::Setup;

/// Says what the policy makes of `partner`, for each of our domains.
pub(super) fn policy(partner: &Domain, place: &Place) -> Result<(), Failure> {
    let setup = Setup::read(place)?;
    let policy = setup.policy()?;
    for domain in &setup.settings.domains {
        match policy.conditions(&Local(domain.clone()), &Remote(partner.clone())) {
            Ok(conditions) => {
                let proof = match conditions.require {
                    Require::Certificate => "a certificate that proves its domain",
                    Require::CertificateOrDialback => {
                        "a certificate that proves its domain, or dialback"
                    }
                };
                let tls = match conditions.tls {
                    Tls::Required => "TLS",
                    Tls::Optional => "TLS where the partner offers it",
                };
                say(format!(
                    "{domain} <-> {partner}: allowed by rule `{}`, with {tls} and {proof}",
                    conditions.rule
                ));
            }
            Err(denial) => say(format!("{domain} <-> {partner}: refused: {denial}")),
        }
    }
    Ok(())
}

use gatehouse_types::{Domain, Local, Remote};

use super::Failure;
use crate::cli::Place;
use crate::display::say;
use crate::setup::Setup;

/// Says what the policy makes of `partner`, for each of our domains: what the edge would answer.
pub(super) fn policy(partner: &Domain, place: &Place) -> Result<(), Failure> {
    let setup = Setup::read(place)?;
    let policy = setup.policy()?;
    for domain in &setup.settings.domains {
        say(policy.explain(&Local(domain.clone()), &Remote(partner.clone())));
    }
    Ok(())
}

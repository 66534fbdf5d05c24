use super::Failure;
use crate::cli::Place;
use crate::display::say;
use crate::setup::Setup;

/// Tells every mistake, or that there is none.
pub(super) fn check_config(place: &Place) -> Result<(), Failure> {
    let setup = Setup::read(place)?;
    setup.policy()?;
    let domains: Vec<_> = setup.settings.domains.iter().map(ToString::to_string).collect();
    say(format!("{}: no mistakes. IM domains: {}", setup.origin(), domains.join(", ")));
    Ok(())
}

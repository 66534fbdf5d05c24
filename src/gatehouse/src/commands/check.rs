use super::Failure;
use crate::cli::Place;
use crate::display::say;
use crate::setup::Setup;

/// Tells every mistake, or that there is none.
pub(super) fn check_config(place: &Place) -> Result<(), Failure> {
    let setup = Setup::read(place)?;
    let policy = setup.policy()?;
    let domains: Vec<_> = setup.settings.domains.iter().map(ToString::to_string).collect();
    say(format!("{}: no mistakes. IM domains: {}", setup.origin(), domains.join(", ")));
    for remark in gatehouse_config::remarks(&setup.settings, &policy) {
        say(format!("  warning: {remark}"));
    }
    Ok(())
}

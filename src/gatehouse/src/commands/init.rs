use std::fs;
use std::path::Path;

use gatehouse_config::TEMPLATE;

use super::Failure;
use crate::display::say;

/// Writes the commented template.
pub(super) fn init(config: &Path, force: bool) -> Result<(), Failure> {
    if config.exists() && !force {
        return Err(Failure::usage(format!(
            "{} exists already: choose another name with --config, or replace it with --force",
            config.display()
        )));
    }
    fs::write(config, TEMPLATE)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", config.display())))?;
    say(format!("Wrote {}. Edit it, then: gatehouse check-config --config {0}", config.display()));
    Ok(())
}

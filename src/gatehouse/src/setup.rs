use std::path::{Path, PathBuf};

use gatehouse_config::{Overrides, PolicySource, Problems, Settings};
use gatehouse_policy::Policy;
use gatehouse_types::Domain;

use crate::cli::Place;

/// The file that is read if it is there and no other is named.
const DEFAULT_FILE: &str = "gatehouse.toml";

/// The settings that a command works with, and where they came from.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    file: Option<PathBuf>,
}

impl Setup {
    /// Reads the file, if any, and lets the command line override it.
    pub(crate) fn read(place: &Place) -> Result<Self, Problems> {
        let default = Path::new(DEFAULT_FILE);
        let file = place.config.clone().or_else(|| default.is_file().then(|| default.to_owned()));
        let overrides = Overrides { domains: place.domains.clone(), data: place.data.clone() };
        let settings = match &file {
            Some(file) => gatehouse_config::load(file, &overrides)?,
            None => gatehouse_config::parse(default, "", &overrides)?,
        };
        Ok(Self { settings, file })
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Result<Policy, Problems> {
        match &self.settings.policy {
            PolicySource::Embedded => Ok(Policy::open_with_certificate()),
            PolicySource::File(file) => gatehouse_config::read_policy(file),
        }
    }

    /// Where the settings came from, for people.
    pub(crate) fn origin(&self) -> String {
        match &self.file {
            Some(file) => file.display().to_string(),
            None => "built-in defaults".to_owned(),
        }
    }

    /// The domain that stands for the appliance where one must be named.
    pub(crate) fn first_domain(&self) -> &str {
        self.settings.domains.first().map_or("ours.example", Domain::as_str)
    }

    /// The database.
    pub(crate) fn database(&self) -> PathBuf {
        self.settings.data.join("gatehouse.sqlite")
    }
}

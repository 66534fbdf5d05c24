use std::sync::Arc;

use gatehouse_policy::Policy;
use gatehouse_tls::{Keys, Roots};
use tokio::sync::watch;
use tracing::{error, info};

use super::roles::Shared;
use crate::certificates;
use crate::cli::Place;
use crate::commands::Failure;
use crate::setup::Setup;

/// Reads policy, certificates and trust again, without a restart and without dropping a stream that
/// is still allowed.
pub(super) struct Reloader {
    place: Place,
    policy: watch::Sender<Arc<Policy>>,
    keys: Keys,
    roots: Roots,
}

impl Reloader {
    pub(super) fn new(place: Place, shared: &Shared) -> Self {
        Self {
            place,
            policy: shared.policy.clone(),
            keys: shared.keys.clone(),
            roots: shared.roots.clone(),
        }
    }

    /// All or nothing: with a mistake in any file, what is in force stays in force.
    pub(super) fn reload(&self) {
        match self.try_reload() {
            Ok(()) => info!("policy, certificates and trust reloaded"),
            Err(failure) => {
                error!(reason = failure.text(), "nothing reloaded: what was in force stays");
            }
        }
    }

    fn try_reload(&self) -> Result<(), Failure> {
        let setup = Setup::read(&self.place)?;
        let policy = setup.policy()?;
        let entries = certificates::load(&setup)?;
        let trust = certificates::trust(&setup)?;
        let system = certificates::system_roots(&setup);
        self.roots.replace(&trust, system).map_err(|error| Failure::from(&error))?;
        self.keys.replace(entries).map_err(|error| Failure::from(&error))?;
        self.policy.send_replace(Arc::new(policy));
        Ok(())
    }
}

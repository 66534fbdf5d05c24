use std::sync::Arc;

use gatehouse_config::Settings;
use gatehouse_policy::{InsideSip, Policy};
use gatehouse_tls::{Keys, Roots};
use gatehouse_types::Domain;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::roles::Shared;
use crate::certificates;
use crate::cli::Place;
use crate::commands::Failure;
use crate::setup::Setup;
use crate::sip;

/// Reads policy, certificates and trust again, without a restart and without dropping a stream that
/// is still allowed.
pub(super) struct Reloader {
    place: Place,
    policy: watch::Sender<Arc<Policy>>,
    keys: Keys,
    roots: Roots,
    domains: watch::Sender<Vec<Domain>>,
    inside: watch::Sender<Arc<InsideSip>>,
    started_with: Settings,
    /// Whether SIP was spoken then.
    sip_was_on: bool,
}

impl Reloader {
    pub(super) fn new(place: Place, setup: &Setup, shared: &Shared) -> Self {
        Self {
            place,
            policy: shared.policy.clone(),
            keys: shared.keys.clone(),
            roots: shared.roots.clone(),
            domains: shared.domains.clone(),
            inside: shared.inside.clone(),
            started_with: setup.settings.clone(),
            sip_was_on: sip::is_on(&setup.settings, &shared.policy.borrow()),
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

    /// Renews what the local authority issued and what ends soon. Policy and trust stay as they
    /// are: nobody asked for those.
    pub(super) fn renew(&self) {
        let renew = || {
            let setup = Setup::read(&self.place)?;
            certificates::ensure(&setup)?;
            self.keys.replace(certificates::load(&setup)?).map_err(|error| Failure::from(&error))
        };
        if let Err(failure) = renew() {
            error!(reason = failure.text(), "certificates cannot be renewed: those in use stay");
        }
    }

    /// Whether something changed that a reload does not reach.
    fn needs_restart(&self, now: &Settings, policy: &Policy) -> bool {
        let mut sip = self.started_with.sip.clone();
        sip.inside.clone_from(&now.sip.inside);
        let reached = Settings {
            sip,
            policy: now.policy.clone(),
            tls: now.tls.clone(),
            certificates: now.certificates,
            ..self.started_with.clone()
        };
        // A core by itself opens its links for SIP when its policy first names a partner.
        *now != reached || sip::is_on(now, policy) != self.sip_was_on
    }

    /// Tells the edges which domains this core still serves: one that is no longer in the settings is
    /// withdrawn at once. One that is new needs a restart, as everything else about it does.
    fn announce(&self, now: &Settings) {
        let mut serves = self.started_with.domains.clone();
        serves.retain(|domain| now.domains.contains(domain));
        self.domains.send_if_modified(|announced| {
            let changes = *announced != serves;
            *announced = serves;
            changes
        });
    }

    fn try_reload(&self) -> Result<(), Failure> {
        let setup = Setup::read(&self.place)?;
        let policy = setup.policy()?;
        certificates::ensure(&setup)?;
        let trust = certificates::trust(&setup)?;
        let system = certificates::system_roots(&setup);
        // Everything is read and checked before anything changes.
        Roots::new(&trust, system).map_err(|error| Failure::from(&error))?;
        self.keys.replace(certificates::load(&setup)?).map_err(|error| Failure::from(&error))?;
        self.roots.replace(&trust, system).map_err(|error| Failure::from(&error))?;
        let policy = Arc::new(policy);
        self.policy.send_replace(Arc::clone(&policy));
        self.announce(&setup.settings);
        self.inside.send_replace(Arc::new(setup.settings.sip.inside.clone()));
        for remark in gatehouse_config::remarks(&setup.settings, &policy) {
            warn!("{remark}");
        }
        if self.needs_restart(&setup.settings, &policy) {
            warn!(
                "settings besides policy, certificates and trust have changed: they need a restart"
            );
        }
        Ok(())
    }
}

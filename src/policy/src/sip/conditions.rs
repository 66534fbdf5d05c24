use std::num::NonZeroU32;

use gatehouse_identity::{AuthenticatedPeer, SipGrounds};
use gatehouse_types::{Domain, Local, Remote};

use super::{SendRate, SipKind, SipMode, SipPartner, SipProof, SipRoute};
use crate::{Action, Denial, Policy};

/// What a SIP partner must do to talk to one of our domains.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SipConditions {
    /// How it is found, and how far it is trusted.
    pub mode: SipMode,
    /// The host that speaks for it in `direct` and `provider` mode.
    pub host: Option<Domain>,
    /// Where requests go instead of what DNS says.
    pub route: Option<SipRoute>,
    /// What it runs, where policy says so.
    pub kind: Option<SipKind>,
    /// How many requests a second we take from it.
    pub messages_per_second: Option<NonZeroU32>,
    /// How many requests a second all of our edges together send to it; `None` is no limit.
    pub send_per_second: Option<NonZeroU32>,
    /// The row that says so.
    pub rule: String,
    rfc5922: bool,
    microsoft: bool,
    common_name: bool,
}

/// Leave to exchange SIP between two domains. [`Policy::decide_sip`] is the only constructor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SipPermit {
    local: Local<Domain>,
    peer: AuthenticatedPeer,
    conditions: SipConditions,
}

impl SipConditions {
    fn of(row: &SipPartner) -> Self {
        let takes = |proof| row.proof.as_ref().is_none_or(|proofs| proofs.contains(&proof));
        let by_names = matches!(row.mode, SipMode::Open | SipMode::Enhanced);
        Self {
            mode: row.mode,
            host: row.host.clone(),
            route: row.route.clone(),
            kind: row.kind,
            messages_per_second: row.messages_per_second,
            send_per_second: match row.send_per_second.unwrap_or_else(|| row.mode.send_rate()) {
                SendRate::PerSecond(rate) => Some(rate),
                SendRate::Off => None,
            },
            rule: row.name.clone(),
            rfc5922: by_names && takes(SipProof::Rfc5922),
            microsoft: by_names && takes(SipProof::Microsoft),
            common_name: row.common_name,
        }
    }

    /// True if the answer of DNS for `_sipfederationtls._tcp` bears on the proof.
    pub fn needs_srv(&self) -> bool {
        self.microsoft || self.mode == SipMode::Provider
    }

    /// On what grounds a certificate proves the partner, with what DNS answered.
    pub fn grounds<'a>(&'a self, srv_targets: &'a [Domain]) -> SipGrounds<'a> {
        let host = |mode| self.host.as_ref().filter(|_| self.mode == mode);
        SipGrounds {
            rfc5922: self.rfc5922,
            microsoft: self.microsoft,
            direct: host(SipMode::Direct),
            provider: host(SipMode::Provider),
            common_name: self.common_name,
            srv_targets,
        }
    }
}

impl Policy {
    /// What `remote` must do to talk SIP to `local`. A block wins, in the rules for XMPP as well as
    /// in the rows for SIP.
    pub fn sip_conditions(
        &self,
        local: &Local<Domain>,
        remote: &Remote<Domain>,
    ) -> Result<SipConditions, Denial> {
        let blocked =
            |rule: &String| Denial::Blocked { remote: remote.clone(), rule: rule.clone() };
        let rule = self.rules.iter().find(|rule| rule.speaks_of(local, remote));
        if let Some(rule) = rule.filter(|rule| rule.action == Action::Block) {
            return Err(blocked(&rule.name));
        }
        match self.sip.iter().find(|row| row.speaks_of(local, remote)) {
            None => Err(Denial::NoRule { remote: remote.clone() }),
            Some(row) if row.action == Action::Block => Err(blocked(&row.name)),
            Some(row) => Ok(SipConditions::of(row)),
        }
    }

    /// Decides about a proven SIP partner.
    pub fn decide_sip(
        &self,
        local: &Local<Domain>,
        peer: AuthenticatedPeer,
    ) -> Result<SipPermit, Denial> {
        let conditions = self.sip_conditions(local, peer.domain())?;
        Ok(SipPermit { local: local.clone(), peer, conditions })
    }
}

impl SipPermit {
    /// Our domain.
    pub fn local(&self) -> &Local<Domain> {
        &self.local
    }

    /// The partner, proven.
    pub fn peer(&self) -> &AuthenticatedPeer {
        &self.peer
    }

    /// What holds between the two.
    pub fn conditions(&self) -> &SipConditions {
        &self.conditions
    }
}

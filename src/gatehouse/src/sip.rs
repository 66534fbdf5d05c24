//! SIP: from the settings to what edge and core stand on.

use std::sync::Arc;

use gatehouse_bridge::availability::BusyAs;
use gatehouse_bridge::profile::Profile;
use gatehouse_bridge::{GatewayConfig, Limits};
use gatehouse_config::{Roles, Settings};
use gatehouse_core::{InsideParts, SipGatewayParts};
use gatehouse_edge::{PrivateTargets, SipConfig};
use gatehouse_policy::{Policy, SipKind};
use gatehouse_trunk::sip::SipCoreEnd;
use gatehouse_types::{Domain, Local, Secret};
use tokio::sync::watch;

/// What an edge and a core in one process call the core.
const ONLY_CORE: &str = "core";

/// True if this process speaks SIP: an edge that listens for it, a core whose policy names partners.
pub(crate) fn is_on(settings: &Settings, policy: &Policy) -> bool {
    match settings.roles {
        Roles::EdgeAndCore => !settings.listen.sip.is_empty() || has_inside(settings),
        Roles::Edge => !settings.listen.sip.is_empty(),
        Roles::Core => !policy.sip.is_empty() || has_inside(settings),
    }
}

/// True if servers of the inside may connect, or requests go to them. What a reload brings counts
/// only if there was some at the start.
pub(crate) fn has_inside(settings: &Settings) -> bool {
    let listen = &settings.listen;
    !listen.sip_inside_tls.is_empty()
        || !listen.sip_inside_tcp.is_empty()
        || !settings.sip.inside.is_empty()
}

/// What the edge needs to know.
pub(crate) fn edge_config(
    settings: &Settings,
    domains: Vec<Local<Domain>>,
    token_secrets: Vec<Secret<Vec<u8>>>,
) -> SipConfig {
    SipConfig {
        domains,
        host_label: settings.sip.host_label.clone(),
        public_port: settings.sip.public_port,
        token_secrets,
        routing_nodes: settings.sip.routing_nodes.iter().map(ToString::to_string).collect(),
        edges: settings.sip.edges,
        connections_max: settings.limits.connections_max,
        private_targets: if settings.s2s.private_targets {
            PrivateTargets::Allow
        } else {
            PrivateTargets::Refuse
        },
    }
}

/// What the core's gateway stands on.
pub(crate) fn gateway_parts(
    settings: &Settings,
    policy: watch::Receiver<Arc<Policy>>,
    trunk: SipCoreEnd,
    inside: Option<InsideParts>,
) -> SipGatewayParts {
    let node = match settings.roles {
        Roles::Core => settings.trunk.name.to_string(),
        Roles::EdgeAndCore | Roles::Edge => ONLY_CORE.to_owned(),
    };
    let sip = &settings.sip;
    let mut config = GatewayConfig {
        contact: node.clone(),
        default_profile: match sip.default_kind {
            SipKind::Lync => Profile::Lync,
            SipKind::Standard => Profile::Standard,
        },
        busy_as: match sip.busy_as {
            gatehouse_config::BusyAs::Dnd => BusyAs::Dnd,
            gatehouse_config::BusyAs::Away => BusyAs::AwayWithText,
        },
        undelivered: sip.undelivered.clone(),
        session_idle: sip.session_idle,
        deliver_within: sip.deliver_within,
        limits: Limits {
            subscriptions_max: sip.subscriptions_max,
            partner_share_percent: sip.partner_share,
            ..Limits::default()
        },
        ..GatewayConfig::default()
    };
    if let Some(host) = settings.domains.iter().find_map(|domain| sip.host(domain)) {
        config.public_host = host.to_string();
    }
    SipGatewayParts { config, node, policy, trunk, inside }
}

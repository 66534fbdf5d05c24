//! The trunk between two processes: its certificates, its place in the status.

use std::collections::HashMap;
use std::sync::Arc;

use gatehouse_config::Settings;
use gatehouse_net::Tasks;
use gatehouse_pki::TrunkDir;
use gatehouse_telemetry::{StreamHandle, StreamInfo, StreamKind, StreamState, Streams};
use gatehouse_tls::{Acceptor, Connector, KeyEntry, Keys, Roots, SystemRoots};
use gatehouse_trunk::sip::{self, SipCoreEnd, SipEdgeEnd};
use gatehouse_trunk::{
    ALPN, CoreNode, DialConfig, EdgeAddress, ListenConfig, Trunk, TrunkObserver, Tuning,
    listen_with_sip,
};
use gatehouse_types::Domain;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock;
use crate::commands::Failure;
use crate::setup::Setup;

/// The directory that holds the trunk's certificates.
pub(crate) fn directory(setup: &Setup) -> Result<TrunkDir, Failure> {
    TrunkDir::open(setup.settings.data.join("trunk")).map_err(|error| Failure::from(&error))
}

/// The core's end: dials every edge of the settings, with a second link to each for SIP if that is
/// wanted.
pub(crate) fn dial(
    setup: &Setup,
    domains: watch::Receiver<Vec<Domain>>,
    has_sip: bool,
    streams: Streams,
    tasks: &Tasks,
) -> Result<(Trunk, Option<SipCoreEnd>), Failure> {
    let own = &setup.settings.trunk.name;
    directory(setup)?
        .ensure_node(own, clock::unix_seconds())
        .map_err(|error| Failure::from(&error))?;
    let (keys, roots) = tls(setup)?;
    let connector =
        Connector::new(&keys, &roots, &[ALPN]).map_err(|error| Failure::from(&error))?;
    let edges = setup
        .settings
        .trunk
        .edges
        .iter()
        .map(|edge| EdgeAddress { name: edge.name.clone(), address: edge.address.clone() });
    let edges: Vec<EdgeAddress> = edges.collect();
    let sip = if has_sip {
        let connector =
            Connector::new(&keys, &roots, &[sip::ALPN]).map_err(|error| Failure::from(&error))?;
        let observer: Arc<dyn TrunkObserver> =
            Listed::new(setup, StreamKind::SipTrunk, streams.clone());
        Some(sip::dial(own, edges.clone(), &connector, &observer, tasks))
    } else {
        None
    };
    let config = DialConfig {
        own: own.clone(),
        edges,
        domains,
        tuning: Tuning::default(),
        observer: Listed::new(setup, StreamKind::Trunk, streams),
    };
    Ok((gatehouse_trunk::dial(config, connector, tasks), sip))
}

/// The edge's end: lets in the cores of the settings, for SIP, too, if that is wanted.
pub(crate) fn listen(
    setup: &Setup,
    listeners: Vec<TcpListener>,
    has_sip: bool,
    streams: Streams,
    tasks: &Tasks,
) -> Result<(Trunk, Option<SipEdgeEnd>), Failure> {
    let (keys, roots) = tls(setup)?;
    let protocols: &[&str] = if has_sip { &[ALPN, sip::ALPN] } else { &[ALPN] };
    let acceptor =
        Acceptor::new(&keys, &roots, protocols).map_err(|error| Failure::from(&error))?;
    let sip_observer = Listed::new(setup, StreamKind::SipTrunk, streams.clone());
    let config = ListenConfig {
        own: setup.settings.trunk.name.clone(),
        listeners,
        cores: cores(&setup.settings),
        tuning: Tuning::default(),
        observer: Listed::new(setup, StreamKind::Trunk, streams),
    };
    if has_sip {
        let (trunk, sip) = listen_with_sip(config, acceptor, sip_observer, tasks);
        return Ok((trunk, Some(sip)));
    }
    Ok((gatehouse_trunk::listen(config, acceptor, tasks), None))
}

/// The cores of the settings, each with the domains that it may serve.
fn cores(settings: &Settings) -> Vec<CoreNode> {
    let node = |core: &gatehouse_config::CoreNode| CoreNode {
        name: core.name.clone(),
        domains: core.domains.clone().unwrap_or_else(|| settings.domains.clone()),
    };
    settings.trunk.cores.iter().map(node).collect()
}

/// Nobody but the trunk's own authority is trusted here.
fn tls(setup: &Setup) -> Result<(Keys, Roots), Failure> {
    let directory = directory(setup)?;
    let own = &setup.settings.trunk.name;
    let missing = || {
        Failure::usage(format!(
            "there is no trunk certificate for `{own}` in {}: make the edge's data directory with `gatehouse trunk export --name {own}` where the core is",
            directory.path().display()
        ))
    };
    let node = directory.node(own).map_err(|_| missing())?;
    let authority =
        directory.ca_pem().map_err(|error| Failure::from(&error))?.ok_or_else(missing)?;
    let keys = Keys::empty();
    keys.replace(vec![KeyEntry {
        domains: vec![own.clone()],
        chain_pem: node.chain_pem.clone(),
        key_pem: node.key_pem.reveal().clone(),
    }])
    .map_err(|error| Failure::from(&error))?;
    let roots =
        Roots::new(&[authority], SystemRoots::Ignore).map_err(|error| Failure::from(&error))?;
    Ok((keys, roots))
}

/// So many domains of a core stand in the status.
const SHOWN_MAX: usize = 5;

/// What stands in the status of a core: the domains that it serves, and those that it may besides.
fn shown(serves: &[Domain], may: &[Domain]) -> String {
    let list = |domains: &[&Domain]| {
        let names: Vec<_> = domains.iter().take(SHOWN_MAX).map(|domain| domain.as_str()).collect();
        let more = if domains.len() > SHOWN_MAX { ", ..." } else { "" };
        names.join(", ") + more
    };
    let serves: Vec<&Domain> = serves.iter().collect();
    let besides: Vec<&Domain> = may.iter().filter(|domain| !serves.contains(domain)).collect();
    let serves = if serves.is_empty() { "nothing".to_owned() } else { list(&serves) };
    let besides = if besides.is_empty() {
        String::new()
    } else {
        format!("; may also serve {}", list(&besides))
    };
    format!("EXTERNAL; serves {serves}{besides}")
}

/// Lists the trunk's connections among the live streams.
struct Listed {
    own: String,
    kind: StreamKind,
    streams: Streams,
    /// The domains that each core may serve.
    cores: Vec<CoreNode>,
    live: Mutex<HashMap<String, StreamHandle>>,
}

impl Listed {
    fn new(setup: &Setup, kind: StreamKind, streams: Streams) -> Arc<Self> {
        Arc::new(Self {
            own: setup.settings.trunk.name.to_string(),
            kind,
            streams,
            cores: cores(&setup.settings),
            live: Mutex::default(),
        })
    }
}

impl TrunkObserver for Listed {
    fn up(&self, peer: &str, address: &str, tls: &'static str) {
        let handle = self.streams.open(StreamInfo {
            kind: self.kind,
            id: format!("{}-{peer}", self.kind.as_str()),
            local: self.own.clone(),
            peer: peer.to_owned(),
            address: address.to_owned(),
            tls: tls.to_owned(),
            authentication: "EXTERNAL".to_owned(),
            state: StreamState::Open,
        });
        self.live.lock().insert(peer.to_owned(), handle);
    }

    fn serves(&self, peer: &str, domains: &[Domain]) {
        let may = self.cores.iter().find(|core| core.name.as_str() == peer);
        let may = may.map(|core| core.domains.as_slice()).unwrap_or_default();
        let shown = shown(domains, may);
        if let Some(handle) = self.live.lock().get(peer) {
            handle.update(|info| info.authentication = shown);
        }
    }

    fn overstepped(&self, peer: &str, what: &str) {
        if let Some(handle) = self.live.lock().get(peer) {
            handle.note_error(what);
        }
    }

    fn received(&self, peer: &str) {
        if let Some(handle) = self.live.lock().get(peer) {
            handle.stanza_in();
        }
    }

    fn sent(&self, peer: &str) {
        if let Some(handle) = self.live.lock().get(peer) {
            handle.stanza_out();
        }
    }

    fn down(&self, peer: &str, _reason: &str) {
        self.live.lock().remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_shows_what_a_core_serves_and_what_it_may_besides() {
        let domains = |names: &[&str]| -> Vec<Domain> {
            names.iter().map(|name| name.parse().unwrap()).collect()
        };
        let (ours, both) = (domains(&["ours.example"]), domains(&["ours.example", "b.example"]));
        assert_eq!(shown(&ours, &ours), "EXTERNAL; serves ours.example");
        assert_eq!(shown(&ours, &both), "EXTERNAL; serves ours.example; may also serve b.example");
        assert_eq!(shown(&[], &ours), "EXTERNAL; serves nothing; may also serve ours.example");
        let many: Vec<Domain> = (0..7).map(|n| format!("d{n}.example").parse().unwrap()).collect();
        assert!(shown(&many, &many).ends_with("d4.example, ..."));
    }
}

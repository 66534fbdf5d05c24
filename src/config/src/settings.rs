use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use gatehouse_policy::{InsideSip, SipKind};
use gatehouse_types::{Domain, StreamLimits};

/// Everything that `gatehouse.toml` says, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Which roles this process plays.
    pub roles: Roles,
    /// Our IM domains, at least one; the first one is the default.
    pub domains: Vec<Domain>,
    /// The directory that holds everything we keep.
    pub data: PathBuf,
    /// The host name of the edge, as SRV records name it.
    pub edge_host: Domain,
    /// The log.
    pub log: Log,
    /// Where we listen.
    pub listen: Listen,
    /// Name servers; empty means the system's.
    pub dns_servers: Vec<SocketAddr>,
    /// Whether their word that DNSSEC proves an answer counts (DANE). Then all are on this machine.
    pub dns_trust_ad: bool,
    /// Trust.
    pub tls: Tls,
    /// The certificates that we issue.
    pub certificates: Certificates,
    /// Who may federate.
    pub policy: PolicySource,
    /// Between edge and core in two processes.
    pub trunk: Trunk,
    /// Server-to-server.
    pub s2s: S2s,
    /// Partners that speak SIP.
    pub sip: Sip,
    /// Bounds.
    pub limits: Limits,
    /// Messages for users who are away.
    pub offline: Offline,
}

/// Which roles this process plays.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Roles {
    /// The whole appliance.
    #[default]
    EdgeAndCore,
    /// The DMZ role alone.
    Edge,
    /// The inside role alone.
    Core,
}

impl Roles {
    /// True if the edge runs here.
    pub fn has_edge(self) -> bool {
        matches!(self, Self::EdgeAndCore | Self::Edge)
    }

    /// True if the core runs here.
    pub fn has_core(self) -> bool {
        matches!(self, Self::EdgeAndCore | Self::Core)
    }
}

/// `[log]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Log {
    /// `text` or `json`.
    pub format: LogFormat,
    /// A tracing filter.
    pub filter: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[listen]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listen {
    /// Clients, STARTTLS.
    pub c2s: Vec<SocketAddr>,
    /// Clients, direct TLS.
    pub c2s_direct_tls: Vec<SocketAddr>,
    /// Servers, STARTTLS.
    pub s2s: Vec<SocketAddr>,
    /// Servers, direct TLS.
    pub s2s_direct_tls: Vec<SocketAddr>,
    /// SIP partners, TLS from the first byte; empty means that we speak no SIP.
    pub sip: Vec<SocketAddr>,
    /// Trusted SIP servers of the inside, over TLS; empty means off.
    pub sip_inside_tls: Vec<SocketAddr>,
    /// The same over TCP, in the clear.
    pub sip_inside_tcp: Vec<SocketAddr>,
    /// Cores (role edge alone).
    pub trunk: Vec<SocketAddr>,
    /// Metrics and status: loopback only.
    pub admin: SocketAddr,
}

/// `[tls]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// PEM files with further authorities.
    pub trust: Vec<PathBuf>,
    /// Whether the machine's own trust store counts.
    pub system_roots: bool,
}

/// `[certificates]`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Certificates {
    /// Whether id-on-xmppAddr is added; ejabberd drops peers that have it.
    pub xmpp_addr: bool,
    /// Whether each domain also gets an RSA certificate from the local authority.
    pub rsa: bool,
}

/// `[policy]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PolicySource {
    /// Anyone with a certificate that proves its domain.
    Embedded,
    /// This file.
    File(PathBuf),
}

/// `[trunk]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trunk {
    /// The name in this node's trunk certificate.
    pub name: Domain,
    /// The edges that a core dials.
    pub edges: Vec<EdgeAddress>,
    /// The cores that an edge lets in, the preferred one first.
    pub cores: Vec<CoreNode>,
}

/// A core that an edge lets in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CoreNode {
    /// The name in its trunk certificate.
    pub name: Domain,
    /// The domains it may serve and speak for; `None` means every one of ours.
    pub domains: Option<Vec<Domain>>,
}

/// An edge that a core dials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EdgeAddress {
    /// The name in its trunk certificate.
    pub name: Domain,
    /// `host:port`.
    pub address: String,
}

/// `[s2s]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct S2s {
    /// How long one target may take, from TCP to an open stream.
    pub target_timeout: Duration,
    /// How long a stanza may wait for its stream before it is bounced.
    pub connect_timeout: Duration,
    /// Stanzas that wait for one pair of domains.
    pub queue_len_max: usize,
    /// Silence after which a stream is closed.
    pub idle_timeout: Duration,
    /// Whether partners may be at private addresses (RFC 1918, loopback, ...). A stranger's DNS
    /// could otherwise make the edge knock at doors inside.
    pub private_targets: bool,
    /// Whether one stream may carry stanzas in both directions (XEP-0288).
    pub bidi: bool,
}

/// `[sip]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sip {
    /// The label of the host that partners see, directly in each domain: `sip` for
    /// `sip.ours.example`.
    pub host_label: String,
    /// The port that partners see.
    pub public_port: u16,
    /// The cores that take new sessions, the preferred one first; those left out come last, by name.
    pub routing_nodes: Vec<Domain>,
    /// How many edges send to the same partners: what the policy's `send-per-second` allows is divided
    /// by it.
    pub edges: NonZeroU32,
    /// Further ports that lead to one core each, for partners that insist on ports.
    pub node_ports: Vec<NodePort>,
    /// What a partner runs of which neither the policy nor its messages say it.
    pub default_kind: SipKind,
    /// How a busy Lync user looks to XMPP clients.
    pub busy_as: BusyAs,
    /// What an author reads first when a message could not be delivered.
    pub undelivered: String,
    /// Silence after which an IM session is ended.
    pub session_idle: Duration,
    /// How long after it came a message may still be sent to a partner.
    pub deliver_within: Duration,
    /// Presence subscriptions with partners, both ways together.
    pub subscriptions_max: usize,
    /// How much of what there is for all partners one of them may use, in percent.
    pub partner_share: usize,
    /// Which servers of the inside may speak to the core, and what goes to them.
    pub inside: InsideSip,
}

/// A port of the edge that leads to one core.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodePort {
    /// The core's name on the trunk.
    pub node: Domain,
    /// Where the edge listens for it.
    pub address: SocketAddr,
}

/// How a busy Lync user looks to XMPP clients.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BusyAs {
    /// Do not disturb.
    #[default]
    Dnd,
    /// Away, with the text "Busy".
    Away,
}

/// `[limits]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Connections at a time, for each listener.
    pub connections_max: usize,
    /// Longest stanza of a client.
    pub client_stanza_bytes_max: usize,
    /// Longest stanza of a server.
    pub server_stanza_bytes_max: usize,
    /// Sessions of one account at a time.
    pub sessions_per_account_max: usize,
    /// Contacts of one account; with 0 none are allowed.
    pub contacts_per_account_max: usize,
    /// Contacts of one account that see its presence; with 0 none are allowed.
    pub watchers_per_account_max: usize,
    /// Threads that work on connections; `None`: one fewer than the machine has cores.
    pub workers: Option<usize>,
}

/// `[offline]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offline {
    /// Messages kept for one account.
    pub per_account_max: u64,
    /// Messages kept on this node.
    pub per_node_max: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".into() }
    }
}

impl Default for S2s {
    fn default() -> Self {
        Self {
            target_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(30),
            queue_len_max: 256,
            idle_timeout: Duration::from_secs(10 * 60),
            private_targets: false,
            bidi: true,
        }
    }
}

impl Default for Sip {
    fn default() -> Self {
        Self {
            host_label: "sip".into(),
            public_port: 5061,
            routing_nodes: Vec::new(),
            edges: NonZeroU32::MIN,
            node_ports: Vec::new(),
            default_kind: SipKind::Lync,
            busy_as: BusyAs::Dnd,
            undelivered: "Your IM could not be delivered.".into(),
            session_idle: Duration::from_secs(10 * 60),
            deliver_within: Duration::from_secs(10 * 60),
            subscriptions_max: 20_000,
            partner_share: 25,
            inside: InsideSip::default(),
        }
    }
}

impl Sip {
    /// The host that SIP partners of `domain` see; nothing if the name would be too long.
    pub fn host(&self, domain: &Domain) -> Option<Domain> {
        format!("{}.{domain}", self.host_label).parse().ok()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            client_stanza_bytes_max: StreamLimits::client().stanza_bytes_max,
            server_stanza_bytes_max: StreamLimits::default().stanza_bytes_max,
            sessions_per_account_max: 10,
            contacts_per_account_max: 200,
            watchers_per_account_max: 200,
            workers: None,
        }
    }
}

impl Default for Offline {
    fn default() -> Self {
        Self { per_account_max: 100, per_node_max: 30_000 }
    }
}

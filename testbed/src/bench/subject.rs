use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path as File, PathBuf};

use gatehouse_types::Domain;

use crate::authority::{Authority, Flavour};
use crate::bench::partner::{Partner, password};
use crate::bench::path::Path;
use crate::bench::usage::Usage;
use crate::block::Block;
use crate::ejabberd::Ejabberd;
use crate::failure::Failure;
use crate::gatehouse::{self, Gatehouse};
use crate::port;
use crate::process::Process;
use crate::prosody::{Prosody, Surroundings};
use crate::shape::Shape;
use crate::stage::Paths;
use crate::world::{Peer, World};
use crate::zone::Zone;

/// Above the demo's number.
pub(crate) const NUMBER: u8 = 200;
/// The last octet of a peer under test.
pub(crate) const PEER: u8 = 4;
/// That of the partner.
pub(crate) const PARTNER: u8 = 9;
/// The domain of the server under test.
pub(crate) const NEAR: &str = "near.example";
/// The domain of the partner.
pub(crate) const FAR: &str = "far.example";
/// As an operator runs a server, where the scenarios look at everything.
pub(crate) const LOG_LEVEL: &str = "warn";

/// Who is measured.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Gatehouse, edge and core in one process.
    Ours,
    /// Gatehouse, edge and core in two processes.
    OursTwo,
    /// Prosody, without Nagle's algorithm and without a debug log.
    Prosody,
    /// ejabberd, where it is installed.
    Ejabberd,
    /// Kamailio as a stateful proxy with Record-Route, on the paths of SIP.
    Kamailio,
}

impl Kind {
    /// Whether it is measured on this path. Of us, SIP is measured where the edge is a process of
    /// its own.
    pub(crate) fn takes(self, path: Path) -> bool {
        match self {
            Self::OursTwo => true,
            Self::Kamailio => path.is_sip(),
            Self::Ours | Self::Prosody | Self::Ejabberd => !path.is_sip(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ours => "ours",
            Self::OursTwo => "ours-two",
            Self::Prosody => "prosody",
            Self::Ejabberd => "ejabberd",
            Self::Kamailio => "kamailio",
        })
    }
}

/// A running server under test, in a world of its own: addresses, names, authority.
pub(crate) struct Subject {
    /// Who it is.
    pub(crate) kind: Kind,
    /// The driver's ends.
    pub(crate) partner: Partner,
    /// Where clients connect.
    pub(crate) clients: SocketAddr,
    /// Where servers connect.
    pub(crate) servers: SocketAddr,
    /// Where the partner listens.
    pub(crate) partner_at: SocketAddr,
    /// Whether the contacts see the presence of `romeo`.
    pub(crate) subscribed: bool,
    servers_running: Vec<Process>,
    _dns: Process,
    _block: Block,
}

impl Subject {
    /// Starts it with accounts for `users`.
    pub(crate) fn start(
        kind: Kind,
        users: &[String],
        directory: &File,
        paths: &Paths,
    ) -> Result<Self, Failure> {
        fs::create_dir_all(directory).map_err(Failure::io("make", directory))?;
        let shape = if kind == Kind::OursTwo { Shape::Two } else { Shape::One };
        let block = Block::claim(NUMBER, shape)?;
        let authority = Authority::new();
        let root = directory.join("testbed-ca.pem");
        fs::write(&root, authority.root_pem()).map_err(Failure::io("write", &root))?;

        let mut zone = Zone::new();
        let partner_at = block.at(PARTNER, port::S2S);
        zone.add(&format!("xmpp.{FAR}. A {}", partner_at.ip()));
        zone.add(&format!("_xmpp-server._tcp.{FAR}. SRV 10 0 {} xmpp.{FAR}.", port::S2S));
        let (dns, hosts) = (zone.serve(&block, directory)?, zone.hosts());

        let names =
            |name: &str| name.parse::<Domain>().map_err(|error| Failure::world(error.to_string()));
        let files = authority.issue(FAR, &Flavour::Full, &directory.join("partner"))?;
        let partner = Partner::new(&names(NEAR)?, &names(FAR)?, &files)?;
        let place = Place { directory, block: &block, authority: &authority, root, hosts };
        let servers_running = match kind {
            Kind::Ours | Kind::OursTwo => place.start_ours(shape, users, paths)?,
            Kind::Prosody | Kind::Ejabberd => place.start_peer(kind, users)?,
            Kind::Kamailio => return Err(Failure::world("Kamailio speaks no XMPP")),
        };
        let (servers, clients) = match kind {
            Kind::Ours | Kind::OursTwo => gatehouse::addresses(&block, shape),
            Kind::Prosody | Kind::Ejabberd | Kind::Kamailio => {
                (block.at(PEER, port::S2S), block.at(PEER, port::C2S))
            }
        };
        Ok(Self {
            kind,
            partner,
            clients,
            servers,
            partner_at,
            subscribed: false,
            servers_running,
            _dns: dns,
            _block: block,
        })
    }

    /// What its processes have used so far.
    pub(crate) fn usage(&mut self) -> Result<Usage, Failure> {
        let pids: Vec<_> =
            self.servers_running.iter_mut().map(|process| process.child().id()).collect();
        Usage::of(&pids)
    }

    /// The address of one of its users.
    pub(crate) fn user(name: &str) -> String {
        format!("{name}@{NEAR}")
    }

    /// An address at the partner.
    pub(crate) fn stranger() -> &'static str {
        "stranger@far.example"
    }
}

/// What a server needs to start.
struct Place<'a> {
    directory: &'a File,
    block: &'a Block,
    authority: &'a Authority,
    root: PathBuf,
    hosts: String,
}

impl Place<'_> {
    fn start_ours(
        &self,
        shape: Shape,
        users: &[String],
        paths: &Paths,
    ) -> Result<Vec<Process>, Failure> {
        let us = parse(&format!(
            "domains = [{NEAR:?}]\ndns = \"start-tls\"\nconfig = {{ log = {{ filter = {LOG_LEVEL:?} }}, \
             limits = {{ contacts-per-account-max = 1000, watchers-per-account-max = 1000 }} }}"
        ))?;
        let partner = format!("[[raw]]\nname = \"partner\"\ndomain = {FAR:?}");
        let world: World = parse(&partner)?;
        let binary = &paths.gatehouse;
        let ours = Gatehouse::configure(&us, &world, self.block, shape, self.directory, binary)?;
        let accounts: Vec<_> =
            users.iter().map(|user| (Subject::user(user), password(user))).collect();
        ours.provision(&accounts)?;
        let names = ours.process_names();
        let running = names.into_iter().map(|name| ours.start(name)).collect::<Result<_, _>>()?;
        ours.await_trunk()?;
        Ok(running)
    }

    fn start_peer(&self, kind: Kind, users: &[String]) -> Result<Vec<Process>, Failure> {
        let certificate = &self.authority.issue(NEAR, &Flavour::Full, self.directory)?;
        // Prosody's default waits for the other side's acknowledgement, 40 ms: it would flatter us.
        let mut peer: Peer = parse(&format!(
            "name = \"{kind}\"\ndomain = {NEAR:?}\ndialback = false\ndns = \"start-tls\"\n\
             lua = \"network_settings = {{ nagle = false }}\""
        ))?;
        peer.users = users.to_vec();
        let (block, trust) = (self.block, self.root.as_path());
        let surroundings = Surroundings { block, certificate, trust, password: &password };
        let directory = self.directory.to_owned();
        Ok(vec![if kind == Kind::Prosody {
            let prosody = Prosody::new(peer, PEER, directory).with_log_level(LOG_LEVEL);
            prosody.prepare(&surroundings)?;
            prosody.start(block)?
        } else {
            let ejabberd = Ejabberd::new(peer, PEER, directory).with_log_level("warning");
            ejabberd.prepare(&surroundings, &self.hosts)?;
            ejabberd.start(block)?
        }])
    }
}

/// Reads a piece of a world.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Failure> {
    toml::from_str(text).map_err(|error| Failure::world(format!("{text}: {error}")))
}

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::authority::{Authority, Files, SipFlavour};
use crate::block::Block;
use crate::clock::poll;
use crate::dnssec;
use crate::driver::Driver;
use crate::failure::Failure;
use crate::gatehouse::{self, Gatehouse};
use crate::nodes::{self, Lab};
use crate::port;
use crate::process::Process;
use crate::prosody::Surroundings;
use crate::server::Server;
use crate::shape::Shape;
use crate::sip::{self, FIRST_SIP};
use crate::world::{Kind, Peer, World, local_part};
use crate::zone::Zone;

/// The last octet of the first real server.
pub(crate) const FIRST_PEER: u8 = 4;
const FIRST_RAW: u8 = 100;
/// Where the certificates are that peers may change to.
const NEXT: &str = "next";
/// After this an edge sends new SIP sessions to a core that has just come.
const SIP_ROUTES_WITHIN: Duration = Duration::from_millis(2500);
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// Where the testbed finds things.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The `testbed` folder.
    pub(crate) testbed: PathBuf,
    /// Where run directories are made.
    pub(crate) runs: PathBuf,
    /// The program under test.
    pub(crate) gatehouse: PathBuf,
}

/// The running world of one scenario. Dropping it ends every process.
pub(crate) struct Stage {
    /// The scenario's addresses.
    pub(crate) block: Block,
    /// Our side, if there is one.
    pub(crate) gatehouse: Option<Gatehouse>,
    /// Who plays the clients.
    pub(crate) driver: Driver,
    /// Everybody with an account, by the name in the script.
    pub(crate) people: BTreeMap<String, Person>,
    /// Certificates of hand-made peers, by the name in the script.
    pub(crate) raw_certificates: BTreeMap<String, Files>,
    /// Users of SIP partners that the driver plays, by the name in the script: the partner, and the
    /// address.
    pub(crate) sip_users: BTreeMap<String, (String, String)>,
    /// Test nodes and their partner, if there are any.
    pub(crate) lab: Option<Lab>,
    servers: BTreeMap<String, Server>,
    running: BTreeMap<String, Process>,
    directory: PathBuf,
    _dns: Process,
    _silent: Vec<TcpListener>,
}

/// Somebody with an account.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    /// The bare address.
    pub(crate) address: String,
    /// The password.
    pub(crate) password: String,
    /// Where the client connects; STARTTLS on 5222, direct TLS on 5223.
    pub(crate) host: String,
    /// Authorities the client trusts; none if it must not judge.
    pub(crate) trust: Option<PathBuf>,
}

impl Stage {
    /// Builds the world and starts it.
    pub(crate) fn set(
        world: &World,
        block: Block,
        shape: Shape,
        directory: &Path,
        paths: &Paths,
    ) -> Result<Self, Failure> {
        let authority = Authority::new();
        let root = directory.join("testbed-ca.pem");
        fs::write(&root, authority.root_pem()).map_err(Failure::io("write", &root))?;
        for peer in &world.peers {
            for domain in std::iter::once(&peer.domain).chain(&peer.hosts) {
                authority.issue(domain, &peer.certificate, directory)?;
            }
            if !peer.tlsa.is_empty() {
                authority.issue(&peer.domain, &peer.certificate, &directory.join(NEXT))?;
            }
        }
        let zone = zone(world, &block, shape, directory)?;
        let (dns, hosts) = (zone.serve(&block, directory)?, zone.hosts());
        let silent = silent(world, &block)?;

        let gatehouse = match &world.us {
            Some(us) => {
                let binary = &paths.gatehouse;
                Some(Gatehouse::configure(us, world, &block, shape, directory, binary)?)
            }
            None => None,
        };
        let mut trusted = authority.root_pem().to_owned();
        if let (Some(gatehouse), Some(us)) = (&gatehouse, &world.us) {
            let accounts: Vec<_> =
                us.accounts().map(|user| (user.clone(), password(local_part(user)))).collect();
            gatehouse.fill_pins()?;
            gatehouse.provision(&accounts)?;
            for ca in gatehouse.local_cas() {
                trusted += &fs::read_to_string(&ca).map_err(Failure::io("read", &ca))?;
            }
        }
        let both = directory.join("all-ca.pem");
        fs::write(&both, trusted).map_err(Failure::io("write", &both))?;

        let mut stage = Self {
            driver: Driver::start(&paths.testbed, directory.join("driver.log"))?,
            gatehouse,
            people: people(world, &block, shape, &both),
            raw_certificates: BTreeMap::new(),
            sip_users: sip_users(world),
            lab: None,
            servers: BTreeMap::new(),
            running: BTreeMap::new(),
            directory: directory.to_owned(),
            block,
            _dns: dns,
            _silent: silent,
        };
        for (address, peer) in (FIRST_PEER..).zip(&world.peers) {
            let trust = if peer.trusts_us { &both } else { &root };
            stage.add_server(peer, address, &authority, trust, &hosts)?;
        }
        if world.us.as_ref().is_none_or(|us| us.nodes == 0) {
            stage.add_sips(world, &authority, &both)?;
        }
        for raw in world.raws.iter().filter(|raw| !raw.domain.is_empty()) {
            let files =
                authority.issue(&raw.domain, &raw.certificate, &directory.join(&raw.name))?;
            stage.raw_certificates.insert(raw.name.clone(), files);
        }
        if world.us.as_ref().is_some_and(|us| us.link) && shape == Shape::Two {
            let (near, far) = gatehouse::link(&stage.block);
            let command = json!({
                "do": "join", "actor": "link", "host": near.ip(), "port": near.port(),
                "to_host": far.ip(), "to_port": far.port(),
            });
            stage.driver.tell(command, STOP_WITHIN).map_err(Failure::world)?;
        }
        stage.start_us()?;
        stage.start_nodes(world, &authority)?;
        if let Some(gatehouse) = &stage.gatehouse {
            gatehouse.await_trunk()?;
        }
        if let Some(lab) = &stage.lab {
            lab.await_links(STOP_WITHIN)?;
        }
        if world.speaks_sip() && shape == Shape::Two {
            // The edge asks every two seconds what a core serves, and nothing tells when it knows.
            let _time_is_up = poll(SIP_ROUTES_WITHIN, || None::<()>);
        }
        Ok(stage)
    }

    fn add_server(
        &mut self,
        peer: &Peer,
        address: u8,
        authority: &Authority,
        trust: &Path,
        hosts: &str,
    ) -> Result<(), Failure> {
        let certificate = if peer.kind == Kind::Kamailio {
            let server = peer.sip_server();
            let names = (peer.domain.as_str(), server.as_str());
            let made = authority.issue_sip(&peer.name, names, SipFlavour::Host, &self.directory)?;
            made.ok_or_else(|| Failure::world("a Kamailio shows a certificate"))?
        } else {
            authority.issue(&peer.domain, &peer.certificate, &self.directory)?
        };
        let server = Server::new(peer, address, self.directory.clone());
        let block = &self.block;
        let surroundings =
            Surroundings { block, certificate: &certificate, trust, password: &password };
        server.prepare(&surroundings, hosts)?;
        self.running.insert(peer.name.clone(), server.start(&self.block)?);
        self.servers.insert(peer.name.clone(), server);
        Ok(())
    }

    fn add_sips(
        &mut self,
        world: &World,
        authority: &Authority,
        trust: &Path,
    ) -> Result<(), Failure> {
        let peers: Vec<_> = (FIRST_PEER..).zip(&world.peers).collect();
        for (address, sip) in (FIRST_SIP..).zip(&world.sips) {
            let command =
                sip::start(sip, address, &peers, &self.block, authority, trust, &self.directory)?;
            self.driver.tell(command, STOP_WITHIN).map_err(Failure::world)?;
        }
        Ok(())
    }

    /// The test nodes and the partner that talks with them.
    fn start_nodes(&mut self, world: &World, authority: &Authority) -> Result<(), Failure> {
        let (Some(us), Some(gatehouse)) = (&world.us, &self.gatehouse) else { return Ok(()) };
        let Some(sip) = world.sips.first().filter(|_| us.nodes > 0) else { return Ok(()) };
        let (host, name) = (sip.server(), &sip.name);
        let files =
            authority.issue_sip(name, (&sip.domain, &host), SipFlavour::Host, &self.directory)?;
        let files = files.ok_or_else(|| Failure::world("the partner shows a certificate"))?;
        let local = us.domains.first().cloned().unwrap_or_default();
        let lab = Lab::start(nodes::Place {
            directories: gatehouse.node_directories(),
            links: nodes::Links {
                edges: gatehouse::trunks(us, &self.block),
                domain: local.clone(),
            },
            ends: nodes::Ends {
                remote: sip.domain.clone(),
                host,
                at: self.block.at(FIRST_SIP, port::SIPS),
                local,
                edges: gatehouse::sip_edges(us, &self.block, Shape::Two),
            },
            files: &files,
            record: sip::record(name, &self.directory),
        })?;
        self.lab = Some(lab);
        Ok(())
    }

    /// Where this scenario's files are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn start_us(&mut self) -> Result<(), Failure> {
        if let Some(gatehouse) = &self.gatehouse {
            for name in gatehouse.process_names() {
                self.running.insert(name.to_owned(), gatehouse.start(name)?);
            }
        }
        Ok(())
    }

    /// The process that a script means by `name`.
    pub(crate) fn process_name(&self, name: &str) -> Result<String, Failure> {
        if self.servers.contains_key(name) {
            return Ok(name.to_owned());
        }
        let ours = self.gatehouse.as_ref().and_then(|gatehouse| gatehouse.process_for(name));
        ours.map(str::to_owned)
            .ok_or_else(|| Failure::world(format!("there is no process `{name}`")))
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, name: &str) -> Result<(), Failure> {
        if let Some(lab) = self.lab_of(name) {
            return lab.kill(name).map_err(Failure::world);
        }
        let name = self.process_name(name)?;
        let process = self.running.remove(&name);
        process.map(drop).ok_or_else(|| Failure::world(format!("{name} does not run")))
    }

    /// SIGTERM; the exit code must be 0.
    pub(crate) fn stop(&mut self, name: &str) -> Result<(), Failure> {
        let name = self.process_name(name)?;
        let process = self.running.remove(&name);
        let mut process = process.ok_or_else(|| Failure::world(format!("{name} does not run")))?;
        let status = process.stop(STOP_WITHIN)?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::world(format!("{name} ended with {status} after SIGTERM")))
    }

    /// Freezes a process, or lets it go on.
    pub(crate) fn freeze(&mut self, name: &str, frozen: bool) -> Result<(), Failure> {
        if let Some(lab) = self.lab_of(name) {
            return lab.silence(name, frozen).map_err(Failure::world);
        }
        self.running(name)?.signal(if frozen { "STOP" } else { "CONT" })
    }

    /// The most memory that a process ever had in use, in bytes.
    pub(crate) fn memory_peak(&self, name: &str) -> Result<u64, Failure> {
        self.running(name)?.memory_peak()
    }

    /// The test nodes, if `name` is one of them.
    fn lab_of(&mut self, name: &str) -> Option<&mut Lab> {
        self.lab.as_mut().filter(|lab| lab.has(name))
    }

    fn running(&self, name: &str) -> Result<&Process, Failure> {
        let name = self.process_name(name)?;
        let process = self.running.get(&name);
        process.ok_or_else(|| Failure::world(format!("{name} does not run")))
    }

    /// Starts what was killed or stopped.
    pub(crate) fn start(&mut self, name: &str) -> Result<(), Failure> {
        if let Some(lab) = self.lab_of(name) {
            return lab.revive(name).map_err(Failure::world);
        }
        let name = self.process_name(name)?;
        if self.running.contains_key(&name) {
            return Err(Failure::world(format!("{name} runs already")));
        }
        let process = match (self.servers.get(&name), &self.gatehouse) {
            (Some(server), _) => server.start(&self.block)?,
            (None, Some(gatehouse)) => gatehouse.start(&name)?,
            (None, None) => return Err(Failure::world(format!("there is no process `{name}`"))),
        };
        self.running.insert(name, process);
        Ok(())
    }

    /// A server that does not run gets its other key and certificate, to show from now on.
    pub(crate) fn change_key(&self, name: &str) -> Result<(), Failure> {
        let server = self.servers.get(name).filter(|_| !self.running.contains_key(name));
        let domain = server.and_then(Server::domain);
        let domain = domain.ok_or_else(|| {
            Failure::world(format!("{name} is no Prosody, or it runs: kill it first"))
        })?;
        for file in [format!("{domain}.crt"), format!("{domain}.key")] {
            let (shown, other) =
                (self.directory.join(&file), self.directory.join(NEXT).join(&file));
            let between = self.directory.join(format!("{file}.shown"));
            for (from, to) in [(&shown, &between), (&other, &shown), (&between, &other)] {
                fs::rename(from, to).map_err(Failure::io("move", from))?;
            }
        }
        Ok(())
    }

    /// The log of a process.
    pub(crate) fn log(&self, name: &str) -> Result<PathBuf, Failure> {
        let name = self.process_name(name)?;
        match (self.servers.get(&name), &self.gatehouse) {
            (Some(server), _) => Ok(server.log()),
            (None, Some(gatehouse)) => gatehouse.log(&name).map(Path::to_owned),
            (None, None) => Err(Failure::world(format!("there is no process `{name}`"))),
        }
    }

    /// Stops our processes as an operator would. It must work at the end of every scenario.
    pub(crate) fn close(&mut self) -> Result<(), Failure> {
        if let Some(lab) = &mut self.lab {
            lab.close().map_err(Failure::world)?;
        }
        let names = self.gatehouse.iter().flat_map(Gatehouse::process_names);
        let names: Vec<_> = names.map(str::to_owned).collect();
        // The cores first: they are the side that dials.
        for name in names.into_iter().rev() {
            if self.running.contains_key(&name) {
                self.stop(&name)?;
            }
        }
        Ok(())
    }
}

/// Sockets that nobody accepts from: the kernel makes the connection, and no word ever comes.
fn silent(world: &World, block: &Block) -> Result<Vec<TcpListener>, Failure> {
    let ports = [port::S2S, port::S2S_DIRECT_TLS];
    let addresses = world.silent.iter().flat_map(|host| ports.map(|port| block.at(*host, port)));
    addresses
        .map(|address| {
            TcpListener::bind(address)
                .map_err(|error| Failure::world(format!("cannot listen on {address}: {error}")))
        })
        .collect()
}

/// The password of an account.
fn password(name: &str) -> String {
    format!("{name}-password")
}

fn zone(world: &World, block: &Block, shape: Shape, directory: &Path) -> Result<Zone, Failure> {
    let mut zone = Zone::new();
    if let Some(us) = &world.us {
        let (servers, _) = gatehouse::addresses(block, shape);
        for domain in &us.domains {
            let clients = gatehouse::clients_of(us, domain, block, shape);
            for (host, at) in gatehouse::more_edges(us, block, shape) {
                zone.add_host(domain, &host, at, us.dns);
            }
            zone.add_domain(domain, &gatehouse::edge_host(us), servers, clients, us.dns);
            if world.speaks_sip() {
                let edges = gatehouse::sip_edges(us, block, shape);
                zone.add_sip(domain, &format!("sip.{domain}"), &edges);
            }
        }
    }
    for (address, peer) in (FIRST_PEER..).zip(&world.peers) {
        let (at, host) = (block.at(address, 0), format!("xmpp.{}", peer.domain));
        if peer.inside.is_some() {
            zone.add(&format!("{}. A {}", peer.sip_server(), block.host(address)));
        } else if peer.kind == Kind::Kamailio {
            zone.add_sip(&peer.domain, &format!("sip.{}", peer.domain), &[at]);
        } else {
            for domain in std::iter::once(&peer.domain).chain(&peer.hosts) {
                zone.add_domain(domain, &host, at, at, peer.dns);
            }
        }
        for record in &peer.tlsa {
            let (kind, file) = certificate_of(record, &peer.domain, directory);
            for port in [port::S2S, port::S2S_DIRECT_TLS] {
                zone.add(&dnssec::tlsa(&host, port, kind, &file)?);
            }
        }
        if let Some(signing) = peer.dnssec {
            zone.delegate(&peer.domain, signing);
        }
    }
    for (address, sip) in (FIRST_SIP..).zip(&world.sips) {
        if sip.dns && sip.behind.is_none() {
            zone.add_sip(&sip.domain, &sip.server(), &[block.at(address, 0)]);
        }
    }
    for (address, raw) in (FIRST_RAW..).zip(&world.raws) {
        if !raw.domain.is_empty() {
            zone.add(&format!("{}. A {}", raw.domain, block.host(address)));
        }
    }
    for record in &world.dns {
        zone.add(&record.replace("{net}", &block.net()));
    }
    Ok(zone)
}

/// What kind of TLSA record a peer of `domain` has, and for which certificate.
fn certificate_of<'a>(record: &'a str, domain: &str, directory: &Path) -> (&'a str, PathBuf) {
    let file = |domain: &str| format!("{domain}.crt");
    if let Some(kind) = record.strip_suffix(" next") {
        return (kind, directory.join(NEXT).join(file(domain)));
    }
    match record.split_once(" of ") {
        Some((kind, other)) => (kind, directory.join(file(other))),
        None => (record, directory.join(file(domain))),
    }
}

fn sip_users(world: &World) -> BTreeMap<String, (String, String)> {
    let users = world.sips.iter().flat_map(|sip| sip.users.iter().map(move |user| (sip, user)));
    users
        .map(|(sip, user)| (user.clone(), (sip.name.clone(), format!("{user}@{}", sip.domain))))
        .collect()
}

fn people(world: &World, block: &Block, shape: Shape, trust: &Path) -> BTreeMap<String, Person> {
    let mut people = BTreeMap::new();
    let mut add = |name: &str, address: String, host: String, trust: Option<PathBuf>| {
        let person = Person { address, password: password(name), host, trust };
        people.insert(name.to_owned(), person);
    };
    let users = world.us.iter().flat_map(|us| us.accounts().map(move |user| (us, user)));
    for (us, user) in users {
        let trust = Some(trust.to_owned());
        let clients = gatehouse::client_of(us, user, block, shape);
        add(local_part(user), user.clone(), clients.ip().to_string(), trust);
    }
    for (address, peer) in (FIRST_PEER..).zip(&world.peers) {
        for user in &peer.users {
            let trust = peer.certificate.satisfies_clients().then(|| trust.to_owned());
            let host = block.host(address).to_string();
            add(user, format!("{user}@{}", peer.domain), host, trust);
        }
    }
    people
}

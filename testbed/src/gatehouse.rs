use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

use crate::admin;
use crate::block::Block;
use crate::clock::poll;
use crate::failure::Failure;
use crate::nodes;
use crate::port;
use crate::process::{Account, Process, Program, run_to_end};
use crate::shape::Shape;
use crate::world::{Kind, Us, World};
use crate::zone::DNS;

const EDGE: u8 = 2;
const CORE: u8 = 3;
/// The second edge and core, and so on.
const MORE_EDGES: u8 = 20;
const MORE_CORES: u8 = 30;
const START_WITHIN: Duration = Duration::from_secs(20);

/// Our side of one scenario: its settings, and how to start each of its processes.
pub(crate) struct Gatehouse {
    shape: Shape,
    binary: PathBuf,
    directory: PathBuf,
    parts: BTreeMap<String, Part>,
    edges: u8,
    cores: Vec<Vec<String>>,
    claims: BTreeMap<String, Vec<String>>,
    /// Test nodes that stand where the core would, whose settings are there, but not it.
    nodes: u8,
}

/// One process of ours.
struct Part {
    config: PathBuf,
    log: PathBuf,
    ports: Vec<SocketAddr>,
    admin: SocketAddr,
}

impl Gatehouse {
    /// Writes the settings of every process.
    pub(crate) fn configure(
        us: &Us,
        world: &World,
        block: &Block,
        shape: Shape,
        directory: &Path,
        binary: &Path,
    ) -> Result<Self, Failure> {
        let mut gatehouse = Self {
            shape,
            binary: binary.to_owned(),
            directory: directory.to_owned(),
            parts: BTreeMap::new(),
            edges: us.edges,
            cores: (1..=us.core_count()).map(|number| us.core_domains(number).to_vec()).collect(),
            claims: us.claims.clone(),
            nodes: us.nodes,
        };
        let policy = directory.join("policy.toml");
        write(&policy, &policy_of(us, world))?;
        let names: Vec<String> = if shape == Shape::Two {
            let edges = (1..=us.edges).map(|number| numbered("edge", number));
            edges.chain((1..=us.core_count()).map(|number| numbered("core", number))).collect()
        } else {
            vec!["us".to_owned()]
        };
        for name in &names {
            let mut table = gatehouse.settings(name, us, world.speaks_sip(), block);
            overlay(&mut table, &us.config);
            if world.has_inside() && !name.starts_with("edge") {
                overlay(&mut table, &inside(name, us, block)?);
            }
            let file = directory.join(format!("{name}.toml"));
            write(&file, &table)?;
            let host = host(name);
            let part = Part {
                config: file,
                log: directory.join(format!("{name}.log")),
                ports: ports(name, host, world.speaks_sip(), block),
                admin: block.at(host, port::ADMIN),
            };
            gatehouse.parts.insert(name.clone(), part);
        }
        Ok(gatehouse)
    }

    /// How it is cut into processes.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Certificates, accounts, and what each edge and core needs to know the others.
    pub(crate) fn provision(&self, accounts: &[(String, String)]) -> Result<(), Failure> {
        for name in self.inner_names() {
            let config = self.part(name)?.config.display().to_string();
            self.must(&["cert", "issue", "--config", &config], "")?;
        }
        for (account, password) in accounts {
            let domain = account.split_once('@').map_or("", |(_, domain)| domain);
            let serves = |domains: &Vec<String>| domains.iter().any(|one| one == domain);
            let number = self.cores.iter().position(serves).unwrap_or_default();
            let claimed = self.claims.iter().find(|(_, accounts)| accounts.contains(account));
            let name = match claimed {
                Some((core, _)) => core,
                None => self.inner_names().nth(number).unwrap_or("us"),
            };
            let config = self.part(name)?.config.display().to_string();
            self.must(&["user", "add", account, "--config", &config], &format!("{password}\n"))?;
        }
        if self.shape == Shape::Two { self.introduce() } else { Ok(()) }
    }

    /// The first core makes everybody's trunk certificate and the edges' data; the other cores' own
    /// domains are added to that.
    fn introduce(&self) -> Result<(), Failure> {
        let first = self.inner().config.display().to_string();
        let export = |name: &str, out: &Path| {
            let out = out.display().to_string();
            self.must(&["trunk", "export", "--config", &first, "--name", name, "--out", &out], "")
        };
        let data = |name: &str| self.directory.join(format!("{name}-data"));
        let edges: Vec<_> = (1..=self.edges).map(|number| numbered("edge", number)).collect();
        for edge in &edges {
            export(edge, &data(edge))?;
        }
        for node in 0..usize::from(self.nodes) {
            let node = nodes::name(node);
            export(&node, &data(&node))?;
        }
        for (name, domains) in self.inner_names().zip(&self.cores).skip(1) {
            let exported = self.directory.join(format!("{name}-exported"));
            export(name, &exported)?;
            copy_directory(&exported.join("trunk"), &data(name).join("trunk"))?;
            for edge in &edges {
                for file in
                    domains.iter().flat_map(|one| [format!("{one}.crt"), format!("{one}.key")])
                {
                    let (from, to) = (
                        data(name).join("certs").join(&file),
                        data(edge).join("certs").join(&file),
                    );
                    fs::copy(&from, &to).map_err(Failure::io("copy", &from))?;
                }
            }
        }
        Ok(())
    }

    /// Writes the pins of the peers' certificates where the rules name them: `{pin:them.example}`.
    pub(crate) fn fill_pins(&self) -> Result<(), Failure> {
        let file = self.directory.join("policy.toml");
        let mut text = fs::read_to_string(&file).map_err(Failure::io("read", &file))?;
        while let Some((before, rest)) = text.split_once("{pin:") {
            let (domain, after) = rest
                .split_once('}')
                .ok_or_else(|| Failure::world("`{pin:` is not closed in a rule"))?;
            let certificate = self.directory.join(format!("{domain}.crt")).display().to_string();
            let arguments = ["cert", "pin", &certificate].map(str::to_owned);
            let (success, said) = self.command(&arguments, "")?;
            if !success {
                return Err(Failure::world(format!("`gatehouse cert pin` fails: {said}")));
            }
            text = format!("{before}{}{after}", said.trim());
        }
        fs::write(&file, text).map_err(Failure::io("write", &file))
    }

    /// The processes that hold accounts.
    fn inner_names(&self) -> impl Iterator<Item = &str> {
        self.parts.keys().map(String::as_str).filter(|name| !name.starts_with("edge"))
    }

    /// The settings of the process that federates.
    pub(crate) fn edge_config(&self) -> Option<&Path> {
        let name = self.process_for("edge")?;
        self.part(name).ok().map(|part| part.config.as_path())
    }

    /// The authorities that signed our certificates, one for each core.
    pub(crate) fn local_cas(&self) -> Vec<PathBuf> {
        let ca = |name| self.directory.join(format!("{name}-data")).join("certs/local-ca.crt");
        self.inner_names().map(ca).collect()
    }

    /// The processes, in the order in which they start.
    pub(crate) fn process_names(&self) -> Vec<&str> {
        // The edges first: the cores dial them.
        let runs = |name: &&str| self.nodes == 0 || name.starts_with("edge");
        let mut names: Vec<_> = self.parts.keys().map(String::as_str).filter(runs).collect();
        names.sort_by_key(|name| !name.starts_with("edge"));
        names
    }

    /// Which process a script means by `name` in this shape.
    pub(crate) fn process_for(&self, name: &str) -> Option<&str> {
        let name = match (name, self.shape) {
            ("edge" | "core", Shape::One) => "us",
            ("us", Shape::Two) => "core",
            (name, _) => name,
        };
        self.parts.get_key_value(name).map(|(name, _)| name.as_str())
    }

    /// Starts one process and waits until it listens.
    pub(crate) fn start(&self, name: &str) -> Result<Process, Failure> {
        let part = self.part(name)?;
        let config = part.config.display().to_string();
        let mut process = Program::new(name, &self.binary, Account::Own, part.log.clone())
            .arguments(&["run", "--config", &config])
            .start()?;
        process.await_ports(&part.ports, START_WITHIN)?;
        Ok(process)
    }

    /// In two processes: waits until the trunk between them is open.
    pub(crate) fn await_trunk(&self) -> Result<(), Failure> {
        if self.shape != Shape::Two {
            return Ok(());
        }
        // Every core serves something, and every edge knows.
        let open = |name: &str| {
            let status = admin::fetch(self.part(name).ok()?.admin, "/status")?;
            let streams: serde_json::Value = serde_json::from_str(&status).ok()?;
            let is_edge = name.starts_with("edge");
            let open = streams.as_array()?.iter().filter(|stream| {
                let serves =
                    stream["authentication"].as_str().is_some_and(|text| text.contains("serves"));
                stream["kind"] == "trunk" && stream["state"] == "open" && (serves || !is_edge)
            });
            let cores = if self.nodes > 0 { self.nodes.into() } else { self.cores.len() };
            let wanted = if is_edge { cores } else { usize::from(self.edges) };
            (open.count() >= wanted).then_some(())
        };
        let all = || self.process_names().into_iter().try_for_each(open);
        poll(START_WITHIN, all).ok_or_else(|| {
            Failure::world(format!("edges and cores show no open trunk after {START_WITHIN:?}"))
        })
    }

    /// Where the test nodes' trunk certificates are.
    pub(crate) fn node_directories(&self) -> Vec<PathBuf> {
        let directory = |node| self.directory.join(format!("{}-data", nodes::name(node)));
        (0..self.nodes.into()).map(|node| directory(node).join("trunk")).collect()
    }

    /// The log of a process.
    pub(crate) fn log(&self, name: &str) -> Result<&Path, Failure> {
        self.part(name).map(|part| part.log.as_path())
    }

    /// Where its metrics and status are.
    pub(crate) fn admin(&self, name: &str) -> Result<SocketAddr, Failure> {
        self.part(name).map(|part| part.admin)
    }

    /// The settings that hold accounts and certificates.
    pub(crate) fn config(&self) -> &Path {
        &self.inner().config
    }

    /// Runs our command line and types `input` into it.
    pub(crate) fn command(
        &self,
        arguments: &[String],
        input: &str,
    ) -> Result<(bool, String), Failure> {
        let (status, said) = run_to_end(Account::Own, &self.binary, arguments, input)?;
        Ok((status.success(), said))
    }

    fn must(&self, arguments: &[&str], input: &str) -> Result<(), Failure> {
        let (status, said) = run_to_end(Account::Own, &self.binary, arguments, input)?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::world(format!(
            "`gatehouse {}` ended with {status}: {said}",
            arguments.join(" ")
        )))
    }

    fn inner(&self) -> &Part {
        let name = if self.shape == Shape::Two { "core" } else { "us" };
        #[expect(clippy::indexing_slicing, reason = "`configure` made it")]
        &self.parts[name]
    }

    fn part(&self, name: &str) -> Result<&Part, Failure> {
        let unknown = || Failure::world(format!("we have no process `{name}` in this shape"));
        self.parts.get(name).ok_or_else(unknown)
    }

    fn settings(&self, name: &str, us: &Us, speaks_sip: bool, block: &Block) -> Table {
        let (edge, core) = (!name.starts_with("core"), !name.starts_with("edge"));
        let host = host(name);
        let mut roles = Vec::new();
        let mut listen = Table::new();
        let at = |port: u16| Value::from(vec![block.at(host, port).to_string()]);
        if edge {
            roles.push("edge");
            listen.insert("s2s".into(), at(port::S2S));
            listen.insert("s2s-direct-tls".into(), at(port::S2S_DIRECT_TLS));
            if speaks_sip {
                listen.insert("sip".into(), at(port::SIPS));
            }
        }
        if core {
            roles.push("core");
            listen.insert("c2s".into(), at(port::C2S));
            listen.insert("c2s-direct-tls".into(), at(port::C2S_DIRECT_TLS));
        }
        let mut trunk = Table::new();
        if !core {
            listen.insert("trunk".into(), at(port::TRUNK));
            let core = |number| {
                let name = Value::from(numbered("core", number));
                if us.cores.is_empty() {
                    return name;
                }
                let domains = us.core_domains(number).to_vec().into();
                Value::Table(table([("name", name), ("domains", domains)]))
            };
            let cores: Vec<Value> = if us.nodes > 0 {
                // Without a row of its own each may serve everything.
                (0..us.nodes.into()).map(|node| nodes::name(node).into()).collect()
            } else {
                (1..=us.core_count()).map(core).collect()
            };
            trunk.insert("cores".into(), cores.into());
        } else if !edge {
            let edges = (1..=us.edges).map(|number| {
                let name = numbered("edge", number);
                let direct = block.at(self::host(&name), port::TRUNK);
                let address = if us.link { link(block).0 } else { direct }.to_string();
                Value::Table(table([("name", name.into()), ("address", address.into())]))
            });
            trunk.insert("edges".into(), edges.collect::<Vec<_>>().into());
        }
        if !trunk.is_empty() {
            trunk.insert("name".into(), name.into());
        }
        listen.insert("admin".into(), block.at(host, port::ADMIN).to_string().into());
        let trust: Vec<String> = if us.trusts_testbed {
            vec![self.directory.join("testbed-ca.pem").display().to_string()]
        } else {
            Vec::new()
        };
        let path = |file: &str| Value::from(self.directory.join(file).display().to_string());
        let mut settings = table([
            ("roles", roles.into()),
            ("domains", domains(name, us).into()),
            ("data", path(&format!("{name}-data"))),
            ("edge-host", edge_host(us).into()),
            ("log", table([("format", "json".into()), ("filter", "debug,rustls=info,hickory_net=info,hickory_resolver=info,hyper=info,sqlx=warn".into())]).into()),
            ("listen", listen.into()),
            ("dns", table([("servers", vec![block.at(DNS, port::DNS).to_string()].into())]).into()),
            ("tls", table([("trust", trust.into()), ("system-roots", false.into())]).into()),
            ("policy", table([("file", path("policy.toml"))]).into()),
            (
                "s2s",
                table([
                    ("target-timeout", "5s".into()),
                    ("connect-timeout", "15s".into()),
                    // All the world is on loopback here.
                    ("private-targets", true.into()),
                ])
                .into(),
            ),
        ]);
        if !trunk.is_empty() {
            settings.insert("trunk".into(), trunk.into());
        }
        if us.nodes > 0 && !core {
            // The first one takes new sessions.
            let order: Vec<_> = (0..us.nodes.into()).map(nodes::name).collect();
            let routing = table([("routing-nodes", order.into())]);
            settings.insert("sip".into(), routing.into());
        }
        settings
    }
}

/// The host name behind the SRV records of all our domains.
pub(crate) fn edge_host(us: &Us) -> String {
    let first = us.domains.first().map_or("ours.example", String::as_str);
    format!("edge.{first}")
}

/// The host names of further edges, and where they are: all have SRV records of equal priority.
pub(crate) fn more_edges(us: &Us, block: &Block, shape: Shape) -> Vec<(String, SocketAddr)> {
    let first = us.domains.first().map_or("ours.example", String::as_str);
    let edges = if shape == Shape::Two { us.edges } else { 1 };
    (2..=edges)
        .map(|number| numbered("edge", number))
        .map(|name| (format!("{name}.{first}"), block.at(host(&name), port::S2S)))
        .collect()
}

/// `edge`, then `edge-2`.
fn numbered(kind: &str, number: u8) -> String {
    if number == 1 { kind.to_owned() } else { format!("{kind}-{number}") }
}

/// Which core of the numbered ones a name means.
fn number_of(name: &str) -> u8 {
    name.split_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(1)
}

/// The last octet of a process's address.
fn host(name: &str) -> u8 {
    match (name.starts_with("core"), number_of(name)) {
        (false, 1) => EDGE,
        (true, 1) => CORE,
        (false, number) => MORE_EDGES + number,
        (true, number) => MORE_CORES + number,
    }
}

/// A core serves its own, everybody else all.
fn domains(name: &str, us: &Us) -> Vec<String> {
    if !name.starts_with("core") {
        return us.domains.clone();
    }
    [us.core_domains(number_of(name)), &us.claimed(name)].concat()
}

fn copy_directory(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to).map_err(Failure::io("make", to))?;
    for entry in fs::read_dir(from).map_err(Failure::io("read", from))?.flatten() {
        let path = entry.path();
        fs::copy(&path, to.join(entry.file_name())).map_err(Failure::io("copy", &path))?;
    }
    Ok(())
}

/// The core's end of the link to the edge, if there is one that can be cut, and the edge's.
pub(crate) fn link(block: &Block) -> (SocketAddr, SocketAddr) {
    (block.at(CORE, port::LINK), block.at(EDGE, port::TRUNK))
}

/// Where the clients of `domain` reach us.
pub(crate) fn clients_of(us: &Us, domain: &str, block: &Block, shape: Shape) -> SocketAddr {
    match shape {
        Shape::Two => block.at(host(&numbered("core", us.core_of(domain))), port::C2S),
        Shape::None | Shape::One => addresses(block, shape).1,
    }
}

/// Where the client of an account does: with the core that claims its domain, if one does.
pub(crate) fn client_of(us: &Us, account: &str, block: &Block, shape: Shape) -> SocketAddr {
    let claimed = us.claims.iter().find(|(_, accounts)| accounts.iter().any(|one| one == account));
    match claimed {
        Some((core, _)) if shape == Shape::Two => block.at(host(core), port::C2S),
        _ => clients_of(us, account.split_once('@').map_or("", |(_, it)| it), block, shape),
    }
}

/// Where servers reach us, and where clients of the first core do.
pub(crate) fn addresses(block: &Block, shape: Shape) -> (SocketAddr, SocketAddr) {
    let clients = if shape == Shape::Two { CORE } else { EDGE };
    (block.at(EDGE, port::S2S), block.at(clients, port::C2S))
}

fn ports(name: &str, host: u8, speaks_sip: bool, block: &Block) -> Vec<SocketAddr> {
    let ports: &[u16] = match name.split('-').next().unwrap_or_default() {
        "edge" => &[port::S2S, port::S2S_DIRECT_TLS, port::TRUNK, port::ADMIN],
        "core" => &[port::C2S, port::C2S_DIRECT_TLS, port::ADMIN],
        _ => &[port::C2S, port::C2S_DIRECT_TLS, port::S2S, port::S2S_DIRECT_TLS, port::ADMIN],
    };
    let is_edge = !name.starts_with("core");
    let sip = (speaks_sip && is_edge).then_some(port::SIPS);
    ports.iter().copied().chain(sip).map(|port| block.at(host, port)).collect()
}

/// Each edge by name, and where its trunk is.
pub(crate) fn trunks(us: &Us, block: &Block) -> Vec<(String, SocketAddr)> {
    let at = |name: String| (name.clone(), block.at(host(&name), port::TRUNK));
    (1..=us.edges).map(|number| at(numbered("edge", number))).collect()
}

/// Where every edge listens for SIP partners.
pub(crate) fn sip_edges(us: &Us, block: &Block, shape: Shape) -> Vec<SocketAddr> {
    let edges = if shape == Shape::Two { us.edges } else { 1 };
    (1..=edges).map(|number| block.at(host(&numbered("edge", number)), port::SIPS)).collect()
}

/// Where a core listens for SIP servers of the inside, and what it knows of them.
fn inside(name: &str, us: &Us, block: &Block) -> Result<Table, Failure> {
    let at = |port: u16| Value::from(vec![block.at(host(name), port).to_string()]);
    let listen = table([("sip-inside-tls", at(port::SIPS)), ("sip-inside-tcp", at(port::SIP))]);
    let text = us.inside.to_string().replace("{net}", &block.net());
    let rows: Table = toml::from_str(&text)
        .map_err(|error| Failure::world(format!("`us.inside` in world.toml: {error}")))?;
    Ok(table([("listen", listen.into()), ("sip", rows.into())]))
}

/// The scenario's rules; without any, one rule per peer that asks for a certificate.
fn policy_of(us: &Us, world: &World) -> Table {
    let raws = world.raws.iter().map(|raw| raw.domain.as_str());
    let peers = world.peers.iter().filter(|peer| peer.kind != Kind::Kamailio);
    let peers = peers.map(|peer| peer.domain.as_str());
    let domains: BTreeSet<&str> = peers.chain(raws).filter(|domain| !domain.is_empty()).collect();
    let allow = |domain: &str| {
        table([
            ("name", domain.into()),
            ("remote", vec![domain].into()),
            ("action", "allow".into()),
            ("require", "certificate".into()),
            ("tls", "required".into()),
        ])
    };
    let rules: Vec<Table> = if us.rules.is_empty() {
        domains.into_iter().map(allow).collect()
    } else {
        us.rules.clone()
    };
    let mut policy = table([("rule", rules.into())]);
    if world.speaks_sip() {
        let rows = if us.sip_rows.is_empty() { sip_rows(world) } else { us.sip_rows.clone() };
        policy.insert("sip".into(), rows.into());
    }
    policy
}

/// One row for each SIP partner.
fn sip_rows(world: &World) -> Vec<Table> {
    let row = |domain: &str| {
        table([
            ("name", domain.into()),
            ("remote", vec![domain].into()),
            ("action", "allow".into()),
        ])
    };
    let played = world.sips.iter().filter(|sip| sip.behind.is_none());
    let real = world.peers.iter().filter(|peer| peer.is_sip_partner());
    let mut rows: Vec<_> = played.map(|sip| row(&sip.domain)).collect();
    for peer in real {
        let mut row = row(&peer.domain);
        row.insert("kind".into(), "standard".into());
        rows.push(row);
    }
    rows
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Lays `over` over `table`: tables are merged, everything else is replaced.
fn overlay(table: &mut Table, over: &Table) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => overlay(below, above),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

fn write(file: &Path, table: &Table) -> Result<(), Failure> {
    fs::write(file, table.to_string()).map_err(Failure::io("write", file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_scenario_win() {
        let mut below: Table = toml::from_str("a = 1\n[t]\nb = 2\nc = 3").unwrap();
        overlay(&mut below, &toml::from_str("d = 4\n[t]\nb = 5").unwrap());
        assert_eq!(below, toml::from_str("a = 1\nd = 4\n[t]\nb = 5\nc = 3").unwrap());
    }
}

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
use crate::port;
use crate::process::{Account, Process, Program, run_to_end};
use crate::shape::Shape;
use crate::world::{Us, World};
use crate::zone::DNS;

const EDGE: u8 = 2;
const CORE: u8 = 3;
const START_WITHIN: Duration = Duration::from_secs(20);

/// Our side of one scenario: its settings, and how to start each of its processes.
pub(crate) struct Gatehouse {
    shape: Shape,
    binary: PathBuf,
    directory: PathBuf,
    parts: BTreeMap<&'static str, Part>,
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
        };
        let policy = directory.join("policy.toml");
        write(&policy, &policy_of(us, world))?;
        let names: &[&'static str] = if shape == Shape::Two { &["edge", "core"] } else { &["us"] };
        for name in names {
            let mut table = gatehouse.settings(name, us, block);
            overlay(&mut table, &us.config);
            let file = directory.join(format!("{name}.toml"));
            write(&file, &table)?;
            let host = if *name == "core" { CORE } else { EDGE };
            let part = Part {
                config: file,
                log: directory.join(format!("{name}.log")),
                ports: ports(name, host, block),
                admin: block.at(host, port::ADMIN),
            };
            gatehouse.parts.insert(name, part);
        }
        Ok(gatehouse)
    }

    /// How it is cut into processes.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Certificates, accounts, and what the edge needs to know the core.
    pub(crate) fn provision(&self, accounts: &[(String, String)]) -> Result<(), Failure> {
        let config = self.inner().config.display().to_string();
        self.must(&["cert", "issue", "--config", &config], "")?;
        for (account, password) in accounts {
            self.must(&["user", "add", account, "--config", &config], &format!("{password}\n"))?;
        }
        if self.shape == Shape::Two {
            let out = self.directory.join("edge-data").display().to_string();
            self.must(&["trunk", "export", "--config", &config, "--out", &out], "")?;
        }
        Ok(())
    }

    /// Puts the pin of each peer's key in the place of `{pin:its.domain}` in the policy.
    pub(crate) fn fill_pins(&self) -> Result<(), Failure> {
        let file = self.directory.join("policy.toml");
        let mut text = fs::read_to_string(&file).map_err(Failure::io("read", &file))?;
        while let Some((before, after)) = text.split_once("{pin:") {
            let (domain, after) = after.split_once('}').unwrap_or((after, ""));
            let certificate = self.directory.join(format!("{domain}.crt")).display().to_string();
            let (_, pin) = self.command(&["cert".into(), "pin".into(), certificate])?;
            text = format!("{before}{}{after}", pin.trim());
        }
        fs::write(&file, text).map_err(Failure::io("write", &file))
    }

    /// The settings of the process that federates.
    pub(crate) fn edge_config(&self) -> Option<&Path> {
        let name = self.process_for("edge")?;
        self.part(name).ok().map(|part| part.config.as_path())
    }

    /// The authority that signed our certificates.
    pub(crate) fn local_ca(&self) -> PathBuf {
        let data = if self.shape == Shape::Two { "core-data" } else { "us-data" };
        self.directory.join(data).join("certs/local-ca.crt")
    }

    /// The processes, in the order in which they start.
    pub(crate) fn process_names(&self) -> Vec<&'static str> {
        // The edge first: the core dials it.
        let mut names: Vec<_> = self.parts.keys().copied().collect();
        names.sort_unstable_by_key(|name| *name != "edge");
        names
    }

    /// Which process a script means by `name` in this shape.
    pub(crate) fn process_for(&self, name: &str) -> Option<&'static str> {
        match (name, self.shape) {
            ("us" | "edge" | "core", Shape::One) => Some("us"),
            ("edge", Shape::Two) => Some("edge"),
            ("us" | "core", Shape::Two) => Some("core"),
            _ => None,
        }
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
        let open = |name| {
            let status = admin::fetch(self.part(name).ok()?.admin, "/status")?;
            let streams: serde_json::Value = serde_json::from_str(&status).ok()?;
            let mut streams = streams.as_array().into_iter().flatten();
            let open = streams.any(|stream| stream["kind"] == "trunk" && stream["state"] == "open");
            open.then_some(())
        };
        poll(START_WITHIN, || open("edge").and_then(|()| open("core"))).ok_or_else(|| {
            Failure::world(format!("edge and core show no open trunk after {START_WITHIN:?}"))
        })
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

    /// Runs our command line.
    pub(crate) fn command(&self, arguments: &[String]) -> Result<(bool, String), Failure> {
        let (status, said) = run_to_end(Account::Own, &self.binary, arguments, "")?;
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

    fn settings(&self, name: &str, us: &Us, block: &Block) -> Table {
        let (edge, core) = (name != "core", name != "edge");
        let host = if edge { EDGE } else { CORE };
        let mut roles = Vec::new();
        let mut listen = Table::new();
        let at = |port: u16| Value::from(vec![block.at(host, port).to_string()]);
        if edge {
            roles.push("edge");
            listen.insert("s2s".into(), at(port::S2S));
            listen.insert("s2s-direct-tls".into(), at(port::S2S_DIRECT_TLS));
        }
        if core {
            roles.push("core");
            listen.insert("c2s".into(), at(port::C2S));
            listen.insert("c2s-direct-tls".into(), at(port::C2S_DIRECT_TLS));
        }
        let mut trunk = Table::new();
        if name == "edge" {
            listen.insert("trunk".into(), at(port::TRUNK));
            trunk.insert("cores".into(), vec!["core"].into());
        } else if name == "core" {
            let (near, far) = link(block);
            let address = if us.link { near } else { far }.to_string();
            let edge = table([("name", "edge".into()), ("address", address.into())]);
            trunk.insert("edges".into(), vec![Value::Table(edge)].into());
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
            ("domains", us.domains.clone().into()),
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
        settings
    }
}

/// The host name behind the SRV records of all our domains.
pub(crate) fn edge_host(us: &Us) -> String {
    let first = us.domains.first().map_or("ours.example", String::as_str);
    format!("edge.{first}")
}

/// The core's end of the link to the edge, if there is one that can be cut, and the edge's.
pub(crate) fn link(block: &Block) -> (SocketAddr, SocketAddr) {
    (block.at(CORE, port::LINK), block.at(EDGE, port::TRUNK))
}

/// Where servers reach us, and where clients do.
pub(crate) fn addresses(block: &Block, shape: Shape) -> (SocketAddr, SocketAddr) {
    let clients = if shape == Shape::Two { CORE } else { EDGE };
    (block.at(EDGE, port::S2S), block.at(clients, port::C2S))
}

fn ports(name: &str, host: u8, block: &Block) -> Vec<SocketAddr> {
    let ports: &[u16] = match name {
        "edge" => &[port::S2S, port::S2S_DIRECT_TLS, port::TRUNK, port::ADMIN],
        "core" => &[port::C2S, port::C2S_DIRECT_TLS, port::ADMIN],
        _ => &[port::C2S, port::C2S_DIRECT_TLS, port::S2S, port::S2S_DIRECT_TLS, port::ADMIN],
    };
    ports.iter().map(|port| block.at(host, *port)).collect()
}

/// The scenario's rules; without any, one rule per peer that asks for a certificate.
fn policy_of(us: &Us, world: &World) -> Table {
    let raws = world.raws.iter().map(|raw| raw.domain.as_str());
    let peers = world.peers.iter().map(|peer| peer.domain.as_str());
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
    table([("rule", rules.into())])
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

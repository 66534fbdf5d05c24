use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::authority::{Authority, Flavour};
use crate::block::Block;
use crate::failure::Failure;
use crate::place;
use crate::port;
use crate::process::Process;
use crate::prosody::{Prosody, Surroundings};
use crate::shape::Shape;
use crate::world::{Kind, Peer, Service};
use crate::zone::{DNS, Zone};

/// Where the newcomer's own appliance will be, and the partner.
const US: u8 = 2;
const THEM: u8 = 4;
/// Above the scenarios' numbers, so that the demo and the scenarios can run side by side.
const NUMBER: u8 = 199;

/// Runs a name server and a partner on this machine, and says how to federate with it. Ends with
/// Ctrl-C, and everything it started ends with it.
pub(crate) fn run() -> Result<(), Failure> {
    let directory = place::runs(&place::testbed())?.join("demo");
    let _fresh = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).map_err(Failure::io("make", &directory))?;
    let block = Block::claim(NUMBER, Shape::One)?;

    let authority = Authority::new();
    let root = directory.join("testbed-ca.pem");
    fs::write(&root, authority.root_pem()).map_err(Failure::io("write", &root))?;
    let mut dns = zone(&block).serve(&block, &directory)?;
    // Where `gatehouse run` without settings keeps things, so that a user made there is here too.
    let data = place::repository().join("gatehouse-data");
    let settings = directory.join("gatehouse.toml");
    fs::write(&settings, config(&block, &root, &data)).map_err(Failure::io("write", &settings))?;

    let certificate = authority.issue("them.example", &Flavour::Full, &directory)?;
    let prosody = Prosody::new(partner(), THEM, directory.clone());
    prosody.prepare(&Surroundings {
        block: &block,
        certificate: &certificate,
        trust: &root,
        password: &str::to_owned,
    })?;
    let mut them = prosody.start(&block)?;
    tell(&block, &settings, &data, &directory)
        .map_err(Failure::io("write to", Path::new("standard output")))?;
    watch(&mut [&mut dns, &mut them])
}

fn zone(block: &Block) -> Zone {
    let mut zone = Zone::new();
    let (us, them) = (block.at(US, 0), block.at(THEM, 0));
    zone.add_domain("ours.example", "edge.ours.example", us, us, Service::Both);
    zone.add_domain("them.example", "xmpp.them.example", them, them, Service::Both);
    zone
}

/// The partner trusts the testbed's authority, and takes dialback from those it does not know: our
/// local authority is made only when Gatehouse starts.
fn partner() -> Peer {
    Peer {
        name: "them".into(),
        kind: Kind::Prosody,
        domain: "them.example".into(),
        hosts: Vec::new(),
        users: vec!["bob".into()],
        certificate: Flavour::Full,
        trusts_us: false,
        secure_auth: false,
        require_encryption: true,
        dialback: true,
        dns: Service::Both,
        dnssec: None,
        tlsa: Vec::new(),
        inside: None,
        server: None,
        modules: Vec::new(),
        lua: String::new(),
    }
}

fn config(block: &Block, root: &Path, data: &Path) -> String {
    let (us, dns) = (block.host(US), block.at(DNS, port::DNS));
    let (root, data, admin) = (root.display(), data.display(), port::ADMIN);
    let (c2s, c2s_direct_tls) = (port::C2S, port::C2S_DIRECT_TLS);
    let (s2s, s2s_direct_tls) = (port::S2S, port::S2S_DIRECT_TLS);
    format!(
        r#"domains = ["ours.example"]
edge-host = "edge.ours.example"
data = "{data}"

[listen]
c2s = ["{us}:{c2s}"]
c2s-direct-tls = ["{us}:{c2s_direct_tls}"]
s2s = ["{us}:{s2s}"]
s2s-direct-tls = ["{us}:{s2s_direct_tls}"]
admin = "{us}:{admin}"

[dns]
servers = ["{dns}"]

[tls]
trust = ["{root}"]
system-roots = false

[s2s]
private-targets = true # the partner is on this machine
"#
    )
}

fn tell(block: &Block, settings: &Path, data: &Path, logs: &Path) -> io::Result<()> {
    let (us, them, c2s) = (block.host(US), block.host(THEM), port::C2S);
    let (settings, data, logs) = (settings.display(), data.display(), logs.display());
    write!(
        io::stdout(),
        r#"
The partner them.example runs: a real Prosody at {them}, with a name server of its own.

In a second terminal, run Gatehouse beside it (its settings are in {settings}):

    target/release/gatehouse run --config {settings}

In a third, create a user, unless you have one:

    target/release/gatehouse user add alice@ours.example --config {settings}

Then connect two clients, port {c2s} each:

    alice@ours.example   server {us}     authority {data}/certs/local-ca.crt
    bob@them.example     server {them}     authority {logs}/testbed-ca.pem     password bob

and let them write to each other. What each side sees is in {logs}/them.log
and in `target/release/gatehouse status --watch --config {settings}`.

Ctrl-C ends the partner.
"#
    )
}

/// Returns only if something dies; Ctrl-C ends us, and with us whatever we started.
fn watch(processes: &mut [&mut Process]) -> Result<(), Failure> {
    loop {
        for process in &mut *processes {
            if let Some(why) = process.death() {
                return Err(Failure::world(why));
            }
        }
        thread::sleep(Duration::from_millis(500));
    }
}

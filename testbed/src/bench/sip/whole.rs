//! The whole of edge and core as two processes, with accounts, and SIP partners beside them.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path as Directory;

use gatehouse_types::Domain;
use tokio::runtime::Handle;

use crate::authority::{Authority, Files, Flavour, SipFlavour};
use crate::bench::partner::{Partner, password};
use crate::bench::subject::{LOG_LEVEL, NEAR, NUMBER, parse};
use crate::bench::usage::Usage;
use crate::block::Block;
use crate::failure::Failure;
use crate::gatehouse::{self, Gatehouse};
use crate::nodes::Ends;
use crate::nodes::partner::Partner as SipPartner;
use crate::port;
use crate::process::Process;
use crate::shape::Shape;
use crate::stage::Paths;
use crate::world::World;
use crate::zone::Zone;

/// The partners' domains, each with a certificate and connections of its own.
const PARTNERS: u8 = 10;
/// The last octet of the first partner.
const FIRST_PARTNER: u8 = 60;

/// Memory of one process, KiB.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) proportional: u64,
}

/// Edge and core with accounts, and partners.
pub(crate) struct Whole {
    core: Process,
    edge: Process,
    pub(crate) partners: Vec<SipPartner>,
    pub(crate) clients: Partner,
    pub(crate) clients_at: SocketAddr,
    _dns: Process,
    _block: Block,
}

impl Whole {
    /// Starts it with these users.
    pub(crate) fn start(
        users: &[String],
        directory: &Directory,
        paths: &Paths,
    ) -> Result<Self, Failure> {
        fs::create_dir_all(directory).map_err(Failure::io("make", directory))?;
        let block = Block::claim(NUMBER, Shape::Two)?;
        let authority = Authority::new();
        let root = directory.join("testbed-ca.pem");
        fs::write(&root, authority.root_pem()).map_err(Failure::io("write", &root))?;
        let far = |number: u8| format!("far{number}.example");
        let mut rows = String::new();
        let mut zone = Zone::new();
        for number in 0..PARTNERS {
            let domain = far(number);
            rows += &format!("[[sip]]\nname = \"far{number}\"\ndomain = {domain:?}\n");
            let at = block.at(FIRST_PARTNER + number, port::SIPS);
            zone.add_sip(&domain, &format!("sip.{domain}"), &[at]);
        }
        let dns = zone.serve(&block, directory)?;
        let world: World = parse(&rows)?;
        let us = parse(&format!(
            "domains = [{NEAR:?}]\nconfig = {{ log = {{ filter = {LOG_LEVEL:?} }} }}"
        ))?;
        let ours =
            Gatehouse::configure(&us, &world, &block, Shape::Two, directory, &paths.gatehouse)?;
        let accounts: Vec<_> =
            users.iter().map(|user| (format!("{user}@{NEAR}"), password(user))).collect();
        ours.provision(&accounts)?;
        let (edge, core) = (ours.start("edge")?, ours.start("core")?);
        ours.await_trunk()?;
        let edges = gatehouse::sip_edges(&us, &block, Shape::Two);
        let mut partners = Vec::new();
        for number in 0..PARTNERS {
            let (remote, host) = (far(number), format!("sip.{}", far(number)));
            let names = (remote.as_str(), host.as_str());
            let files =
                authority.issue_sip(&format!("far{number}"), names, SipFlavour::Host, directory)?;
            let files = files.ok_or_else(|| Failure::world("no certificate was made"))?;
            let ends = Ends {
                at: block.at(FIRST_PARTNER + number, port::SIPS),
                local: NEAR.to_owned(),
                edges: edges.clone(),
                remote,
                host,
            };
            let record = directory.join(format!("far{number}.received"));
            let record = File::create(&record).map_err(Failure::io("make", &record))?;
            partners.push(SipPartner::start(ends, &files, record, &Handle::current())?);
        }
        let name =
            |name: &str| name.parse::<Domain>().map_err(|error| Failure::world(error.to_string()));
        let files: Files = authority.issue("far.example", &Flavour::Full, directory)?;
        Ok(Self {
            core,
            edge,
            partners,
            clients: Partner::new(&name(NEAR)?, &name("far.example")?, &files)?,
            clients_at: gatehouse::addresses(&block, Shape::Two).1,
            _dns: dns,
            _block: block,
        })
    }

    /// How many requests in dialogs the partners have answered.
    pub(crate) fn notified(&self) -> usize {
        self.partners.iter().map(SipPartner::notified).sum()
    }

    /// Of edge and core.
    pub(crate) fn usage(&mut self) -> Result<Usage, Failure> {
        Usage::of(&[self.core.child().id(), self.edge.child().id()])
    }

    /// Of the core, and of the edge.
    pub(crate) fn memory(&mut self) -> Result<(Memory, Memory), Failure> {
        let of = |process: &mut Process| {
            let pids = [process.child().id()];
            let resident = Usage::of(&pids)?.resident;
            Ok::<_, Failure>(Memory { resident, proportional: Usage::proportional(&pids)? })
        };
        Ok((of(&mut self.core)?, of(&mut self.edge)?))
    }
}

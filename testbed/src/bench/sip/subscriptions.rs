//! Many partners' users watch ours: the whole of edge and core, with accounts, rosters, the stored
//! subscriptions, and every NOTIFY out and answered.

use std::fs::{self, File};
use std::path::Path as Directory;
use std::time::Duration;

use gatehouse_types::Domain;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::authority::{Authority, Files, Flavour, SipFlavour};
use crate::bench::partner::{Partner, password};
use crate::bench::path::{Begin, Sample, ratio};
use crate::bench::subject::{LOG_LEVEL, NEAR, NUMBER, parse};
use crate::bench::usage::Usage;
use crate::block::Block;
use crate::failure::Failure;
use crate::gatehouse::{self, Gatehouse};
use crate::nodes::Ends;
use crate::nodes::partner::{Outcome, Partner as SipPartner};
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
/// So many may watch one account.
const WATCHERS_EACH: usize = 200;
/// After this an edge sends new SIP sessions to a core that has just come.
const ROUTES_WITHIN: Duration = Duration::from_millis(2500);
/// How long everything after the last answer may take.
const QUIET_WITHIN: Duration = Duration::from_secs(30);
/// Nothing more comes when nothing has come for so long.
const QUIET: Duration = Duration::from_secs(1);
/// How long one account's watchers may take.
const ACCOUNT_WITHIN: Duration = Duration::from_secs(60);

/// Subscriptions of partners, until so many are active; then what that takes. `told` hears of both
/// processes.
pub(crate) async fn measure(
    count: usize,
    directory: &Directory,
    paths: &Paths,
    mut told: impl FnMut(&str),
) -> Result<Sample, Failure> {
    let mut world = Watched::start(count, directory, paths)?;
    sleep(ROUTES_WITHIN).await;
    let before = world.memory()?;
    let begin = Begin::at(world.usage()?);
    for account in 0..count.div_ceil(WATCHERS_EACH) {
        let watchers = WATCHERS_EACH.min(count - account * WATCHERS_EACH);
        let late = |_| Failure::world(format!("account {account} took over {ACCOUNT_WITHIN:?}"));
        timeout(ACCOUNT_WITHIN, Box::pin(world.fill(account, watchers))).await.map_err(late)??;
    }
    world.quiet().await?;
    let mut sample = begin.end_with(world.usage()?, count.try_into().unwrap_or(u64::MAX));
    let after = world.memory()?;
    for (name, before, after) in [("core", before.0, after.0), ("edge", before.1, after.1)] {
        told(&format!(
            "{count} active subscriptions, {} NOTIFYs answered: {name} RSS {} KiB before, {} KiB after; PSS \
             {} KiB before, {} KiB after",
            world.notified(),
            before.resident,
            after.resident,
            before.proportional,
            after.proportional
        ));
    }
    let active: usize = world.partners.iter().map(SipPartner::active).sum();
    if active != count {
        return Err(Failure::world(format!("{active} of {count} subscriptions are active")));
    }
    sample.resident = after.0.resident;
    let grown = after.0.proportional.saturating_sub(before.0.proportional);
    sample.each = Some(ratio(grown, count.try_into().unwrap_or(u64::MAX)));
    Ok(sample)
}

/// Memory of one process, KiB.
#[derive(Clone, Copy)]
struct Memory {
    resident: u64,
    proportional: u64,
}

/// Edge and core with accounts, and partners that watch them.
struct Watched {
    core: Process,
    edge: Process,
    partners: Vec<SipPartner>,
    clients: Partner,
    clients_at: std::net::SocketAddr,
    _dns: Process,
    _block: Block,
}

impl Watched {
    fn start(count: usize, directory: &Directory, paths: &Paths) -> Result<Self, Failure> {
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
        let accounts: Vec<_> = (0..count.div_ceil(WATCHERS_EACH))
            .map(|account| (format!("{}@{NEAR}", user(account)), password(&user(account))))
            .collect();
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

    /// One account is watched by so many, and lets them all watch; then its user leaves.
    async fn fill(&self, account: usize, watchers: usize) -> Result<(), Failure> {
        let user = user(account);
        let mut wire = self.clients.log_in(self.clients_at, &user, "bench").await?;
        self.clients.appear(&mut wire).await?;
        let mut asked = Vec::new();
        for number in 0..watchers {
            let partner = self.partners.get(number % self.partners.len());
            let partner = partner.ok_or_else(|| Failure::world("there are partners"))?.clone();
            let (from, whom) = (watcher(number), user.clone());
            let handle = partner.handle().clone();
            asked.push(handle.spawn(async move { partner.watch(0, &from, &whom).await }));
        }
        for asked in asked {
            match asked.await {
                Ok(Outcome::Answered(200, _)) => {}
                other => {
                    return Err(Failure::world(format!("a SUBSCRIBE came to {other:?}")));
                }
            }
        }
        let mut yes = String::new();
        for number in 0..watchers {
            let words = ["type='subscribe'", "type=\"subscribe\""];
            wire.hear_within(&words, ACCOUNT_WITHIN).await?;
            let domain = number % self.partners.len();
            yes += &format!(
                "<presence type='subscribed' to='{}@far{domain}.example'/>",
                watcher(number)
            );
        }
        // All of it was taken when the ping is answered.
        yes += &format!("<iq type='get' id='taken' to='{NEAR}'><ping xmlns='urn:xmpp:ping'/></iq>");
        wire.say(&yes).await?;
        wire.hear_within(&["'taken'", "\"taken\""], ACCOUNT_WITHIN).await?;
        wire.close().await;
        Ok(())
    }

    /// Waits until nobody is told anything more.
    async fn quiet(&self) -> Result<(), Failure> {
        let waiting = async {
            let mut last = usize::MAX;
            while last != self.notified() {
                last = self.notified();
                sleep(QUIET).await;
            }
        };
        let late = |_| Failure::world(format!("no quiet within {QUIET_WITHIN:?}"));
        timeout(QUIET_WITHIN, waiting).await.map_err(late)
    }

    fn notified(&self) -> usize {
        self.partners.iter().map(SipPartner::notified).sum()
    }

    fn usage(&mut self) -> Result<Usage, Failure> {
        Usage::of(&[self.core.child().id(), self.edge.child().id()])
    }

    /// Of the core, and of the edge.
    fn memory(&mut self) -> Result<(Memory, Memory), Failure> {
        let of = |process: &mut Process| {
            let pids = [process.child().id()];
            let resident = Usage::of(&pids)?.resident;
            Ok::<_, Failure>(Memory { resident, proportional: Usage::proportional(&pids)? })
        };
        Ok((of(&mut self.core)?, of(&mut self.edge)?))
    }
}

fn user(account: usize) -> String {
    format!("user{account}")
}

fn watcher(number: usize) -> String {
    format!("watcher{number}")
}

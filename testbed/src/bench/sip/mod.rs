//! SIP: MESSAGE transactions from one TLS connection to another through our edge, beside a Kamailio
//! that relays the same over the same kind of connections.
//!
//! The driver is both ends: the partner, and the core node behind the edge. Our real core runs
//! beside it and says on the trunk what it serves, but speaks no SIP; only the edge is measured.

mod end;
pub(crate) mod messages;
mod relay;
pub(crate) mod subscriptions;
mod whole;

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path as File, PathBuf};
use std::time::Duration;

use gatehouse_tls::{Acceptor, Connector, KeyEntry, Keys, Roots, SystemRoots, TlsError};
use gatehouse_types::Domain;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::authority::{Authority, Files, SipFlavour};
use crate::bench::path::{Begin, Load, Path, SETTLE, Sample, WARM_UP_SHARE, ratio};
use crate::bench::subject::{FAR, Kind, LOG_LEVEL, NEAR, NUMBER, PARTNER, PEER, parse};
use crate::bench::usage::Usage;
use crate::bench::wire::broken;
use crate::block::Block;
use crate::failure::Failure;
use crate::gatehouse::Gatehouse;
use crate::port;
use crate::process::Process;
use crate::shape::Shape;
use crate::stage::Paths;
use crate::world::World;
use crate::zone::Zone;

use self::end::{Calls, End};

/// The last octet of our edge.
const EDGE: u8 = 2;
/// The core, whose certificate the driver shows when it plays the node.
const NODE: &str = "core";
/// The name of the edge on the trunk.
const EDGE_NAME: &str = "edge";
/// The ALPN name of the SIP trunk.
const TRUNK_ALPN: &str = "sip/2";
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// A running server under test that speaks SIP.
pub(crate) struct SipSubject {
    /// Who it is.
    pub(crate) kind: Kind,
    /// Shows the partner's certificate.
    partner: Connector,
    /// Takes connections as the partner.
    acceptor: Acceptor,
    listener_at: SocketAddr,
    /// Where it listens for partners.
    server: SocketAddr,
    /// Where its trunk is and who may use that; none of a Kamailio.
    trunk: Option<(SocketAddr, Connector)>,
    names: Names,
    connections: u64,
    measured: Process,
    _beside: Vec<Process>,
    _block: Block,
}

struct Names {
    near_host: Domain,
    far_host: Domain,
    node: Domain,
    edge: Domain,
}

impl SipSubject {
    /// Starts it.
    pub(crate) fn start(kind: Kind, directory: &File, paths: &Paths) -> Result<Self, Failure> {
        fs::create_dir_all(directory).map_err(Failure::io("make", directory))?;
        let block = Block::claim(NUMBER, Shape::Two)?;
        let authority = Authority::new();
        let root = directory.join("testbed-ca.pem");
        fs::write(&root, authority.root_pem()).map_err(Failure::io("write", &root))?;
        let names = Names {
            near_host: domain(&format!("sip.{NEAR}"))?,
            far_host: domain(&format!("sip.{FAR}"))?,
            node: domain(NODE)?,
            edge: domain(EDGE_NAME)?,
        };
        let listener_at = block.at(PARTNER, port::SIPS);
        let mut zone = Zone::new();
        zone.add_sip(FAR, names.far_host.as_str(), &[listener_at]);
        let dns = zone.serve(&block, directory)?;

        let certificate = |name, domain, host: &Domain| {
            let host = (domain, host.as_str());
            let files = authority.issue_sip(name, host, SipFlavour::Host, directory)?;
            files.ok_or_else(|| Failure::world("no certificate was made"))
        };
        let files = certificate("partner", FAR, &names.far_host)?;
        let (keys, roots) = (keys(&names.far_host, &files)?, no_roots()?);
        let place = Place { directory, block: &block, paths };
        let (server, trunk, measured, beside) = if kind == Kind::Kamailio {
            let files = certificate("kamailio", NEAR, &names.near_host)?;
            let process = relay::start((PEER, PARTNER), &block, &files, &root, directory)?;
            (block.at(PEER, port::SIPS), None, process, vec![dns])
        } else {
            let (edge, core) = place.start_ours()?;
            let trunk = place.trunk(&names.node)?;
            (block.at(EDGE, port::SIPS), Some(trunk), edge, vec![core, dns])
        };
        Ok(Self {
            kind,
            partner: Connector::new(&keys, &roots, &[]).map_err(|error| setup(&error))?,
            acceptor: Acceptor::new(&keys, &roots, &[]).map_err(|error| setup(&error))?,
            listener_at,
            server,
            trunk,
            names,
            connections: 0,
            measured,
            _beside: beside,
            _block: block,
        })
    }

    /// Measures one run of one path.
    pub(crate) async fn measure(&mut self, path: Path, load: &Load) -> Result<Sample, Failure> {
        match (path, self.trunk.is_some()) {
            (Path::SipIdle, _) => self.idle(load).await,
            (Path::SipIn, true) => self.inward(load).await,
            (Path::SipOut, true) => self.outward(load).await,
            // To a relay both ways are one.
            (_, false) => self.relayed(load).await,
            (path, true) => Err(Failure::world(format!("{path} is no path of SIP"))),
        }
    }

    /// From the partner through the edge to the node.
    async fn inward(&mut self, load: &Load) -> Result<Sample, Failure> {
        let mut node = self.node().await?;
        let mut caller = self.dial().await?;
        tokio::select! {
            sample = self.load(&mut caller, load, ("stranger@far.example", "romeo@near.example")) => {
                caller.close().await;
                sample
            }
            failure = node.serve() => Err(failure),
        }
    }

    /// From the node through the edge to the partner.
    async fn outward(&mut self, load: &Load) -> Result<Sample, Failure> {
        let listener = TcpListener::bind(self.listener_at).await.map_err(broken)?;
        let serve = self.serve(listener);
        let mut node = self.node().await?;
        tokio::select! {
            sample = self.load(&mut node, load, ("romeo@near.example", "stranger@far.example")) => sample,
            failure = serve => Err(failure),
        }
    }

    /// From one connection of a partner through the relay to another.
    async fn relayed(&mut self, load: &Load) -> Result<Sample, Failure> {
        let listener = TcpListener::bind(self.listener_at).await.map_err(broken)?;
        let serve = self.serve(listener);
        let mut caller = self.dial().await?;
        tokio::select! {
            sample = self.load(&mut caller, load, ("stranger@far.example", "romeo@near.example")) => {
                caller.close().await;
                sample
            }
            failure = serve => Err(failure),
        }
    }

    async fn load(
        &mut self,
        caller: &mut End,
        load: &Load,
        (from, to): (&str, &str),
    ) -> Result<Sample, Failure> {
        let calls = Calls { from, to, window: load.window, batch: load.batch };
        caller.call(&calls, load.messages / WARM_UP_SHARE + 1).await?;
        let begin = Begin::at(self.usage()?);
        caller.call(&calls, load.messages).await?;
        Ok(begin.end_with(self.usage()?, load.messages))
    }

    /// Connections of the partner that have said something once, and are silent since.
    async fn idle(&mut self, load: &Load) -> Result<Sample, Failure> {
        let mut held = Vec::new();
        let before = Usage::proportional(&[self.measured.child().id()])?;
        let begin = Begin::at(self.usage()?);
        for _ in 0..load.idle {
            let mut end = self.dial().await?;
            end.ask(FAR, NEAR).await?;
            held.push(end);
        }
        sleep(SETTLE).await;
        let count = u64::try_from(held.len()).unwrap_or(u64::MAX);
        let mut sample = begin.end_with(self.usage()?, count);
        let after = Usage::proportional(&[self.measured.child().id()])?;
        let mut kept = true;
        for mut end in held {
            kept &= end.is_open().await;
            end.close().await;
        }
        sample.each = kept.then(|| ratio(after.saturating_sub(before), count));
        sleep(SETTLE).await;
        Ok(sample)
    }

    fn usage(&mut self) -> Result<Usage, Failure> {
        Usage::of(&[self.measured.child().id()])
    }

    /// A connection as the partner opens it.
    async fn dial(&mut self) -> Result<End, Failure> {
        let tcp = tcp(self.server).await?;
        let (near, far) = (&self.names.near_host, &self.names.far_host);
        let shaken = in_time(self.partner.connect(tcp, near, far)).await?;
        let (io, _) = shaken.map_err(broken)?;
        Ok(End::new(io, self.next_name()))
    }

    /// A connection as the core opens it, once the edge has found it healthy.
    async fn node(&mut self) -> Result<End, Failure> {
        let (address, connector) =
            self.trunk.as_ref().ok_or_else(|| Failure::world("it has no trunk"))?;
        let tcp = tcp(*address).await?;
        let shaken = in_time(connector.connect(tcp, &self.names.edge, &self.names.node)).await?;
        let (io, _) = shaken.map_err(broken)?;
        let mut node = End::new(io, self.next_name());
        node.serve_until(2).await?;
        Ok(node)
    }

    /// The partner's server: one connection, for as long as it is wanted.
    fn serve(&self, listener: TcpListener) -> impl Future<Output = Failure> + use<> {
        let acceptor = self.acceptor.clone();
        async move {
            let accepted = async {
                let (tcp, _) = listener.accept().await.map_err(broken)?;
                tcp.set_nodelay(true).map_err(broken)?;
                let (io, _) = in_time(acceptor.accept(tcp, None)).await?.map_err(broken)?;
                Ok(End::new(io, "server".to_owned()))
            };
            match accepted.await {
                Ok(mut end) => end.serve().await,
                Err(failure) => failure,
            }
        }
    }

    fn next_name(&mut self) -> String {
        self.connections += 1;
        format!("c{}x", self.connections)
    }
}

/// What a server needs to start.
struct Place<'a> {
    directory: &'a File,
    block: &'a Block,
    paths: &'a Paths,
}

impl Place<'_> {
    /// Our edge and, beside it, our core.
    fn start_ours(&self) -> Result<(Process, Process), Failure> {
        let us = parse(&format!(
            "domains = [{NEAR:?}]\nconfig = {{ log = {{ filter = {LOG_LEVEL:?} }} }}"
        ))?;
        let world: World = parse(&format!("[[sip]]\nname = \"partner\"\ndomain = {FAR:?}"))?;
        let binary = &self.paths.gatehouse;
        let ours =
            Gatehouse::configure(&us, &world, self.block, Shape::Two, self.directory, binary)?;
        ours.provision(&[])?;
        // A core whose policy names no SIP partner leaves that link to the driver.
        let policy = self.directory.join("policy-of-the-core.toml");
        fs::write(&policy, "").map_err(Failure::io("write", &policy))?;
        let file = self.directory.join("core.toml");
        let text = fs::read_to_string(&file).map_err(Failure::io("read", &file))?;
        let mut settings: toml::Table = parse(&text)?;
        let mut table = toml::Table::new();
        table.insert("file".into(), policy.display().to_string().into());
        settings.insert("policy".into(), table.into());
        fs::write(&file, settings.to_string()).map_err(Failure::io("write", &file))?;
        let running = (ours.start("edge")?, ours.start("core")?);
        ours.await_trunk()?;
        Ok(running)
    }

    /// The trunk's address, and what connects to it in the core's name.
    fn trunk(&self, node: &Domain) -> Result<(SocketAddr, Connector), Failure> {
        let directory: PathBuf = self.directory.join(format!("{NODE}-data")).join("trunk");
        let files = Files {
            certificate: directory.join(format!("{node}.crt")),
            key: directory.join(format!("{node}.key")),
        };
        let (keys, roots) = (keys(node, &files)?, no_roots()?);
        let connector =
            Connector::new(&keys, &roots, &[TRUNK_ALPN]).map_err(|error| setup(&error))?;
        Ok((self.block.at(EDGE, port::TRUNK), connector))
    }
}

fn keys(domain: &Domain, files: &Files) -> Result<Keys, Failure> {
    let read = |file| fs::read_to_string(file).map_err(Failure::io("read", file));
    let keys = Keys::empty();
    keys.replace(vec![KeyEntry {
        domains: vec![domain.clone()],
        chain_pem: read(&files.certificate)?,
        key_pem: read(&files.key)?,
    }])
    .map_err(|error| setup(&error))?;
    Ok(keys)
}

fn no_roots() -> Result<Roots, Failure> {
    Roots::new(&[], SystemRoots::Ignore).map_err(|error| setup(&error))
}

fn setup(error: &TlsError) -> Failure {
    Failure::world(format!("cannot set up TLS: {error}"))
}

fn domain(name: &str) -> Result<Domain, Failure> {
    name.parse().map_err(|error: gatehouse_types::InvalidDomain| Failure::world(error.to_string()))
}

async fn tcp(address: SocketAddr) -> Result<TcpStream, Failure> {
    let failed = |error| Failure::world(format!("cannot dial {address}: {error}"));
    let tcp = TcpStream::connect(address).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(broken)?;
    Ok(tcp)
}

async fn in_time<T>(handshake: impl Future<Output = T>) -> Result<T, Failure> {
    let late = |_| Failure::world(format!("no handshake within {HANDSHAKE_WITHIN:?}"));
    timeout(HANDSHAKE_WITHIN, Box::pin(handshake)).await.map_err(late)
}

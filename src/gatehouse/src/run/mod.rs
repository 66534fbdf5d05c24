//! `gatehouse run`: build, bind, start the roles, run until told, stop.

mod banner;
mod reload;
mod roles;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

use gatehouse_net::Tasks;
use gatehouse_telemetry::{AdminState, LogFormat, Reach, Streams, init_log, serve_admin};
use gatehouse_types::Chain;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, Interval, interval_at};
use tracing::{Span, error, info, warn};

use self::reload::Reloader;
use self::roles::Shared;
use crate::cli::Place;
use crate::commands::{Failure, block_on};
use crate::files;
use crate::setup::Setup;

/// How long streams may take to say goodbye.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// How often certificates are looked at; they are renewed 30 days before they end.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(12 * 3600);

/// Runs the appliance until SIGTERM or SIGINT; SIGHUP reloads policy and certificates.
pub(crate) fn run(place: Place) -> Result<(), Failure> {
    let setup = Setup::read(&place)?;
    let workers = setup.settings.limits.workers.unwrap_or_else(default_workers);
    block_on(Some(workers), serve(place, setup))
}

/// One core is left for the store's threads and the system's network: a thread more than there are
/// cores for costs more in wake-ups than it does (docs/performance.md, "Threads").
fn default_workers() -> usize {
    available_parallelism().map_or(1, NonZero::get).saturating_sub(1).max(1)
}

async fn serve(place: Place, setup: Setup) -> Result<(), Failure> {
    let policy = setup.policy()?;
    start_log(&setup)?;
    for remark in gatehouse_config::remarks(&setup.settings, &policy) {
        warn!("{remark}");
    }
    files::make_private_directory(&setup.settings.data)?;

    let streams = Streams::default();
    let tasks = Tasks::default();
    let mut signals = Signals::listen()?;
    let shared = Shared::prepare(&setup, policy, streams.clone())?;
    let reach = Reach::default();
    start_admin(&setup, streams, reach.clone(), &tasks)?;
    let reloader = Reloader::new(place, &setup, &shared);
    let store = roles::start(&setup, shared, reach, &tasks).await?;
    banner::show(&setup)?;
    info!(version = env!("CARGO_PKG_VERSION"), settings = setup.origin(), "started");

    loop {
        match signals.next().await {
            Told::Reload => reloader.reload(),
            Told::Renew => reloader.renew(),
            Told::Stop => break,
        }
    }
    info!("stopping");
    match tasks.shut_down(SHUTDOWN_GRACE).await {
        Ok(()) => info!("stopped"),
        Err(cut) => error!(error = %Chain(&cut), "stopped the hard way"),
    }
    if let Some(store) = store {
        store.close().await;
    }
    Ok(())
}

fn start_log(setup: &Setup) -> Result<(), Failure> {
    let format = match setup.settings.log.format {
        gatehouse_config::LogFormat::Text => LogFormat::Text,
        gatehouse_config::LogFormat::Json => LogFormat::Json,
    };
    init_log(format, &setup.settings.log.filter).map_err(|error| Failure::from(&error))
}

fn start_admin(
    setup: &Setup,
    streams: Streams,
    reach: Reach,
    tasks: &Tasks,
) -> Result<(), Failure> {
    let listener = bind(setup.settings.listen.admin, "listen.admin")?;
    let token = files::admin_token(&setup.settings.data)?;
    let state =
        AdminState::install(streams, reach, token).map_err(|error| Failure::from(&error))?;
    let stop = tasks.stop();
    tasks.spawn(Span::none(), async move {
        if let Err(error) = serve_admin(listener, state, stop.cancelled_owned()).await {
            error!(error = %Chain(&error), "the admin port failed");
        }
    });
    Ok(())
}

/// Opens a port, or says which setting to change.
fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener, Failure> {
    let listener = gatehouse_net::bind(address).or_else(|error| {
        // A machine without IPv6: the default `[::]` means "every address there is".
        if address.is_ipv6()
            && address.ip().is_unspecified()
            && error.raw_os_error() == Some(EAFNOSUPPORT)
        {
            return gatehouse_net::bind(SocketAddr::new(
                IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                address.port(),
            ));
        }
        Err(error)
    });
    listener.map_err(|error| {
        Failure::new(format!(
            "cannot listen on {address}: {error}. Free the port, or set `{setting}` in gatehouse.toml (`gatehouse init` writes one)"
        ))
    })
}

/// Address family not supported (Linux).
const EAFNOSUPPORT: i32 = 97;

/// What the outside wants of us.
enum Told {
    Reload,
    Renew,
    Stop,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    renewal: Interval,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let hear = |kind| {
            signal(kind).map_err(|error| Failure::new(format!("cannot hear signals: {error}")))
        };
        Ok(Self {
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
            hangup: hear(SignalKind::hangup())?,
            renewal: interval_at(Instant::now() + RENEWAL_INTERVAL, RENEWAL_INTERVAL),
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
            _ = self.renewal.tick() => Told::Renew,
        }
    }
}

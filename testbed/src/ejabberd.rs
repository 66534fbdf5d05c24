use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::block::Block;
use crate::failure::Failure;
use crate::port;
use crate::process::{Account, Process, Program, hand_over};
use crate::prosody::Surroundings;
use crate::world::Peer;
use crate::zone::DNS;

/// The account of Debian's package.
const ACCOUNT: Account = Account::Daemon("ejabberd");
const START_WITHIN: Duration = Duration::from_secs(30);

/// A real ejabberd in one scenario.
///
/// It runs without Erlang's distribution: no node name, no port mapper, so that any number of them
/// run side by side and none leaves a daemon behind.
pub(crate) struct Ejabberd {
    peer: Peer,
    address: u8,
    directory: PathBuf,
    log_level: &'static str,
}

impl Ejabberd {
    /// An ejabberd at the last octet `address` whose files are in `directory`.
    pub(crate) fn new(peer: Peer, address: u8, directory: PathBuf) -> Self {
        Self { peer, address, directory, log_level: "debug" }
    }

    /// Logs from this level up, not everything: a log costs time.
    pub(crate) fn with_log_level(self, log_level: &'static str) -> Self {
        Self { log_level, ..self }
    }

    /// Its log.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join(format!("{}-logs/{}.log", self.peer.name, self.peer.name))
    }

    /// Writes its configuration, what it knows of the world, and the orders to make its accounts.
    pub(crate) fn prepare(
        &self,
        surroundings: &Surroundings<'_>,
        hosts: &str,
    ) -> Result<(), Failure> {
        let (spool, logs) = (self.spool(), self.logs());
        for directory in [&spool, &logs] {
            fs::create_dir_all(directory).map_err(Failure::io("make", directory))?;
        }
        let block = surroundings.block;
        for (file, text) in [
            (self.file("yml"), self.config(surroundings)?),
            (self.file("inetrc"), inetrc(block)),
            (self.file("hosts"), hosts.to_owned()),
            (self.file("accounts"), self.accounts(surroundings)),
        ] {
            fs::write(&file, text).map_err(Failure::io("write", &file))?;
        }
        hand_over("ejabberd", &[&spool, &logs])
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(&self, block: &Block) -> Result<Process, Failure> {
        let output = self.directory.join(format!("{}.out", self.peer.name));
        let set = |name: &str, path: &Path| format!("{name}={}", path.display());
        let (inetrc, spool) = (self.file("inetrc"), self.spool());
        let make_accounts = format!("file:eval({:?})", self.file("accounts").display().to_string());
        let mut process = Program::new(&self.peer.name, Path::new("env"), ACCOUNT, output)
            .arguments(&[
                // ejabberd asks the name server for SRV records, but the C library for addresses.
                "LD_PRELOAD=libnss_wrapper.so".to_owned(),
                set("NSS_WRAPPER_HOSTS", &self.file("hosts")),
                set("HOME", &spool),
                set("EJABBERD_CONFIG_PATH", &self.file("yml")),
                set("EJABBERD_LOG_PATH", &self.log()),
                "ERL_LIBS=/usr/lib/x86_64-linux-gnu".to_owned(),
                "ERL_CRASH_DUMP_BYTES=0".to_owned(),
            ])
            .arguments(&["erl", "-noinput", "+K", "true", "+S", "2", "+sbwt", "none"])
            .arguments(&["-kernel", "inetrc", &format!("{:?}", inetrc.display().to_string())])
            .arguments(&["-mnesia", "dir", &format!("{:?}", spool.display().to_string())])
            .arguments(&["-s", "ejabberd", "-eval", &make_accounts])
            .start()?;
        process.await_ports(&self.ports(block), START_WITHIN)?;
        Ok(process)
    }

    fn ports(&self, block: &Block) -> Vec<SocketAddr> {
        let mut ports = vec![port::C2S, port::S2S];
        if self.peer.dns.has_direct_tls() {
            ports.push(port::S2S_DIRECT_TLS);
        }
        ports.into_iter().map(|port| block.at(self.address, port)).collect()
    }

    fn spool(&self) -> PathBuf {
        self.directory.join(format!("{}-data", self.peer.name))
    }

    fn logs(&self) -> PathBuf {
        self.directory.join(format!("{}-logs", self.peer.name))
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", self.peer.name))
    }

    /// Erlang terms; to make an account that exists changes nothing.
    fn accounts(&self, surroundings: &Surroundings<'_>) -> String {
        let domain = &self.peer.domain;
        let make = |user: &String| {
            let password = (surroundings.password)(user);
            format!("ejabberd_auth:try_register(<<{user:?}>>, <<{domain:?}>>, <<{password:?}>>).\n")
        };
        self.peer.users.iter().map(make).collect()
    }

    fn config(&self, surroundings: &Surroundings<'_>) -> Result<String, Failure> {
        let Peer { domain, dialback, dns, .. } = &self.peer;
        let address = surroundings.block.host(self.address);
        let trust = surroundings.trust.display();
        let files = surroundings.certificate;
        let pem = self.file("pem");
        let read = |file: &Path| fs::read_to_string(file).map_err(Failure::io("read", file));
        let both = read(&files.certificate)? + &read(&files.key)?;
        fs::write(&pem, both).map_err(Failure::io("write", &pem))?;
        let (pem, log_level) = (pem.display(), self.log_level);
        let (c2s, s2s, direct) = (port::C2S, port::S2S, port::S2S_DIRECT_TLS);
        let direct_tls = if dns.has_direct_tls() {
            format!("  - {{port: {direct}, ip: {address}, module: ejabberd_s2s_in, tls: true}}\n")
        } else {
            String::new()
        };
        let dialback = if *dialback { "  mod_s2s_dialback: {}\n" } else { "" };
        let tls = if self.peer.require_encryption { "required" } else { "optional" };
        Ok(format!(
            r#"hosts: ["{domain}"]
loglevel: {log_level}
certfiles: ["{pem}"]
ca_file: "{trust}"
s2s_cafile: "{trust}"
s2s_use_starttls: {tls}
s2s_access: all
negotiation_timeout: 20 seconds
auth_method: internal
auth_password_format: scram
acme: {{auto: false}}
listen:
  - {{port: {c2s}, ip: {address}, module: ejabberd_c2s, starttls: true, starttls_required: true}}
  - {{port: {s2s}, ip: {address}, module: ejabberd_s2s_in, max_stanza_size: 524288}}
{direct_tls}modules:
  mod_disco: {{}}
  mod_ping: {{}}
  mod_roster: {{}}
  mod_offline: {{}}
  mod_version: {{}}
{dialback}"#
        ))
    }
}

fn inetrc(block: &Block) -> String {
    let server = block.host(DNS).to_string().replace('.', ",");
    let port = port::DNS;
    // The order matters: the system's settings must be out of the way first.
    format!(
        "{{resolv_conf,\"\"}}.\n{{hosts_file,\"\"}}.\n{{lookup,[file,dns]}}.\n\
         {{host,{{127,0,0,1}},[\"localhost\"]}}.\n{{nameserver,{{{server}}},{port}}}.\n\
         {{edns,0}}.\n{{timeout,2000}}.\n{{retry,2}}.\n"
    )
}

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::authority::Files;
use crate::block::Block;
use crate::failure::Failure;
use crate::port;
use crate::process::{Account, Process, Program, hand_over};
use crate::world::Peer;
use crate::zone::DNS;

/// The account of Debian's package; Prosody refuses to run as root.
const ACCOUNT: Account = Account::Daemon("prosody");
const START_WITHIN: Duration = Duration::from_secs(20);

/// A real Prosody in one scenario.
pub(crate) struct Prosody {
    peer: Peer,
    address: u8,
    directory: PathBuf,
    log_level: &'static str,
}

/// What a Prosody must be told about the world around it.
pub(crate) struct Surroundings<'a> {
    /// The scenario's addresses.
    pub(crate) block: &'a Block,
    /// Its certificate.
    pub(crate) certificate: &'a Files,
    /// PEM file with the authorities that it trusts.
    pub(crate) trust: &'a Path,
    /// The password of each account.
    pub(crate) password: &'a dyn Fn(&str) -> String,
}

impl Prosody {
    /// A Prosody at the last octet `address` whose files are in `directory`.
    pub(crate) fn new(peer: Peer, address: u8, directory: PathBuf) -> Self {
        Self { peer, address, directory, log_level: "debug" }
    }

    /// Logs from this level up, not everything: a log costs time.
    pub(crate) fn with_log_level(self, log_level: &'static str) -> Self {
        Self { log_level, ..self }
    }

    /// Its domain.
    pub(crate) fn domain(&self) -> &str {
        &self.peer.domain
    }

    /// Its log.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.peer.name))
    }

    /// Writes its configuration and its accounts.
    pub(crate) fn prepare(&self, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
        let data = self.data();
        for directory in [&data, &self.directory.join("no-certificates")] {
            fs::create_dir_all(directory).map_err(Failure::io("make", directory))?;
        }
        let config = self.config(surroundings);
        fs::write(self.config_file(), config).map_err(Failure::io("write", &self.config_file()))?;
        for user in &self.peer.users {
            self.write_account(user, &(surroundings.password)(user))?;
        }
        let log = self.log();
        fs::write(&log, "").map_err(Failure::io("write", &log))?;
        hand_over("prosody", &[&data, &log])
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(&self, block: &Block) -> Result<Process, Failure> {
        let config = self.config_file().display().to_string();
        let output = self.directory.join(format!("{}.out", self.peer.name));
        let mut process = Program::new(&self.peer.name, Path::new("prosody"), ACCOUNT, output)
            .arguments(&["-F", "--config", &config])
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

    fn data(&self) -> PathBuf {
        self.directory.join(format!("{}-data", self.peer.name))
    }

    fn config_file(&self) -> PathBuf {
        self.directory.join(format!("{}.cfg.lua", self.peer.name))
    }

    /// Writes what `prosodyctl register` would, in a hundredth of the time.
    fn write_account(&self, user: &str, password: &str) -> Result<(), Failure> {
        let accounts = self.data().join(file_name(&self.peer.domain)).join("accounts");
        fs::create_dir_all(&accounts).map_err(Failure::io("make", &accounts))?;
        let file = accounts.join(format!("{}.dat", file_name(user)));
        let text = format!("return {{ [\"password\"] = {password:?}; }};\n");
        fs::write(&file, text).map_err(Failure::io("write", &file))
    }

    fn config(&self, surroundings: &Surroundings<'_>) -> String {
        let Peer { domain, secure_auth, require_encryption, lua, .. } = &self.peer;
        let dialback = if self.peer.dialback { "\"dialback\";" } else { "" };
        let modules: String =
            self.peer.modules.iter().map(|module| format!(" {module:?};")).collect();
        let (c2s, s2s) = (port::C2S, port::S2S);
        let has_direct_tls = self.peer.dns.has_direct_tls();
        let direct_tls =
            if has_direct_tls { port::S2S_DIRECT_TLS.to_string() } else { String::new() };
        let address = surroundings.block.host(self.address);
        let (dns, dns_port) = (surroundings.block.host(DNS), port::DNS);
        let log_level = self.log_level;
        let (data, log) = (self.data(), self.log());
        let (data, log) = (data.display(), log.display());
        let empty = self.directory.join("no-certificates");
        let empty = empty.display();
        let trust = surroundings.trust.display();
        let certificate = surroundings.certificate.certificate.display();
        let key = surroundings.certificate.key.display();
        let hosts: String = self.peer.hosts.iter().map(|host| self.host(host, &trust)).collect();
        format!(
            r#"data_path = "{data}"
pidfile = "{data}/prosody.pid"
plugin_paths = {{ "/usr/lib/prosody/modules" }}
log = {{ {{ levels = {{ min = "{log_level}" }}, to = "file", filename = "{log}", timestamps = "%H:%M:%S" }} }}
use_ipv6 = false
interfaces = {{ "{address}" }}
local_interfaces = {{ "{address}" }}
c2s_ports = {{ {c2s} }}
s2s_ports = {{ {s2s} }}
c2s_direct_tls_ports = {{ }}
s2s_direct_tls_ports = {{ {direct_tls} }}
-- The resolver inside Prosody does not ask a name server on this machine unless told to.
unbound = {{
  resolvconf = false; hoststxt = false; forward = "{dns}@{dns_port}";
  options = {{ ["do-not-query-localhost:"] = "no" }};
}}
modules_enabled = {{
  "roster"; "saslauth"; "tls"; "disco"; "ping"; "version"; "presence"; "message"; "iq"; "offline";
  "blocklist"; "c2s"; "s2s"; "s2s_auth_certs"; {dialback}{modules}
}}
modules_disabled = {{ "s2s_auth_dane" }}
-- Prosody takes any certificate it finds in this directory: let it find none.
certificates = "{empty}"
ssl = {{ cafile = "{trust}"; capath = false; }}
s2s_direct_tls_ssl = {{
  certificate = "{certificate}"; key = "{key}"; cafile = "{trust}"; capath = false;
}}
authentication = "internal_plain"
storage = "internal"
c2s_require_encryption = true
s2s_require_encryption = {require_encryption}
s2s_secure_auth = {secure_auth}
allow_registration = false
{lua}
VirtualHost "{domain}"
  ssl = {{ certificate = "{certificate}"; key = "{key}"; cafile = "{trust}"; capath = false; }}
{hosts}"#
        )
    }

    /// A further domain, whose certificate lies beside the settings.
    fn host(&self, domain: &str, trust: &impl std::fmt::Display) -> String {
        let file = |ending: &str| self.directory.join(format!("{domain}.{ending}"));
        let (certificate, key) = (file("crt"), file("key"));
        let (certificate, key) = (certificate.display(), key.display());
        format!(
            r#"VirtualHost "{domain}"
  ssl = {{ certificate = "{certificate}"; key = "{key}"; cafile = "{trust}"; capath = false; }}
"#
        )
    }
}

/// How Prosody's storage turns a name into a file name.
fn file_name(name: &str) -> String {
    name.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02x}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_prosody_does() {
        assert_eq!(file_name("them.example"), "them%2eexample");
        assert_eq!(file_name("juliet-2"), "juliet%2d2");
    }
}

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::block::Block;
use crate::dnssec::{Chain, Signing};
use crate::failure::Failure;
use crate::port;
use crate::process::{Account, Process, Program};
use crate::world::Service;

/// The last octet of the name server's address.
pub(crate) const DNS: u8 = 53;

const START_WITHIN: Duration = Duration::from_secs(10);

/// The names of one world: everything below `example.`, and nothing else.
#[derive(Debug)]
pub(crate) struct Zone {
    /// In zone-file form.
    records: Vec<String>,
    /// The domains that are zones of their own; without any, nothing is signed.
    delegated: Vec<(String, Signing)>,
}

impl Zone {
    /// A zone in which every name is unknown.
    pub(crate) fn new() -> Self {
        let mut zone = Self { records: Vec::new(), delegated: Vec::new() };
        zone.add("example. SOA ns.example. hostmaster.example. 1 60 60 60 5");
        zone
    }

    /// Adds one record in zone-file form without time to live and class.
    pub(crate) fn add(&mut self, record: &str) {
        let mut parts = record.splitn(2, ' ');
        if let (Some(name), Some(rest)) = (parts.next(), parts.next()) {
            self.records.push(format!("{name} 5 IN {rest}"));
        }
    }

    /// Makes `domain` a zone of its own, which is signed like this, below an `example.` that is
    /// signed well.
    pub(crate) fn delegate(&mut self, domain: &str, signing: Signing) {
        self.delegated.push((domain.to_owned(), signing));
    }

    /// Adds an XMPP domain whose servers stand behind `host`.
    pub(crate) fn add_domain(
        &mut self,
        domain: &str,
        host: &str,
        servers: SocketAddr,
        clients: SocketAddr,
        service: Service,
    ) {
        self.add(&format!("{domain}. A {}", servers.ip()));
        self.add(&format!("im.{domain}. A {}", clients.ip()));
        self.add_host(domain, host, servers, service);
        self.add(&format!("_xmpp-client._tcp.{domain}. SRV 10 0 {} im.{domain}.", port::C2S));
        self.add(&format!(
            "_xmpps-client._tcp.{domain}. SRV 5 0 {} im.{domain}.",
            port::C2S_DIRECT_TLS
        ));
    }

    /// Adds one more host behind which the servers of `domain` stand, with the same weight as others.
    pub(crate) fn add_host(
        &mut self,
        domain: &str,
        host: &str,
        servers: SocketAddr,
        service: Service,
    ) {
        self.add(&format!("{host}. A {}", servers.ip()));
        if service.has_starttls() && service != Service::ByHand {
            self.add(&format!("_xmpp-server._tcp.{domain}. SRV 10 10 {} {host}.", port::S2S));
        }
        if service.has_direct_tls() && service != Service::ByHand {
            self.add(&format!(
                "_xmpps-server._tcp.{domain}. SRV 5 10 {} {host}.",
                port::S2S_DIRECT_TLS
            ));
        }
    }

    /// Adds a SIP domain whose servers stand behind `host`.
    pub(crate) fn add_sip(&mut self, domain: &str, host: &str, servers: &[SocketAddr]) {
        for server in servers {
            self.add(&format!("{host}. A {}", server.ip()));
        }
        self.add(&format!("_sipfederationtls._tcp.{domain}. SRV 0 0 {} {host}.", port::SIPS));
    }

    /// The addresses alone, as a hosts file has them.
    pub(crate) fn hosts(&self) -> String {
        let mut hosts = String::from("127.0.0.1 localhost\n");
        for record in &self.records {
            if let Some((name, address)) = record.split_once(". 5 IN A ") {
                // Writing to a string cannot fail.
                let _ok = writeln!(hosts, "{address} {name}");
            }
        }
        hosts
    }

    /// Starts the name server.
    pub(crate) fn serve(&self, block: &Block, directory: &Path) -> Result<Process, Failure> {
        let file = directory.join("unbound.conf");
        let log = directory.join("unbound.log");
        let names = if self.delegated.is_empty() {
            self.local_data()
        } else {
            Chain::new(block.host(DNS), &self.records, &self.delegated).sign(directory)?
        };
        let config = config(block, directory, &names);
        fs::write(&file, config).map_err(Failure::io("write", &file))?;
        let program = Path::new(if Path::new("/usr/sbin/unbound").exists() {
            "/usr/sbin/unbound"
        } else {
            "unbound"
        });
        let mut process = Program::new("unbound", program, Account::Own, log)
            .arguments(&["-d", "-c", &file.display().to_string()])
            .start()?;
        process.await_ports(&[block.at(DNS, port::DNS)], START_WITHIN)?;
        Ok(process)
    }

    /// Everything as the name server's own data, which it signs and validates as little as anybody.
    fn local_data(&self) -> String {
        let mut names =
            String::from("  module-config: \"iterator\"\n  local-zone: \"example.\" static\n");
        for record in &self.records {
            // Writing to a string cannot fail.
            let _ok = writeln!(names, "  local-data: \"{record}\"");
        }
        names
    }
}

fn config(block: &Block, directory: &Path, names: &str) -> String {
    let (address, port, directory) = (block.host(DNS), port::DNS, directory.display());
    format!(
        r#"server:
  directory: "{directory}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  logfile: ""
  log-queries: yes
  log-replies: yes
  log-time-ascii: yes
  interface: {address}@{port}
  access-control: 127.0.0.0/8 allow
  do-ip6: no
  num-threads: 1
  # Nothing leaves the machine: what is not below stays unknown.
  local-zone: "." refuse
{names}
remote-control:
  control-enable: no
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_publishes_only_the_services_it_has() {
        let address = "127.1.0.4:0".parse().unwrap();
        for (service, starttls, direct) in [
            (Service::Both, true, true),
            (Service::DirectTls, false, true),
            (Service::StartTls, true, false),
            (Service::ByHand, false, false),
        ] {
            let mut zone = Zone::new();
            zone.add_domain("them.example", "xmpp.them.example", address, address, service);
            let data = zone.local_data();
            assert_eq!(data.contains("_xmpp-server._tcp.them.example."), starttls);
            assert_eq!(data.contains("_xmpps-server._tcp.them.example."), direct);
        }
    }
}

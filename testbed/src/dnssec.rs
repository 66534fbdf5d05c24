//! Signed zones, and TLSA records, made by the tools of NLnet Labs: nothing of ours takes part.

use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;

use crate::failure::Failure;
use crate::process::{Account, run_to_end};

/// The zone above all others, whose key the name server knows.
const TOP: &str = "example";
const ALGORITHM: &str = "ECDSAP256SHA256";
/// The day on which the signatures of an expired zone ended.
const LONG_AGO: &str = "20210101";

/// How the zone of a domain is signed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Signing {
    /// As it should be.
    Signed,
    /// Not at all, and the zone above proves that.
    Unsigned,
    /// Its TLSA records were altered after they had been signed.
    Forged,
    /// The signatures were good until years ago.
    Expired,
}

/// `example.` and the zones below it.
pub(crate) struct Chain<'a> {
    server: IpAddr,
    records: &'a [String],
    delegated: &'a [(String, Signing)],
}

impl<'a> Chain<'a> {
    /// Each of the records, in zone-file form, goes to the zone that its name belongs to. `server`
    /// serves them all.
    pub(crate) fn new(
        server: IpAddr,
        records: &'a [String],
        delegated: &'a [(String, Signing)],
    ) -> Self {
        Self { server, records, delegated }
    }

    /// Writes and signs every zone into `directory`; returns what the name server has to be told so
    /// that it serves them and validates what it serves.
    pub(crate) fn sign(&self, directory: &Path) -> Result<String, Failure> {
        let mut top = self.records_of(TOP);
        let (mut below, server) = (String::new(), self.server);
        top += &format!("{TOP}. 5 IN NS ns.{TOP}.\nns.{TOP}. 5 IN A {server}\n");
        for (domain, signing) in self.delegated {
            let head = format!(
                "{domain}. 5 IN SOA ns.{TOP}. hostmaster.{TOP}. 1 60 60 60 5\n\
                 {domain}. 5 IN NS ns.{TOP}.\n"
            );
            let keys = sign(domain, &(head + &self.records_of(domain)), *signing, directory)?;
            top += &format!("{domain}. 5 IN NS ns.{TOP}.\n{keys}");
            below += &serve(domain, directory);
        }
        let anchor = directory.join("anchor.ds");
        let keys = sign(TOP, &top, Signing::Signed, directory)?;
        fs::write(&anchor, keys).map_err(Failure::io("write", &anchor))?;
        let (top, anchor) = (serve(TOP, directory), anchor.display());
        Ok(format!(
            r#"  module-config: "validator iterator"
  trust-anchor-file: "{anchor}"
  val-log-level: 2
  local-zone: "{TOP}." transparent
{top}{below}"#
        ))
    }

    fn records_of(&self, zone: &str) -> String {
        let zone_of = |record: &str| {
            let name = record.split_once(' ').map_or(record, |(name, _)| name);
            let name = name.trim_end_matches('.');
            let is_below = |domain: &&str| {
                name.strip_suffix(*domain)
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            };
            let mut domains = self.delegated.iter().map(|(domain, _)| domain.as_str());
            domains.find(is_below).unwrap_or(TOP)
        };
        let mut all = String::new();
        for record in self.records.iter().filter(|record| zone_of(record) == zone) {
            // Writing to a string cannot fail.
            let _ok = writeln!(all, "{record}");
        }
        all
    }
}

/// The part of the name server's settings about one zone: it asks itself for it, as it would ask
/// the zone's own servers, and believes no more of it than is signed.
fn serve(zone: &str, directory: &Path) -> String {
    let file = directory.join(format!("{zone}.signed"));
    format!(
        r#"auth-zone:
  name: "{zone}."
  zonefile: "{}"
  for-downstream: no
  for-upstream: yes
  fallback-enabled: no
"#,
        file.display()
    )
}

/// Writes a zone; returns the DS records for the zone above, none if it is not signed.
fn sign(zone: &str, text: &str, signing: Signing, directory: &Path) -> Result<String, Failure> {
    let (plain, signed) =
        (directory.join(format!("{zone}.zone")), directory.join(format!("{zone}.signed")));
    if signing == Signing::Unsigned {
        fs::write(&signed, text).map_err(Failure::io("write", &signed))?;
        return Ok(String::new());
    }
    fs::write(&plain, text).map_err(Failure::io("write", &plain))?;
    // The key generator writes where it stands.
    let script = r#"cd "$1" && ldns-keygen -r /dev/urandom -a "$2" -k "$3""#;
    let place = directory.display().to_string();
    let key = run("sh", &["-c", script, "sh", &place, ALGORITHM, zone])?;
    let key = directory.join(key.trim());
    let (from, to) = (plain.display().to_string(), signed.display().to_string());
    let with = key.display().to_string();
    let origin = format!("{zone}.");
    let mut arguments = vec!["-o", &origin, "-f", &to];
    if signing == Signing::Expired {
        arguments.extend(["-i", "20200101", "-e", LONG_AGO]);
    }
    arguments.extend([from.as_str(), &with]);
    run("ldns-signzone", &arguments)?;
    if signing == Signing::Forged {
        let text = fs::read_to_string(&signed).map_err(Failure::io("read", &signed))?;
        let forged: String = text.lines().map(forge).collect();
        fs::write(&signed, forged).map_err(Failure::io("write", &signed))?;
    }
    let keys = directory.join(format!("{with}.ds"));
    fs::read_to_string(&keys).map_err(Failure::io("read", &keys))
}

/// A line of a zone, with another hash if it is a TLSA record.
fn forge(line: &str) -> String {
    if !line.contains("\tIN\tTLSA\t") {
        return format!("{line}\n");
    }
    let (kept, last) = line.split_at(line.len().saturating_sub(1));
    format!("{kept}{}\n", if last == "0" { "1" } else { "0" })
}

/// The TLSA record of this kind (`3 1 1`) for a certificate that `host` shows at `port`, without
/// time to live and class.
pub(crate) fn tlsa(
    host: &str,
    port: u16,
    kind: &str,
    certificate: &Path,
) -> Result<String, Failure> {
    let (file, port) = (certificate.display().to_string(), port.to_string());
    // `-n`: what the certificate is called does not matter here.
    let mut arguments = vec!["-n", "-c", &file, "create", host, &port];
    arguments.extend(kind.split(' '));
    let record = run("ldns-dane", &arguments)?;
    match record.trim().split('\t').collect::<Vec<_>>().as_slice() {
        [name, _, "IN", "TLSA", data] => Ok(format!("{name} TLSA {data}")),
        _ => Err(Failure::world(format!("ldns-dane does not make a TLSA record, but: {record}"))),
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let (status, said) = run_to_end(Account::Own, Path::new(program), arguments, "")?;
    if status.success() {
        return Ok(said);
    }
    let asked = arguments.join(" ");
    Err(Failure::world(format!("`{program} {asked}` ended with {status}: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_goes_to_its_zone() {
        let records = ["a.x.example. 5 IN A 127.0.0.1", "ax.example. 5 IN A 127.0.0.2"];
        let records = records.map(str::to_owned);
        let delegated = [("x.example".to_owned(), Signing::Signed)];
        let chain = Chain::new("127.0.0.53".parse().unwrap(), &records, &delegated);
        assert_eq!(chain.records_of("x.example"), format!("{}\n", records[0]));
        assert_eq!(chain.records_of(TOP), format!("{}\n", records[1]));
    }

    #[test]
    fn only_a_tlsa_record_is_forged() {
        assert_eq!(forge("a.\t5\tIN\tTLSA\t3 1 1 ab"), "a.\t5\tIN\tTLSA\t3 1 1 a0\n");
        assert_eq!(forge("a.\t5\tIN\tA\t127.0.0.1"), "a.\t5\tIN\tA\t127.0.0.1\n");
    }
}

//! SIP partners that the driver plays: where they are, and what they must never get to see.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::authority::{Authority, Files};
use crate::block::Block;
use crate::failure::Failure;
use crate::port;
use crate::world::{Peer, Sip};
use crate::zone::DNS;

/// No name or address of ours is so long, and every token longer.
const SEALED_LEN_MIN: usize = 48;

/// The last octet of the first of them.
pub(crate) const FIRST_SIP: u8 = 60;

/// Where a partner keeps all bytes that it ever received.
pub(crate) fn record(name: &str, directory: &Path) -> std::path::PathBuf {
    directory.join(format!("{name}.received"))
}

/// The driver's order to start a partner at the last octet `address`.
pub(crate) fn start(
    sip: &Sip,
    address: u8,
    peers: &[(u8, &Peer)],
    block: &Block,
    authority: &Authority,
    trust: &Path,
    directory: &Path,
) -> Result<Value, Failure> {
    let server = sip.server();
    let files = match sip.behind {
        None => {
            authority.issue_sip(&sip.name, (&sip.domain, &server), sip.certificate, directory)?
        }
        Some(_) => None,
    };
    let proxy = match &sip.behind {
        None => None,
        Some(name) => {
            let real = peers.iter().find(|(_, peer)| peer.name == *name);
            let (at, _) = real.ok_or_else(|| {
                Failure::world(format!("{} stands behind `{name}`, who is no peer", sip.name))
            })?;
            Some((block.host(*at), port::SIP))
        }
    };
    let file = |pick: fn(&Files) -> &Path| files.as_ref().map(pick);
    Ok(json!({
        "do": "sip_partner",
        "actor": sip.name,
        "domain": sip.domain,
        "host": block.host(address),
        "port": if proxy.is_some() { port::SIP } else { port::SIPS },
        "server": server,
        "flavour": if proxy.is_some() { "phone" } else { "lync" },
        "proxy": proxy,
        "certificate": file(|files| &files.certificate),
        "key": file(|files| &files.key),
        "trust": trust,
        "checks": sip.checks,
        "dns_host": block.host(DNS),
        "dns_port": port::DNS,
        "record": record(&sip.name, directory),
    }))
}

/// Nothing of our inside may have left: no address, no name of a core or a test node.
pub(crate) fn judge(
    sip: &Sip,
    address: u8,
    block: &Block,
    directory: &Path,
) -> Result<(), Failure> {
    let file = record(&sip.name, directory);
    let received = fs::read(&file).map_err(Failure::io("read", &file))?;
    // Its own address is no secret (RFC 3261 section 18.2.1).
    let own = format!(";received={}", block.host(address));
    let received = unsealed(&String::from_utf8_lossy(&received).replace(&own, ""));
    let net = block.net();
    // A real server in between writes addresses into what it hands on, but knows no core.
    let secrets = if sip.behind.is_some() {
        vec![format!("{net}.3")]
    } else {
        let words =
            [":152", "core", "gatehouse", "node-", "inside", "10.11.12."].map(str::to_owned);
        words.into_iter().chain([format!("{net}.")]).collect()
    };
    match leak(&received, &secrets) {
        Some(line) => Err(Failure::world(format!("{} must not get to see: {line}", sip.name))),
        None => Ok(()),
    }
}

/// The text without its long runs of letters and digits. Those are sealed, and sooner or later any short
/// word stands in what looks random.
fn unsealed(text: &str) -> String {
    let is_sealed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut kept = String::with_capacity(text.len());
    for part in text.split_inclusive(|c| !is_sealed(c)) {
        let run = part.trim_end_matches(|c| !is_sealed(c));
        kept += if run.len() < SEALED_LEN_MIN {
            part
        } else {
            part.get(run.len()..).unwrap_or_default()
        };
    }
    kept
}

fn leak(received: &str, secrets: &[String]) -> Option<String> {
    let tells = |line: &&str| {
        let line = line.to_ascii_lowercase();
        secrets.iter().any(|secret| line.contains(secret.as_str()))
    };
    received.lines().find(tells).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_tells_nothing() {
        let token = "3GffQwbp9_aQ14eyTb2z3vZXKDE6-Core-FvulTibU4NJy7ElGHepsq0f3qO";
        let text = format!("Contact: <sip:{token}@core.ours.example>\r\n{token}");
        assert_eq!(unsealed(&text), "Contact: <sip:@core.ours.example>\r\n");
    }

    #[test]
    fn what_tells_of_the_inside_is_found() {
        let secrets = ["127.9.1.".to_owned(), "core".to_owned()];
        assert_eq!(leak("Via: SIP/2.0/TLS sip.ours.example\r\n", &secrets), None);
        let line = "Contact: <sip:x@127.9.1.3:5061>";
        assert_eq!(leak(&format!("A: b\r\n{line}\r\n"), &secrets), Some(line.into()));
        assert!(leak("Server: Core/1", &secrets).is_some());
    }
}

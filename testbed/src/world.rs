use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::authority::{Flavour, SipFlavour};
use crate::dnssec::Signing;
use crate::failure::Failure;
use crate::shape::Shape;

/// `world.toml`: who takes part in a scenario.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct World {
    /// The one shape in which the scenario makes sense; without it, both.
    pub(crate) shape: Option<Shape>,
    /// What has to be built before it can pass; until then it is played only when it is asked for.
    pub(crate) awaits: Option<String>,
    /// Our side; a scenario about peers only has none.
    pub(crate) us: Option<Us>,
    /// Real servers.
    #[serde(default, rename = "peer")]
    pub(crate) peers: Vec<Peer>,
    /// Hand-made peers that the script plays.
    #[serde(default, rename = "raw")]
    pub(crate) raws: Vec<Raw>,
    /// SIP partners that the driver plays, and phones.
    #[serde(default, rename = "sip")]
    pub(crate) sips: Vec<Sip>,
    /// Last octets at which somebody accepts connections of servers and never says a word.
    #[serde(default)]
    pub(crate) silent: Vec<u8>,
    /// Further records, in zone-file form; `{net}` is the scenario's address block.
    #[serde(default)]
    pub(crate) dns: Vec<String>,
}

/// Our side.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Us {
    /// Our IM domains.
    pub(crate) domains: Vec<String>,
    /// Accounts, as bare addresses. The local part is the name in the script.
    #[serde(default)]
    pub(crate) users: Vec<String>,
    /// In two processes: how many edges there are.
    #[serde(default = "one")]
    pub(crate) edges: u8,
    /// In two processes: the domains of each core; without it, one core serves all.
    #[serde(default)]
    pub(crate) cores: Vec<Vec<String>>,
    /// Accounts of domains that a core has in its own settings, and that the edges do not let it
    /// serve.
    #[serde(default)]
    pub(crate) claims: BTreeMap<String, Vec<String>>,
    /// In two processes: so many test nodes stand where cores would, all with all domains, and the
    /// first SIP partner is one that talks with them.
    #[serde(default)]
    pub(crate) nodes: u8,
    /// Whether the core reaches the edge over a link that a script can cut.
    #[serde(default)]
    pub(crate) link: bool,
    /// Whether the testbed's authority is one we trust.
    #[serde(default = "yes")]
    pub(crate) trusts_testbed: bool,
    /// Laid over the generated `gatehouse.toml`.
    #[serde(default)]
    pub(crate) config: toml::Table,
    /// The rules of `policy.toml`; none means one rule per peer that asks for a certificate.
    #[serde(default, rename = "rule")]
    pub(crate) rules: Vec<toml::Table>,
    /// The rows about SIP in `policy.toml`; none means one row per SIP partner.
    #[serde(default, rename = "sip")]
    pub(crate) sip_rows: Vec<toml::Table>,
    /// Which of our services are in DNS.
    #[serde(default)]
    pub(crate) dns: Service,
    /// The core's `[sip]` section about servers of the inside; `{net}` is the address block.
    #[serde(default)]
    pub(crate) inside: toml::Table,
    /// Texts that make an `ERROR` line of ours acceptable.
    #[serde(default)]
    pub(crate) expected_errors: Vec<String>,
}

/// What program a real server is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Prosody.
    #[default]
    Prosody,
    /// ejabberd.
    Ejabberd,
    /// Kamailio, which speaks SIP.
    Kamailio,
}

/// A real server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Peer {
    /// The name in the script.
    pub(crate) name: String,
    /// What it is.
    #[serde(default)]
    pub(crate) kind: Kind,
    /// Its domain.
    pub(crate) domain: String,
    /// Further domains that a Prosody serves, each with a certificate of its own and no accounts.
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    /// Local parts of its accounts; also the names in the script.
    #[serde(default)]
    pub(crate) users: Vec<String>,
    /// What kind of certificate it shows.
    #[serde(default)]
    pub(crate) certificate: Flavour,
    /// Whether our local authority is one it trusts.
    #[serde(default = "yes")]
    pub(crate) trusts_us: bool,
    /// Whether it insists on certificates (Prosody's `s2s_secure_auth`).
    #[serde(default = "yes")]
    pub(crate) secure_auth: bool,
    /// Whether it insists on TLS.
    #[serde(default = "yes")]
    pub(crate) require_encryption: bool,
    /// Whether it knows dialback.
    #[serde(default = "yes")]
    pub(crate) dialback: bool,
    /// Which of its services exist and are in DNS.
    #[serde(default)]
    pub(crate) dns: Service,
    /// How its domain is signed; as soon as one says so, DNS is signed and validated.
    pub(crate) dnssec: Option<Signing>,
    /// TLSA records of its host: `3 1 1`, and if it is not the key that it shows, `3 1 1 next` or
    /// `3 1 1 of other.example`.
    #[serde(default)]
    pub(crate) tlsa: Vec<String>,
    /// A Kamailio stands inside, and speaks to the core this way.
    pub(crate) inside: Option<Inside>,
    /// The host that a Kamailio's certificate names; without it, `sip.` and the domain.
    pub(crate) server: Option<String>,
    /// Further modules of a Prosody.
    #[serde(default)]
    pub(crate) modules: Vec<String>,
    /// Further lines for the global part of a Prosody's configuration.
    #[serde(default)]
    pub(crate) lua: String,
}

/// How a SIP server of the inside speaks to the core.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Inside {
    /// Over TLS; it is known by its certificate.
    Tls,
    /// In the clear; it is known by its address.
    Tcp,
}

impl Peer {
    /// The host that a Kamailio's certificate names.
    pub(crate) fn sip_server(&self) -> String {
        self.server.clone().unwrap_or_else(|| format!("sip.{}", self.domain))
    }

    /// Whether it is a SIP partner, in another organisation.
    pub(crate) fn is_sip_partner(&self) -> bool {
        self.kind == Kind::Kamailio && self.inside.is_none()
    }
}

/// A hand-made peer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Raw {
    /// The name in the script.
    pub(crate) name: String,
    /// The domain in its certificate; empty for a client, which has none.
    #[serde(default)]
    pub(crate) domain: String,
    /// The domain it says it is, if that is another one.
    pub(crate) claims: Option<String>,
    /// What kind of certificate it shows.
    #[serde(default)]
    pub(crate) certificate: Flavour,
}

/// A SIP partner that the driver plays: a Lync, or the phones of a real server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Sip {
    /// The name in the script.
    pub(crate) name: String,
    /// Its domain.
    pub(crate) domain: String,
    /// Local parts of its users; also the names in the script.
    #[serde(default)]
    pub(crate) users: Vec<String>,
    /// The host that its SRV record names; without it, `sip.` and the domain.
    pub(crate) server: Option<String>,
    /// What its certificate names.
    #[serde(default)]
    pub(crate) certificate: SipFlavour,
    /// Whether it checks who we are.
    #[serde(default = "yes")]
    pub(crate) checks: bool,
    /// Whether its SRV record is in DNS.
    #[serde(default = "yes")]
    pub(crate) dns: bool,
    /// The name of the server whose phones these are.
    pub(crate) behind: Option<String>,
}

impl Sip {
    /// The host that its SRV record names.
    pub(crate) fn server(&self) -> String {
        self.server.clone().unwrap_or_else(|| format!("sip.{}", self.domain))
    }
}

/// Ways in that a domain publishes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Service {
    /// STARTTLS and direct TLS, the latter preferred.
    #[default]
    Both,
    /// `_xmpps-server` only.
    DirectTls,
    /// `_xmpp-server` only.
    StartTls,
    /// Both exist, but only the scenario's own records say where.
    ByHand,
}

impl Service {
    /// Whether `_xmpp-server` is published.
    pub(crate) fn has_starttls(self) -> bool {
        self != Self::DirectTls
    }

    /// Whether `_xmpps-server` is published.
    pub(crate) fn has_direct_tls(self) -> bool {
        self != Self::StartTls
    }
}

impl Us {
    /// How many cores there are in two processes.
    pub(crate) fn core_count(&self) -> u8 {
        u8::try_from(self.cores.len().max(1)).unwrap_or(u8::MAX)
    }

    /// The domains of the core with this number, counted from one.
    pub(crate) fn core_domains(&self, number: u8) -> &[String] {
        let place = usize::from(number).saturating_sub(1);
        self.cores.get(place).unwrap_or(&self.domains)
    }

    /// Those of the domains that are served, and those of the domains that are only claimed.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &String> {
        self.users.iter().chain(self.claims.values().flatten())
    }

    /// The domains that a core with this name claims besides.
    pub(crate) fn claimed(&self, core: &str) -> Vec<String> {
        let accounts = self.claims.get(core).into_iter().flatten();
        let domains = accounts.filter_map(|account| account.split_once('@'));
        let mut domains: Vec<String> = domains.map(|(_, domain)| domain.to_owned()).collect();
        domains.dedup();
        domains
    }

    /// Which core serves `domain`.
    pub(crate) fn core_of(&self, domain: &str) -> u8 {
        let has = |number: &u8| self.core_domains(*number).iter().any(|one| one == domain);
        (1..=self.core_count()).find(has).unwrap_or(1)
    }

    fn mistake(&self, shape: Option<Shape>) -> Option<&'static str> {
        let several = self.edges != 1 || self.cores.len() > 1 || self.nodes > 0;
        if !(1..=3).contains(&self.edges) || self.cores.len() > 3 {
            return Some("there may be one to three edges, and up to three cores");
        }
        if several && shape != Some(Shape::Two) {
            return Some("several edges or cores need `shape = \"two\"`");
        }
        if several && self.link {
            return Some("a link that can be cut needs one edge and one core");
        }
        if self.nodes > 9 || self.nodes > 0 && (!self.cores.is_empty() || !self.users.is_empty()) {
            return Some("there may be nine nodes, and they know no cores and no users");
        }
        let served: Vec<_> = self.cores.iter().flatten().collect();
        let all = self.domains.iter().all(|domain| served.contains(&domain));
        (!served.is_empty() && (!all || served.len() != self.domains.len()))
            .then_some("each of `domains` must stand once in `cores`")
    }
}

impl World {
    /// Whether anybody speaks SIP; if nobody does, neither do we.
    pub(crate) fn speaks_sip(&self) -> bool {
        self.sips.iter().any(|sip| !self.is_inside(sip))
            || self.peers.iter().any(Peer::is_sip_partner)
            || self.us.as_ref().is_some_and(|us| !us.sip_rows.is_empty())
    }

    /// Whether it is the phones of a server of the inside.
    pub(crate) fn is_inside(&self, sip: &Sip) -> bool {
        let behind = |peer: &&Peer| sip.behind.as_ref() == Some(&peer.name);
        self.peers.iter().find(behind).is_some_and(|peer| peer.inside.is_some())
    }

    /// Whether there are SIP servers of the inside.
    pub(crate) fn has_inside(&self) -> bool {
        self.peers.iter().any(|peer| peer.inside.is_some())
    }

    /// Reads and checks `world.toml`.
    pub(crate) fn load(file: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(file).map_err(Failure::io("read", file))?;
        let world: Self = toml::from_str(&text).map_err(|error| Failure::Scenario {
            file: file.to_owned(),
            what: error.to_string(),
        })?;
        if let Some(what) = world.us.as_ref().and_then(|us| us.mistake(world.shape)) {
            return Err(Failure::Scenario { file: file.to_owned(), what: what.to_owned() });
        }
        match world.repeated_name() {
            Some(name) => Err(Failure::Scenario {
                file: file.to_owned(),
                what: format!("two take part under the name `{name}`; rename one"),
            }),
            None => Ok(world),
        }
    }

    fn repeated_name(&self) -> Option<String> {
        let ours = self.us.iter().flat_map(|us| us.accounts().map(|user| local_part(user)));
        let theirs = self.peers.iter().flat_map(|peer| peer.users.iter().map(String::as_str));
        let servers = self.peers.iter().map(|peer| peer.name.as_str());
        let raws = self.raws.iter().map(|raw| raw.name.as_str());
        let phones = self.sips.iter().flat_map(|sip| sip.users.iter().map(String::as_str));
        let sips = self.sips.iter().map(|sip| sip.name.as_str());
        let mut names: Vec<_> =
            ["us", "edge", "edge-2", "edge-3", "core", "core-2", "core-3", "link"]
                .into_iter()
                .chain(ours)
                .chain(theirs)
                .chain(servers)
                .chain(raws)
                .chain(phones)
                .chain(sips)
                .collect();
        names.sort_unstable();
        names.windows(2).find_map(|pair| match pair {
            [a, b] if a == b => Some((*a).to_owned()),
            _ => None,
        })
    }
}

/// What stands before the `@`.
pub(crate) fn local_part(address: &str) -> &str {
    address.split_once('@').map_or(address, |(local, _)| local)
}

fn one() -> u8 {
    1
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_across_the_world() {
        let world: World = toml::from_str(
            r#"
            us = { domains = ["ours.example"], users = ["romeo@ours.example"] }
            peer = [{ name = "them", domain = "them.example", users = ["juliet"] }]
            "#,
        )
        .unwrap();
        assert_eq!(world.repeated_name(), None);

        let mut twice = world.clone();
        twice.peers[0].users.push("romeo".into());
        assert_eq!(twice.repeated_name(), Some("romeo".into()));

        let mut reserved = world;
        reserved.peers[0].name = "edge".into();
        assert_eq!(reserved.repeated_name(), Some("edge".into()));
    }

    #[test]
    fn several_edges_and_cores_are_checked() {
        let us = |text: &str| -> Us {
            toml::from_str(&format!("domains = ['a', 'b']\n{text}")).unwrap()
        };
        let two = us("edges = 2\ncores = [['a'], ['b']]");
        assert_eq!((two.mistake(Some(Shape::Two)), two.core_of("b")), (None, 2));
        assert!(two.mistake(None).is_some());
        for wrong in [
            "edges = 0",
            "edges = 4",
            "cores = [['a']]",
            "cores = [['a'], ['b', 'a']]",
            "edges = 2\nlink = true",
            "nodes = 10",
            "nodes = 2\nusers = ['x@a']",
        ] {
            assert!(us(wrong).mistake(Some(Shape::Two)).is_some(), "{wrong}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<World>("[us]\ndomains = []\ncolour = 1").is_err());
    }
}

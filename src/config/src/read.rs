use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatehouse_types::{Domain, StreamLimits};
use toml::de::DeTable;

use crate::problem::{Problem, Problems, Source};
use crate::reader::{Form, Found, Section};
use crate::settings::{
    Certificates, Limits, Listen, Log, LogFormat, Offline, PolicySource, Roles, S2s, Settings, Tls,
};
use crate::{sip, trunk};

const DOMAIN: Form = Form { kind: "a domain name", example: "\"ours.example\"" };
const ADDRESS: Form =
    Form { kind: "an IP address with a port (IPv6 in brackets)", example: "[\"[::]:5222\"]" };
const FILE: Form = Form { kind: "a file name in quotes", example: "[\"partner-ca.pem\"]" };

/// Loopback, so that nobody outside sees metrics.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5280);

/// What the command line says besides the file; it wins.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Overrides {
    /// Our IM domains; empty leaves the file's.
    pub domains: Vec<Domain>,
    /// The data directory.
    pub data: Option<PathBuf>,
}

/// Reads and checks `file`, and the files that it names.
pub fn load(file: &Path, overrides: &Overrides) -> Result<Settings, Problems> {
    let text = fs::read_to_string(file).map_err(|error| {
        Problems(vec![Problem {
            file: file.to_owned(),
            line: 0,
            text: String::new(),
            what: format!("the file cannot be read: {error}"),
            remedy: "name an existing file with --config, or write one with `gatehouse init`"
                .into(),
        }])
    })?;
    parse(file, &text, overrides)
}

/// Reads and checks `text`, which stands in `file`: relative paths start beside it.
pub fn parse(file: &Path, text: &str, overrides: &Overrides) -> Result<Settings, Problems> {
    let source = Source { file: file.to_owned(), text };
    let (table, errors) = DeTable::parse_recoverable(text);
    let syntax = errors.into_iter().map(|error| {
        let what = format!("this is not TOML: {}", error.message().replace('\n', "; "));
        let remedy = "write `key = value`, texts in double quotes, lists in [ ]".to_owned();
        source.problem(error.span().unwrap_or(0..0), what, remedy)
    });
    let problems = RefCell::new(syntax.collect::<Vec<_>>());
    let base = file.parent().unwrap_or_else(|| Path::new("."));
    let settings = read(Section::root(&source, &problems, table.get_ref()), base, overrides);
    check_files(&settings, &source, &problems);
    let mut problems = problems.into_inner();
    if problems.is_empty() {
        return Ok(settings);
    }
    problems.sort_by_key(|problem| (problem.file != file, problem.line));
    problems.dedup();
    Err(Problems(problems))
}

fn read(mut root: Section<'_>, base: &Path, overrides: &Overrides) -> Settings {
    let roles = roles(&mut root);
    let mut domains = domains(&mut root);
    if !overrides.domains.is_empty() {
        // What follows from the first domain, such as the edge's host name, follows from these.
        domains.clone_from(&overrides.domains);
        domains.dedup();
    }
    let data = root
        .text("data", Form { kind: "a directory", example: "\"gatehouse-data\"" }, path(base))
        .map_or_else(|| base.join("gatehouse-data"), |found| found.value);
    let data = overrides.data.clone().unwrap_or(data);
    let edge_host = root.text("edge-host", DOMAIN, domain).map(|found| found.value);
    let edge_host = edge_host.unwrap_or_else(|| default_edge_host(&domains));
    let log = log(root.section("log"));
    let listen = listen(root.section("listen"), roles);
    let mut dns = root.section("dns");
    let form =
        Form { kind: "an IP address, with a port if it is not 53", example: "[\"192.0.2.53\"]" };
    let dns_servers = values(dns.list("servers", form, name_server));
    let dns_trust_ad = trust_ad(&mut dns, &dns_servers);
    dns.finish();
    let tls = tls(root.section("tls"), base);
    let mut certificates = root.section("certificates");
    let xmpp_addr = certificates.switch("xmpp-addr").unwrap_or(false);
    let rsa = certificates.switch("rsa").unwrap_or(false);
    certificates.finish();
    let mut policy = root.section("policy");
    let policy_form = Form { kind: "a file name", example: "\"policies/partners-only.toml\"" };
    let source = match policy.text("file", policy_form, path(base)) {
        Some(found) => PolicySource::File(found.value),
        None => PolicySource::Embedded,
    };
    policy.finish();
    let trunk = trunk::read(&mut root, roles, &domains);
    let sip = sip::read(root.section("sip"), roles, &trunk, &domains);
    let settings = Settings {
        roles,
        domains,
        data,
        edge_host,
        log,
        listen,
        dns_servers,
        dns_trust_ad,
        tls,
        certificates: Certificates { xmpp_addr, rsa },
        policy: source,
        trunk,
        s2s: s2s(root.section("s2s")),
        sip,
        limits: limits(root.section("limits")),
        offline: offline(root.section("offline")),
    };
    root.finish();
    settings
}

/// The AD bit is one bit of an unprotected datagram: it proves something only if nobody else can
/// speak on the way.
fn trust_ad(dns: &mut Section<'_>, servers: &[SocketAddr]) -> bool {
    let place = dns.place("trust-ad").unwrap_or(0..0);
    let trust = dns.switch("trust-ad").unwrap_or(false);
    if trust && (servers.is_empty() || servers.iter().any(|server| !server.ip().is_loopback())) {
        dns.note(
            place,
            "`trust-ad` needs a validating resolver on this machine: anybody on the way to another \
             one could forge its answers"
                .into(),
            "servers = [\"127.0.0.1\"], and nothing else in it".into(),
        );
    }
    trust
}

fn roles(root: &mut Section<'_>) -> Roles {
    let form = Form { kind: "\"edge\", \"core\" or both", example: "[\"edge\", \"core\"]" };
    let place = root.place("roles").unwrap_or(0..0);
    let Some(roles) = root.list("roles", form, |text| match text {
        "edge" => Some(Roles::Edge),
        "core" => Some(Roles::Core),
        _ => None,
    }) else {
        return Roles::default();
    };
    let has = |role| roles.iter().any(|found| found.value == role);
    match (has(Roles::Edge), has(Roles::Core)) {
        (true, true) => Roles::EdgeAndCore,
        (true, false) => Roles::Edge,
        (false, true) => Roles::Core,
        (false, false) => {
            root.note(place, "`roles` is empty".into(), "roles = [\"edge\", \"core\"]".into());
            Roles::default()
        }
    }
}

fn domains(root: &mut Section<'_>) -> Vec<Domain> {
    let form = Form {
        kind: "a list of domain names, like \"example.com\"",
        example: "[\"ours.example\"]",
    };
    let place = root.place("domains").unwrap_or(0..0);
    let found = root.list("domains", form, domain);
    let was_given = found.is_some();
    let mut domains: Vec<Domain> = Vec::new();
    for Found { value, span } in found.unwrap_or_default() {
        if domains.contains(&value) {
            root.note(
                span,
                format!("{value} stands in `domains` twice"),
                "remove one of them".into(),
            );
        } else {
            domains.push(value);
        }
    }
    if domains.is_empty() {
        if was_given {
            root.note(
                place,
                "`domains` names no domain".into(),
                "domains = [\"ours.example\"]".into(),
            );
        }
        domains.extend("ours.example".parse::<Domain>());
    }
    domains
}

fn default_edge_host(domains: &[Domain]) -> Domain {
    let first = domains.first().map_or("example", Domain::as_str);
    let named = format!("edge.{first}").parse::<Domain>();
    // Only a domain of 250 characters leaves no room for a label; it then names itself.
    named.unwrap_or_else(|_| {
        #[expect(clippy::expect_used, reason = "`domains` holds at least one domain: see above")]
        domains.first().cloned().expect("at least one domain")
    })
}

fn log(mut section: Section<'_>) -> Log {
    let form = Form { kind: "\"text\" or \"json\"", example: "\"text\"" };
    let format = section.text("format", form, |text| match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    });
    let form =
        Form { kind: "a filter such as info or info,gatehouse_edge=debug", example: "\"info\"" };
    let filter =
        section.text("filter", form, |text| (!text.trim().is_empty()).then(|| text.to_owned()));
    section.finish();
    let default = Log::default();
    Log {
        format: format.map_or(default.format, |found| found.value),
        filter: filter.map_or(default.filter, |found| found.value),
    }
}

fn listen(mut section: Section<'_>, roles: Roles) -> Listen {
    let mut seen: HashMap<SocketAddr, &'static str> = HashMap::new();
    let mut addresses =
        |key: &'static str, port: Option<u16>, wanted: bool, role: &str| -> Vec<SocketAddr> {
            let place = section.place(key);
            let Some(found) = section.list(key, ADDRESS, |text| text.parse().ok()) else {
                let default = |port| SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
                return port.filter(|_| wanted).map(default).into_iter().collect();
            };
            if let (false, Some(place)) = (wanted, place) {
                let what = format!("`listen.{key}` belongs to {role}, which does not run here");
                section.note(place, what, "remove it, or add the role to `roles`".into());
            }
            let mut list = Vec::new();
            for Found { value, span } in found {
                match seen.insert(value, key) {
                    Some(other) => {
                        let what = format!("{value} is taken already by `listen.{other}`");
                        section.note(span, what, "give each listener a port of its own".into());
                    }
                    None => list.push(value),
                }
            }
            list
        };
    let (edge, core) = (roles.has_edge(), roles.has_core());
    let listen = Listen {
        c2s: addresses("c2s", Some(5222), core, "the core"),
        c2s_direct_tls: addresses("c2s-direct-tls", Some(5223), core, "the core"),
        s2s: addresses("s2s", Some(5269), edge, "the edge"),
        s2s_direct_tls: addresses("s2s-direct-tls", Some(5270), edge, "the edge"),
        // No default: who speaks no SIP has no such port open.
        sip: addresses("sip", None, edge, "the edge"),
        sip_inside_tls: addresses("sip-inside-tls", None, core, "the core"),
        sip_inside_tcp: addresses("sip-inside-tcp", None, core, "the core"),
        trunk: addresses("trunk", Some(5275), roles == Roles::Edge, "an edge without a core"),
        admin: ADMIN,
    };
    let form = Form { kind: "a loopback address with a port", example: "\"127.0.0.1:5280\"" };
    // The port shows who talks to whom and has no password: it must not be reached from outside.
    let loopback =
        |text: &str| text.parse::<SocketAddr>().ok().filter(|address| address.ip().is_loopback());
    let admin = section.text("admin", form, loopback).map_or(ADMIN, |found| found.value);
    section.finish();
    Listen { admin, ..listen }
}

fn tls(mut section: Section<'_>, base: &Path) -> Tls {
    let trust = values(section.list("trust", FILE, path(base)));
    let system_roots = section.switch("system-roots").unwrap_or(true);
    section.finish();
    Tls { trust, system_roots }
}

fn s2s(mut section: Section<'_>) -> S2s {
    let default = S2s::default();
    let second = Duration::from_secs(1);
    let read = S2s {
        target_timeout: section
            .duration("target-timeout", second, 120 * second, "\"10s\"")
            .unwrap_or(default.target_timeout),
        connect_timeout: section
            .duration("connect-timeout", second, 600 * second, "\"30s\"")
            .unwrap_or(default.connect_timeout),
        queue_len_max: size(
            section.number("queue-len-max", 1, 100_000, "256"),
            default.queue_len_max,
        ),
        idle_timeout: section
            .duration("idle-timeout", 10 * second, 86_400 * second, "\"10m\"")
            .unwrap_or(default.idle_timeout),
        private_targets: section.switch("private-targets").unwrap_or(default.private_targets),
        bidi: section.switch("bidi").unwrap_or(default.bidi),
    };
    section.finish();
    read
}

fn limits(mut section: Section<'_>) -> Limits {
    let default = Limits::default();
    // RFC 6120, section 13.12: stanzas of 10 000 bytes must be taken.
    let ceiling = StreamLimits::STANZA_BYTES_CEILING as u64;
    let mut bytes =
        |key, example, default| size(section.number(key, 10_000, ceiling, example), default);
    let client = bytes("client-stanza-bytes-max", "262144", default.client_stanza_bytes_max);
    let server = bytes("server-stanza-bytes-max", "524288", default.server_stanza_bytes_max);
    let read = Limits {
        connections_max: size(
            section.number("connections-max", 1, 1_000_000, "10000"),
            default.connections_max,
        ),
        client_stanza_bytes_max: client,
        server_stanza_bytes_max: server,
        sessions_per_account_max: size(
            section.number("sessions-per-account-max", 1, 1000, "10"),
            default.sessions_per_account_max,
        ),
        contacts_per_account_max: size(
            section.number("contacts-per-account-max", 0, 100_000, "200"),
            default.contacts_per_account_max,
        ),
        watchers_per_account_max: size(
            section.number("watchers-per-account-max", 0, 100_000, "200"),
            default.watchers_per_account_max,
        ),
        workers: section
            .number("workers", 1, 1024, "4")
            .and_then(|workers| usize::try_from(workers).ok()),
    };
    section.finish();
    read
}

fn offline(mut section: Section<'_>) -> Offline {
    let default = Offline::default();
    let read = Offline {
        per_account_max: section
            .number("per-account-max", 0, 1_000_000, "100")
            .unwrap_or(default.per_account_max),
        per_node_max: section
            .number("per-node-max", 0, 100_000_000, "30000")
            .unwrap_or(default.per_node_max),
    };
    section.finish();
    read
}

/// Reads the files that the settings name, so that a missing one is told now and not at the first
/// handshake.
fn check_files(settings: &Settings, source: &Source<'_>, problems: &RefCell<Vec<Problem>>) {
    let note = |path: &Path, what: String, remedy: &str| {
        // The reader is done; find the name again in the text.
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let start = source.text.find(name).unwrap_or(0);
        problems.borrow_mut().push(source.problem(start..start, what, remedy.to_owned()));
    };
    for path in &settings.tls.trust {
        match fs::read_to_string(path) {
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => {}
            Ok(_) => note(
                path,
                format!("{} holds no certificate", path.display()),
                "name a PEM file with `-----BEGIN CERTIFICATE-----` in it",
            ),
            Err(error) => note(
                path,
                format!("{} cannot be read: {error}", path.display()),
                "name an existing PEM file; relative names start beside this file",
            ),
        }
    }
    if let PolicySource::File(path) = &settings.policy {
        match fs::read_to_string(path) {
            Ok(text) => {
                if let Err(mistakes) = crate::policy_file::parse_policy(path, &text) {
                    problems.borrow_mut().extend(mistakes.0);
                }
            }
            Err(error) => note(
                path,
                format!("the policy {} cannot be read: {error}", path.display()),
                "name an existing file (see policies/), or remove [policy] for the embedded one",
            ),
        }
    }
}

fn values<T>(found: Option<Vec<Found<T>>>) -> Vec<T> {
    found.unwrap_or_default().into_iter().map(|found| found.value).collect()
}

fn size(number: Option<u64>, default: usize) -> usize {
    number.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
}

pub(crate) fn domain(text: &str) -> Option<Domain> {
    text.parse().ok()
}

fn path(base: &Path) -> impl Fn(&str) -> Option<PathBuf> {
    move |text| (!text.is_empty()).then(|| base.join(text))
}

fn name_server(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53)))
}

pub(crate) fn host_and_port(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let is_host = host.parse::<Domain>().is_ok()
        || host.parse::<Ipv4Addr>().is_ok()
        || host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
    (is_host && port.parse::<u16>().is_ok_and(|port| port != 0)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TEMPLATE;

    #[test]
    fn validation_is_believed_of_name_servers_on_this_machine_only() {
        let read = |dns: &str| {
            let text = format!("domains = [\"ours.example\"]\n[dns]\n{dns}\n");
            parse(Path::new("/nowhere/gatehouse.toml"), &text, &Overrides::default())
        };
        let ours = "servers = [\"127.0.0.1\", \"[::1]:5353\"]";
        assert!(read(&format!("{ours}\ntrust-ad = true")).unwrap().dns_trust_ad);
        assert!(!read(&format!("{ours}\ntrust-ad = false")).unwrap().dns_trust_ad);
        assert!(!read(ours).unwrap().dns_trust_ad);
        for servers in ["", "servers = []", "servers = [\"127.0.0.1\", \"192.0.2.53\"]"] {
            let problems = read(&format!("trust-ad = true\n{servers}")).unwrap_err();
            let what = &problems.0[0].what;
            assert!(what.contains("a validating resolver on this machine"), "{what}");
            assert_eq!(problems.0[0].line, 3);
        }
    }

    fn problems(text: &str) -> Vec<(usize, String, String)> {
        let problems =
            parse(Path::new("/nowhere/gatehouse.toml"), text, &Overrides::default()).unwrap_err();
        problems.0.into_iter().map(|problem| (problem.line, problem.what, problem.remedy)).collect()
    }

    #[test]
    fn the_template_means_the_same_as_no_file() {
        let file = Path::new("/nowhere/gatehouse.toml");
        assert_eq!(
            parse(file, TEMPLATE, &Overrides::default()).unwrap(),
            parse(file, "", &Overrides::default()).unwrap()
        );
    }

    #[test]
    fn every_commented_line_of_the_template_is_legal_too() {
        let uncommented: String = TEMPLATE
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if setting.contains(" = ") && !setting.contains("partner") => {
                    format!("{setting}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        assert!(uncommented.contains("\nqueue-len-max = 256"));
        parse(Path::new("/nowhere/gatehouse.toml"), &uncommented, &Overrides::default()).unwrap();
    }

    #[test]
    fn ten_mistakes_are_told_in_one_run() {
        let text = r#"domains = ["ours.example", "not a domain"]
roles = ["edge", "cor"]
dta = "x"
edge-host = 5
[listen]
c2s = ["localhost:5222"]
s2s = ["127.0.0.1:5269", "127.0.0.1:5269"]
admin = "0.0.0.0:5280"
[tls]
trust = ["missing.pem"]
[s2s]
target-timeout = 10
connect-timeout = "2 weeks"
[offline]
per-account-max = -1
"#;
        let found = problems(text);
        for (line, what) in [
            (1, "`domains` must be a list of domain names"),
            (2, "`roles` must be \"edge\", \"core\" or both"),
            (3, "there is no setting `dta`"),
            (4, "`edge-host` must be a domain name"),
            (6, "`listen.c2s` must be an IP address with a port"),
            (6, "`listen.c2s` belongs to the core"),
            (7, "127.0.0.1:5269 is taken already by `listen.s2s`"),
            (8, "`listen.admin` must be a loopback address"),
            (10, "missing.pem cannot be read"),
            (12, "`s2s.target-timeout` must be a duration"),
            (13, "`s2s.connect-timeout` must be a duration"),
            (15, "`offline.per-account-max` must be a whole number"),
        ] {
            let hit = found.iter().find(|problem| problem.0 == line && problem.1.contains(what));
            assert!(
                hit.is_some_and(|problem| !problem.2.is_empty()),
                "line {line}: {what}\nfound {found:#?}"
            );
        }
        assert_eq!(found.len(), 12, "{found:#?}");
    }

    #[test]
    fn a_typing_error_is_told_what_was_meant() {
        let found = problems("[offline]\nper_account-max = 5\n");
        assert_eq!(found[0].2, "write `per-account-max`, or remove it");
    }

    #[test]
    fn broken_toml_does_not_hide_the_rest() {
        let found = problems("domains = [\"ours.example\"\nroles = \"edge\n[s2s]\nfoo = 1\n");
        assert!(found.iter().any(|problem| problem.1.contains("not TOML")), "{found:#?}");
    }

    #[test]
    fn a_core_by_itself_must_know_its_edges() {
        let found = problems("roles = [\"core\"]\n");
        assert!(found[0].1.contains("trunk.edges"), "{found:?}");
        let good = "roles = [\"core\"]\n[trunk]\nedges = [{ name = \"edge\", address = \"192.0.2.1:5275\" }]\n";
        let settings =
            parse(Path::new("/nowhere/gatehouse.toml"), good, &Overrides::default()).unwrap();
        assert_eq!(
            (settings.trunk.edges.len(), settings.listen.s2s.len(), settings.listen.c2s.len()),
            (1, 0, 1)
        );
    }

    #[test]
    fn the_command_line_wins() {
        let domains = vec!["example.com".parse().unwrap()];
        let overrides = Overrides { domains, data: Some("/srv/gatehouse".into()) };
        let text = "domains = [\"ours.example\"]\ndata = \"d\"\n";
        let settings = parse(Path::new("/nowhere/gatehouse.toml"), text, &overrides).unwrap();
        assert_eq!(settings.edge_host.as_str(), "edge.example.com");
        assert_eq!(settings.data, Path::new("/srv/gatehouse"));
    }

    #[test]
    fn relative_paths_start_beside_the_file() {
        let settings = parse(
            Path::new("/etc/gatehouse/gatehouse.toml"),
            "data = \"d\"\n",
            &Overrides::default(),
        )
        .unwrap();
        assert_eq!(settings.data, Path::new("/etc/gatehouse/d"));
    }
}

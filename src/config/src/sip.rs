//! `[sip]`, and whether it goes with the rest.

use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use gatehouse_policy::{Policy, SipKind, SipPartner};
use gatehouse_types::Domain;

use crate::inside;
use crate::read::domain;
use crate::reader::{Form, Section};
use crate::settings::{BusyAs, NodePort, Roles, Settings, Sip, Trunk};

/// What an edge and a core in one process call the core.
const ONLY_CORE: &str = "core";
/// Longest text that an author reads when a message was not delivered, in characters.
const UNDELIVERED_CHARS_MAX: usize = 200;
/// Edges that share the pace towards partners.
const EDGES_MAX: u64 = 64;
/// DNS: RFC 1035 section 2.3.4.
const LABEL_BYTES_MAX: usize = 63;

pub(crate) fn read(
    mut section: Section<'_>,
    roles: Roles,
    trunk: &Trunk,
    domains: &[Domain],
) -> Sip {
    let default = Sip::default();
    let label = Form { kind: "one label of a host name, without a dot", example: "\"sip\"" };
    let host_label = section.text("host-label", label, host_label).map(|found| found.value);
    let port = section.number("public-port", 1, u64::from(u16::MAX), "5061");
    let kind = Form { kind: "\"lync\" or \"standard\"", example: "\"lync\"" };
    let default_kind = section.text("default-kind", kind, |text| match text {
        "lync" => Some(SipKind::Lync),
        "standard" => Some(SipKind::Standard),
        _ => None,
    });
    let busy = Form { kind: "\"dnd\" or \"away\"", example: "\"dnd\"" };
    let busy_as = section.text("busy-as", busy, |text| match text {
        "dnd" => Some(BusyAs::Dnd),
        "away" => Some(BusyAs::Away),
        _ => None,
    });
    let text = Form {
        kind: "one line of at most 200 characters",
        example: "\"Your IM could not be delivered.\"",
    };
    let undelivered = section.text("undelivered", text, one_line);
    let second = Duration::from_secs(1);
    let session_idle = section.duration("session-idle", 30 * second, 86_400 * second, "\"10m\"");
    let deliver_within = section.duration("deliver-within", second, 86_400 * second, "\"10m\"");
    let subscriptions_max = section.number("subscriptions-max", 100, 1_000_000, "20000");
    let partner_share = section.number("partner-share", 1, 100, "25");
    let routing_nodes = routing_nodes(&mut section, roles, trunk);
    let node_ports = node_ports(&mut section, roles, trunk);
    let edges = edges(&mut section, roles);
    let inside = inside::read(&mut section, roles, domains);
    section.finish();
    Sip {
        inside,
        host_label: host_label.unwrap_or(default.host_label),
        public_port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(default.public_port),
        routing_nodes,
        edges: edges.unwrap_or(default.edges),
        node_ports,
        default_kind: default_kind.map_or(default.default_kind, |found| found.value),
        busy_as: busy_as.map_or(default.busy_as, |found| found.value),
        undelivered: undelivered.map_or(default.undelivered, |found| found.value),
        session_idle: session_idle.unwrap_or(default.session_idle),
        deliver_within: deliver_within.unwrap_or(default.deliver_within),
        subscriptions_max: size(subscriptions_max).unwrap_or(default.subscriptions_max),
        partner_share: size(partner_share).unwrap_or(default.partner_share),
    }
}

fn size(number: Option<u64>) -> Option<usize> {
    number.and_then(|number| usize::try_from(number).ok())
}

/// Each edge takes its part of the pace towards partners. A core has nothing to divide.
fn edges(section: &mut Section<'_>, roles: Roles) -> Option<NonZeroU32> {
    let place = section.place("edges");
    let edges = section.number("edges", 1, EDGES_MAX, "2");
    if let (false, Some(place)) = (roles.has_edge(), place) {
        let what =
            "`sip.edges` is for the settings of each edge, which does not run here".to_owned();
        section.note(place, what, "write it there, and remove it here".to_owned());
    }
    edges.and_then(|edges| NonZeroU32::new(u32::try_from(edges).ok()?))
}

/// Only cores that may connect can take sessions.
fn routing_nodes(section: &mut Section<'_>, roles: Roles, trunk: &Trunk) -> Vec<Domain> {
    let form = Form { kind: "a list of the cores' names", example: "[\"core\"]" };
    let place: Option<Range<usize>> = section.place("routing-nodes");
    let Some(found) = section.list("routing-nodes", form, domain) else { return Vec::new() };
    if let (Roles::Core, Some(place)) = (roles, place) {
        let what = "`sip.routing-nodes` belongs to the edge, which does not run here".to_owned();
        section.note(place, what, "write it in the settings of every edge, and remove it".into());
        return Vec::new();
    }
    let mut nodes: Vec<Domain> = Vec::new();
    for found in found {
        let node = found.value;
        if nodes.contains(&node) {
            let what = format!("{node} stands in `sip.routing-nodes` twice");
            section.note(found.span, what, "remove one of them".into());
        } else if !is_known(&node, roles, trunk) {
            note_unknown(section, found.span, &node, roles);
        } else {
            nodes.push(node);
        }
    }
    nodes
}

fn node_ports(section: &mut Section<'_>, roles: Roles, trunk: &Trunk) -> Vec<NodePort> {
    let form = Form {
        kind: "a list of ports, each with node and address",
        example: "[{ node = \"core\", address = \"[::]:45061\" }]",
    };
    let place = section.place("node-ports");
    let Some(found) = section.sections("node-ports", form) else { return Vec::new() };
    let mut ports: Vec<NodePort> = Vec::new();
    for (mut port, span) in found {
        let node = port.text("node", Form { kind: "a core's name", example: "\"core\"" }, domain);
        let form = Form {
            kind: "an IP address with a port (IPv6 in brackets)",
            example: "\"[::]:45061\"",
        };
        let address = port.text("address", form, |text| text.parse().ok());
        for key in ["node", "address"] {
            if port.place(key).is_none() {
                let remedy = "node-ports = [{ node = \"core\", address = \"[::]:45061\" }]";
                port.note(span.clone(), format!("this port has no `{key}`"), remedy.into());
            }
        }
        port.finish();
        let (Some(node), Some(address)) = (node, address) else { continue };
        if roles != Roles::Core && !is_known(&node.value, roles, trunk) {
            note_unknown(section, node.span, &node.value, roles);
            continue;
        }
        ports.push(NodePort { node: node.value, address: address.value });
    }
    if let (Roles::Core, Some(place)) = (roles, place) {
        let what = "`sip.node-ports` belongs to the edge, which does not run here".to_owned();
        section.note(place, what, "write it in the settings of every edge, and remove it".into());
        return Vec::new();
    }
    ports
}

fn is_known(node: &Domain, roles: Roles, trunk: &Trunk) -> bool {
    match roles {
        Roles::EdgeAndCore => node.as_str() == ONLY_CORE,
        Roles::Edge | Roles::Core => trunk.cores.iter().any(|core| core.name == *node),
    }
}

fn note_unknown(section: &Section<'_>, span: Range<usize>, node: &Domain, roles: Roles) {
    let what = format!("no core that this edge lets in is called {node}");
    let remedy = match roles {
        Roles::EdgeAndCore => "write `core`: there is one core",
        Roles::Edge | Roles::Core => "name cores that stand in `trunk.cores`",
    };
    section.note(span, what, remedy.into());
}

fn host_label(text: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_label = (1..=LABEL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(is_plain)
        && !text.starts_with('-')
        && !text.ends_with('-');
    is_label.then(|| text.to_ascii_lowercase())
}

fn one_line(text: &str) -> Option<String> {
    let fits = !text.trim().is_empty()
        && text.chars().count() <= UNDELIVERED_CHARS_MAX
        && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// What is no mistake and probably not meant: settings for SIP that lack their other half. For
/// `check-config`, and for the log at the start.
pub fn remarks(settings: &Settings, policy: &Policy) -> Vec<String> {
    let mut remarks = Vec::new();
    let has_rows = !policy.sip.is_empty();
    if settings.roles.has_edge() {
        let listens = !settings.listen.sip.is_empty();
        if has_rows && !listens {
            remarks.push(
                "the policy has [[sip]] rows, but `listen.sip` is empty: no SIP is spoken. Write \
                 sip = [\"[::]:5061\"] in [listen], or remove the rows"
                    .to_owned(),
            );
        }
        if listens && !has_rows {
            remarks.push(
                "`listen.sip` is open, but the policy has no [[sip]] row: every SIP partner is \
                 refused. Add a row (see policies/), or close the port"
                    .to_owned(),
            );
        }
    }
    let edges = settings.trunk.edges.len();
    if edges > 1 && policy.sip.iter().any(SipPartner::has_pace) {
        remarks.push(format!(
            "this core has {edges} edges, and the policy sets a pace towards SIP partners \
             (`send-per-second`, or mode \"open\"). Each edge keeps to its part of it only if its own settings \
             say edges = {edges} in [sip]; without that, partners get {edges} times as much"
        ));
    }
    for domain in &settings.domains {
        if has_rows && settings.sip.host(domain).is_none() {
            remarks.push(format!(
                "{domain} is too long to have a host `{}.` in front of it: no SIP for it",
                settings.sip.host_label
            ));
        }
    }
    remarks
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Overrides, parse};

    fn settings(text: &str) -> Settings {
        parse(Path::new("/nowhere/gatehouse.toml"), text, &Overrides::default()).unwrap()
    }

    fn problems(text: &str) -> Vec<(usize, String)> {
        let problems =
            parse(Path::new("/nowhere/gatehouse.toml"), text, &Overrides::default()).unwrap_err();
        problems.0.into_iter().map(|problem| (problem.line, problem.what)).collect()
    }

    #[test]
    fn sip_is_off_until_it_is_wanted() {
        let off = settings("");
        assert!(off.listen.sip.is_empty());
        assert_eq!(off.sip, Sip::default());
        let on = settings(
            "[listen]\nsip = [\"127.0.0.1:5061\"]\n[sip]\nhost-label = \"IM\"\npublic-port = 15061\n\
             routing-nodes = [\"core\"]\ndefault-kind = \"standard\"\nbusy-as = \"away\"\n\
             undelivered = \"No.\"\nsession-idle = \"2m\"\n\
             deliver-within = \"1h\"\nsubscriptions-max = 40000\npartner-share = 50\n",
        );
        assert_eq!(on.listen.sip.len(), 1);
        let domain = "ours.example".parse().unwrap();
        assert_eq!(on.sip.host(&domain).unwrap().as_str(), "im.ours.example");
        let sip = on.sip;
        assert_eq!((sip.public_port, sip.default_kind), (15061, SipKind::Standard));
        assert_eq!((sip.busy_as, sip.undelivered.as_str()), (BusyAs::Away, "No."));
        assert_eq!((sip.session_idle.as_secs(), sip.routing_nodes.len()), (120, 1));
        assert_eq!(sip.deliver_within.as_secs(), 3600);
        assert_eq!((sip.subscriptions_max, sip.partner_share), (40_000, 50));
    }

    #[test]
    fn all_mistakes_of_the_section_are_told_at_once() {
        let found = problems(
            "[sip]\nhost-label = \"sip.eu\"\npublic-port = 0\nrouting-nodes = [\"core\", \"core\", \"c2\"]\n\
             default-kind = \"ocs\"\nbusy-as = \"xa\"\nundelivered = \"a\\nb\"\nsession-idle = \"1s\"\n\
             host-lable = \"x\"\ndeliver-within = \"0s\"\npartner-share = 101\n[listen]\nsip = [\"sip.ours.example:5061\"]\n",
        );
        let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 4, 4, 5, 6, 7, 8, 9, 10, 11, 13], "{found:#?}");
    }

    #[test]
    fn routing_nodes_are_cores_that_the_edge_lets_in() {
        let edge = "roles = [\"edge\"]\n[trunk]\ncores = [\"c1\", \"c2\"]\n[sip]\n";
        let good = settings(&format!("{edge}routing-nodes = [\"c2\", \"c1\"]\n"));
        assert_eq!(good.sip.routing_nodes.len(), 2);
        let found = problems(&format!("{edge}routing-nodes = [\"c3\"]\n"));
        assert_eq!(found, [(5, "no core that this edge lets in is called c3".to_owned())]);
        let port = |node: &str| {
            format!("{edge}node-ports = [{{ node = \"{node}\", address = \"[::]:45061\" }}]\n")
        };
        assert_eq!(settings(&port("c1")).sip.node_ports.len(), 1);
        assert_eq!(problems(&port("c3")).len(), 1);
        assert_eq!(problems(&format!("{edge}node-ports = [{{ nod = \"c1\" }}]\n")).len(), 3);
        let core = "roles = [\"core\"]\n[trunk]\nedges = [{ name = \"e\", address = \"e:1\" }]\n\
                    [sip]\nrouting-nodes = [\"core\"]\n[listen]\nsip = [\"[::]:5061\"]\n";
        let found = problems(core);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn edges_are_counted_where_they_send() {
        let edge = "roles = [\"edge\"]\n[trunk]\ncores = [\"c1\"]\n[sip]\n";
        assert_eq!(settings(&format!("{edge}edges = 3\n")).sip.edges.get(), 3);
        assert_eq!(problems(&format!("{edge}edges = 0\n")).len(), 1);
        assert_eq!(problems(&format!("{edge}edges = 65\n")).len(), 1);
        let core = "roles = [\"core\"]\n[trunk]\nedges = [{ name = \"e1\", address = \"e1:1\" }";
        assert_eq!(problems(&format!("{core}]\n[sip]\nedges = 2\n"))[0].0, 5);
        // Only the core knows how many there are: it says so where that counts.
        let policy = |more: &str| {
            let row = format!("[[sip]]\nname = \"a\"\nremote = [\"a.example\"]\n{more}");
            crate::parse_policy(Path::new("p"), &row).unwrap()
        };
        let one = settings(&format!("{core}]\n"));
        let two = settings(&format!("{core}, {{ name = \"e2\", address = \"e2:1\" }}]\n"));
        assert!(remarks(&one, &policy("send-per-second = 9\n")).is_empty());
        assert!(remarks(&two, &policy("")).is_empty());
        assert!(remarks(&two, &policy("action = \"block\"\n")).is_empty());
        for paced in ["send-per-second = 9\n", "mode = \"open\"\n"] {
            let remarks = remarks(&two, &policy(paced)).join("");
            assert!(remarks.contains("edges = 2 in [sip]"), "{remarks}");
        }
    }

    #[test]
    fn one_half_without_the_other_is_remarked_on() {
        let row = "[[sip]]\nname = \"a\"\nremote = [\"a.example\"]\n";
        let with = crate::parse_policy(Path::new("p"), row).unwrap();
        let without = Policy::open_with_certificate();
        let (on, off) = (settings("[listen]\nsip = [\"[::]:5061\"]\n"), settings(""));
        let told = |settings: &Settings, policy: &Policy| remarks(settings, policy).join("\n");
        assert!(told(&off, &with).contains("`listen.sip` is empty"));
        assert!(told(&on, &without).contains("no [[sip]] row"));
        assert_eq!(told(&on, &with) + &told(&off, &without), "");
    }
}

//! `[[sip.trusted]]`, `[[sip.route]]` and the embed templates: SIP of the inside.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::Range;

use gatehouse_policy::{
    EmbedTemplate, Hop, HopProtocol, InsideSip, RouteBy, RouteFault, RoutePattern, RouteTable,
    SipKind, StaticRoute, TrustedPeer,
};
use gatehouse_types::Domain;

use crate::read::domain;
use crate::reader::{Form, Found, Section};
use crate::settings::Roles;

/// Rows of the list of trusted servers.
const TRUSTED_MAX: usize = 100;
/// Names, addresses and domains of one row.
const WORDS_MAX: usize = 100;

const ROW: Form = Form { kind: "a table", example: "{ name = \"pbx\" }" };

/// Reads what the section of SIP says about the inside.
pub(crate) fn read(section: &mut Section<'_>, roles: Roles, domains: &[Domain]) -> InsideSip {
    let places = ["trusted", "route", "route-embed-templates"].map(|key| section.place(key));
    let (trusted, (routes, users)) = (trusted(section, domains), routes(section));
    let inside = InsideSip { trusted, routes };
    for place in users.into_iter().filter(|_| !inside.has_domains()) {
        let what = "this route means nobody: a `user` alone is one of a domain of the inside, and there is none";
        let remedy = "name the domain as well, such as domain = \"phones.ours.example\"";
        section.note(place, what.to_owned(), remedy.to_owned());
    }
    contradictions(section, &inside, &places.iter().flatten().next().cloned().unwrap_or(0..0));
    if let (false, Some(place)) = (roles.has_core(), places.into_iter().flatten().next()) {
        let what = "SIP of the inside belongs to the core, which does not run here".to_owned();
        section.note(place, what, "write it in the settings of the core, and remove it".into());
    }
    inside
}

fn trusted(section: &mut Section<'_>, ours: &[Domain]) -> Vec<TrustedPeer> {
    let Some(rows) = section.sections("trusted", ROW) else { return Vec::new() };
    let mut peers: Vec<TrustedPeer> = Vec::new();
    for (mut row, span) in rows {
        let peer = TrustedPeer {
            name: name(&mut row, &span, peers.iter().map(|peer| peer.name.as_str())),
            subjects: words(&mut row, "subjects", "[\"pbx.ours.example\"]", domain),
            addresses: words(&mut row, "addresses", "[\"10.0.0.5\"]", |text| {
                text.parse::<IpAddr>().ok()
            }),
            domains: from_domains(&mut row, ours),
            kind: kind(&mut row),
        };
        let keys = ["subjects", "addresses"];
        if keys.iter().all(|key| row.place(key).is_none()) {
            let what = "this server is known by nothing: it has neither subjects nor addresses";
            let remedy = "subjects = [\"pbx.ours.example\"], the name in its certificate";
            row.note(span.clone(), what.to_owned(), remedy.to_owned());
        }
        row.finish();
        if peers.len() == TRUSTED_MAX {
            let what = format!("there are more than {TRUSTED_MAX} trusted servers");
            section.note(span, what, "join rows: one may have several subjects".into());
            break;
        }
        peers.push(peer);
    }
    peers
}

fn name<'a>(
    row: &mut Section<'_>,
    span: &Range<usize>,
    mut others: impl Iterator<Item = &'a str>,
) -> String {
    let form = Form { kind: "a short name for the log", example: "\"pbx\"" };
    let plain = |text: &str| {
        let fits = (1..=80).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        fits.then(|| text.to_owned())
    };
    let Some(found) = row.text("name", form, plain) else {
        if row.place("name").is_none() {
            row.note(span.clone(), "this row has no `name`".into(), "name = \"pbx\"".into());
        }
        return String::new();
    };
    if others.any(|other| other == found.value) {
        let what = format!("two rows are called {}", found.value);
        row.note(found.span, what, "give each a name of its own".into());
    }
    found.value
}

fn words<T>(
    row: &mut Section<'_>,
    key: &'static str,
    example: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Vec<T> {
    let kind = if key == "addresses" { "a list of IP addresses" } else { "a list of host names" };
    let place = row.place(key);
    let found = row.list(key, Form { kind, example }, parse).unwrap_or_default();
    if let (true, Some(place)) = (found.len() > WORDS_MAX, place) {
        let what = format!("`{key}` has more than {WORDS_MAX} entries");
        row.note(place, what, "write another row for the rest".into());
    }
    found.into_iter().map(|found| found.value).collect()
}

/// Whose users it speaks for. Ours log in here: whoever could speak for them could be any of them.
fn from_domains(row: &mut Section<'_>, ours: &[Domain]) -> Vec<Domain> {
    let form = Form { kind: "a list of domains", example: "[\"phones.ours.example\"]" };
    let mut domains = Vec::new();
    for found in row.list("domains", form, domain).unwrap_or_default() {
        if ours.contains(&found.value) {
            let what = format!("{} is one of our IM domains: its users log in here", found.value);
            let remedy = "give the phones a domain of their own, such as phones.ours.example";
            row.note(found.span, what, remedy.into());
        } else {
            domains.push(found.value);
        }
    }
    domains
}

/// What the users' software is. "auto" is the same as nothing: each domain as it shows itself.
fn kind(row: &mut Section<'_>) -> Option<SipKind> {
    let form = Form { kind: "\"lync\", \"standard\" or \"auto\"", example: "\"standard\"" };
    let found = row.text("kind", form, |text| match text {
        "lync" => Some(Some(SipKind::Lync)),
        "standard" => Some(Some(SipKind::Standard)),
        "auto" => Some(None),
        _ => None,
    });
    found.and_then(|found| found.value)
}

/// Two rows that say different things of one domain.
fn contradictions(section: &Section<'_>, inside: &InsideSip, place: &Range<usize>) {
    let mut known: HashMap<Domain, SipKind> = HashMap::new();
    for (domain, kind) in inside.kinds() {
        if *known.entry(domain.clone()).or_insert(kind) != kind {
            let what = format!("two rows give {domain} a different `kind`");
            section.note(place.clone(), what, "write the same in each, or in one only".into());
        }
    }
}

/// The routes, and where those stand that are for users alone.
fn routes(section: &mut Section<'_>) -> (RouteTable, Vec<Range<usize>>) {
    let form = Form {
        kind: "a list of templates: first digits, `.` for each wildcard, `x` for each digit after them",
        example: "[\"74..78xxxxx*\"]",
    };
    let templates_at = section.place("route-embed-templates");
    let templates: Vec<EmbedTemplate> = section
        .list("route-embed-templates", form, |text| text.parse().ok())
        .unwrap_or_default()
        .into_iter()
        .map(|found| found.value)
        .collect();
    let all_at = section.place("route").unwrap_or(0..0);
    let (mut routes, mut places, mut users) = (Vec::new(), Vec::new(), Vec::new());
    for (row, span) in section.sections("route", ROW).unwrap_or_default() {
        if let Some(route) = route(row, &span) {
            if route.pattern.by() == RouteBy::User && route.within.is_none() {
                users.push(span.clone());
            }
            routes.push(route);
            places.push(span);
        }
    }
    let table = RouteTable::new(routes, &templates).unwrap_or_else(|invalid| {
        for fault in invalid.0 {
            let place = match &fault {
                RouteFault::Templates(_) => templates_at.clone(),
                RouteFault::Routes(_) => None,
                RouteFault::SamePattern { at, .. } | RouteFault::NoTemplate { at, .. } => {
                    places.get(*at).cloned()
                }
            };
            note(section, place.unwrap_or_else(|| all_at.clone()), &fault.to_string());
        }
        // What is wrong already is not told twice.
        users.clear();
        RouteTable::default()
    });
    (table, users)
}

fn route(mut row: Section<'_>, span: &Range<usize>) -> Option<StaticRoute> {
    let any = |text: &str| Some(text.to_owned());
    let pattern = Form { kind: "a pattern", example: "\"10..\"" };
    let user = row.text("user", pattern, any);
    let domain = row.text("domain", pattern, any);
    let next = Form { kind: "a host name or an IP address", example: "\"pbx.ours.example\"" };
    let next_hop = row.text("next-hop", next, any);
    let protocol = Form { kind: "\"tls\" or \"tcp\"", example: "\"tls\"" };
    let protocol = row.text("protocol", protocol, |text| match text {
        "tcp" => Some(HopProtocol::Tcp),
        "tls" => Some(HopProtocol::Tls),
        _ => None,
    });
    let protocol = protocol.map_or(HopProtocol::Tcp, |found| found.value);
    let most = u64::from(u16::MAX);
    let port = row.number("port", 0, most, "5061").and_then(|port| u16::try_from(port).ok());
    let rank = |number: Option<u64>| {
        let number = number.and_then(|number| u16::try_from(number).ok());
        number.and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN)
    };
    let priority = rank(row.number("priority", 1, most, "1"));
    let weight = rank(row.number("weight", 1, most, "1"));
    let less_specific = row.switch("less-specific").unwrap_or(true);
    let in_service = row.switch("in-service").unwrap_or(true);
    let block = row.switch("block").unwrap_or(false);
    let (kind_at, kind) = (row.place("kind"), kind(&mut row));
    let read = |by: RouteBy, found: Found<String>| {
        let parsed = RoutePattern::parse(by, &found.value);
        parsed.inspect_err(|error| note(&row, found.span, &error.to_string())).ok()
    };
    let (pattern, within) = match (user, domain) {
        (Some(user), None) => (read(RouteBy::User, user), None),
        (None, Some(domain)) => (read(RouteBy::Domain, domain), None),
        (Some(user), Some(domain)) => {
            let (user, domain) = (read(RouteBy::User, user), read(RouteBy::Domain, domain));
            // A wrong half makes no wider route.
            (user.filter(|_| domain.is_some()), domain)
        }
        (None, None) => {
            let what = "a route has `user`, `domain` or both, the patterns that it is for";
            row.note(span.clone(), what.into(), "domain = \"phones.ours.example\"".into());
            (None, None)
        }
    };
    if next_hop.is_none() && row.place("next-hop").is_none() {
        let remedy = "next-hop = \"pbx.ours.example\"".to_owned();
        row.note(span.clone(), "this route has no `next-hop`".into(), remedy);
    }
    let hop = next_hop.and_then(|found| {
        let made = Hop::new(&found.value, port, protocol);
        made.inspect_err(|error| note(&row, found.span, &error.to_string())).ok()
    });
    let is_single = |pattern: &RoutePattern| pattern.single_domain().is_some();
    if let (Some(place), Some(_)) = (kind_at, kind)
        && pattern.as_ref().is_some_and(|pattern| !is_single(pattern))
    {
        let what = "`kind` is about a whole domain, and this route does not name a single one";
        let remedy = "write it on a route with `domain` alone and no wildcard, or on the [[sip.trusted]] row";
        row.note(place, what.to_owned(), remedy.to_owned());
    }
    row.finish();
    Some(StaticRoute {
        pattern: pattern?,
        within,
        hop: hop?,
        kind,
        priority,
        weight,
        less_specific,
        in_service,
        block,
    })
}

/// A mistake that comes with its remedy, after a colon or a semicolon.
fn note(section: &Section<'_>, span: Range<usize>, told: &str) {
    let (what, remedy) = told.rsplit_once(": ").unwrap_or((told, "change it"));
    section.note(span, what.to_owned(), remedy.to_owned());
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{Overrides, Settings, parse};

    fn read(text: &str) -> Result<Settings, Vec<(usize, String)>> {
        parse(Path::new("/nowhere/gatehouse.toml"), text, &Overrides::default()).map_err(
            |problems| problems.0.into_iter().map(|problem| (problem.line, problem.what)).collect(),
        )
    }

    #[test]
    fn a_trusted_server_and_a_route() {
        let off = read("").unwrap();
        assert!(off.sip.inside.is_empty() && off.listen.sip_inside_tls.is_empty());
        let on = read(
            "[listen]\nsip-inside-tls = [\"127.0.0.1:5071\"]\nsip-inside-tcp = [\"127.0.0.1:5070\"]\n\
             [sip]\nroute-embed-templates = [\"74..78xx\"]\n\
             [[sip.trusted]]\nname = \"pbx\"\nsubjects = [\"pbx.ours.example\"]\n\
             addresses = [\"10.0.0.5\"]\ndomains = [\"phones.ours.example\"]\n\
             [[sip.route]]\ndomain = \"phones.ours.example\"\nnext-hop = \"pbx.ours.example\"\n\
             port = 0\nprotocol = \"tls\"\npriority = 2\nweight = 7\nless-specific = false\n\
             [[sip.route]]\nuser = \"74..7812\"\nnext-hop = \"10.0.0.5\"\nin-service = false\nblock = true\n",
        )
        .unwrap();
        assert_eq!((on.listen.sip_inside_tls.len(), on.listen.sip_inside_tcp.len()), (1, 1));
        assert_eq!(on.sip.inside.trusted.len(), 1);
        let routes: Vec<String> = on
            .sip
            .inside
            .routes
            .routes()
            .map(|route| format!("{} {} {}", route.pattern, route.hop, route.priority))
            .collect();
        assert_eq!(
            routes,
            ["74..7812 10.0.0.5:5060 (tcp) 1", "phones.ours.example SRV pbx.ours.example (tls) 2"]
        );
    }

    #[test]
    fn every_mistake_has_its_line() {
        let found = read(
            "domains = [\"ours.example\"]\n\
             [sip]\nroute-embed-templates = [\"..\"]\n\
             [[sip.trusted]]\nname = \"a\"\ndomains = [\"ours.example\"]\n\
             [[sip.trusted]]\nname = \"a\"\naddresses = [\"pbx\"]\n\
             [[sip.route]]\nuser = \"1*2\"\nnext-hop = \"5.6.7.8.9\"\n\
             [[sip.route]]\nuser = \"1.2\"\nnext-hop = \"pbx.example\"\n\
             [[sip.route]]\nnext-hop = \"10.0.0.5\"\nprotocol = \"udp\"\nport = 70000\npriority = 0\n\
             weight = 65536\n",
        )
        .unwrap_err();
        let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 4, 6, 8, 9, 11, 12, 13, 16, 18, 19, 20, 21], "{found:#?}");
    }

    #[test]
    fn too_many_templates_and_routes_of_one_pattern() {
        let templates = "[sip]\nroute-embed-templates = [\"1.2\", \"1.3\", \"1.4\", \"1.5\", \"1.6\", \"1.7\"]\n";
        assert_eq!(read(templates).unwrap_err()[0].0, 2);
        let route =
            "[[sip.route]]\nuser = \"1\"\ndomain = \"a.example\"\nnext-hop = \"pbx.example\"\n";
        assert!(read(&route.repeat(100)).is_ok());
        assert_eq!(read(&route.repeat(101)).unwrap_err()[0].0, 401);
    }

    #[test]
    fn a_route_for_users_alone_needs_a_domain_of_the_inside() {
        let user = "[[sip.route]]\nuser = \"10..\"\nnext-hop = \"pbx.example\"\n";
        let found = read(user).unwrap_err();
        assert_eq!((found.len(), found[0].0), (1, 1));
        assert!(found[0].1.contains("means nobody"), "{found:?}");
        for domain in [
            "domain = \"*.ours.example\"\n",
            "[[sip.route]]\ndomain = \"phones.example\"\nnext-hop = \"pbx.example\"\n",
            "[[sip.trusted]]\nname = \"a\"\naddresses = [\"10.0.0.5\"]\ndomains = [\"phones.example\"]\n",
        ] {
            read(&format!("{user}{domain}")).unwrap();
        }
        // Half of it wrong makes no route for everybody.
        let wrong = format!("{user}domain = \"a b\"\n");
        assert_eq!(read(&wrong).unwrap_err().iter().map(|it| it.0).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn a_kind_is_of_a_domain() {
        use gatehouse_policy::SipKind::{Lync, Standard};
        let row = |kind: &str| {
            format!(
                "[[sip.trusted]]\nname = \"a\"\naddresses = [\"10.0.0.5\"]\n\
                 domains = [\"phones.example\", \"desks.example\"]\nkind = \"{kind}\"\n"
            )
        };
        let kinds = |text: &str| {
            let settings = read(text).unwrap();
            let kinds = settings.sip.inside.kinds();
            kinds.map(|(domain, kind)| (domain.to_string(), kind)).collect::<Vec<_>>()
        };
        let both =
            [("phones.example".to_owned(), Standard), ("desks.example".to_owned(), Standard)];
        assert_eq!(kinds(&row("standard")), both);
        assert_eq!(kinds(&row("auto")), []);
        let route = |pattern: &str| {
            format!("[[sip.route]]\n{pattern}\nnext-hop = \"pbx.example\"\nkind = \"lync\"\n")
        };
        assert_eq!(kinds(&route("domain = \"b.example\"")), [("b.example".to_owned(), Lync)]);
        let lines = |text: &str| {
            read(text).unwrap_err().iter().map(|problem| problem.0).collect::<Vec<_>>()
        };
        assert_eq!(lines(&row("ocs")), [5]);
        assert_eq!(lines(&route("domain = \"*.example\"")), [4]);
        assert_eq!(lines(&route("user = \"1\"\ndomain = \"b.example\"")), [5]);
        let against = format!("{}{}", row("standard"), route("domain = \"desks.example\""));
        assert_eq!(lines(&against), [1]);
        kinds(&format!("{}{}", row("auto"), route("domain = \"desks.example\"")));
    }

    #[test]
    fn an_edge_alone_has_no_inside() {
        let found = read(
            "roles = [\"edge\"]\n[trunk]\ncores = [\"c1\"]\n[listen]\nsip-inside-tcp = [\"[::]:5060\"]\n\
             [[sip.trusted]]\nname = \"a\"\naddresses = [\"10.0.0.5\"]\n",
        )
        .unwrap_err();
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [5, 6], "{found:?}");
    }
}

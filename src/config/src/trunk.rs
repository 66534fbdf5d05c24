//! `[trunk]`: who is at the other end, and what each may speak for.

use std::ops::Range;

use gatehouse_types::Domain;

use crate::read::{domain, host_and_port};
use crate::reader::{Form, Row, Section};
use crate::settings::{CoreNode, EdgeAddress, Roles, Trunk};

const CORES: Form = Form {
    kind: "a list of the cores: names, or tables with name and domains",
    example: "[{ name = \"core\", domains = [\"ours.example\"] }]",
};

/// `ours` is the setting `domains`: nothing else can be served.
pub(crate) fn read(root: &mut Section<'_>, roles: Roles, ours: &[Domain]) -> Trunk {
    let place = root.place("trunk").unwrap_or(0..0);
    let mut section = root.section("trunk");
    let name =
        section.text("name", Form { kind: "this node's name", example: "\"edge-1\"" }, domain);
    let edges_place = section.place("edges");
    let edges = edges(&mut section);
    let cores_place = section.place("cores");
    let cores = cores(&mut section, ours);
    section.finish();
    if roles == Roles::Core && edges.is_empty() && edges_place.is_none() {
        let what = "a core by itself must know its edges: `trunk.edges` is missing".to_owned();
        root.note(place, what, format!("[trunk] edges = {}", form_edges()));
    }
    for (place, wrong, key) in
        [(edges_place, roles != Roles::Core, "edges"), (cores_place, roles != Roles::Edge, "cores")]
    {
        if let (Some(place), true) = (place, wrong) {
            let what = format!("`trunk.{key}` means nothing in a process with these roles");
            let role = if key == "edges" { "core" } else { "edge" };
            root.note(place, what, format!("remove it, or set roles = [\"{role}\"]"));
        }
    }
    let default = |name: &str| name.parse::<Domain>().into_iter();
    let name = name.map(|found| found.value).into_iter();
    let mut name = name.chain(default(if roles == Roles::Edge { "edge" } else { "core" }));
    #[expect(clippy::expect_used, reason = "`edge` and `core` are domain names")]
    let name = name.next().expect("a name");
    let core = |name| CoreNode { name, domains: None };
    let cores = if cores.is_empty() { default("core").map(core).collect() } else { cores };
    Trunk { name, edges, cores }
}

fn edges(section: &mut Section<'_>) -> Vec<EdgeAddress> {
    let form = Form {
        kind: "a list of edges, each with name and address",
        example: "[{ name = \"edge\", address = \"192.0.2.1:5275\" }]",
    };
    let mut edges = Vec::new();
    for (mut edge, span) in section.sections("edges", form).unwrap_or_default() {
        let name = edge.text("name", Form { kind: "the edge's name", example: "\"edge\"" }, domain);
        let form = Form { kind: "a host and a port", example: "\"192.0.2.1:5275\"" };
        let address = edge.text("address", form, host_and_port);
        match (name, address) {
            (Some(name), Some(address)) => {
                edges.push(EdgeAddress { name: name.value, address: address.value });
            }
            (name, address) => {
                for (missing, key) in [(name.is_none(), "name"), (address.is_none(), "address")] {
                    if missing && edge.place(key).is_none() {
                        edge.note(
                            span.clone(),
                            format!("this edge has no `{key}`"),
                            format!("edges = {}", form_edges()),
                        );
                    }
                }
            }
        }
        edge.finish();
    }
    edges
}

fn form_edges() -> &'static str {
    "[{ name = \"edge\", address = \"192.0.2.1:5275\" }]"
}

fn cores(section: &mut Section<'_>, ours: &[Domain]) -> Vec<CoreNode> {
    let place = section.place("cores").unwrap_or(0..0);
    let mut cores: Vec<CoreNode> = Vec::new();
    // A row with a mistake counts as one that may serve anything: one mistake, one line.
    let mut is_complete = true;
    for row in section.rows("cores", CORES, domain).unwrap_or_default() {
        let (core, span) = match row {
            Row::Text(found) => (Some(CoreNode { name: found.value, domains: None }), found.span),
            Row::Table(row, span) => (core(row, &span, ours), span),
        };
        let Some(core) = core else {
            is_complete = false;
            continue;
        };
        if cores.iter().any(|other| other.name == core.name) {
            let what = format!("{} stands in `trunk.cores` twice", core.name);
            section.note(span, what, "write one row for each core, with all its domains".into());
            is_complete = false;
            continue;
        }
        cores.push(core);
    }
    let is_served = |domain: &&Domain| {
        let may = |core: &CoreNode| core.domains.as_ref().is_none_or(|all| all.contains(domain));
        cores.iter().any(may)
    };
    if is_complete && !cores.is_empty() {
        for domain in ours.iter().filter(|domain| !is_served(domain)) {
            let what = format!("no core in `trunk.cores` may serve {domain}");
            let remedy = "add it to the `domains` of the core that serves it, or take it out of \
                          this file's `domains`";
            section.note(place.clone(), what, remedy.into());
        }
    }
    cores
}

/// `{ name = "core", domains = ["ours.example"] }`; nothing if something is wrong with it.
fn core(mut row: Section<'_>, span: &Range<usize>, ours: &[Domain]) -> Option<CoreNode> {
    let name = row.text("name", Form { kind: "a core's name", example: "\"core\"" }, domain);
    let form = Form { kind: "a list of domain names", example: "[\"ours.example\"]" };
    let domains_place = row.place("domains");
    let found = row.list("domains", form, domain);
    if row.place("name").is_none() {
        row.note(
            span.clone(),
            "this core has no `name`".into(),
            format!("cores = {}", CORES.example),
        );
    }
    let mut is_good = true;
    let mut domains: Vec<Domain> = Vec::new();
    let was_given = found.is_some();
    for found in found.into_iter().flatten() {
        let domain = found.value;
        let (what, remedy) = if !ours.contains(&domain) {
            let what = format!("{domain} is none of this edge's `domains`");
            (what, format!("add \"{domain}\" to `domains`, or remove it here"))
        } else if domains.contains(&domain) {
            (format!("{domain} stands in this row twice"), "remove one of them".into())
        } else {
            domains.push(domain);
            continue;
        };
        row.note(found.span, what, remedy);
        is_good = false;
    }
    if was_given && domains.is_empty() && is_good {
        let what = "this core may serve no domain".to_owned();
        let remedy = "name its domains, or write only its name: then it may serve all of ours";
        row.note(domains_place.clone().unwrap_or_else(|| span.clone()), what, remedy.into());
        is_good = false;
    }
    row.finish();
    is_good &= was_given || domains_place.is_none();
    Some(CoreNode { name: name?.value, domains: was_given.then_some(domains) }).filter(|_| is_good)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{Overrides, parse};

    fn edge(cores: &str) -> Result<Vec<String>, Vec<(usize, String, String)>> {
        let text = format!(
            "roles = [\"edge\"]\ndomains = [\"ours.example\", \"b.example\"]\n[trunk]\n{cores}\n"
        );
        let read = parse(Path::new("/nowhere/gatehouse.toml"), &text, &Overrides::default());
        let shown = |core: crate::CoreNode| match core.domains {
            None => format!("{} *", core.name),
            Some(domains) => {
                let domains: Vec<_> = domains.iter().map(ToString::to_string).collect();
                format!("{} {}", core.name, domains.join(" "))
            }
        };
        let told = |one: crate::Problem| (one.line, one.what, one.remedy);
        match read {
            Ok(settings) => Ok(settings.trunk.cores.into_iter().map(shown).collect()),
            Err(problems) => Err(problems.0.into_iter().map(told).collect()),
        }
    }

    #[test]
    fn a_core_is_a_name_or_a_row_with_domains() {
        assert_eq!(edge("").unwrap(), ["core *"]);
        assert_eq!(edge("cores = [\"core\", \"core-2\"]").unwrap(), ["core *", "core-2 *"]);
        let rows = "cores = [\"core\", { name = \"core-2\", domains = [\"b.example\"] }]";
        assert_eq!(edge(rows).unwrap(), ["core *", "core-2 b.example"]);
        let tables = "[[trunk.cores]]\nname = \"c1\"\ndomains = [\"ours.example\", \"b.example\"]\n\
                      [[trunk.cores]]\nname = \"c2\"\n";
        assert_eq!(edge(tables).unwrap(), ["c1 ours.example b.example", "c2 *"]);
    }

    #[test]
    fn mistakes_in_the_rows_are_told_with_what_to_do() {
        for (cores, what) in [
            (
                "[{ name = \"c1\", domains = [\"no.example\"] }]",
                "no.example is none of this edge's",
            ),
            ("[{ name = \"c1\", domains = [] }]", "this core may serve no domain"),
            (
                "[\"c2\", { name = \"c1\", domains = [\"b.example\", \"B.example\"] }]",
                "b.example stands in this row twice",
            ),
            (
                "[\"c1\", { name = \"c1\", domains = [\"b.example\"] }]",
                "c1 stands in `trunk.cores` twice",
            ),
            ("[\"c1\", \"c1\"]", "c1 stands in `trunk.cores` twice"),
            (
                "[{ name = \"c1\", domains = [\"b.example\"] }]",
                "no core in `trunk.cores` may serve ours.example",
            ),
            ("[{ domains = [\"b.example\"] }]", "this core has no `name`"),
            (
                "[{ name = \"c1\", domain = [\"b.example\"] }]",
                "there is no setting `trunk.cores.domain`",
            ),
            (
                "[{ name = \"c1\", domains = \"b.example\" }]",
                "`trunk.cores.domains` must be a list",
            ),
            ("[7]", "`trunk.cores` must be a list of the cores: names, or tables"),
            ("\"core\"", "`trunk.cores` must be a list of the cores: names, or tables"),
        ] {
            let found = edge(&format!("cores = {cores}")).unwrap_err();
            assert_eq!(found.len(), 1, "{cores}: {found:#?}");
            assert!(found[0].0 == 4 && found[0].1.contains(what), "{cores}: {found:#?}");
            assert!(!found[0].2.is_empty(), "{found:#?}");
        }
    }
}

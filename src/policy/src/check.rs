use std::collections::BTreeMap;
use std::fmt;

use crate::rule::Scope;
use crate::{Action, Pattern, Policy, Require, Rule, SipMode, SipPartner, Tls};

/// Places and keys of one rule; more is a mistake.
const LIST_LEN_MAX: usize = 16;

/// Which kind of entry of the policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Table {
    /// `[[rule]]`
    Rule,
    /// `[[sip]]`
    Sip,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rule => "rule",
            Self::Sip => "sip row",
        })
    }
}

/// An entry that can be read but does not make sense.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyProblem {
    /// Which kind of entry.
    pub table: Table,
    /// The entry among those of its kind, counted from 0.
    pub rule_index: usize,
    /// The key within the entry, as written in the file.
    pub field: &'static str,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, rule_index, field, message } = self;
        write!(f, "{table} {}, `{field}`: {message}", rule_index + 1)
    }
}

impl Policy {
    /// All mistakes that reading alone does not find, in the order of the rules, then of the rows
    /// for SIP. A policy with a problem must not be put in force.
    pub fn check(&self) -> Vec<PolicyProblem> {
        let mut problems = Vec::new();
        let (mut names, mut row_names) = (BTreeMap::new(), BTreeMap::new());
        for (rule_index, rule) in self.rules.iter().enumerate() {
            let mut report = |field, message: String| {
                problems.push(PolicyProblem { table: Table::Rule, rule_index, field, message });
            };
            check_alone(rule, &mut report);
            check_name(&rule.name, (Table::Rule, rule_index), &mut names, &mut report);
            let above = self.rules.iter().take(rule_index);
            let shadow = above.clone().find(|above| above.leaves_nothing_to(rule));
            if let Some(above) = shadow.filter(|_| !rule.remote.is_empty()) {
                report("remote", shadowed(&above.name));
            }
        }
        for (rule_index, row) in self.sip.iter().enumerate() {
            let mut report = |field, message: String| {
                problems.push(PolicyProblem { table: Table::Sip, rule_index, field, message });
            };
            check_row(row, &mut report);
            check_name(&row.name, (Table::Sip, rule_index), &mut row_names, &mut report);
            let mut above = self.sip.iter().take(rule_index);
            let shadow = above.find(|above| above.scope().leaves_nothing_to(&row.scope()));
            if let Some(above) = shadow.filter(|_| !row.remote.is_empty()) {
                report("remote", shadowed(&above.name));
            }
            self.check_one_protocol(row, &mut report);
        }
        problems
    }

    /// A domain speaks one protocol or the other: named as a partner for both, nobody could say
    /// which one holds.
    fn check_one_protocol(&self, row: &SipPartner, report: &mut impl FnMut(&'static str, String)) {
        if row.action == Action::Block {
            return;
        }
        for rule in self.rules.iter().filter(|rule| rule.action == Action::Allow) {
            let (scope, rule_scope) = (row.scope(), rule.scope());
            if let Some(domain) = scope.names_too(&rule_scope) {
                report(
                    "remote",
                    format!(
                        "{domain} stands in rule `{}` as an XMPP partner, too, and a domain speaks \
                         one protocol: delete it from `remote` of that rule first to make it a SIP \
                         partner, or delete it here",
                        rule.name
                    ),
                );
            }
        }
    }
}

fn shadowed(above: &str) -> String {
    format!(
        "this rule is never used, because rule `{above}` above it speaks of all these domains \
         already: move this rule up, or remove it"
    )
}

/// Logs name the rule: among the rules, and among the rows, all names differ.
fn check_name<'a>(
    name: &'a str,
    place: (Table, usize),
    names: &mut BTreeMap<&'a str, (Table, usize)>,
    report: &mut impl FnMut(&'static str, String),
) {
    let name = name.trim();
    match names.get(name).filter(|_| !name.is_empty()) {
        Some((table, first)) => report(
            "name",
            format!(
                "{table} {} is called `{name}`, too: each rule needs its own name, because logs show it",
                first + 1
            ),
        ),
        None => {
            names.insert(name, place);
        }
    }
}

fn check_alone(rule: &Rule, report: &mut impl FnMut(&'static str, String)) {
    check_scope(&rule.name, &rule.scope(), report);
    check_route_and_pin(rule, report);
    // A certificate is shown in the TLS handshake: without one there is nothing to require.
    if (rule.tls, rule.require) == (Tls::Optional, Require::Certificate) {
        report(
            "tls",
            "a certificate can only be shown over TLS: write `tls = \"required\"`, or \
             `require = \"certificate-or-dialback\"`"
                .into(),
        );
    }
}

fn check_scope(name: &str, scope: &Scope<'_>, report: &mut impl FnMut(&'static str, String)) {
    if name.trim().is_empty() {
        report("name", "a rule needs a name, because logs show it: write what it is for".into());
    }
    if name.chars().any(char::is_control) || name.chars().count() > 80 {
        report("name", "write at most 80 characters on one line".into());
    }
    if scope.remote.is_empty() {
        report(
            "remote",
            "the list is empty: write domains like `them.example` or `*.them.example`, or `*` for \
             all"
            .into(),
        );
    }
    if scope.local.is_some_and(<[_]>::is_empty) {
        report(
            "local",
            "the list is empty: write domains of yours, or leave `local` out to mean all of them"
                .into(),
        );
    }
}

fn check_row(row: &SipPartner, report: &mut impl FnMut(&'static str, String)) {
    check_scope(&row.name, &row.scope(), report);
    let is_for_all = row.remote.contains(&Pattern::Any);
    let by_host = matches!(row.mode, SipMode::Direct | SipMode::Provider);
    if row.action == Action::Block {
        let given = [
            ("mode", row.mode != SipMode::default()),
            ("host", row.host.is_some()),
            ("route", row.route.is_some()),
            ("proof", row.proof.is_some()),
            ("common-name", row.common_name),
            ("kind", row.kind.is_some()),
            ("messages-per-second", row.messages_per_second.is_some()),
            ("send-per-second", row.send_per_second.is_some()),
        ];
        for (field, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
            report(field, "a row that blocks needs none: remove it, or remove `action`".into());
        }
        return;
    }
    match (row.mode, &row.host) {
        (SipMode::Direct | SipMode::Provider, None) => report(
            "mode",
            "this mode trusts one host, and none is named: write `host = \"sip.them.example\"`"
                .into(),
        ),
        (SipMode::Open | SipMode::Enhanced, Some(_)) => report(
            "host",
            "only `direct` and `provider` partners have a host: remove it, write `mode = \
             \"direct\"`, or say with `route` where the partner is"
                .into(),
        ),
        _ => {}
    }
    // One host must not speak for the whole world because somebody trusts it for himself.
    if row.mode == SipMode::Direct && is_for_all {
        report(
            "remote",
            "`*` with `mode = \"direct\"` would let that host speak for every domain there is: \
             name the partner, or write `mode = \"provider\"`"
                .into(),
        );
    }
    if row.route.is_some() && is_for_all {
        report(
            "route",
            "`*` stands in `remote`, and this would hold for every domain there is: name the \
             partner"
                .into(),
        );
    }
    if row.proof.is_some() && by_host {
        report(
            "proof",
            "the host proves `direct` and `provider` partners, nothing else: remove it".into(),
        );
    } else if row.proof.as_ref().is_some_and(Vec::is_empty) {
        report(
            "proof",
            "the list is empty, so nothing would prove them: write `rfc5922` or `microsoft`, or \
             leave it out to mean both"
                .into(),
        );
    }
}

fn check_route_and_pin(rule: &Rule, report: &mut impl FnMut(&'static str, String)) {
    let given = [("route", rule.route.len()), ("pin", rule.pin.len())];
    for (field, count) in given.into_iter().filter(|(_, count)| *count > 0) {
        if rule.action == Action::Block {
            report(field, "a rule that blocks needs none: remove it, or remove `action`".into());
        }
        if count > LIST_LEN_MAX {
            report(field, format!("there are {count} of them: write at most {LIST_LEN_MAX}"));
        }
        // One key must not speak for the whole world, and one place cannot be all of it.
        if rule.remote.contains(&Pattern::Any) {
            report(
                field,
                "`*` stands in `remote`, and this would hold for every domain there is: name the \
                 partner"
                    .into(),
            );
        }
    }
    if !rule.pin.is_empty() && rule.require == Require::CertificateOrDialback {
        report(
            "pin",
            "dialback would get around the pinned key: write `require = \"certificate\"`, or \
             remove `pin`"
                .into(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        toml::from_str::<Policy>(text).unwrap().check().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let text = r#"
            [[rule]]
            name = "old"
            remote = ["old.example"]
            tls = "optional"
            [[rule]]
            name = "old"
            remote = []
            local = []
            [[rule]]
            name = " "
            remote = ["a.example"]
            [[rule]]
            name = "all"
            remote = ["*"]
            [[rule]]
            name = "late block"
            remote = ["evil.example", "*.evil.example"]
            action = "block"
        "#;
        let told = problems(text);
        for (line, want) in told.iter().zip([
            "rule 1, `tls`: a certificate can only be shown over TLS",
            "rule 2, `remote`: the list is empty",
            "rule 2, `local`: the list is empty",
            "rule 2, `name`: rule 1 is called `old`, too",
            "rule 3, `name`: a rule needs a name",
            "rule 5, `remote`: this rule is never used, because rule `all` above",
        ]) {
            assert!(line.starts_with(want), "{line}");
        }
        assert_eq!(told.len(), 6, "{told:#?}");
    }

    #[test]
    fn a_pin_and_a_route_belong_to_named_partners() {
        let key = format!("pin = [\"sha256:{}\"]", "0".repeat(64));
        let route = "route = [\"192.0.2.7\"]";
        let rule = |remote: &str, lines: &str| {
            problems(&format!("[[rule]]\nname = \"a\"\nremote = [\"{remote}\"]\n{lines}\n"))
        };
        assert!(rule("them.example", &format!("{key}\n{route}")).is_empty());
        assert!(rule("*.them.example", &key).is_empty());
        for (remote, lines, want) in [
            ("*", key.clone(), "rule 1, `pin`: `*` stands in `remote`"),
            ("*", route.to_owned(), "rule 1, `route`: `*` stands in `remote`"),
            (
                "b.example",
                format!("{key}\naction = \"block\""),
                "rule 1, `pin`: a rule that blocks",
            ),
            (
                "b.example",
                format!("{key}\nrequire = \"certificate-or-dialback\""),
                "rule 1, `pin`: dialback would get around",
            ),
            (
                "b.example",
                format!("route = [{}]", "\"192.0.2.7\",".repeat(17)),
                "rule 1, `route`: there are 17 of them",
            ),
        ] {
            let told = rule(remote, &lines);
            assert!(told.len() == 1 && told[0].starts_with(want), "{told:?}");
        }
    }

    #[test]
    fn a_sip_row_says_what_its_mode_needs_and_nothing_else() {
        let row = |lines: &str| problems(&format!("[[sip]]\nname = \"a\"\n{lines}\n"));
        let them = "remote = [\"them.example\"]";
        for good in [
            format!("{them}\nmode = \"open\"\nmessages-per-second = 5"),
            format!("{them}\nmode = \"open\"\nsend-per-second = \"off\""),
            format!("{them}\nsend-per-second = 15"),
            format!("{them}\nroute = \"sip.them.example\"\nproof = [\"microsoft\"]"),
            format!("{them}\nmode = \"direct\"\nhost = \"edge.else.example\"\nkind = \"lync\""),
            "remote = [\"*\"]\nmode = \"provider\"\nhost = \"sipfed.online.example\"".to_owned(),
            format!("{them}\naction = \"block\""),
        ] {
            assert_eq!(row(&good), Vec::<String>::new(), "{good}");
        }
        for (lines, want) in [
            (format!("{them}\nmode = \"direct\""), "`mode`: this mode trusts one host"),
            (format!("{them}\nmode = \"provider\""), "`mode`: this mode trusts one host"),
            (format!("{them}\nhost = \"h.example\""), "`host`: only `direct` and"),
            (
                "remote = [\"*\"]\nmode = \"direct\"\nhost = \"h.example\"".to_owned(),
                "`remote`: `*` with `mode = \"direct\"`",
            ),
            ("remote = [\"*\"]\nroute = \"h.example\"".to_owned(), "`route`: `*` stands in"),
            (format!("{them}\nproof = []"), "`proof`: the list is empty"),
            (
                format!("{them}\nmode = \"direct\"\nhost = \"h.example\"\nproof = [\"rfc5922\"]"),
                "`proof`: the host proves",
            ),
            (format!("{them}\naction = \"block\"\nkind = \"lync\""), "`kind`: a row that blocks"),
            ("remote = []".to_owned(), "`remote`: the list is empty"),
            (format!("{them}\nlocal = []"), "`local`: the list is empty"),
        ] {
            let told = row(&lines);
            assert!(
                told.len() == 1 && told[0].starts_with(&format!("sip row 1, {want}")),
                "{told:?}"
            );
        }
    }

    #[test]
    fn a_domain_is_a_partner_for_one_protocol() {
        let told = problems(
            r#"
            [[rule]]
            name = "partners"
            remote = ["a.example", "b.example"]
            local = ["ours.example"]
            [[rule]]
            name = "banned"
            remote = ["c.example"]
            action = "block"
            [[rule]]
            name = "the others"
            remote = ["*"]
            [[sip]]
            name = "moved"
            remote = ["b.example"]
            [[sip]]
            name = "for another domain of ours"
            remote = ["a.example"]
            local = ["b.ours.example"]
            [[sip]]
            name = "no harm"
            remote = ["c.example", "d.example", "*"]
            [[sip]]
            name = "moved"
            remote = ["e.example"]
            [[sip]]
            name = "banned"
            remote = ["f.example"]
            action = "block"
        "#,
        );
        for (line, want) in told.iter().zip([
            "sip row 1, `remote`: b.example stands in rule `partners` as an XMPP partner, too",
            "sip row 4, `name`: sip row 1 is called `moved`, too",
            "sip row 4, `remote`: this rule is never used, because rule `no harm`",
            "sip row 5, `remote`: this rule is never used, because rule `no harm`",
        ]) {
            assert!(line.starts_with(want), "{line}");
        }
        assert_eq!(told.len(), 4, "{told:#?}");
        assert!(told[0].contains("delete it from `remote` of that rule first"), "{told:?}");
    }

    #[test]
    fn a_later_rule_with_something_left_is_no_mistake() {
        let told = problems(
            r#"
            [[rule]]
            name = "partner for one domain"
            remote = ["*.them.example"]
            local = ["ours.example"]
            [[rule]]
            name = "partner itself"
            remote = ["them.example"]
            [[rule]]
            name = "partner for the others"
            remote = ["*.them.example"]
            require = "certificate-or-dialback"
            tls = "optional"
        "#,
        );
        assert!(told.is_empty(), "{told:#?}");
    }

    #[test]
    fn mistakes_in_writing_are_named_with_their_place() {
        let good = "[[rule]]\nname = \"a\"\nremote = [\"b.example\"]\n";
        for (line, want) in [
            ("requires = \"certificate\"", "unknown field `requires`"),
            ("require = \"dialback\"", "expected `certificate` or `certificate-or-dialback`"),
            ("action = \"deny\"", "expected `allow` or `block`"),
            ("tls = \"no\"", "expected `required` or `optional`"),
            ("local = [\"*.x\"]", "is not a domain name"),
            ("stanzas-per-second = 0", "nonzero"),
            ("route = [\"http://x.example\"]", "is not a route"),
            ("pin = [\"sha256:00\"]", "is not a pin"),
        ] {
            let error = toml::from_str::<Policy>(&format!("{good}{line}\n")).unwrap_err();
            assert!(error.message().contains(want), "{error}");
            assert!(error.span().is_some(), "no position: {error}");
        }
        for line in ["send-per-second = 0", "send-per-second = \"on\"", "send-per-second = true"] {
            let row = "[[sip]]\nname = \"a\"\nremote = [\"b.example\"]\n";
            let error = toml::from_str::<Policy>(&format!("{row}{line}\n")).unwrap_err();
            assert!(error.message().contains("a whole number from 1, or \"off\""), "{error}");
            assert!(error.span().is_some(), "no position: {error}");
        }
        let error =
            toml::from_str::<Policy>("[[rule]]\nname=\"a\"\nremote=[\"*.\"]\n").unwrap_err();
        assert!(error.message().contains("`*.` must be followed by a domain"), "{error}");
    }

    /// What we ship must load: every file under `policies/`, with the code that will read it.
    #[test]
    fn shipped_policies_load() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies");
        let mut seen = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let policy = toml::from_str::<Policy>(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(policy.check(), [], "{}", path.display());
            seen += 1;
        }
        assert!(seen >= 3, "only {seen} policies found in {dir}");
    }

    #[test]
    fn the_built_in_policy_is_the_one_we_ship() {
        let text = include_str!("../../../policies/open-with-certificate.toml");
        assert_eq!(toml::from_str::<Policy>(text).unwrap(), Policy::open_with_certificate());
    }
}
